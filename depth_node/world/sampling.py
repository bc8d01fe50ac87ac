"""Random views of random scenes, for training: RGB with exact depth, deterministic by seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from depth_node.types import ArrayF32, ArrayF64, CameraModel, ImageU8
from depth_node.world import photometry
from depth_node.world.clutter import clutter
from depth_node.world.place import Place
from depth_node.world.render import cast, pixel_rays, render
from depth_node.world.rooms import corridor, room
from depth_node.world.scene import SceneKind
from depth_node.world.streets import street


class Generator(Protocol):
    """Makes a place; a spacious one leaves a robot more space to drive."""

    def __call__(self, rng: np.random.Generator, *, spacious: bool = False) -> Place:
        """Compose a place from random numbers."""
        ...


GENERATORS: dict[SceneKind, Generator] = {
    "room": room,
    "corridor": corridor,
    "street": street,
    "clutter": clutter,
}
_SHARES: dict[SceneKind, float] = {"room": 0.42, "corridor": 0.18, "street": 0.32, "clutter": 0.08}
_PROBE = (20, 15)
_FAR = 80.0
"""Metres at which the sky counts when the spread of an image is judged."""


def make_place(seed: int, kind: str | None = None, *, spacious: bool = False) -> Place:
    """Generate the scene of a seed; a kind of None draws one.

    The same arguments give the same scene. A spacious place leaves a robot more space to drive.

    Raises:
        ValueError: an unknown kind.
    """
    rng = np.random.default_rng([seed, 88])
    chosen = rng.choice(list(_SHARES), p=list(_SHARES.values())) if kind is None else kind
    for name, generate in GENERATORS.items():
        if name == chosen:
            return generate(rng, spacious=spacious)
    raise ValueError(f"there is no world called {kind!r}; choose one of {list(GENERATORS)}")


def sample(
    seed: int, width: int = 160, height: int = 128, kind: str | None = None
) -> tuple[ImageU8, ArrayF32]:
    """One random view of one random scene.

    Args:
        seed: the same seed gives the same bytes in every process.
        width: pixels.
        height: pixels.
        kind: `room`, `corridor`, `street` or `clutter`; None draws one.

    Returns:
        HxWx3 uint8 RGB, and HxW float32 Z depth in metres, +inf for the sky.
    """
    return next(samples(seed, 1, width, height, kind))


def samples(
    seed: int, count_per_scene: int, width: int = 160, height: int = 128, kind: str | None = None
) -> Iterator[tuple[ImageU8, ArrayF32]]:
    """Several views of one scene, each as `sample` gives it.

    Building a scene costs as much as several views, so this is the way to many frames.
    """
    place = make_place(seed, kind)
    rng = np.random.default_rng([seed, 12])
    for _ in range(count_per_scene):
        camera, pose = draw_view(place, rng, width, height)
        radiance, depth = render(place.scene, camera, pose)
        yield photometry.develop(radiance, photometry.draw(rng), rng), depth


def camera_rotation(yaw: float, pitch: float, roll: float) -> ArrayF64:
    """R_world_optical of a camera that looks along yaw, `pitch` radians up, rolled clockwise."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    forward = np.array([cy * cp, sy * cp, sp])
    right = np.array([sy, -cy, 0.0])
    down = np.cross(forward, right)
    cr, sr = np.cos(roll), np.sin(roll)
    return np.stack([cr * right + sr * down, cr * down - sr * right, forward], axis=1)


def draw_view(
    place: Place,
    rng: np.random.Generator,
    width: int,
    height: int,
    draw_pose: Callable[[], ArrayF64] | None = None,
    spread: float | None = None,
) -> tuple[CameraModel, ArrayF64]:
    """A robot's camera somewhere in a place: the best of a few tries that sees enough space.

    Args:
        place: where.
        rng: draws everything.
        width: pixels.
        height: pixels.
        draw_pose: draws the 4x4 T_world_camera of a try; None takes `random_pose`.
        spread: ratio of far to near depth in the image that is enough; None asks for none.

    Returns:
        The camera, and its 4x4 T_world_camera (optical frame).
    """
    camera = CameraModel.from_field_of_view(width, height, rng.uniform(50, 110))
    probe = camera.resized(*_PROBE)
    best: tuple[float, ArrayF64] | None = None
    for _ in range(6):
        pose = random_pose(place, rng) if draw_pose is None else draw_pose()
        depth = _probe(place, probe, pose)
        near = float(np.percentile(depth, 3))
        score = min(near, 0.35) / 0.35 + min(float(np.median(depth)), 1.2) / 1.2
        enough = 1.95
        if spread is not None:
            far = float(np.percentile(np.minimum(depth, _FAR), 97))
            score += min(float(np.log(far / max(near, 1e-3)) / np.log(spread)), 1.0)
            enough += 1.0
        if best is None or score > best[0]:
            best = (score, pose)
        if score > enough:
            break
    assert best is not None
    return camera, best[1]


