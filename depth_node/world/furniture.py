"""Furniture and small things, composed from unit meshes around the origin of the current frame.

Every piece stands on z = 0, is centred in x and y, and faces -y (its back is towards +y). Those in
`PIECES` take a builder and return their footprint (width along x, depth along y) in metres.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from depth_node.world import palette
from depth_node.world.builder import SceneBuilder
from depth_node.world.scene import Vector

Footprint = tuple[float, float]
Piece = Callable[[SceneBuilder], Footprint]


def _legs(
    b: SceneBuilder, material: int, width: float, depth: float, height: float, inset: float = 0.04
) -> None:
    rng = b.rng
    thick = float(rng.choice([0.025, 0.035, 0.05, 0.08]))
    mesh = str(rng.choice(["box", "box", "pole"]))
    lean = float(rng.choice([0, 0, 0.1]))
    for sx in (-1, 1):
        for sy in (-1, 1):
            at = (sx * (width / 2 - inset), sy * (depth / 2 - inset), 0.0)
            rpy = (sy * lean, -sx * lean, 0.0)
            b.put(mesh, material, (thick, thick, height), at, rpy)


def clutter(b: SceneBuilder, width: float, depth: float, count: int) -> None:
    """Strew small things over a horizontal rectangle at the frame's height."""
    rng = b.rng
    for _ in range(count):
        x = rng.uniform(-0.5, 0.5) * max(width - 0.15, 0.05)
        y = rng.uniform(-0.5, 0.5) * max(depth - 0.15, 0.05)
        with b.at(x, y, 0, rng.uniform(-np.pi, np.pi)):
            _SMALL[int(rng.integers(len(_SMALL)))](b)


def _cup(b: SceneBuilder) -> None:
    size = b.rng.uniform(0.06, 0.1)
    material = palette.plain(b, palette.colour(b.rng, value=(0.1, 0.9)), 0.5)
    b.put("tube", material, (size, size, 1.1 * size))
    b.box(material, (0.02, 0.01, 0.6 * size), (0.55 * size, 0, 0.2 * size))


def _papers(b: SceneBuilder) -> None:
    for _ in range(int(b.rng.integers(1, 4))):
        x, y = b.rng.normal(0, 0.06, 2)
        kind = str(b.rng.choice(["page", "poster", "diagram"]))
        b.box(palette.picture(b, kind), (0.21, 0.297, 0.002), (x, y, 0.001), (0, 0, b.rng.normal()))


def _book_pile(b: SceneBuilder) -> None:
    z = 0.0
    for _ in range(int(b.rng.integers(1, 6))):
        height = b.rng.uniform(0.01, 0.05)
        size = (b.rng.uniform(0.12, 0.22), b.rng.uniform(0.18, 0.3), height)
        b.box(palette.picture(b, "poster"), size, (0, 0, z), (0, 0, b.rng.normal(0, 0.15)))
        z += height


def _bottle(b: SceneBuilder) -> None:
    width = b.rng.uniform(0.05, 0.12)
    kind = f"lathe{b.rng.integers(10)}"
    b.put(kind, palette.anything(b), (width, width, b.rng.uniform(0.1, 0.35)))


def _carton(b: SceneBuilder) -> None:
    size = b.rng.uniform(0.06, 0.3, 3)
    pattern = b.rng.random() < 0.4
    material = palette.picture(b, "poster") if pattern else palette.anything(b)
    b.box(material, (size[0], size[1], size[2]))


def _laptop(b: SceneBuilder) -> None:
    body = palette.metal(b)
    b.box(body, (0.33, 0.23, 0.015))
    b.box(palette.picture(b, "keys"), (0.29, 0.12, 0.002), (0, 0.02, 0.015))
    with b.at(0, 0.11, 0.015):
        b.box(body, (0.33, 0.008, 0.22), rpy=(-0.3, 0, 0))
        b.box(
            palette.picture(b, "screen", 0.8), (0.31, 0.004, 0.2), (0, -0.006, 0.01), (-0.3, 0, 0)
        )


