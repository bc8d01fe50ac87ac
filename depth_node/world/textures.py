"""Procedural textures: a bank of tileable three-channel patterns with mip levels.

A texture holds no colour. Its channels say how a material's three colours are mixed: channel 0
blends colour a into b, channel 1 blends the result into c, channel 2 is shade (128 leaves the
colour as it is). So one pattern serves for any number of materials.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.types import ArrayF32, ImageU8
from depth_node.world.artwork import DRAWN

SIZE = 256
LEVELS = 9
"""Mip levels: 256 texels down to 1."""
_BANK_SEED = 20240511
_LEVEL_SIZE = np.array([SIZE >> level for level in range(LEVELS)], np.int32)
_LEVEL_OFFSET = np.concatenate([[0], np.cumsum(_LEVEL_SIZE**2)[:-1]]).astype(np.int32)
_TEXELS = int((_LEVEL_SIZE.astype(np.int64) ** 2).sum())

Pattern = Callable[[np.random.Generator], ImageU8]


def noise(rng: np.random.Generator, beta: float, stretch: float = 1.0) -> ArrayF32:
    """Tileable SIZE x SIZE noise in [0, 1] with a 1/f^beta spectrum, drawn out along x."""
    f = np.fft.fftfreq(SIZE) * SIZE
    fx, fy = np.meshgrid(f * stretch, f)
    radius = np.hypot(fx, fy)
    radius[0, 0] = 1.0
    spectrum = np.fft.fft2(rng.standard_normal((SIZE, SIZE))) * radius ** (-beta)
    spectrum[0, 0] = 0.0
    field = np.fft.ifft2(spectrum).real
    low, high = np.percentile(field, [1, 99])
    return np.clip((field - low) / (high - low), 0, 1).astype(np.float32)


def _pack(mix: ArrayF32 | float, third: ArrayF32 | float, shade: ArrayF32 | float) -> ImageU8:
    out = np.empty((SIZE, SIZE, 3), np.float32)
    out[..., 0], out[..., 1], out[..., 2] = mix, third, shade
    return np.clip(out * 255 + 0.5, 0, 255).astype(np.uint8)


def _grid() -> tuple[ArrayF32, ArrayF32]:
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE
    return x, y


def _cells(
    rng: np.random.Generator, columns: int, rows: int, offset: float, joint: float
) -> tuple[ArrayF32, ArrayF32]:
    """A value a cell of a running-bond grid, and a mask of the joints; `joint` in tile units."""
    x, y = _grid()
    row = np.floor(y * rows)
    xs = x * columns + offset * (row % 2)
    column = np.floor(xs) % columns
    value = rng.random((rows, columns)).astype(np.float32)[row.astype(int), column.astype(int)]
    dx = np.minimum(xs % 1, 1 - xs % 1) / columns
    dy = np.minimum((y * rows) % 1, 1 - (y * rows) % 1) / rows
    return value, (np.minimum(dx, dy) < joint).astype(np.float32)


def _plain(rng: np.random.Generator) -> ImageU8:
    return _pack(0.25 * noise(rng, 1.6), 0.0, 0.47 + 0.05 * noise(rng, 0.3))


def _blotches(rng: np.random.Generator) -> ImageU8:
    return _pack(noise(rng, rng.uniform(1.0, 2.2)), 0.0, 0.4 + 0.2 * noise(rng, 0.6))


def _wood(rng: np.random.Generator) -> ImageU8:
    _, y = _grid()
    warp = noise(rng, 2.0, 6.0)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (rng.integers(3, 12) * y + 3 * warp))
    grain = noise(rng, 0.9, 14.0)
    return _pack(0.6 * rings + 0.4 * grain, 0.0, 0.4 + 0.2 * grain)


def _planks(rng: np.random.Generator) -> ImageU8:
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(3, 9))
    value, joint = _cells(rng, columns, rows, 0.5, 0.004)
    grain = noise(rng, 0.9, 14.0)
    return _pack(0.6 * value + 0.4 * grain, 0.6 * joint, 0.36 + 0.22 * grain)


def _bricks(rng: np.random.Generator) -> ImageU8:
    rows = int(rng.integers(8, 15))
    value, joint = _cells(rng, rows // 3 + 1, rows, 0.5, 0.008)
    rough = noise(rng, 0.7)
    return _pack(0.7 * value + 0.3 * rough, joint, 0.36 + 0.25 * rough)


def _tiles(rng: np.random.Generator) -> ImageU8:
    n = int(rng.integers(2, 8))
    value, joint = _cells(rng, n, n, 0.0, rng.uniform(0.004, 0.01))
    return _pack(0.4 * value + 0.3 * noise(rng, 1.5), joint, 0.45 + 0.1 * noise(rng, 0.8))


def _checker(rng: np.random.Generator) -> ImageU8:
    n = 2 * int(rng.integers(1, 6))
    x, y = _grid()
    board = ((np.floor(x * n) + np.floor(y * n)) % 2).astype(np.float32)
    return _pack(board, 0.0, 0.42 + 0.16 * noise(rng, 0.8))


def _stripes(rng: np.random.Generator) -> ImageU8:
    edges = np.sort(rng.integers(0, SIZE, int(rng.integers(4, 50))))
    bands = np.zeros(SIZE, np.float32)
    for first, last in itertools.pairwise(edges):
        bands[first:last] = rng.random()
    shade = 0.42 + 0.16 * noise(rng, 0.5)
    return _pack(np.tile(bands, (SIZE, 1)), 0.0, shade)


def _carpet(rng: np.random.Generator) -> ImageU8:
    streaks = noise(rng, 0.35, rng.uniform(3, 12))
    return _pack(streaks, 0.3 * noise(rng, 1.6), 0.3 + 0.4 * noise(rng, 0.15))


def _speckle(rng: np.random.Generator) -> ImageU8:
    small = noise(rng, 0.5)
    return _pack(
        (small > rng.uniform(0.55, 0.8)).astype(np.float32),
        (noise(rng, 0.4) > 0.85).astype(np.float32),
        0.4 + 0.2 * noise(rng, 0.4),
    )


def _asphalt(rng: np.random.Generator) -> ImageU8:
    patches = (noise(rng, 2.2) > 0.75).astype(np.float32)
    cracks = (np.abs(noise(rng, 1.7) - 0.5) < 0.006).astype(np.float32)
    return _pack(
        0.6 * noise(rng, 0.2) + 0.4 * noise(rng, 1.6),
        np.maximum(0.35 * patches, 0.8 * cracks),
        0.32 + 0.36 * noise(rng, 0.2),
    )


def _foliage(rng: np.random.Generator) -> ImageU8:
    leaves = noise(rng, rng.uniform(0.6, 1.0))
    gaps = (noise(rng, 0.9) < 0.3).astype(np.float32)
    return _pack(leaves, 0.8 * gaps, 0.15 + 0.7 * noise(rng, 0.8))


def _grass(rng: np.random.Generator) -> ImageU8:
    return _pack(noise(rng, 0.5), 0.7 * (noise(rng, 1.8) > 0.75), 0.25 + 0.5 * noise(rng, 0.4))


def _marble(rng: np.random.Generator) -> ImageU8:
    veins = np.abs(noise(rng, 1.9) - 0.5)
    return _pack(np.exp(-veins * 25), 0.2 * noise(rng, 1.2), 0.45 + 0.1 * noise(rng, 1.0))


def _weave(rng: np.random.Generator) -> ImageU8:
    x, y = _grid()
    n = int(rng.integers(10, 40))
    warp = 0.5 + 0.5 * np.sin(2 * np.pi * n * x) * np.sin(2 * np.pi * n * y)
    plaid = 0.5 * (np.sin(2 * np.pi * 3 * x) > 0.6) + 0.5 * (np.sin(2 * np.pi * 2 * y) > 0.7)
    return _pack(warp, 0.6 * plaid * float(rng.random() < 0.5), 0.35 + 0.3 * noise(rng, 0.3))


def _corrugated(rng: np.random.Generator) -> ImageU8:
    x, _ = _grid()
    ridges = 0.5 + 0.5 * np.sin(2 * np.pi * int(rng.integers(6, 24)) * x)
    rust = np.clip(3 * noise(rng, 1.8) - 2.2, 0, 1)
    return _pack(0.5 * ridges, rust, 0.3 + 0.35 * ridges)


def _concrete(rng: np.random.Generator) -> ImageU8:
    _, joint = _cells(rng, 2, 2, 0.0, 0.003)
    stains = noise(rng, 1.6, 0.3)
    return _pack(0.6 * noise(rng, 1.3), 0.7 * joint + 0.25 * stains, 0.4 + 0.18 * noise(rng, 0.5))


def _dots(rng: np.random.Generator) -> ImageU8:
    x, y = _grid()
    n = int(rng.integers(4, 20))
    radius = np.hypot((x * n) % 1 - 0.5, (y * n) % 1 - 0.5)
    dots = (radius < rng.uniform(0.15, 0.4)).astype(np.float32)
    return _pack(dots, 0.0, 0.45 + 0.1 * noise(rng, 0.6))


_PATTERNS: dict[str, tuple[Pattern, int]] = {
    "plain": (_plain, 3),
    "blotches": (_blotches, 4),
    "wood": (_wood, 5),
    "planks": (_planks, 4),
    "bricks": (_bricks, 4),
    "tiles": (_tiles, 5),
    "checker": (_checker, 2),
    "stripes": (_stripes, 4),
    "carpet": (_carpet, 4),
    "speckle": (_speckle, 4),
    "asphalt": (_asphalt, 3),
    "foliage": (_foliage, 4),
    "grass": (_grass, 3),
    "marble": (_marble, 2),
    "weave": (_weave, 4),
    "corrugated": (_corrugated, 2),
    "concrete": (_concrete, 4),
    "dots": (_dots, 2),
    **DRAWN,
}
SURFACES = tuple(name for name in _PATTERNS if name not in DRAWN)
"""Patterns that tile; the others are pictures that fill a face once."""


class TextureBank(NamedTuple):
    """All textures with their mip levels.

    Attributes:
        texels: (textures * texels per texture, 3) uint8.
        numbers: for every pattern name, the textures that carry it.
    """

    texels: NDArray[np.uint8]
    numbers: dict[str, tuple[int, ...]]

    def pick(self, rng: np.random.Generator, name: str) -> int:
        """The number of one texture with the pattern `name`."""
        choices = self.numbers[name]
        return choices[int(rng.integers(len(choices)))]

    def lookup(
        self, texture: NDArray[np.int32], uv: ArrayF32, texel_per_pixel: ArrayF32
    ) -> NDArray[np.uint8]:
        """Nearest texels at the mip level that fits the footprint.

        Args:
            texture: (n,) int32 texture numbers.
            uv: (n, 2) float32, one tile is [0, 1); wraps.
            texel_per_pixel: (n,) float32, finest texels that one pixel covers.

        Returns:
            (n, 3) uint8 channels.
        """
        level, base = _level(texture, texel_per_pixel)
        size = _LEVEL_SIZE[level]
        cell = (uv * size[:, None]).astype(np.int32) & (size - 1)[:, None]
        return np.take(self.texels, base + cell[:, 1] * size + cell[:, 0], axis=0)

    def lookup_smooth(
        self, texture: NDArray[np.int32], uv: ArrayF32, texel_per_pixel: ArrayF32
    ) -> ArrayF32:
        """The same with bilinear filtering inside the level: (n, 3) float32 in [0, 255]."""
        level, base = _level(texture, texel_per_pixel)
        size = _LEVEL_SIZE[level]
        at = uv * size[:, None].astype(np.float32) - np.float32(0.5)
        low = np.floor(at)
        fraction = at - low
        cell = low.astype(np.int32)
        mask = size - 1
        x0, y0 = cell[:, 0] & mask, (cell[:, 1] & mask) * size
        x1, y1 = (cell[:, 0] + 1) & mask, ((cell[:, 1] + 1) & mask) * size
        fx, fy = fraction[:, :1], fraction[:, 1:]
        top = np.take(self.texels, base + y0 + x0, axis=0) * (1 - fx)
        top += np.take(self.texels, base + y0 + x1, axis=0) * fx
        bottom = np.take(self.texels, base + y1 + x0, axis=0) * (1 - fx)
        bottom += np.take(self.texels, base + y1 + x1, axis=0) * fx
        smooth: ArrayF32 = top + fy * (bottom - top)
        return smooth


def _level(
    texture: NDArray[np.int32], texel_per_pixel: ArrayF32
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    level = np.clip(np.log2(texel_per_pixel + np.float32(1e-6)), 0, LEVELS - 1).astype(np.int32)
    return level, texture * np.int32(_TEXELS) + _LEVEL_OFFSET[level]


@functools.cache
def texture_bank() -> TextureBank:
    """Build the bank once a process (about half a second); it is the same in every process."""
    seeds = np.random.SeedSequence(_BANK_SEED)
    numbers: dict[str, tuple[int, ...]] = {}
    levels: list[NDArray[np.uint8]] = []
    count = 0
    for name, (pattern, variants) in _PATTERNS.items():
        numbers[name] = tuple(range(count, count + variants))
        count += variants
        for child in seeds.spawn(variants):
            image = pattern(np.random.default_rng(child))
            for size in _LEVEL_SIZE:
                scaled = cv2.resize(image, (int(size), int(size)), interpolation=cv2.INTER_AREA)
                levels.append(np.asarray(scaled, np.uint8).reshape(-1, 3))
    return TextureBank(np.concatenate(levels), numbers)
