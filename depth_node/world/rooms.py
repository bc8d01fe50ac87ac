"""Rooms and corridors: walls, doors, windows, furniture, lamps, people."""

from __future__ import annotations

import numpy as np

from depth_node.world import palette
from depth_node.world.builder import SceneBuilder
from depth_node.world.furniture import AGAINST_WALLS, FREE_STANDING, Piece, bin_or_box, chair
from depth_node.world.people import person
from depth_node.world.place import Ground, Place, Rectangle
from depth_node.world.scene import Light, Sky
from depth_node.world.walls import THICKNESS, Opening, decorate, plan_openings, wall


def room(rng: np.random.Generator, *, spacious: bool = False) -> Place:
    """A furnished room of 2.6 to 9 m; a spacious one leaves a robot space to drive."""
    width, depth = rng.uniform(2.6, 7.0), rng.uniform(3.0, 9.0)
    if spacious:
        width, depth = rng.uniform(5.5, 7.0), rng.uniform(7.0, 9.0)
    b = SceneBuilder(rng)
    bounds = (-width / 2, -depth / 2, width / 2, depth / 2)
    ground = Ground(bounds)
    height = rng.uniform(2.3, 3.4)
    shell(b, ground, width, depth, height, doors=0.25, windows=0.35)
    crowd = rng.uniform(0.9, 1.4) if spacious else rng.uniform(0.2, 1.1)
    line_walls(b, ground, bounds, int(crowd * 2.2 * (width + depth)), AGAINST_WALLS)
    share = 0.55 if spacious else 1.0
    middle = (share * bounds[0], share * bounds[1], share * bounds[2], share * bounds[3])
    fill_middle(b, ground, middle, int(crowd * 0.8 * middle[2] * middle[3] * 4))
    return Place(b.build(), bounds, ground.rectangles(), None, "room")


def corridor(rng: np.random.Generator, *, spacious: bool = False) -> Place:
    """A corridor of 6 to 30 m with doors on both sides and things along the walls."""
    width, depth = rng.uniform(2.4 if spacious else 1.3, 3.2), rng.uniform(6.0, 30.0)
    b = SceneBuilder(rng)
    bounds = (-width / 2, -depth / 2, width / 2, depth / 2)
    ground = Ground(bounds)
    shell(b, ground, width, depth, rng.uniform(2.3, 3.3), doors=0.6, windows=0.12)
    if width > 1.8:
        pieces = (*AGAINST_WALLS[1:5], bin_or_box, bin_or_box, chair)
        line_walls(b, ground, bounds, int(rng.uniform(0, 0.5) * depth), pieces)
    for _ in range(int(rng.integers(0, 3))):
        _stand_person(b, ground, bounds)
    return Place(b.build(), bounds, ground.rectangles(), np.pi / 2, "corridor")


def shell(
    b: SceneBuilder,
    ground: Ground,
    width: float,
    depth: float,
    height: float,
    doors: float,
    windows: float,
) -> None:
    """Floor, ceiling, four walls with what is in and behind them, and the light."""
    rng = b.rng
    b.box_low, b.box_high = (-width / 2, -depth / 2, 0.0), (width / 2, depth / 2, height)
    paint = palette.wall(b)
    b.box(palette.floor(b), (width + 0.4, depth + 0.4, 0.1), (0, 0, -0.1))
    _ceiling(b, width, depth, height)
    corners = [
        (-width / 2, depth / 2, 0.0, width),
        (width / 2, depth / 2, -np.pi / 2, depth),
        (width / 2, -depth / 2, np.pi, width),
        (-width / 2, -depth / 2, np.pi / 2, depth),
    ]
    outside = 0
    for x, y, yaw, length in corners:
        with b.at(x, y, 0, yaw):
            material = paint if rng.random() < 0.75 else palette.wall(b)
            bright = windows if rng.random() < 0.5 else 0.0
            openings = plan_openings(rng, length, height, doors, bright)
            wall(b, length, height, openings, material)
            decorate(b, length, height, openings, rng.uniform(0.1, 0.8))
            for hole in openings:
                if hole.kind == "window":
                    outside += 1
                elif hole.kind != "closed":
                    _beyond(b, hole)
        for hole in openings:  # nothing may stand in a doorway
            if hole.z0 == 0.0:
                _keep_clear(ground, x, y, yaw, hole)
    if width > 3.5 and depth > 3.5 and rng.random() < 0.35:
        _pillar(b, ground, width, depth, height, paint)
    _light(b, width, depth, height, outside > 0)
    if outside:
        _outdoors(b, max(width, depth))