def _monitor(b: SceneBuilder) -> None:
    rng = b.rng
    case = palette.plain(b, palette.colour(rng, saturation=(0, 0.1), value=(0.01, 0.5)), 0.2)
    width = rng.uniform(0.4, 0.65)
    height = 0.6 * width
    b.put("cylinder", case, (0.22, 0.18, 0.015))
    b.box(case, (0.05, 0.03, 0.3), (0, 0.03, 0))
    b.box(case, (width, 0.035, height), (0, 0, 0.12), (-0.08, 0, 0))
    screen = palette.picture(b, "screen", float(rng.choice([0, 0.6, 1.5])))
    b.box(screen, (width - 0.03, 0.005, height - 0.03), (0, -0.02, 0.135), (-0.08, 0, 0))


def _lamp(b: SceneBuilder) -> None:
    rng = b.rng
    material = palette.metal(b)
    height = rng.uniform(0.25, 0.5)
    b.put("cylinder", material, (0.14, 0.14, 0.02))
    b.put("pole", material, (0.015, 0.015, height))
    shade = b.material("plain", (0.9, 0.8, 0.6), tile=1, glow=float(rng.choice([0, 2.0])))
    width = rng.uniform(0.15, 0.3)
    b.put("tube", shade, (width, width, 0.18), (0, 0, height - 0.1), (0, 0, 0), (0.6, 0.6))


def _ball(b: SceneBuilder) -> None:
    size = b.rng.uniform(0.05, 0.25)
    b.put("sphere", palette.anything(b), (size, size, size))


def _bag(b: SceneBuilder) -> None:
    size = b.rng.uniform(0.12, 0.4, 3)
    b.put(f"rock{b.rng.integers(6)}", palette.fabric(b), (size[0], size[1], size[2]))


def pot_plant(b: SceneBuilder) -> None:
    """A plant in a pot, 0.2 to 0.9 m tall."""
    rng = b.rng
    height = rng.uniform(0.12, 0.3)
    b.put("cylinder", palette.anything(b), (height, height, height), taper=(1.2, 1.2))
    mesh = str(rng.choice(["tuft0", "tuft1", "tuft2", "crown0", "crown_sparse"]))
    spread = rng.uniform(0.2, 0.7)
    size = (spread, spread, rng.uniform(0.2, 0.8))
    b.put(mesh, palette.leaves(b), size, (0, 0, 0.9 * height))


_SMALL: tuple[Callable[[SceneBuilder], None], ...] = (
    _cup, _papers, _papers, _book_pile, _bottle, _bottle, _carton, _laptop, _monitor, _lamp, _ball,
    _bag, pot_plant,
)  # fmt: skip


def table(b: SceneBuilder) -> Footprint:
    """A table with legs, or on a column, with things on it."""
    rng = b.rng
    width, depth, height = rng.uniform(0.6, 2.0), rng.uniform(0.5, 1.0), rng.normal(0.74, 0.03)
    if rng.random() < 0.2:
        height = rng.uniform(0.35, 0.5)
    top, leg = palette.wood(b), palette.wood(b) if rng.random() < 0.5 else palette.metal(b)
    thick = rng.uniform(0.018, 0.06)
    if rng.random() < 0.2:
        depth = width = rng.uniform(0.6, 1.2)
        b.put("cylinder", top, (width, depth, thick), (0, 0, height - thick))
        b.put("cylinder", leg, (0.08, 0.08, height - thick))
        b.put("cylinder", leg, (0.5 * width, 0.5 * width, 0.03))
    else:
        b.box(top, (width, depth, thick), (0, 0, height - thick))
        _legs(b, leg, width, depth, height - thick)
        if rng.random() < 0.5:
            b.box(leg, (width - 0.1, 0.02, 0.09), (0, depth / 2 - 0.05, height - thick - 0.09))
            b.box(leg, (width - 0.1, 0.02, 0.09), (0, 0.05 - depth / 2, height - thick - 0.09))
    with b.at(0, 0, height):
        clutter(b, width, depth, int(rng.integers(0, 9)))
    return width, depth


