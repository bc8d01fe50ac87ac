"""Streets along x: road, pavements, facades, vehicles, trees, poles, wires, people, sky."""

from __future__ import annotations

import functools

import numpy as np

from depth_node.types import ArrayF64
from depth_node.world import palette, roadside
from depth_node.world.builder import SceneBuilder
from depth_node.world.people import person
from depth_node.world.place import Ground, Place
from depth_node.world.scene import Light, Sky

REACH = 110.0
"""Metres of street on either side of the middle."""
_STRIP = 5.0


def street(rng: np.random.Generator, *, spacious: bool = False, lined: bool = False) -> Place:
    """A town street, a suburban or country road or a yard.

    Args:
        rng: draws everything.
        spacious: with less traffic.
        lined: with a row of trees and one of parked cars on either side, which otherwise are drawn.
    """
    b = SceneBuilder(rng)
    lane = rng.uniform(2.8, 3.7)
    half_road = lane * float(rng.choice([0.7, 1, 1, 1.5, 2]))
    verge = rng.uniform(1.5, 5.0)
    bend = rng.normal(0, 0.0012) if rng.random() < 0.6 else 0.0
    slope = rng.normal(0, 0.0006)
    b.warp = functools.partial(_bend, bend=bend, slope=slope)
    bounds = (-12.0, -half_road - verge, 12.0, half_road + verge)
    b.box_low, b.box_high = (-20.0, bounds[1], 0.0), (30.0, bounds[3], 3.5)
    ground = Ground((-REACH, bounds[1] - 1, REACH, bounds[3] + 1))

    _surfaces(b, half_road, verge)
    _markings(b, half_road, lane)
    style = str(rng.choice(["town", "town", "suburb", "country", "yard"]))
    for side in (-1, 1):
        edge = side * (half_road + verge)
        _buildings(b, side, abs(edge), style)
        _line(b, ground, side, half_road, verge, style, lined)
    _traffic(b, ground, half_road, lane, 0.5 if spacious else 2.0)
    for _ in range(rng.poisson(3)):
        x, y = rng.uniform(-25, 40), rng.uniform(bounds[1], bounds[3])
        if ground.claim(x, y, 0.6, 0.6):
            with b.at(x, y, 0, rng.uniform(0, 2 * np.pi)):
                person(b)
    _wires(b, half_road)
    _weather(b)
    return Place(b.build(), bounds, ground.rectangles(), 0.0, "street")


def _bend(points: ArrayF64, bend: float, slope: float) -> ArrayF64:
    """Curve the street: the middle stays, the ends turn aside and rise or fall."""
    square = points[..., :1] ** 2
    return np.concatenate(
        [points[..., :1], points[..., 1:2] + bend * square, points[..., 2:] + slope * square], -1
    )


def _strip(
    b: SceneBuilder, material: int, y0: float, y1: float, z: float, step: float = _STRIP
) -> None:
    """A long surface in short pieces, so that it bends with the street."""
    for x in np.arange(-REACH, REACH, step):
        b.box(material, (step, y1 - y0, 0.3), (x + step / 2, 0.5 * (y0 + y1), z - 0.3))


def _surfaces(b: SceneBuilder, half_road: float, verge: float) -> None:
    """Road, pavements and the land beside them."""
    rng = b.rng
    grey = palette.colour(rng, (0.05, 0.15), (0, 0.12), (0.05, 0.3))
    pattern = str(rng.choice(["asphalt", "asphalt", "asphalt", "concrete", "speckle"]))
    tile = rng.uniform(2, 5)
    road = b.material(
        pattern, grey, palette.near(rng, grey, 0.35), palette.near(rng, grey, 0.4), tile=tile
    )
    _strip(b, road, -half_road, half_road, 0.0)
    curb = 0.13 if rng.random() < 0.75 else 0.0
    for side in (-1, 1):
        stone = palette.colour(rng, (0.03, 0.15), (0, 0.25), (0.15, 0.5))
        if rng.random() < 0.7:
            pattern = str(rng.choice(["tiles", "bricks", "concrete", "speckle"]))
            walk = b.material(
                pattern, stone, palette.near(rng, stone, 0.2), tile=rng.uniform(0.6, 2)
            )
        else:
            walk = palette.leaves(b)
        near, far = sorted((side * half_road, side * (half_road + verge)))
        _strip(b, walk, near, far, curb)
        if curb:
            edge = palette.plain(b, palette.near(rng, stone, 0.2))
            _strip(b, edge, side * half_road - 0.08, side * half_road + 0.08, curb + 0.01)
        soil = palette.colour(rng, (0.07, 0.35), (0.2, 0.6), (0.05, 0.3))
        field = b.material("grass", soil, palette.near(rng, soil, 0.4), tile=3)
        near, far = sorted((side * (half_road + verge), side * 140.0))
        _strip(b, field, near, far, 0.02, 10.0)


