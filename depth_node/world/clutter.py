"""A crowd of arbitrary shapes in a box or in the open: geometry without meaning."""

from __future__ import annotations

import numpy as np

from depth_node.world import palette
from depth_node.world.builder import SceneBuilder
from depth_node.world.meshes import NAMES
from depth_node.world.place import Place
from depth_node.world.scene import Light, Sky


def clutter(rng: np.random.Generator, *, spacious: bool = False) -> Place:
    """Shapes of every size and pose, floating too, so that nothing can be guessed from habit."""
    reach = float(np.exp(rng.uniform(np.log(2), np.log(15))))
    b, indoor = SceneBuilder(rng), bool(rng.random() < 0.6)
    b.box_low, b.box_high = (-reach, -reach, 0.0), (reach, reach, reach)
    b.box(palette.anything(b), (30 * reach, 30 * reach, 0.1), (0, 0, -0.1))
    if indoor:
        for axis in range(2):
            for side in (-1, 1):
                at = (side * reach * (1 - axis), side * reach * axis, 0.0)
                size = (0.1, 2 * reach, reach) if axis == 0 else (2 * reach, 0.1, reach)
                b.box(palette.anything(b), size, at)
        b.box(palette.anything(b), (2 * reach, 2 * reach, 0.1), (0, 0, reach))
    for _ in range(int(rng.integers(10, 30) if spacious else rng.integers(20, 110))):
        scale = reach * float(np.exp(rng.uniform(np.log(0.02), np.log(0.5))))
        extent = scale * np.exp(rng.normal(0, 0.6, 3))
        spot = rng.uniform(-reach, reach, 3) * [1, 1, 0.35] + [0, 0, 0.2 * reach]
        if rng.random() < 0.5:
            spot[2] = 0.0
        rpy = rng.uniform(-np.pi, np.pi, 3) * (1 if rng.random() < 0.5 else [0, 0, 1])
        taper = rng.uniform(0.1, 1.2) if rng.random() < 0.3 else 1.0
        b.put(
            str(rng.choice(NAMES)),
            palette.anything(b),
            (extent[0], extent[1], extent[2]),
            (spot[0], spot[1], spot[2]),
            (rpy[0], rpy[1], rpy[2]),
            (taper, taper),
        )
    for _ in range(int(rng.integers(0, 12))):
        start, end = rng.uniform(-reach, reach, (2, 3)) * [1, 1, 0.4] + [0, 0, 0.4 * reach]
        b.beam(palette.anything(b), tuple(start), tuple(end), 0.01 * reach * rng.uniform(0.2, 2))
    lamp = rng.uniform(-0.6, 0.6, 2) * reach
    light = 0.5 * reach**2
    b.lights.append(Light((lamp[0], lamp[1], 0.85 * reach), (light, light, 0.9 * light)))
    shade = rng.uniform(0.1, 0.5)
    b.sky = Sky(ambient=(shade,) * 3, bounce=(0.6 * shade,) * 3)
    half = 0.8 * reach
    bounds = (-half, -half, half, half)
    return Place(b.build(), bounds, np.zeros((0, 4)), None, "clutter")