def desk(b: SceneBuilder) -> Footprint:
    """A desk with monitor, drawers and cables."""
    rng = b.rng
    width, depth, height = rng.uniform(1.1, 1.8), rng.uniform(0.6, 0.85), 0.73
    top, side = palette.wood(b), palette.wood(b)
    b.box(top, (width, depth, 0.03), (0, 0, height - 0.03))
    if rng.random() < 0.5:
        b.box(side, (0.03, depth, height - 0.03), (width / 2 - 0.02, 0, 0))
        b.box(side, (0.03, depth, height - 0.03), (0.02 - width / 2, 0, 0))
    else:
        _legs(b, palette.metal(b), width, depth, height - 0.03)
    if rng.random() < 0.6:
        front = palette.picture(b, "panel")
        b.box(front, (0.4, depth - 0.1, 0.55), (width / 2 - 0.25, 0, 0.1))
    with b.at(rng.uniform(-0.2, 0.2), 0.15, height):
        _monitor(b)
        b.box(palette.picture(b, "keys"), (0.44, 0.14, 0.02), (0, -0.3, 0))
    with b.at(0, 0, height):
        clutter(b, width, depth, int(rng.integers(1, 9)))
    cable = palette.plain(b, (0.02, 0.02, 0.02))
    for _ in range(int(rng.integers(0, 4))):
        x = rng.uniform(-0.5, 0.5)
        b.beam(cable, (x, depth / 2, height), (x + rng.normal(0, 0.15), depth / 2, 0.02), 0.008)
    return width, depth


def chair(b: SceneBuilder) -> Footprint:
    """A chair with four legs and a back of slats, bars or one board."""
    rng = b.rng
    frame = palette.wood(b) if rng.random() < 0.6 else palette.metal(b)
    seat = frame if rng.random() < 0.4 else palette.fabric(b)
    width, depth, height = rng.uniform(0.4, 0.5), rng.uniform(0.4, 0.5), rng.normal(0.45, 0.02)
    _legs(b, frame, width, depth, height)
    mesh = "box" if rng.random() < 0.7 else "cushion"
    b.put(mesh, seat, (width, depth, 0.045 if mesh == "box" else 0.1), (0, 0, height - 0.02))
    rise, lean = rng.uniform(0.35, 0.6), -rng.uniform(0.05, 0.25)
    with b.at(0, depth / 2 - 0.03, height):
        for sx in (-1, 1):
            at = (sx * (width / 2 - 0.025), 0.0, 0.0)
            b.box(frame, (0.035, 0.035, rise), at, (lean, 0, 0))
        style, bars = rng.random(), int(rng.integers(2, 6))
        for i in range(bars):
            share = (i + 1) / bars
            if style < 0.4:  # horizontal slats
                at = (0.0, -np.sin(lean) * share * rise, np.cos(lean) * share * rise - 0.06)
                b.box(frame, (width - 0.06, 0.02, 0.05), at, (lean, 0, 0))
            elif style < 0.65:  # vertical bars
                x = (i + 0.5) / bars * (width - 0.1) - (width - 0.1) / 2
                b.box(frame, (0.02, 0.02, rise), (x, 0, 0), (lean, 0, 0))
        if style >= 0.4:
            y, z = -np.sin(lean) * rise, np.cos(lean) * rise
            b.box(frame, (width, 0.025, 0.07), (0, y, z - 0.06), (lean, 0, 0))
        if style >= 0.65:
            b.box(seat, (width - 0.05, 0.03, rise * 0.7), (0, 0.03, 0.3 * rise), (lean, 0, 0))
    if rng.random() < 0.2:
        for sx in (-1, 1):
            b.box(frame, (0.04, depth, 0.03), (sx * width / 2, 0, height + 0.2))
            b.box(frame, (0.03, 0.03, 0.22), (sx * width / 2, 0.05 - depth / 2, height))
    return width, depth


def office_chair(b: SceneBuilder) -> Footprint:
    """A swivel chair on a five-armed star."""
    rng = b.rng
    dark, seat = palette.metal(b), palette.fabric(b)
    for k in range(5):
        angle = 2 * np.pi * k / 5
        tip = (0.3 * np.cos(angle), 0.3 * np.sin(angle), 0.06)
        b.beam(dark, (0, 0, 0.12), tip, 0.04)
        b.put("sphere", dark, (0.06, 0.06, 0.06), (tip[0], tip[1], 0.0))
    height = rng.uniform(0.42, 0.55)
    b.put("cylinder", dark, (0.06, 0.06, height - 0.08), (0, 0, 0.08))
    b.put("cushion", seat, (0.5, 0.5, 0.11), (0, 0, height - 0.04))
    b.beam(dark, (0, 0.2, height), (0, 0.3, height + 0.3), 0.05)
    back = (0.46, 0.1, rng.uniform(0.4, 0.75))
    b.put("cushion", seat, back, (0, 0.26, height + 0.12), (-0.15, 0, 0))
    if rng.random() < 0.6:
        for sx in (-0.28, 0.28):
            b.beam(dark, (sx, 0.05, height), (sx, 0.05, height + 0.22), 0.04)
            b.box(dark, (0.07, 0.28, 0.03), (sx, 0, height + 0.22))
    return 0.65, 0.65