def _markings(b: SceneBuilder, half_road: float, lane: float) -> None:
    """Lane lines, edge lines, a zebra crossing or rails."""
    rng = b.rng
    paint = palette.plain(b, (0.7, 0.7, 0.66))
    lines = np.arange(-half_road + lane, half_road - 0.5, lane)
    dash, pitch = rng.uniform(2, 6), rng.uniform(7, 13)
    if rng.random() < 0.8:
        for y in lines:
            for x in np.arange(-REACH, REACH, pitch):
                b.box(paint, (dash, 0.13, 0.006), (x, y, 0))
    if rng.random() < 0.5:
        for y in (0.25 - half_road, half_road - 0.25):
            _strip(b, paint, y - 0.07, y + 0.07, 0.006)
    if rng.random() < 0.25:
        x = rng.uniform(-5, 30)
        for y in np.arange(-half_road + 0.4, half_road - 0.2, 1.0):
            b.box(paint, (3.0, 0.5, 0.006), (x, y, 0))
    if rng.random() < 0.12:
        rail = palette.metal(b)
        for y in (-0.72, 0.72):
            _strip(b, rail, y - 0.03, y + 0.03, 0.02)


def _buildings(b: SceneBuilder, side: int, edge: float, style: str) -> None:
    rng = b.rng
    share = {"town": 0.95, "suburb": 0.6, "country": 0.1, "yard": 0.7}[style]
    x = -REACH
    while x < REACH:
        width = rng.uniform(7, 22) if style != "suburb" else rng.uniform(7, 12)
        back = rng.uniform(0, 0.4) if style == "town" else rng.uniform(0.5, 9)
        if rng.random() < share:
            floors = (
                int(rng.integers(1, 3)) if style in ("suburb", "yard") else int(rng.integers(2, 7))
            )
            y = side * (edge + back)
            with b.at(x + width / 2, y, 0, 0 if side > 0 else np.pi):
                _house(b, width - 0.1, floors, near=abs(x) < 50)
        elif rng.random() < 0.7:
            for _ in range(int(rng.integers(1, 5))):
                with b.at(x + rng.uniform(0, width), side * (edge + rng.uniform(0.5, 12))):
                    roadside.tree(b) if rng.random() < 0.7 else roadside.bush(b)
        x += width + (0 if style == "town" else rng.uniform(0, 8))
    if rng.random() < (0.25 if style == "town" else 0.6):
        _fence(b, side * edge)
    hills = palette.leaves(b)
    for x in np.arange(-REACH - 60, REACH + 120, 22):
        size = (rng.uniform(15, 40), rng.uniform(10, 25), rng.uniform(5, 18))
        b.put("knoll0", hills, size, (x, side * rng.uniform(edge + 40, edge + 80), -2))
    for end in (-1, 1):
        for _ in range(3):
            size = (rng.uniform(8, 20), rng.uniform(12, 30), rng.uniform(4, 16))
            y = side * rng.uniform(edge, edge + 40)
            b.put("knoll1", hills, size, (end * (REACH + rng.uniform(-5, 40)), y, -1))


