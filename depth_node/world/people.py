"""People-like bodies in random postures and clothes."""

from __future__ import annotations

import numpy as np

from depth_node.world import palette
from depth_node.world.builder import SceneBuilder


def person(b: SceneBuilder) -> None:
    """A standing or walking body, 1.5 to 1.95 m tall, facing +x of the current frame."""
    rng = b.rng
    height = rng.uniform(1.5, 1.95)
    skin = palette.plain(b, palette.colour(rng, (0.03, 0.09), (0.3, 0.65), (0.12, 0.75)))
    hair = palette.plain(b, palette.colour(rng, (0.02, 0.12), (0, 0.7), (0.01, 0.35)))
    top, trousers, shoes = palette.fabric(b), palette.fabric(b), palette.fabric(b)
    hip, shoulder = 0.5 * height, 0.82 * height
    stride = rng.uniform(-0.45, 0.45)
    for side in (-1, 1):
        swing = side * stride
        knee = (0.24 * height * np.sin(swing), hip - 0.24 * height * np.cos(swing))
        lower = swing - rng.uniform(0, 0.5) * abs(stride)
        foot = (knee[0] + 0.24 * height * np.sin(lower), knee[1] - 0.24 * height * np.cos(lower))
        y = 0.09 * side
        _limb(b, trousers, (0, y, hip), (knee[0], y, knee[1]), 0.155)
        _limb(b, trousers, (knee[0], y, knee[1]), (foot[0], y, foot[1]), 0.115)
        at = (foot[0] + 0.05, y, max(foot[1] - 0.04, 0.0))
        b.put("cushion", shoes, (0.26, 0.1, 0.1), at)
        arm = -side * 0.8 * stride + rng.normal(0, 0.15)
        elbow = (0.17 * height * np.sin(arm), shoulder - 0.17 * height * np.cos(arm))
        fore = arm + rng.uniform(0, 1.2)
        hand = (elbow[0] + 0.15 * height * np.sin(fore), elbow[1] - 0.15 * height * np.cos(fore))
        y = 0.23 * side
        _limb(b, top, (0, y, shoulder - 0.03), (elbow[0], y, elbow[1]), 0.105)
        _limb(b, skin, (elbow[0], y, elbow[1]), (hand[0], y, hand[1]), 0.085)
    width = rng.uniform(0.36, 0.46)
    b.put("cushion", top, (0.26, width, shoulder - hip + 0.1), (0, 0, hip - 0.06))
    b.put("pole", skin, (0.11, 0.11, 0.12), (0, 0, shoulder - 0.02))
    b.put("sphere", skin, (0.2, 0.16, 0.25), (0.01, 0, height - 0.25))
    b.put("sphere", hair, (0.2, 0.175, 0.18), (-0.02, 0, height - 0.17))
    if rng.random() < 0.3:
        b.put("cushion", palette.fabric(b), (0.18, 0.3, 0.45), (-0.2, 0, hip + 0.05))


def _limb(
    b: SceneBuilder,
    material: int,
    start: tuple[float, float, float],
    end: tuple[float, float, float],
    width: float,
) -> None:
    offset = np.subtract(end, start)
    length = float(np.linalg.norm(offset))
    pitch = float(np.arctan2(np.hypot(offset[0], offset[1]), offset[2]))
    yaw = float(np.arctan2(offset[1], offset[0]))
    size = (width, width, length + 0.5 * width)
    b.put("sphere", material, size, start, (0.0, pitch, yaw))