def sofa(b: SceneBuilder) -> Footprint:
    """An armchair or sofa of cushions."""
    rng = b.rng
    cloth = palette.fabric(b)
    seats = int(rng.integers(1, 4))
    width, depth = 0.65 * seats + 0.4, rng.uniform(0.8, 1.0)
    b.box(cloth, (width, depth, 0.3), (0, 0, 0.08))
    for k in range(seats):
        x = 0.65 * (k - (seats - 1) / 2)
        b.put("cushion", cloth, (0.65, depth - 0.2, 0.18), (x, -0.08, 0.33))
        b.put("cushion", cloth, (0.64, 0.25, 0.5), (x, depth / 2 - 0.15, 0.4), (-0.15, 0, 0))
        if rng.random() < 0.4:
            size = (0.4, 0.15, 0.4)
            b.put("cushion", palette.fabric(b), size, (x, 0.1, 0.48), (-0.4, 0, rng.normal(0, 0.4)))
    for sx in (-1, 1):
        b.put("cushion", cloth, (0.22, depth, 0.62), (sx * (width / 2 - 0.1), 0, 0.03))
    _legs(b, palette.wood(b), width, depth, 0.1, 0.1)
    return width, depth


def shelf(b: SceneBuilder) -> Footprint:
    """Open shelves with books and things."""
    rng = b.rng
    width, depth, height = rng.uniform(0.5, 1.6), rng.uniform(0.25, 0.45), rng.uniform(0.8, 2.2)
    material = palette.wood(b) if rng.random() < 0.7 else palette.metal(b)
    for sx in (-1, 1):
        b.box(material, (0.025, depth, height), (sx * width / 2, 0, 0))
    if rng.random() < 0.6:
        b.box(material, (width, 0.01, height), (0, depth / 2, 0))
    levels = max(2, int(height / rng.uniform(0.28, 0.45)))
    for level in range(levels + 1):
        z = level * (height - 0.03) / levels
        b.box(material, (width, depth, 0.025), (0, 0, z))
        if level == levels:
            break
        room = (height - 0.03) / levels - 0.05
        fill = rng.random()
        if fill < 0.55:
            share = rng.uniform(0.3, 1) * (width - 0.05)
            at = (rng.uniform(-0.5, 0.5) * (width - 0.05 - share), 0.02, z + 0.025)
            b.box(palette.picture(b, "books"), (share, depth * 0.7, room * 0.85), at)
        elif fill < 0.85:
            for _ in range(int(rng.integers(1, 5))):
                size = rng.uniform(0.06, max(min(room, depth), 0.08), 3)
                at = (rng.uniform(-0.4, 0.4) * width, rng.uniform(-0.2, 0.2) * depth, z + 0.025)
                mesh = str(rng.choice(["box", "box", "cylinder", "lathe1", "lathe4", "rock2"]))
                b.put(mesh, palette.anything(b), (size[0], size[1], size[2]), at)
    return width, depth


def cupboard(b: SceneBuilder) -> Footprint:
    """A wardrobe, cabinet, chest of drawers or kitchen unit."""
    rng = b.rng
    width, depth = rng.uniform(0.4, 2.2), rng.uniform(0.35, 0.65)
    height = float(rng.choice([rng.uniform(0.6, 0.95), 0.9, rng.uniform(1.6, 2.2)]))
    front = palette.picture(b, "panel") if rng.random() < 0.7 else palette.wood(b)
    b.box(palette.wood(b), (width - 0.02, depth - 0.03, height), (0, 0.015, 0))
    b.box(front, (width, 0.02, height - 0.08), (0, -depth / 2 + 0.01, 0.06))
    top = palette.anything(b) if rng.random() < 0.3 else palette.wood(b)
    b.box(top, (width + 0.03, depth + 0.02, 0.03), (0, 0, height))
    if height < 1.2:
        with b.at(0, 0, height + 0.03):
            clutter(b, width, depth, int(rng.integers(1, 9)))
    return width, depth