def _house(b: SceneBuilder, width: float, floors: int, *, near: bool) -> None:
    """A building whose front is at y = 0 and looks to -y; only near ones have windows of depth."""
    rng = b.rng
    height, depth = 3.0 * floors + rng.uniform(0.2, 1.2), rng.uniform(8, 14)
    base = palette.colour(rng, (0.0, 0.15), (0, 0.5), (0.15, 0.85))
    pane = palette.colour(rng, (0.5, 0.65), (0, 0.4), (0.02, 0.2))
    style = rng.random() if near else 0.0
    frame = palette.near(rng, (0.6, 0.6, 0.6), 0.4)
    if style < 0.25:
        name = "curtain_wall" if rng.random() < 0.4 else "facade"
        front = b.material(name, base, pane, frame, tile=0, gloss=0.1)
        b.box(front, (width, depth, height), (0, depth / 2, 0))
    else:
        masonry = (
            "bricks" if rng.random() < 0.4 else str(rng.choice(["plain", "blotches", "concrete"]))
        )
        joint = palette.near(rng, base, 0.3)
        skin = b.material(
            masonry, base, palette.near(rng, base, 0.2), joint, tile=rng.uniform(1, 3)
        )
        b.box(skin, (width, depth, height), (0, depth / 2, 0))
        _windows(b, width, floors, pane, frame)
    if rng.random() < 0.6:
        roof = b.material(
            "tiles", palette.colour(rng, (0, 0.08), (0.1, 0.7), (0.08, 0.4)), tile=1.5
        )
        taper = (1.0, 0.02) if rng.random() < 0.6 else (0.6, 0.4)
        size = (width + 0.6, depth + 0.8, rng.uniform(2, 4.5))
        b.box(roof, size, (0, depth / 2, height), taper=taper)
        if rng.random() < 0.5:
            b.box(
                skin if style >= 0.25 else front,
                (0.6, 0.6, 3),
                (rng.uniform(-0.3, 0.3) * width, 3, height),
            )
    else:
        ledge = palette.plain(b, palette.near(rng, base, 0.3))
        b.box(ledge, (width + 0.2, depth + 0.3, 0.4), (0, depth / 2, height))
    door = b.material("door", palette.colour(rng), tile=0)
    b.box(door, (1.1, 0.1, 2.2), (rng.uniform(-0.35, 0.35) * width, -0.02, 0))
    if rng.random() < 0.2:
        gate = b.material("corrugated", palette.colour(rng), tile=1)
        b.box(gate, (2.6, 0.1, 2.3), (rng.uniform(-0.3, 0.3) * width, -0.02, 0))
    if rng.random() < 0.2:
        awning = palette.fabric(b)
        b.box(awning, (0.6 * width, 1.2, 0.08), (0, -0.6, 2.6), (0.25, 0, 0))


def _windows(
    b: SceneBuilder,
    width: float,
    floors: int,
    pane: tuple[float, float, float],
    frame: tuple[float, float, float],
) -> None:
    """Windows of real depth in regular rows, some with balconies."""
    rng = b.rng
    glass = b.material("plain", pane, tile=1, gloss=1, mirror=rng.uniform(0.1, 0.4))
    trim = palette.plain(b, frame)
    columns = max(2, int(width / rng.uniform(2.2, 3.6)))
    wide, tall = rng.uniform(0.8, 1.5), rng.uniform(1.2, 1.8)
    balcony = rng.random() < 0.25
    for level in range(floors):
        for column in range(columns):
            x = ((column + 0.5) / columns - 0.5) * width
            z = 3.0 * level + 0.95
            b.box(trim, (wide + 0.2, 0.1, tall + 0.2), (x, 0, z - 0.1))
            b.box(glass, (wide, 0.12, tall), (x, 0, z))
            b.box(trim, (0.06, 0.15, tall), (x, 0, z))
            if balcony and level > 0 and column % 2:
                b.box(trim, (wide + 0.8, 1.2, 0.15), (x, -0.6, z - 1.0))
                for k in range(7):
                    at = (x + (k / 6 - 0.5) * (wide + 0.7), -1.15, z - 0.85)
                    b.box(trim, (0.03, 0.03, 0.9), at)
                b.box(trim, (wide + 0.8, 0.05, 0.05), (x, -1.15, z))


def _fence(b: SceneBuilder, y: float) -> None:
    rng = b.rng
    kind, height = rng.random(), rng.uniform(0.7, 2.0)
    if kind < 0.35:
        material = palette.wall(b)
        for x in np.arange(-REACH, REACH, _STRIP):
            b.box(material, (_STRIP, 0.25, height), (x, y, 0))
    elif kind < 0.65:
        green = palette.leaves(b)
        for x in np.arange(-REACH, REACH, 1.5):
            b.put("knoll0", green, (2.2, 1.0, height), (x, y, 0))
    else:
        bar = palette.metal(b) if rng.random() < 0.5 else palette.wood(b)
        pitch, wide = float(rng.choice([0.15, 0.3, 2.0])), rng.uniform(0.03, 0.1)
        for x in np.arange(-25, 45, pitch):
            b.box(bar, (wide, 0.04, height), (x, y, 0))
        for z in (0.3 * height, 0.85 * height):
            for x in np.arange(-25, 45, _STRIP):
                b.box(bar, (_STRIP, 0.04, 0.08), (x + _STRIP / 2, y, z))


