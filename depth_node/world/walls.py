"""Walls with doors and windows, and what hangs on them.

A wall runs along x from 0 to its length in the current frame; the room is on its -y side.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from depth_node.world import palette
from depth_node.world.builder import SceneBuilder

THICKNESS = 0.14


class Opening(NamedTuple):
    """A hole in a wall: from x0 to x1 along it, z0 to z1 above the floor, metres."""

    kind: str
    x0: float
    x1: float
    z0: float
    z1: float


def plan_openings(
    rng: np.random.Generator, length: float, height: float, doors: float, windows: float
) -> list[Opening]:
    """Choose openings from left to right; `doors` and `windows` are shares of the candidates."""
    openings: list[Opening] = []
    x = rng.uniform(0.2, 0.8)
    while x < length - 1.1:
        draw = rng.random()
        if draw < doors:
            width = float(rng.choice([0.85, 0.9, 1.0, 1.6]))
            top = min(rng.uniform(1.98, 2.15), height - 0.1)
            kind = str(rng.choice(["closed", "closed", "ajar", "open", "glass"]))
            openings.append(Opening(kind, x, min(x + width, length - 0.15), 0.0, top))
            x += width
        elif draw < doors + windows:
            sill = float(rng.choice([0.1, 0.85, 0.95, 1.2]))
            width = rng.uniform(0.7, 2.0)
            top = min(rng.uniform(2.0, 2.5), height - 0.1)
            openings.append(Opening("window", x, min(x + width, length - 0.15), sill, top))
            x += width
        x += rng.uniform(0.4, 2.0)
    return openings


def wall(
    b: SceneBuilder, length: float, height: float, openings: list[Opening], material: int
) -> None:
    """The masonry around the openings, the skirting, and what fills the openings."""
    rng = b.rng
    frame = palette.plain(b, palette.colour(rng, saturation=(0, 0.5), value=(0.05, 0.9)), 0.2)
    x, t = -THICKNESS, THICKNESS
    for hole in [*openings, Opening("end", length + t, length + t, 0.0, 0.0)]:
        if hole.x0 > x:
            b.box(material, (hole.x0 - x, t, height), (0.5 * (x + hole.x0), t / 2, 0))
            if hole.x0 - x > 0.1:
                b.box(frame, (hole.x0 - x, 0.012, 0.08), (0.5 * (x + hole.x0), -0.006, 0))
        if hole.kind == "end":
            break
        middle, width = 0.5 * (hole.x0 + hole.x1), hole.x1 - hole.x0
        if hole.z0 > 0:
            b.box(material, (width, t, hole.z0), (middle, t / 2, 0))
        b.box(material, (width, t, height - hole.z1), (middle, t / 2, hole.z1))
        with b.at(middle, 0, hole.z0):
            _trim(b, frame, width, hole.z1 - hole.z0, sill=hole.z0 > 0)
            if hole.kind == "window":
                _window(b, frame, width, hole.z1 - hole.z0)
            else:
                _door(b, hole.kind, width, hole.z1)
        x = hole.x1


def _trim(b: SceneBuilder, frame: int, width: float, height: float, *, sill: bool) -> None:
    board = b.rng.uniform(0.03, 0.1)
    for side in (-1, 1):
        b.box(frame, (board, THICKNESS + 0.03, height), (side * width / 2, THICKNESS / 2, 0))
    b.box(frame, (width + board, THICKNESS + 0.03, board), (0, THICKNESS / 2, height - board / 2))
    if sill:
        b.box(frame, (width + 0.1, 0.25, 0.03), (0, 0, -0.02))


def _window(b: SceneBuilder, frame: int, width: float, height: float) -> None:
    rng = b.rng
    bars = int(rng.integers(1, 4))
    for k in range(bars + 1):
        b.box(frame, (0.05, 0.05, height), ((k / bars - 0.5) * (width - 0.05), 0.07, 0))
    for z in (0.0, height - 0.06, *([0.65 * height] if rng.random() < 0.4 else [])):
        b.box(frame, (width, 0.05, 0.06), (0, 0.07, z))
    b.box(palette.glass(b), (width, 0.01, height), (0, 0.07, 0))
    draw = rng.random()
    if draw < 0.25:
        cloth, part = palette.fabric(b), rng.uniform(0.2, 0.55)
        for side in (-1, 1):
            at = (side * (0.5 - part / 2) * (width + 0.3), -0.1, 0.2 - rng.uniform(0.2, 1.0))
            b.put("curtain", cloth, (part * width, 0.12, height - at[2] + 0.1), at)
        b.beam(frame, (-width / 2 - 0.2, -0.1, height + 0.1), (width / 2, -0.1, height + 0.1), 0.03)
    elif draw < 0.45:  # slatted blind
        pitch, drop = rng.uniform(0.04, 0.08), rng.uniform(0.2, 1.0) * height
        for k in range(int(drop / pitch)):
            b.box(frame, (width, 0.035, 0.004), (0, 0.02, height - k * pitch), (-0.6, 0, 0))


def _door(b: SceneBuilder, kind: str, width: float, height: float) -> None:
    rng = b.rng
    metal = palette.metal(b)
    turn = {"ajar": rng.uniform(0.3, 1.9), "open": rng.uniform(1.5, 2.0)}.get(kind, 0.0)
    turn *= float(rng.choice([-1, 1]))
    with b.at(-width / 2 + 0.01, 0.05, 0.01, turn):
        centre = width / 2
        if kind == "glass":
            frame = palette.plain(b, palette.colour(rng, saturation=(0, 0.3), value=(0.02, 0.5)))
            rail = rng.uniform(0.06, 0.14)
            for x in (rail / 2, centre, width - rail / 2):
                if x != centre or width > 1.2:
                    b.box(frame, (rail, 0.05, height), (x, 0, 0))
            levels = (0.0, *([1.0] if rng.random() < 0.5 else []), height - rail)
            for z in levels:
                b.box(frame, (width, 0.05, rail), (centre, 0, z))
            b.box(palette.glass(b), (width, 0.01, height), (centre, 0, 0))
            b.beam(metal, (width - 0.15, -0.06, 0.8), (width - 0.15, -0.06, 1.3), 0.03)
            return
        base = palette.colour(rng, saturation=(0, 0.6), value=(0.08, 0.85))
        if rng.random() < 0.4:
            base = palette.colour(rng, (0.03, 0.12), (0.1, 0.6), (0.1, 0.6))
        leaf = b.material("door", base, palette.near(rng, base, 0.2), tile=0, gloss=0.1)
        b.box(leaf, (width - 0.02, 0.04, height - 0.02), (centre, 0, 0))
        if rng.random() < 0.2:
            b.box(palette.glass(b), (0.25, 0.05, 0.9), (centre, 0, 0.95))
        if rng.random() < 0.35:
            sign = palette.picture(b, str(rng.choice(["page", "poster", "sign"])))
            at = (centre + rng.normal(0, 0.1), -0.023, rng.uniform(1.0, 1.5))
            b.box(sign, (0.25, 0.004, 0.33), at)
        for side in (-1, 1):
            b.box(metal, (0.13, 0.02, 0.02), (width - 0.12, side * 0.055, 1.03))
            b.box(metal, (0.04, 0.012, 0.2), (width - 0.07, side * 0.026, 0.92))
        if rng.random() < 0.2:
            b.box(metal, (width - 0.1, 0.045, 0.25), (centre, 0, 0.02))


def decorate(
    b: SceneBuilder, length: float, height: float, openings: list[Opening], density: float
) -> None:
    """Hang posters, boards, radiators, pipes, switches and lamps on the free parts of a wall."""
    rng = b.rng
    taken = [(hole.x0 - 0.1, hole.x1 + 0.1) for hole in openings if hole.z0 < 1.0]
    for _ in range(rng.poisson(density * length)):
        kind = rng.random()
        width = float(np.exp(rng.uniform(np.log(0.1), np.log(1.8))))
        tall = float(np.clip(width * rng.uniform(0.5, 1.6), 0.1, 1.3))
        x = rng.uniform(0.1, max(length - 0.1, 0.2))
        if any(x - width / 2 < right and x + width / 2 > left for left, right in taken):
            continue
        if x - width / 2 < 0 or x + width / 2 > length:
            continue
        taken.append((x - width / 2, x + width / 2))
        z = rng.uniform(0.9, max(height - tall - 0.1, 1.0))
        if kind < 0.5:
            name = str(rng.choice(["poster", "painting", "page", "diagram", "screen", "sign"]))
            depth = float(rng.choice([0.004, 0.02, 0.04]))
            if rng.random() < 0.5:
                size = (width + 0.05, depth, tall + 0.05)
                b.box(palette.wood(b), size, (x, -depth / 2, z - 0.025))
            picture = palette.picture(b, name, float(rng.random() < 0.1))
            b.box(picture, (width, 0.006, tall), (x, -depth - 0.003, z))
        elif kind < 0.65:
            _radiator(b, x, max(width, 0.5))
        elif kind < 0.78:
            pipe = palette.metal(b)
            for k in range(int(rng.integers(1, 4))):
                thick = rng.uniform(0.015, 0.08)
                b.put("pole", pipe, (thick, thick, height), (x + 0.09 * k, -0.07, 0))
        elif kind < 0.9:
            box = palette.anything(b)
            size = (min(width, 0.5), rng.uniform(0.03, 0.25), min(tall, 0.6))
            b.box(box, size, (x, -size[1] / 2, z))
        else:
            board = palette.wood(b)
            b.box(board, (width, 0.22, 0.025), (x, -0.11, z))
            share = 0.7 * width
            b.box(palette.picture(b, "books"), (share, 0.16, 0.24), (x, -0.1, z + 0.025))
    for _ in range(int(rng.integers(0, 3))):
        x = rng.uniform(0.1, length - 0.1)
        plate = palette.plain(b, (0.8, 0.8, 0.78))
        b.box(plate, (0.08, 0.01, 0.08), (x, -0.005, float(rng.choice([0.3, 1.1]))))


def _radiator(b: SceneBuilder, x: float, width: float) -> None:
    material = palette.plain(b, palette.colour(b.rng, saturation=(0, 0.2), value=(0.5, 0.9)), 0.2)
    height, ribs = b.rng.uniform(0.4, 0.7), int(width / 0.07)
    for k in range(ribs):
        at = (x + (k + 0.5) * width / ribs - width / 2, -0.07, 0.12)
        b.box(material, (0.045, 0.08, height), at)
    for z in (0.15, height + 0.05):
        b.box(material, (width, 0.03, 0.03), (x, -0.07, z))