def bed(b: SceneBuilder) -> Footprint:
    """A bed with pillows and a blanket."""
    rng = b.rng
    width = float(rng.choice([0.9, 1.4, 1.8]))
    frame, sheet = palette.wood(b), palette.fabric(b)
    b.box(frame, (width + 0.08, 2.05, 0.25), (0, 0, 0.08))
    b.box(frame, (width + 0.08, 0.05, rng.uniform(0.6, 1.1)), (0, 1.02, 0))
    b.put("cushion", sheet, (width, 2.0, 0.25), (0, 0, 0.3))
    b.put("cushion", palette.fabric(b), (width + 0.05, 1.4, 0.12), (0, -0.3, 0.47))
    for sx in (-0.25, 0.25) if width > 1 else (0.0,):
        b.put("cushion", sheet, (0.6, 0.4, 0.16), (sx * width, 0.75, 0.5))
    return width + 0.1, 2.1


def bin_or_box(b: SceneBuilder) -> Footprint:
    """A bin, carton, stool, bag or pot plant on the floor."""
    rng = b.rng
    kind, size = rng.random(), rng.uniform(0.2, 0.55)
    if kind < 0.25:
        b.put("tube", palette.anything(b), (size, size, 1.3 * size), taper=(1.2, 1.2))
    elif kind < 0.5:
        sides: Vector = (size, size * rng.uniform(0.6, 1.6), size * rng.uniform(0.5, 1.6))
        tan = palette.colour(rng, (0.06, 0.1), (0.3, 0.6), (0.2, 0.5))
        b.box(palette.plain(b, tan) if rng.random() < 0.6 else palette.anything(b), sides)
    elif kind < 0.7:
        b.put("cylinder", palette.fabric(b), (0.35, 0.35, 0.05), (0, 0, 0.42))
        _legs(b, palette.wood(b), 0.36, 0.36, 0.42)
    elif kind < 0.85:
        pot_plant(b)
    else:
        _bag(b)
    return 0.6, 0.6


def floor_lamp(b: SceneBuilder) -> Footprint:
    """A lamp or coat stand on a thin pole."""
    rng = b.rng
    material, height = palette.metal(b), rng.uniform(1.4, 1.9)
    b.put("cylinder", material, (0.3, 0.3, 0.03))
    b.put("pole", material, (0.025, 0.025, height))
    if rng.random() < 0.6:
        shade = b.material("plain", (0.9, 0.85, 0.7), tile=1, glow=float(rng.choice([0.0, 2.5])))
        b.put("tube", shade, (0.4, 0.4, 0.3), (0, 0, height - 0.1), taper=(0.6, 0.6))
    else:
        for angle in rng.uniform(0, 2 * np.pi, 6):
            tip = (0.2 * np.cos(angle), 0.2 * np.sin(angle), height - rng.uniform(0, 0.3))
            b.beam(material, (0, 0, height - 0.3), tip, 0.02)
        size = (0.3, 0.25, rng.uniform(0.6, 1.0))
        b.put("rock1", palette.fabric(b), size, (0.15, 0, height - 1.1))
    return 0.45, 0.45


def dining(b: SceneBuilder) -> Footprint:
    """A table with chairs around it, more or less pushed in."""
    rng = b.rng
    width, depth = table(b)
    for side in (-1, 1):
        for x in np.arange(-width / 2 + 0.35, width / 2 - 0.2, 0.62):
            if rng.random() < 0.7:
                y = side * (depth / 2 + rng.uniform(-0.05, 0.35))
                yaw = (0 if side > 0 else np.pi) + rng.normal(0, 0.25)
                with b.at(x + rng.normal(0, 0.04), y, 0, yaw):
                    chair(b)
        if rng.random() < 0.3:
            with b.at(side * (width / 2 + 0.15), 0, 0, -side * np.pi / 2):
                chair(b)
    return width + 0.6, depth + 1.0


AGAINST_WALLS: tuple[Piece, ...] = (desk, shelf, shelf, cupboard, cupboard, sofa, bed)
FREE_STANDING: tuple[Piece, ...] = (
    dining, dining, table, chair, office_chair, sofa, bin_or_box, floor_lamp,
)  # fmt: skip