def _line(
    b: SceneBuilder,
    ground: Ground,
    side: int,
    half_road: float,
    verge: float,
    style: str,
    lined: bool,
) -> None:
    """What stands along one side: trees, lamps, signs, parked cars, bicycles, benches."""
    rng = b.rng
    facing = 0.0 if side > 0 else np.pi
    rows: list[tuple[roadside.Thing, float, float, tuple[float, float]]] = []
    if lined or rng.random() < 0.6:
        rows.append((roadside.tree, rng.uniform(6, 15), rng.uniform(0.6, 1.4), (0.6, 0.6)))
    rows.append((roadside.lamp_post, rng.uniform(18, 35), 0.5, (0.3, 0.3)))
    rows.append((roadside.sign, rng.uniform(15, 50), 0.4, (0.3, 0.3)))
    if style != "country":
        rows.append((roadside.street_furniture, rng.uniform(8, 30), verge - 0.5, (1.6, 0.6)))
        rows.append((roadside.bicycle, rng.uniform(10, 50), verge - 0.6, (1.8, 0.6)))
    rows.append((roadside.bush, rng.uniform(6, 30), verge - 0.6, (1.5, 1.5)))
    if lined or rng.random() < (0.65 if half_road > 4 else 0.4):
        rows.append((roadside.car, rng.uniform(5.2, 9), -1.0, (4.6, 2.0)))
    for thing, pitch, inset, (length, depth) in rows:
        y = side * (half_road + inset)
        for x in np.arange(-0.5 * REACH, REACH, pitch):
            along = x + rng.normal(0, 0.15 * pitch)
            if rng.random() < 0.75 and ground.claim(along, y, length, depth):
                made = thing
                if thing is roadside.car and rng.random() < 0.15:
                    made = roadside.van
                yaw = facing + rng.normal(0, 0.03)
                if thing is roadside.car:
                    yaw = float(rng.choice([0, np.pi])) + rng.normal(0, 0.04)
                with b.at(along, y, 0, yaw):
                    made(b)


def _traffic(
    b: SceneBuilder, ground: Ground, half_road: float, lane: float, density: float
) -> None:
    rng = b.rng
    for y in np.arange(-half_road + lane / 2, half_road, lane):
        for _ in range(rng.poisson(density)):
            x = float(rng.choice([rng.uniform(5, 35), rng.uniform(-90, 100)]))
            thing = (roadside.car, roadside.car, roadside.car, roadside.van, roadside.truck)
            made = thing[int(rng.integers(len(thing)))]
            length = 14.0 if made is roadside.truck else 6.5
            if ground.claim(x, y, length, 2.2, gap=0.0):
                with b.at(x, y, 0, (0 if y < 0 else np.pi) + rng.normal(0, 0.02)):
                    made(b)


def _wires(b: SceneBuilder, half_road: float) -> None:
    """Sagging wires between poles along the street or across it."""
    rng = b.rng
    if rng.random() < 0.5:
        return
    black, height = palette.plain(b, (0.02, 0.02, 0.02)), rng.uniform(5, 8)
    y, pitch = float(rng.choice([-1, 1])) * (half_road + 0.8), 25.0
    for x in np.arange(-50, 100, pitch):
        b.put("pole", palette.wood(b), (0.22, 0.22, height + 0.4), (x, y, 0))
        for k in range(int(rng.integers(1, 4))):
            sag = np.linspace(0, 1, 7)
            z = height - 0.3 * k - 2.4 * sag * (1 - sag)
            for i in range(6):
                start = (x + pitch * sag[i], y, z[i])
                b.beam(black, start, (x + pitch * sag[i + 1], y, z[i + 1]), 0.025)
        if rng.random() < 0.3:
            b.beam(black, (x, -half_road, height - 0.5), (x, half_road, height - 0.5), 0.025)


def _weather(b: SceneBuilder) -> None:
    rng = b.rng
    overcast = rng.random() < 0.3
    azimuth, climb = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1.2)
    towards = (np.cos(azimuth) * np.cos(climb), np.sin(azimuth) * np.cos(climb), np.sin(climb))
    strength = 0.0 if overcast else rng.uniform(1.5, 3.5)
    warm = 1 - 0.5 * np.exp(-3 * climb)
    if strength > 0:
        light = (strength, strength * (0.5 + 0.5 * warm), strength * warm)
        b.lights.append(Light(towards, light, sun=True))
    fill = rng.uniform(0.5, 1.0)
    horizon = rng.uniform(0.8, 2.6)
    blue = 0.0 if overcast else rng.uniform(0.2, 0.8)
    b.sky = Sky(
        zenith=(horizon * (1 - blue), horizon * (1 - 0.6 * blue), horizon),
        horizon=(horizon, horizon, horizon),
        ambient=(fill * (1 - 0.3 * blue), fill * (1 - 0.15 * blue), fill),
        bounce=(0.35 * fill, 0.33 * fill, 0.3 * fill),
        clouds=rng.uniform(0, 0.8),
        cloud_phase=(rng.random(), rng.random()),
    )