def random_pose(place: Place, rng: np.random.Generator) -> ArrayF64:
    """4x4 T_world_camera of a robot's camera somewhere on the ground of a place."""
    if len(place.obstacles) and place.kind in ("room", "corridor") and rng.random() < 0.4:
        return _look_at_furniture(place, rng)
    x0, y0, x1, y1 = place.bounds
    x, y = rng.uniform(x0, x1, 12), rng.uniform(y0, y1, 12)
    free = place.clearance(x, y)
    k = int(np.argmax(free > 0.3)) if (free > 0.3).any() else int(np.argmax(free))
    yaw = float(np.arctan2(rng.uniform(y0, y1) - y[k], rng.uniform(x0, x1) - x[k]))
    if place.axis is not None and rng.random() < 0.7:
        yaw = place.axis + float(rng.choice([0, np.pi])) + rng.normal(0, 0.3)
    low, middle, high = rng.uniform(0.1, 0.5), rng.uniform(0.4, 1.4), rng.normal(1.5, 0.2)
    elevation = float(rng.choice([low, middle, high]))
    pitch = rng.normal(-0.05, 0.12) if rng.random() < 0.6 else rng.uniform(-0.75, 0.3)
    if place.kind == "street":
        elevation = float(rng.choice([elevation, rng.uniform(1.2, 2.0)]))
        pitch *= 0.5
    elif elevation < 0.4:  # from down there, robots look ahead or up
        pitch = abs(pitch) * float(rng.choice([-0.4, 1.0]))
    return pose_at(x[k], y[k], elevation, yaw, pitch, rng)


def _look_at_furniture(place: Place, rng: np.random.Generator) -> ArrayF64:
    """From 0.7 to 3 m away, usually from above, towards something that stands on the floor."""
    left, near, right, far = place.obstacles[int(rng.integers(len(place.obstacles)))]
    target = np.array([rng.uniform(left, right), rng.uniform(near, far), rng.uniform(0.2, 0.9)])
    angle = rng.uniform(0, 2 * np.pi, 12)
    away = np.exp(rng.uniform(np.log(0.7), np.log(3.0), 12))
    x, y = target[0] + away * np.cos(angle), target[1] + away * np.sin(angle)
    x0, y0, x1, y1 = place.bounds
    inside = np.minimum(np.minimum(x - x0, x1 - x), np.minimum(y - y0, y1 - y))
    k = int(np.argmax(inside > 0.2)) if (inside > 0.2).any() else int(np.argmax(inside))
    elevation = rng.uniform(0.3, 1.9)
    yaw = float(np.arctan2(target[1] - y[k], target[0] - x[k])) + rng.normal(0, 0.2)
    away_now = float(np.hypot(target[0] - x[k], target[1] - y[k]))
    pitch = float(np.arctan2(target[2] - elevation, away_now)) + rng.normal(0, 0.12)
    return pose_at(x[k], y[k], elevation, yaw, max(pitch, -1.1), rng)


def pose_at(
    x: float, y: float, z: float, yaw: float, pitch: float, rng: np.random.Generator
) -> ArrayF64:
    """4x4 T_world_camera of a camera in metres and radians, rolled a little and sometimes more."""
    roll = rng.normal(0, 0.03) if rng.random() < 0.7 else rng.normal(0, 0.15)
    pose = np.eye(4)
    pose[:3, :3] = camera_rotation(yaw, pitch, roll)
    pose[:3, 3] = x, y, max(z, 0.08)
    return pose


def _probe(place: Place, camera: CameraModel, pose: ArrayF64) -> ArrayF32:
    rays = pixel_rays(camera) @ pose[:3, :3].T.astype(np.float32)
    origins = np.empty_like(rays)
    origins[:] = pose[:3, 3]
    return cast(place.scene, origins, rays).distance
