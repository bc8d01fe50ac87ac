"""Vehicles, trees, poles and other things along a street, around the origin of the frame.

Vehicles face +x.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from depth_node.world import palette
from depth_node.world.builder import SceneBuilder
from depth_node.world.scene import Colour

Thing = Callable[[SceneBuilder], None]


def _paint(b: SceneBuilder) -> int:
    rng = b.rng
    grey = rng.random() < 0.6
    base = palette.colour(rng, saturation=(0, 0.08) if grey else (0.4, 0.95), value=(0.02, 0.85))
    return b.material("plain", base, tile=3, gloss=1.0, mirror=rng.uniform(0.0, 0.15))


def _pane(b: SceneBuilder) -> int:
    return b.material(
        "plain", (0.02, 0.025, 0.03), tile=1, gloss=1.0, mirror=b.rng.uniform(0.1, 0.5)
    )


def _wheels(b: SceneBuilder, length: float, width: float, radius: float, axles: int = 2) -> None:
    tyre = palette.plain(b, (0.02, 0.02, 0.02))
    rim = palette.plain(b, palette.colour(b.rng, saturation=(0, 0.05), value=(0.1, 0.6)), 0.6)
    for x in np.linspace(-0.31, 0.31, axles) * length:
        for side in (-1, 1):
            at = (x, side * (width / 2 - 0.2), radius)
            turn = (-side * np.pi / 2, 0.0, 0.0)
            b.put("cylinder", tyre, (2 * radius, 2 * radius, 0.22), at, turn)
            rim_at = (x, side * (width / 2 + 0.005), radius)
            b.put("cylinder", rim, (1.2 * radius, 1.2 * radius, 0.03), rim_at, turn)


def _lamps(b: SceneBuilder, length: float, width: float, height: float) -> None:
    red = b.material("plain", (0.5, 0.02, 0.02), tile=1, glow=float(b.rng.choice([0, 1.5])))
    white = b.material("plain", (0.7, 0.7, 0.65), tile=1, gloss=1)
    plate = palette.picture(b, "page")
    for side in (-1, 1):
        y = side * (width / 2 - 0.2)
        b.box(red, (0.06, 0.28, 0.16), (-length / 2, y, height))
        b.box(white, (0.08, 0.3, 0.14), (length / 2 - 0.02, y, height - 0.05))
    for end in (-1, 1):
        b.box(plate, (0.02, 0.5, 0.11), (end * (length / 2 + 0.01), 0, height - 0.3))


def car(b: SceneBuilder) -> None:
    """A saloon, hatchback, estate or small SUV, about 4.2 x 1.8 x 1.5 m."""
    rng = b.rng
    length, width, height = rng.normal(4.2, 0.3), rng.normal(1.78, 0.05), rng.normal(1.5, 0.08)
    paint, pane = _paint(b), _pane(b)
    hatch = rng.random() < 0.55
    b.put("car_hatch" if hatch else "car_sedan", paint, (length, width, height))
    belt, cabin = 0.63 * height, 0.37 * height
    back, front = (-0.47 if hatch else -0.36) * length, 0.22 * length
    middle, long = 0.5 * (back + front), front - back
    taper = (rng.uniform(0.5, 0.68), 0.78)
    b.box(pane, (long, width - 0.08, cabin), (middle, 0, belt - 0.01), taper=taper)
    roof = (long * taper[0] + 0.08, (width - 0.08) * taper[1] + 0.04, 0.05)
    b.box(paint, roof, (middle, 0, height - 0.05))
    for side in (-1, 1):
        for x0, x1 in ((back, middle - long * taper[0] / 2), (front, middle + long * taper[0] / 2)):
            foot, top = (width / 2 - 0.05), ((width - 0.08) * taper[1] / 2 + 0.01)
            b.beam(paint, (x0, side * foot, belt), (x1, side * top, height - 0.03), 0.07)
        b.beam(
            paint,
            (middle, side * (width / 2 - 0.04), belt),
            (middle, side * ((width - 0.08) * taper[1] / 2 + 0.01), height - 0.03),
            0.09,
        )
        b.box(paint, (0.15, 0.2, 0.13), (front - 0.15, side * (width / 2 + 0.06), belt))
    _wheels(b, length, width, 0.32)
    _lamps(b, length, width, 0.52 * height)


def van(b: SceneBuilder) -> None:
    """A delivery van."""
    rng = b.rng
    length, width, height = rng.uniform(4.6, 6.5), 2.0, rng.uniform(1.9, 2.7)
    pane = _pane(b)
    b.put("van", _paint(b), (length, width, height), rpy=(0, 0, np.pi))
    b.box(pane, (0.05, 1.6, 0.3 * height), (0.36 * length, 0, 0.56 * height), (0, -0.5, 0))
    for side in (-1, 1):
        b.box(pane, (0.9, 0.02, 0.28 * height), (0.22 * length, side * 0.985, 0.55 * height))
    for y in (-0.45, 0.45):
        b.box(pane, (0.02, 0.6, 0.28 * height), (-0.5 * length, y, 0.55 * height))
    _wheels(b, length, width, 0.36)
    _lamps(b, length, width, 0.4 * height)


def truck(b: SceneBuilder) -> None:
    """A lorry, bus or tram."""
    rng = b.rng
    length, width, height = rng.uniform(7, 14), 2.5, rng.uniform(2.8, 3.8)
    if rng.random() < 0.5:
        b.box(_paint(b), (2.2, width, 0.8 * height), (length / 2 - 1.1, 0, 0.5), taper=(0.9, 0.97))
        b.box(_pane(b), (0.1, width - 0.3, 0.8), (length / 2 + 0.02, 0, 0.45 * height + 0.5))
        load = palette.anything(b) if rng.random() < 0.5 else _paint(b)
        b.box(load, (length - 2.6, width, height - 0.9), (-1.3, 0, 0.9))
    else:
        b.box(_paint(b), (length, width, height - 0.35), (0, 0, 0.35), taper=(0.99, 0.96))
        pane = _pane(b)
        b.box(pane, (length - 0.6, width + 0.02, 0.9), (0, 0, 1.4), taper=(1, 0.98))
        b.box(pane, (length + 0.04, width - 0.4, 1.1), (0, 0, 1.3))
    _wheels(b, length, width, 0.5, 3)
    _lamps(b, length, width, 0.9)


def bicycle(b: SceneBuilder) -> None:
    """A bicycle: rings and thin tubes."""
    rng = b.rng
    tube, dark = palette.metal(b), palette.plain(b, (0.02, 0.02, 0.02))
    for x in (-0.52, 0.52):
        angles = np.linspace(0, 2 * np.pi, 15)
        ring = [(x + 0.33 * np.cos(a), 0.0, 0.34 + 0.33 * np.sin(a)) for a in angles]
        for start, end in itertools.pairwise(ring):
            b.beam(dark, start, end, 0.035)
    saddle, head, crank = (-0.18, 0.0, 0.95), (0.4, 0.0, 0.9), (0.0, 0.0, 0.3)
    pairs = [(saddle, crank), (crank, head), (head, (0.52, 0, 0.34)), ((-0.52, 0, 0.34), crank)]
    pairs += [((-0.52, 0, 0.34), (-0.14, 0, 0.8)), ((-0.14, 0, 0.8), head), (head, (0.36, 0, 1.05))]
    for start, end in pairs:
        b.beam(tube, start, end, 0.035)
    b.box(dark, (0.05, 0.55, 0.03), (0.36, 0, 1.05))
    b.put("cushion", dark, (0.27, 0.15, 0.08), (-0.18, 0, 0.94))
    if rng.random() < 0.3:
        b.put("rock3", palette.anything(b), (0.3, 0.3, 0.25), (0.6, 0, 0.8))


def tree(b: SceneBuilder) -> None:
    """A tree of 3 to 14 m."""
    rng = b.rng
    height = rng.uniform(3, 14)
    trunk = 0.25 * height * rng.uniform(0.6, 1.4)
    bark = b.material("wood", palette.colour(rng, (0.05, 0.12), (0.1, 0.5), (0.04, 0.25)), tile=0.5)
    thick = 0.03 * height
    b.put("pole", bark, (thick, thick, 0.7 * height), taper=(0.4, 0.4))
    for angle in rng.uniform(0, 2 * np.pi, 3):
        tip = (0.15 * height * np.cos(angle), 0.15 * height * np.sin(angle), 0.65 * height)
        b.beam(bark, (0, 0, trunk), tip, 0.3 * thick)
    if rng.random() < 0.07:
        return  # a bare one
    mesh = str(rng.choice(["crown0", "crown1", "crown2", "crown3", "crown4", "crown_sparse"]))
    spread = height * rng.uniform(0.45, 0.8)
    if rng.random() < 0.15:  # a conifer
        green = palette.leaves(b)
        for k in range(5):
            wide = spread * 0.8 * (1 - k / 5.5)
            z = trunk * 0.5 + k * 0.18 * height
            b.put("rock5", green, (wide, wide, 0.26 * height), (0, 0, z))
        return
    b.put(
        mesh,
        palette.leaves(b),
        (spread, spread, height - trunk),
        (0, 0, trunk),
        (0, 0, rng.uniform(0, 6)),
    )


def bush(b: SceneBuilder) -> None:
    """A bush or a tuft of grass."""
    rng = b.rng
    mesh = str(rng.choice(["rock4", "rock5", "crown2", "tuft2", "crown_sparse"]))
    wide = rng.uniform(0.4, 2.2)
    b.put(mesh, palette.leaves(b), (wide, wide, rng.uniform(0.4, 1.8)), (0, 0, -0.05))


def lamp_post(b: SceneBuilder) -> None:
    """A street lamp with an arm towards -y."""
    rng = b.rng
    material, height = palette.metal(b), rng.uniform(3.5, 9)
    thick = rng.uniform(0.09, 0.18)
    b.put("pole", material, (thick, thick, height), taper=(0.6, 0.6))
    arm = rng.uniform(0, 2.5)
    b.beam(material, (0, 0, height), (0, -arm, height + 0.3), 0.07)
    b.box(material, (0.25, 0.6, 0.12), (0, -arm, height + 0.25))


def sign(b: SceneBuilder) -> None:
    """A traffic sign or a traffic light."""
    rng = b.rng
    material, height = palette.metal(b), rng.uniform(1.8, 3.2)
    b.put("pole", material, (0.07, 0.07, height))
    if rng.random() < 0.7:
        face = palette.picture(b, "sign")
        b.box(face, (0.03, 0.6, 0.6), (-0.06, 0, height - 0.65), (0, 0, rng.normal(0, 0.2)))
    else:
        b.box(palette.plain(b, (0.02, 0.02, 0.02)), (0.25, 0.3, 0.9), (0, 0, height))
        hues: tuple[Colour, ...] = ((0.9, 0.05, 0.02), (0.8, 0.5, 0.02), (0.05, 0.8, 0.2))
        for k, hue in enumerate(hues):
            lens = b.material(
                "plain", hue, tile=1, glow=2.0 if k == 2 * int(rng.integers(2)) else 0
            )
            b.put("sphere", lens, (0.14, 0.2, 0.2), (-0.13, 0, height + 0.6 - 0.27 * k))


def street_furniture(b: SceneBuilder) -> None:
    """A bench, bin, bollard, hydrant, box or barrier."""
    rng = b.rng
    kind = rng.random()
    if kind < 0.25:
        board, leg = palette.wood(b), palette.metal(b)
        for k in range(4):
            b.box(board, (1.6, 0.09, 0.03), (0, -0.2 + 0.11 * k, 0.42))
        for k in range(2):
            b.box(board, (1.6, 0.03, 0.12), (0, 0.25, 0.55 + 0.17 * k))
        for x in (-0.65, 0.65):
            b.box(leg, (0.05, 0.45, 0.42), (x, 0, 0))
            b.box(leg, (0.05, 0.05, 0.85), (x, 0.27, 0))
    elif kind < 0.5:
        size = rng.uniform(0.35, 0.8)
        b.put("tube", palette.anything(b), (size, size, rng.uniform(0.7, 1.2)))
    elif kind < 0.75:
        for x in np.arange(0, rng.uniform(1, 6), 1.4):
            b.put("cylinder", palette.metal(b), (0.12, 0.12, 0.9), (x, 0, 0))
    else:
        width = rng.uniform(0.5, 1.4)
        b.box(palette.anything(b), (width, 0.4, rng.uniform(0.6, 1.4)))