def _keep_clear(ground: Ground, x: float, y: float, yaw: float, hole: Opening) -> None:
    along, reach = 0.5 * (hole.x0 + hole.x1), 0.4
    cx = x + along * np.cos(yaw) + reach * np.sin(yaw)
    cy = y + along * np.sin(yaw) - reach * np.cos(yaw)
    half = 0.5 * (hole.x1 - hole.x0) if abs(np.cos(yaw)) > 0.5 else reach
    deep = reach if abs(np.cos(yaw)) > 0.5 else 0.5 * (hole.x1 - hole.x0)
    ground.taken.append((cx - half, cy - deep, cx + half, cy + deep))


def _beyond(b: SceneBuilder, hole: Opening) -> None:
    """A plain space behind a doorway, sometimes with stairs or furniture."""
    rng = b.rng
    width, depth = rng.uniform(1.5, 4.0), rng.uniform(1.0, 7.0)
    height = hole.z1 + 0.4
    x, y = 0.5 * (hole.x0 + hole.x1), THICKNESS + depth / 2
    paint, t = palette.wall(b), 0.05
    with b.at(x, y):
        b.box(palette.floor(b), (width, depth, 0.1), (0, 0, -0.101))
        b.box(paint, (width, depth, 0.1), (0, 0, height))
        b.box(paint, (width, t, height), (0, depth / 2, 0))
        for side in (-1, 1):
            b.box(paint, (t, depth, height), (side * width / 2, 0, 0))
        if rng.random() < 0.3 and depth > 3:
            with b.at(0, -depth / 2 + 0.5):
                stairs(b, int(min(12, (depth - 0.5) / 0.28)), min(width, 1.4))
        elif depth > 1.8:
            pieces = (*AGAINST_WALLS, *FREE_STANDING)
            with b.at(0, depth / 2 - 0.5, 0, rng.normal(0, 0.2)):
                pieces[int(rng.integers(len(pieces)))](b)
        if rng.random() < 0.5:
            lamp = b.material("plain", (0.9, 0.9, 0.85), tile=1, glow=rng.uniform(0.5, 3))
            b.box(lamp, (0.5, 0.5, 0.03), (0, 0, height - 0.03))


def stairs(b: SceneBuilder, steps: int, width: float) -> None:
    """Stairs that climb towards +y, with a railing."""
    rng = b.rng
    rise, run = rng.uniform(0.15, 0.19), rng.uniform(0.25, 0.3)
    tread, rail = palette.floor(b), palette.metal(b)
    for k in range(steps):
        b.box(tread, (width, run, (k + 1) * rise), (0, (k + 0.5) * run, 0))
        for side in (-1, 1):
            at = (side * width / 2, (k + 0.5) * run, (k + 1) * rise)
            b.box(rail, (0.02, 0.02, 0.9), at)
    for side in (-1, 1):
        x = side * width / 2
        top = (x, steps * run, steps * rise + 0.9)
        b.beam(rail, (x, 0.5 * run, rise + 0.9), top, 0.045)


def _pillar(
    b: SceneBuilder, ground: Ground, width: float, depth: float, height: float, paint: int
) -> None:
    """A block in one corner makes the room L-shaped; a small one is a column."""
    rng = b.rng
    sx, sy = rng.choice([-1, 1], 2)
    wide, deep = rng.uniform(0.3, 0.45 * width), rng.uniform(0.3, 0.45 * depth)
    x, y = sx * (width - wide) / 2, sy * (depth - deep) / 2
    if rng.random() < 0.3:
        wide = deep = rng.uniform(0.25, 0.6)
        x, y = rng.uniform(-0.3, 0.3) * width, rng.uniform(-0.3, 0.3) * depth
    if ground.claim(x, y, wide, deep):
        b.box(paint, (wide, deep, height), (x, y, 0))


