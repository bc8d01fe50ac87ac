"""What the measured points of all sources say about one frame's disparity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from depth_node.scale.points import SparseDepth, grid_coordinates, sample_disparity
from depth_node.types import ArrayF32

TYPICAL_ERROR = 0.08
"""Of the network's globally fitted depth, relative; a sensor's error counts in comparison."""
_PATCHES = (15, 20)


@dataclass(frozen=True, eq=False)
class Samples:
    """Points on one frame's disparity; those on saturated disparity are left out.

    Attributes:
        x: (n,) float32 column on the disparity, pixels.
        y: (n,) float32 row on the disparity, pixels.
        d: (n,) float32 disparity at the points, positive.
        q: (n,) float32 measured inverse depth, 1/m.
        weight: (n,) float32 confidence in 0..1: less for a sensor that is noisier than the network.
        ray: (n,) bool, false for cones, whose place in the picture is not known.
        source: names of the sources, joined by `+`.
        given: how many points there were, saturated ones included.
        shape: rows and columns of the disparity.
    """

    x: ArrayF32
    y: ArrayF32
    d: ArrayF32
    q: ArrayF32
    weight: ArrayF32
    ray: NDArray[np.bool_]
    source: str
    given: int
    shape: tuple[int, int]

    def patches(self) -> int:
        """How many cells of a 15x20 grid the points fall into."""
        rows, columns = _PATCHES
        row = np.clip(self.y * (rows / self.shape[0]), 0, rows - 1).astype(np.intp)
        column = np.clip(self.x * (columns / self.shape[1]), 0, columns - 1).astype(np.intp)
        return int(np.count_nonzero(np.bincount(row * columns + column, minlength=1)))


def gather(values: ArrayF32, measured: Sequence[SparseDepth]) -> Samples:
    """Sample one frame's disparity at the points of one or more sources.

    Args:
        values: hxw float32 disparity.
        measured: at least one source's points over the same view.

    Returns:
        The samples.
    """
    parts = [_gather_one(values, points) for points in measured]
    x, y, d, q, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    rays = [
        np.full(len(part[0]), points.footprint_px == 0.0)
        for part, points in zip(parts, measured, strict=True)
    ]
    return Samples(
        x,
        y,
        d,
        q,
        weight,
        np.concatenate(rays),
        "+".join(sorted(points.source for points in measured)),
        sum(map(len, measured)),
        (values.shape[0], values.shape[1]),
    )


def _gather_one(values: ArrayF32, points: SparseDepth) -> tuple[ArrayF32, ...]:
    d = sample_disparity(values, points)
    keep = np.flatnonzero((d > 0.0) & np.isfinite(d))
    x, y = grid_coordinates(points, (values.shape[0], values.shape[1]))
    depth = points.depth[keep]
    noise = points.sigma[keep] / (depth * np.float32(TYPICAL_ERROR))
    one = np.float32(1.0)
    return x[keep], y[keep], d[keep], one / depth, one / (one + noise * noise)
