"""Random materials as they are found on walls, floors, furniture and streets."""

from __future__ import annotations

import colorsys

import numpy as np

from depth_node.world.builder import SceneBuilder
from depth_node.world.scene import Colour
from depth_node.world.textures import SURFACES


def colour(
    rng: np.random.Generator,
    hue: tuple[float, float] = (0.0, 1.0),
    saturation: tuple[float, float] = (0.0, 1.0),
    value: tuple[float, float] = (0.05, 0.8),
) -> Colour:
    """A random linear RGB reflectance within ranges of hue, saturation and value."""
    h, s, v = (rng.uniform(*limits) for limits in (hue, saturation, value))
    red, green, blue = colorsys.hsv_to_rgb(h % 1.0, s, v)
    return red, green, blue


def near(rng: np.random.Generator, base: Colour, spread: float) -> Colour:
    """A colour that differs from `base` by a factor about `spread` a channel."""
    factor = np.exp(rng.normal(0, spread) + rng.normal(0, 0.4 * spread, 3))
    red, green, blue = np.clip(np.array(base) * factor, 0.01, 0.95)
    return float(red), float(green), float(blue)


def anything(b: SceneBuilder) -> int:
    """Any colours in any tiling pattern."""
    rng = b.rng
    tile = float(np.exp(rng.uniform(np.log(0.15), np.log(3))))
    base = colour(rng)
    other = colour(rng) if rng.random() < 0.35 else near(rng, base, 0.5)
    gloss = float(rng.random() < 0.3) * rng.uniform(0.1, 0.6)
    return b.material(str(rng.choice(SURFACES)), base, other, tile=tile, gloss=gloss)


def plain(b: SceneBuilder, base: Colour, gloss: float = 0.0) -> int:
    """One colour, slightly uneven."""
    return b.material("plain", base, near(b.rng, base, 0.15), tile=0.7, gloss=gloss)


def wood(b: SceneBuilder, tile: float = 0.6) -> int:
    """Light or dark wood, sometimes painted."""
    rng = b.rng
    if rng.random() < 0.25:
        return plain(b, colour(rng, saturation=(0, 0.6), value=(0.1, 0.85)), 0.2)
    base = colour(rng, (0.02, 0.11), (0.35, 0.8), (0.06, 0.65))
    gloss = float(rng.choice([0.0, 0.2, 0.5]))
    return b.material("wood", base, near(rng, base, 0.4), tile=tile, gloss=gloss)


def metal(b: SceneBuilder) -> int:
    """Grey or dark metal, now and then chrome or painted."""
    rng = b.rng
    base = colour(rng, saturation=(0, 0.15), value=(0.03, 0.6))
    if rng.random() < 0.2:
        base = colour(rng)
    mirror = 0.4 if rng.random() < 0.15 else 0.0
    return b.material("plain", base, tile=0.5, gloss=rng.uniform(0.2, 1.0), mirror=mirror)


def fabric(b: SceneBuilder) -> int:
    """Cloth of seats, curtains and clothes."""
    rng = b.rng
    base = colour(rng, value=(0.03, 0.7))
    other = near(rng, base, 0.3) if rng.random() < 0.7 else colour(rng)
    pattern = str(rng.choice(["weave", "carpet", "blotches", "stripes", "plain", "dots"]))
    return b.material(pattern, base, other, tile=rng.uniform(0.2, 1.0))


