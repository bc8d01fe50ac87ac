"""What the student is shown: random views of random scenes, each worth learning from.

`sampling.sample` stays what it is, so that figures on the world can be compared from one student to
the next. Lessons draw from the same world, and beyond it:

- scenes of `staged`: tables and desks seen from close above, avenues with parked cars and trees;
- nine views in ten show near and far, not one wall;
- in corridors one view in three looks up from a robot dog's height;
- one camera in six exposes badly: far too dark, blown out, or without contrast.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np

from depth_node.types import ArrayF32, ArrayF64, ImageU8
from depth_node.world import photometry
from depth_node.world.clutter import clutter
from depth_node.world.photometry import Photometry
from depth_node.world.place import Place
from depth_node.world.render import render
from depth_node.world.rooms import corridor, room
from depth_node.world.sampling import draw_view, pose_at, random_pose
from depth_node.world.staged import Stage, avenue, kitchen, office
from depth_node.world.streets import street


@dataclass(frozen=True)
class Shares:
    """How many of the scenes are of each kind; the field names are the kinds.

    Attributes:
        room: living rooms and the like, from a robot's and a person's height.
        kitchen: tables seen from close above.
        office: desks, likewise.
        corridor: long and narrow, one view in three looking up.
        street: seen from pavement and road.
        avenue: rows of parked cars and trees.
        clutter: shapes without a room.
    """

    room: float = 0.22
    kitchen: float = 0.16
    office: float = 0.16
    corridor: float = 0.16
    street: float = 0.13
    avenue: float = 0.13
    clutter: float = 0.04

    def __post_init__(self) -> None:
        shares = asdict(self).values()
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(
                f"shares are {asdict(self)}; none may be negative, and they add up to 1"
            )


_SPREAD = 1.8
"""Ratio of far to near that makes a view worth learning from."""
_TABLE_HEIGHT = 0.75
"""Metres."""


def lessons(
    seed: int,
    count: int,
    width: int,
    height: int,
    kind: str | None = None,
    shares: Shares | None = None,
) -> Iterator[tuple[ImageU8, ArrayF32]]:
    """Several views of one random scene.

    Args:
        seed: the same seed gives the same bytes in every process.
        count: views.
        width: pixels.
        height: pixels.
        kind: a field of `Shares`; None draws one.
        shares: how often each kind is drawn; None takes the defaults.

    Yields:
        HxWx3 uint8 RGB, and HxW float32 Z depth in metres, +inf for the sky.

    Raises:
        ValueError: an unknown kind.
    """
    stage = _stage(seed, kind, asdict(shares or Shares()))
    rng = np.random.default_rng([seed, 13])
    pose = functools.partial(_pose, stage, rng)
    for _ in range(count):
        spread = _SPREAD if rng.random() < 0.9 else None
        camera, view = draw_view(stage.place, rng, width, height, pose, spread)
        radiance, depth = render(stage.place.scene, camera, view)
        yield photometry.develop(radiance, _camera(rng), rng), depth


def _stage(seed: int, kind: str | None, shares: dict[str, float]) -> Stage:
    rng = np.random.default_rng([seed, 89])
    chosen = str(rng.choice(list(shares), p=list(shares.values()))) if kind is None else kind
    staged = {"kitchen": kitchen, "office": office, "avenue": avenue}
    plain = {"room": room, "corridor": corridor, "street": street, "clutter": clutter}
    if chosen in staged:
        return staged[chosen](rng)
    if chosen in plain:
        return Stage(plain[chosen](rng), np.zeros((0, 4)))
    raise ValueError(f"there is no lesson called {kind!r}; choose one of {list(shares)}")


def _pose(stage: Stage, rng: np.random.Generator) -> ArrayF64:
    """4x4 T_world_camera of one try."""
    if len(stage.targets) and rng.random() < 0.75:
        return _at_the_table(stage, rng)
    if stage.place.kind == "corridor" and rng.random() < 0.35:
        return _looking_up(stage.place, rng)
    return random_pose(stage.place, rng)


def _at_the_table(stage: Stage, rng: np.random.Generator) -> ArrayF64:
    """Hand-held, within 0.8 m of a table's or its chairs' edge, looking down onto it."""
    x0, y0, x1, y1 = stage.targets[int(rng.integers(len(stage.targets)))]
    share = rng.uniform(0.25, 0.75, 2)
    aim = np.array([x0 + share[0] * (x1 - x0), y0 + share[1] * (y1 - y0)])
    angle = rng.uniform(0, 2 * np.pi, 12)
    towards = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    # From the aim along each direction to the edge of the table, and a step beyond.
    room_left = np.where(towards > 0, np.array([x1, y1]) - aim, aim - np.array([x0, y0]))
    edge = (room_left / np.maximum(np.abs(towards), 1e-6)).min(axis=1)
    spots = aim + towards * (edge + rng.uniform(0.0, 0.8, 12))[:, None]
    left, near, right, far = stage.place.bounds
    inside = np.minimum(
        np.minimum(spots[:, 0] - left, right - spots[:, 0]),
        np.minimum(spots[:, 1] - near, far - spots[:, 1]),
    )
    k = int(np.argmax(inside > 0.15)) if (inside > 0.15).any() else int(np.argmax(inside))
    offset, elevation = aim - spots[k], rng.uniform(1.0, 1.7)
    yaw = float(np.arctan2(offset[1], offset[0])) + rng.normal(0, 0.2)
    drop = np.arctan2(elevation - _TABLE_HEIGHT, np.hypot(offset[0], offset[1]))
    pitch = -float(np.clip(drop + rng.normal(-0.05, 0.15), np.radians(8), np.radians(55)))
    return pose_at(spots[k, 0], spots[k, 1], elevation, yaw, pitch, rng)


def _looking_up(place: Place, rng: np.random.Generator) -> ArrayF64:
    """From 0.25 to 0.6 m over the floor along the corridor, up to 18 degrees up."""
    x0, y0, x1, y1 = place.bounds
    x, y = rng.uniform(x0, x1, 12), rng.uniform(y0, y1, 12)
    k = int(np.argmax(place.clearance(x, y)))
    yaw = float(place.axis or 0.0) + float(rng.choice([0, np.pi])) + rng.normal(0, 0.35)
    pitch = np.radians(rng.uniform(0, 18))
    return pose_at(x[k], y[k], rng.uniform(0.25, 0.6), yaw, pitch, rng)


def _camera(rng: np.random.Generator) -> Photometry:
    camera = photometry.draw(rng)
    if rng.random() < 1 / 6:
        exposure = float(np.exp(rng.uniform(np.log(0.08), np.log(5.0))))
        camera = replace(camera, exposure=exposure, contrast=float(rng.choice([0.0, 1.0])))
    return camera