def _ceiling(b: SceneBuilder, width: float, depth: float, height: float) -> None:
    rng = b.rng
    white = palette.colour(rng, saturation=(0, 0.15), value=(0.45, 0.9))
    pattern = str(rng.choice(["plain", "plain", "tiles", "speckle", "planks"]))
    ceiling = b.material(pattern, white, palette.near(rng, white, 0.1), tile=rng.uniform(1.2, 2.4))
    b.box(ceiling, (width + 0.4, depth + 0.4, 0.1), (0, 0, height))
    if rng.random() < 0.2:
        beam = palette.wood(b)
        for y in np.arange(-depth / 2 + 0.5, depth / 2, rng.uniform(0.6, 1.5)):
            b.box(beam, (width, 0.14, 0.18), (0, y, height - 0.18))
    for _ in range(int(rng.integers(0, 3))):
        x, thick = rng.uniform(-0.45, 0.45) * width, rng.uniform(0.04, 0.3)
        pipe, z = palette.metal(b), height - thick - 0.05
        b.beam(pipe, (x, -depth / 2, z), (x, depth / 2, z), thick)


def _light(b: SceneBuilder, width: float, depth: float, height: float, windows: bool) -> None:
    """Ceiling lamps, and daylight where there are windows."""
    rng = b.rng
    warm = palette.colour(rng, (0.07, 0.14), (0, 0.35), (1, 1))
    power = float(np.exp(rng.uniform(np.log(0.5), np.log(5))))
    glow = b.material("plain", warm, tile=1, glow=rng.uniform(1, 5))
    spacing = rng.uniform(1.6, 3.5)
    columns, rows = max(1, round(width / spacing)), max(1, round(depth / spacing))
    long = rng.random() < 0.5
    hang = float(rng.choice([0, 0, 0.02, 0.5]))
    spots = [
        ((i + 0.5) / columns * width - width / 2, (j + 0.5) / rows * depth - depth / 2)
        for i in range(columns)
        for j in range(rows)
    ]
    if rng.random() < 0.9:
        for x, y in spots:
            if long:
                b.box(glow, (0.15, 1.2, 0.06), (x, y, height - 0.06 - hang))
            else:
                b.put("cylinder", glow, (0.35, 0.35, 0.08), (x, y, height - 0.08 - hang))
            if hang > 0.1:
                b.beam(glow, (x, y, height - hang), (x, y, height), 0.01)
    lit = rng.permutation(len(spots))[: int(rng.integers(1, 3))]
    for k in lit:
        x, y = spots[k]
        position = (x, y, height - 0.25 - hang)
        strength = power * (3.0 / len(lit))
        b.lights.append(
            Light(position, (warm[0] * strength, warm[1] * strength, warm[2] * strength))
        )
    fill = rng.uniform(0.15, 0.6) * power
    tint = palette.near(rng, warm, 0.08)
    dim = rng.uniform(0.4, 0.9)
    b.sky = Sky(
        ambient=(fill * tint[0], fill * tint[1], fill * tint[2]),
        bounce=(dim * fill * warm[0], dim * fill * warm[1], dim * fill * warm[2]),
        zenith=(4, 5, 7),
        horizon=(6, 6.5, 7),
        clouds=0.0,
    )
    if windows and rng.random() < 0.5:
        azimuth, climb = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 0.9)
        towards = (np.cos(azimuth) * np.cos(climb), np.sin(azimuth) * np.cos(climb), np.sin(climb))
        b.lights.append(Light(towards, (6.0, 5.4, 4.5), sun=True))


