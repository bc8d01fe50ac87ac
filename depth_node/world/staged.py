"""Places that the student is trained in beyond those of the demo: a kitchen, an office, an avenue.

Each guarantees what the general places draw only now and then, and names what is worth looking at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from depth_node.types import ArrayF64
from depth_node.world import palette
from depth_node.world.builder import SceneBuilder
from depth_node.world.furniture import (
    AGAINST_WALLS,
    Piece,
    bin_or_box,
    chair,
    clutter,
    cupboard,
    desk,
    dining,
    office_chair,
    shelf,
    table,
)
from depth_node.world.place import Ground, Place, Rectangle
from depth_node.world.rooms import fill_middle, line_walls, put_loosely, shell
from depth_node.world.streets import street

_COUNTER = 0.62
"""Depth of a kitchen counter, metres."""
_DESK_HEIGHT = 0.73
"""Metres, as `furniture.desk` makes it."""


@dataclass(frozen=True, eq=False)
class Stage:
    """A place with what a camera should look at.

    Attributes:
        place: the place.
        targets: (n, 4) float64 rectangles x0, y0, x1, y1 of tables (with their chairs) and
            counters, metres.
    """

    place: Place
    targets: ArrayF64


def kitchen(rng: np.random.Generator) -> Stage:
    """A room of 3 to 6 m with a dining table, and counters under wall cupboards."""
    b, ground = _room(rng, (3.0, 5.5), (3.2, 6.0))
    sides = rng.permutation(4)[: int(rng.integers(1, 3))]
    look = _Fronts(
        palette.picture(b, "panel")
        if rng.random() < 0.5
        else palette.plain(b, palette.colour(rng)),
        palette.wood(b) if rng.random() < 0.5 else palette.anything(b),
        palette.metal(b),
    )
    counters = [_counter(b, ground, int(side), look) for side in sides]
    tables = _seat(b, ground, (dining, dining, dining, table), int(rng.integers(1, 3)))
    line_walls(b, ground, ground.bounds, int(rng.integers(1, 5)), (cupboard, shelf, bin_or_box))
    if rng.random() < 0.6:
        fill_middle(b, ground, ground.bounds, int(rng.integers(1, 5)))
    targets = np.concatenate([tables, counters])
    return Stage(Place(b.build(), ground.bounds, ground.rectangles(), None, "room"), targets)


def office(rng: np.random.Generator) -> Stage:
    """A room of 4 to 9 m with desks in the middle and chairs before them."""
    b, ground = _room(rng, (4.0, 7.0), (4.0, 9.0))
    tables = _seat(b, ground, (_workplace, _workplace, _bench), int(rng.integers(2, 6)))
    line_walls(b, ground, ground.bounds, int(rng.integers(3, 9)), (*AGAINST_WALLS[:5], desk))
    return Stage(Place(b.build(), ground.bounds, ground.rectangles(), None, "room"), tables)


def avenue(rng: np.random.Generator) -> Stage:
    """A street with a row of trees and one of parked cars on either side."""
    return Stage(street(rng, lined=True), np.zeros((0, 4)))


@dataclass(frozen=True)
class _Fronts:
    """Materials of a fitted kitchen: doors, worktop, appliances."""

    door: int
    top: int
    steel: int


def _room(
    rng: np.random.Generator, widths: tuple[float, float], depths: tuple[float, float]
) -> tuple[SceneBuilder, Ground]:
    width, depth = rng.uniform(*widths), rng.uniform(*depths)
    b = SceneBuilder(rng)
    ground = Ground((-width / 2, -depth / 2, width / 2, depth / 2))
    shell(b, ground, width, depth, rng.uniform(2.3, 3.0), doors=0.25, windows=0.35)
    return b, ground


def _seat(b: SceneBuilder, ground: Ground, pieces: tuple[Piece, ...], count: int) -> ArrayF64:
    """Put up to `count` pieces where they fit; return their rectangles, (n, 4)."""
    rng = b.rng
    x0, y0, x1, y1 = ground.bounds
    found: list[Rectangle] = []
    for _ in range(12):
        spot = rng.uniform(x0 + 0.6, x1 - 0.6), rng.uniform(y0 + 0.6, y1 - 0.6)
        if put_loosely(b, ground, spot, pieces, lean=0.08):
            found.append(ground.taken[-1])
        if len(found) == count:
            break
    return np.array(found, float).reshape(-1, 4)


def _counter(b: SceneBuilder, ground: Ground, side: int, look: _Fronts) -> Rectangle:
    """Base units with things on them along one wall, cupboards over some, a refrigerator."""
    rng = b.rng
    x0, y0, x1, y1 = ground.bounds
    across = side % 2 == 0
    length, reach = (x1 - x0, y1) if across else (y1 - y0, x1)
    unit, high, low = rng.uniform(0.45, 0.8), rng.uniform(0.86, 0.95), rng.uniform(1.35, 1.55)
    inset = _COUNTER / 2 + 0.02
    for along in np.arange(-length / 2 + unit / 2, length / 2 - unit / 2 + 1e-6, unit):
        yaw = -side * np.pi / 2
        x = along * np.cos(yaw) - (reach - inset) * np.sin(yaw)
        y = along * np.sin(yaw) + (reach - inset) * np.cos(yaw)
        size = (unit, _COUNTER) if across else (_COUNTER, unit)
        if not ground.claim(x, y, *size, gap=-0.01):  # neighbours touch
            continue
        with b.at(x, y, 0, yaw):
            kind = rng.random()
            if kind < 0.08:
                b.box(look.steel, (unit, _COUNTER, rng.uniform(1.5, 2.0)))
                continue
            b.box(look.steel if kind < 0.2 else look.door, (unit - 0.006, _COUNTER - 0.03, high))
            b.box(look.top, (unit, _COUNTER, 0.04), (0, 0, high))
            if rng.random() < 0.65:
                size3 = (unit - 0.006, 0.34, rng.uniform(0.6, 0.75))
                b.box(look.door, size3, (0, _COUNTER / 2 - 0.17, low))
            with b.at(0, 0, high + 0.04):
                clutter(b, unit, _COUNTER, int(rng.integers(0, 4)))
    return (
        (x0, y1 - _COUNTER, x1, y1),
        (x1 - _COUNTER, y0, x1, y1),
        (x0, y0, x1, y0 + _COUNTER),
        (x0, y0, x0 + _COUNTER, y1),
    )[side]


def _workplace(b: SceneBuilder) -> tuple[float, float]:
    """A desk, covered, with a chair before it."""
    rng = b.rng
    width, depth = desk(b)
    with b.at(0, -0.05, _DESK_HEIGHT):
        clutter(b, width, depth, int(rng.integers(3, 10)))
    with b.at(rng.normal(0, 0.15), -depth / 2 - rng.uniform(0.0, 0.4), 0, np.pi):
        office_chair(b) if rng.random() < 0.7 else chair(b)
    return width, depth + 0.9


def _bench(b: SceneBuilder) -> tuple[float, float]:
    """Two desks back to back."""
    sizes = []
    for yaw in (0.0, np.pi):
        with b.at(0, 0.4 * np.cos(yaw), 0, yaw + np.pi):
            sizes.append(desk(b))
            with b.at(0, 0, _DESK_HEIGHT):
                clutter(b, *sizes[-1], int(b.rng.integers(2, 8)))
    return max(s[0] for s in sizes), 1.7