def wall(b: SceneBuilder) -> int:
    """Paint, brick, concrete, tiles, wallpaper or panelling."""
    rng = b.rng
    paint = colour(rng, saturation=(0, 0.25), value=(0.3, 0.9))
    choice = rng.random()
    if choice < 0.5:
        return b.material("plain", paint, near(rng, paint, 0.1), tile=rng.uniform(1, 4))
    if choice < 0.62:
        base = colour(rng, (0.0, 0.08), (0.2, 0.75), (0.1, 0.5))
        joint = colour(rng, (0.05, 0.12), (0, 0.2), (0.2, 0.6))
        return b.material("bricks", base, near(rng, base, 0.4), joint, tile=rng.uniform(0.8, 1.2))
    if choice < 0.72:
        grey = colour(rng, (0.05, 0.15), (0, 0.12), (0.15, 0.5))
        return b.material("concrete", grey, near(rng, grey, 0.3), tile=rng.uniform(2, 5))
    if choice < 0.8:
        joint = near(rng, paint, 0.6)
        return b.material(
            "tiles", paint, near(rng, paint, 0.15), joint, tile=rng.uniform(0.4, 2), gloss=0.4
        )
    if choice < 0.86:
        return wood(b, 1.2)
    strong = colour(rng)
    pattern = str(rng.choice(["stripes", "dots", "blotches", "weave", "marble", "planks"]))
    return b.material(pattern, strong, near(rng, strong, 0.3), paint, tile=rng.uniform(0.5, 2))


def floor(b: SceneBuilder) -> int:
    """Planks, carpet, tiles, terrazzo, concrete or linoleum."""
    rng = b.rng
    choice = rng.random()
    shiny = float(rng.choice([0.0, 0.0, 0.06, 0.15, 0.25]))
    if choice < 0.28:
        base = colour(rng, (0.02, 0.11), (0.3, 0.75), (0.08, 0.6))
        return b.material(
            "planks", base, near(rng, base, 0.35), tile=rng.uniform(0.8, 1.6), mirror=shiny
        )
    if choice < 0.55:
        base = colour(rng, saturation=(0, 0.6), value=(0.04, 0.5))
        pattern = str(rng.choice(["carpet", "carpet", "blotches", "stripes", "weave"]))
        other = near(rng, base, 0.5)
        return b.material(pattern, base, other, tile=rng.uniform(0.5, 2.0))
    base = colour(rng, (0.03, 0.16), (0, 0.3), (0.15, 0.75))
    if choice < 0.8:
        tile = rng.uniform(0.8, 3.0)
        dark = near(rng, base, 0.5)
        return b.material("tiles", base, near(rng, base, 0.12), dark, tile=tile, mirror=shiny)
    pattern = str(rng.choice(["speckle", "concrete", "marble", "checker", "plain"]))
    return b.material(pattern, base, near(rng, base, 0.4), tile=rng.uniform(0.6, 2.5), mirror=shiny)


def picture(b: SceneBuilder, pattern: str, glow: float = 0.0) -> int:
    """A poster, page, painting, screen, diagram or sign: one picture a face."""
    rng = b.rng
    ground = colour(rng, saturation=(0, 0.8), value=(0.05, 0.9))
    if pattern in ("page", "diagram") or rng.random() < 0.4:
        ground = colour(rng, saturation=(0, 0.12), value=(0.6, 0.92))
    if pattern == "screen":
        ground = colour(rng, value=(0.0, 0.4))
    ink = colour(rng, value=(0.02, 0.3)) if pattern == "page" else colour(rng)
    return b.material(pattern, ground, ink, colour(rng), tile=0, glow=glow, gloss=0.2)


def glass(b: SceneBuilder) -> int:
    """A clear pane, faintly tinted and faintly mirroring."""
    rng = b.rng
    tint = colour(rng, (0.4, 0.65), (0, 0.4), (0.2, 0.8))
    return b.material(
        "plain", tint, tile=1.0, gloss=1.0, clear=rng.uniform(0.6, 0.92), mirror=rng.uniform(0, 0.2)
    )


def leaves(b: SceneBuilder) -> int:
    """Foliage, green to autumn."""
    rng = b.rng
    hue = (0.2, 0.36) if rng.random() < 0.85 else (0.05, 0.2)
    base = colour(rng, hue, (0.35, 0.85), (0.06, 0.35))
    other = near(rng, base, 0.5)
    return b.material("foliage", base, other, near(rng, base, 0.9), tile=rng.uniform(0.5, 1.5))