def _outdoors(b: SceneBuilder, reach: float) -> None:
    """What windows look out on: ground, trees and facades."""
    rng = b.rng
    floor = -float(rng.choice([0.15, 3.2, 6.5]))
    b.box(palette.leaves(b), (160, 160, 0.1), (0, 0, floor - 0.1))
    for _ in range(8):
        angle, away = rng.uniform(0, 2 * np.pi), reach + rng.uniform(4, 25)
        with b.at(away * np.cos(angle), away * np.sin(angle), floor, angle):
            if rng.random() < 0.5:
                base = palette.colour(rng, (0, 0.15), (0, 0.4), (0.2, 0.8))
                facade = b.material("facade", base, (0.05, 0.06, 0.08), (0.7, 0.7, 0.7), tile=0)
                b.box(facade, (4, rng.uniform(6, 16), rng.uniform(5, 14)))
            else:
                size = rng.uniform(3, 7)
                b.put("crown1", palette.leaves(b), (size, size, size), (0, 0, 1.5))
                b.put("pole", palette.wood(b), (0.3, 0.3, 3))


def line_walls(
    b: SceneBuilder, ground: Ground, bounds: Rectangle, tries: int, pieces: tuple[Piece, ...]
) -> None:
    """Put furniture with its back to a wall wherever it fits."""
    rng = b.rng
    x0, y0, x1, y1 = bounds
    for _ in range(tries):
        side, share = int(rng.integers(4)), rng.uniform(0.05, 0.95)

        def settle(
            width: float, depth: float, side: int = side, share: float = share
        ) -> tuple[float, float, float] | None:
            along_x, inset = side % 2 == 0, depth / 2 + 0.02
            x = x0 + share * (x1 - x0) if along_x else (x1 - inset if side == 1 else x0 + inset)
            y = y0 + share * (y1 - y0) if not along_x else (y1 - inset if side == 0 else y0 + inset)
            fits = ground.claim(x, y, *((width, depth) if along_x else (depth, width)))
            return (x, y, -side * np.pi / 2) if fits else None

        b.attempt(pieces[int(rng.integers(len(pieces)))], settle)


def fill_middle(b: SceneBuilder, ground: Ground, bounds: Rectangle, tries: int) -> None:
    """Strew tables with chairs, loose furniture and people over the free floor."""
    rng = b.rng
    x0, y0, x1, y1 = bounds
    for _ in range(tries):
        spot = rng.uniform(x0 + 0.3, x1 - 0.3), rng.uniform(y0 + 0.3, y1 - 0.3)
        put_loosely(b, ground, spot, FREE_STANDING, lean=0.12, gap=0.12)
    if rng.random() < 0.25:
        _stand_person(b, ground, bounds)


def put_loosely(
    b: SceneBuilder,
    ground: Ground,
    spot: tuple[float, float],
    pieces: tuple[Piece, ...],
    lean: float,
    gap: float = 0.05,
) -> bool:
    """Put one of the pieces where it fits, nearly parallel to the walls; whether it did.

    Args:
        b: builds the scene.
        ground: claims the floor.
        spot: x and y of the piece's middle, metres.
        pieces: to choose from.
        lean: standard deviation of its angle to the nearest of four directions, radians.
        gap: metres that it keeps from others.
    """
    rng = b.rng
    quarter, angle = int(rng.integers(4)), rng.normal(0, lean)

    def settle(width: float, depth: float) -> tuple[float, float, float] | None:
        size = (width, depth) if quarter % 2 == 0 else (depth, width)
        fits = ground.claim(*spot, *size, gap=gap)
        return (*spot, quarter * np.pi / 2 + angle) if fits else None

    return b.attempt(pieces[int(rng.integers(len(pieces)))], settle)


def _stand_person(b: SceneBuilder, ground: Ground, bounds: Rectangle) -> None:
    rng = b.rng
    x0, y0, x1, y1 = bounds
    x, y = rng.uniform(x0, x1), rng.uniform(y0, y1)
    if ground.claim(x, y, 0.5, 0.5):
        with b.at(x, y, 0, rng.uniform(0, 2 * np.pi)):
            person(b)
