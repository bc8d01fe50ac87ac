"""What the measured points of all sources say about one frame's disparity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from depth_node.scale.fit import TYPICAL_ERROR, AffineFit
from depth_node.scale.points import SparseDepth, grid_coordinates, sample_disparity
from depth_node.types import ArrayF32, PointCounts

_PATCHES = (15, 20)
_COUNTED = 2048


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
        sources: names of the sources, in the order of their points.
        sizes: how many of the points are of each source.
        given: how many points each source had, saturated ones included.
        shape: rows and columns of the disparity.
    """

    x: ArrayF32
    y: ArrayF32
    d: ArrayF32
    q: ArrayF32
    weight: ArrayF32
    ray: NDArray[np.bool_]
    sources: tuple[str, ...]
    sizes: tuple[int, ...]
    given: tuple[int, ...]
    shape: tuple[int, int]

    @property
    def source(self) -> str:
        """The names of the sources, joined by `+`."""
        return "+".join(sorted(self.sources))

    def agreeing(self, fit: AffineFit) -> NDArray[np.bool_]:
        """(n,) bool, the points that an accepted fit counts as inliers.

        It looks at a part of them at most, so it is the same share of all: those nearest to it.
        """
        error = np.abs((fit.scale * self.d + fit.shift) / self.q - 1.0)
        count = round(len(error) * fit.inliers / fit.total)
        return np.asarray(error <= np.partition(error, count - 1)[count - 1])

    def counts(self, used: NDArray[np.bool_] | None) -> dict[str, PointCounts]:
        """What became of the points, by source.

        Args:
            used: (n,) bool, the points that were not refused; None when all were.
        """
        counts, start = {}, 0
        for name, given, size in zip(self.sources, self.given, self.sizes, strict=True):
            own = slice(start, start + size)
            kept = 0 if used is None else int(np.count_nonzero(used[own]))
            counts[name] = PointCounts(given, given - size, size - kept, kept)
            start += size
        return counts

    def level(self) -> float:
        """Median disparity at the points."""
        return float(np.median(self._some(self.d)))

    def uncovered(self, seen: NDArray[np.bool_]) -> float:
        """Part of the picture's height in which there is no point: near 1 for a planar scan.

        Args:
            seen: (n,) bool, in which of n bands of rows anything is unsaturated; sky needs no
                point.
        """
        bands = len(seen)
        row = np.clip(self._some(self.y) * (bands / self.shape[0]), 0, bands - 1).astype(np.intp)
        bare = seen & (np.bincount(row, minlength=bands) == 0)
        return int(np.count_nonzero(bare)) / max(int(np.count_nonzero(seen)), 1)

    def patches(self) -> int:
        """How many cells of a 15x20 grid the points fall into."""
        (rows, columns), (height, width) = _PATCHES, self.shape
        row = np.clip(self._some(self.y) * (rows / height), 0, rows - 1).astype(np.intp)
        column = np.clip(self._some(self.x) * (columns / width), 0, columns - 1).astype(np.intp)
        return int(np.count_nonzero(np.bincount(row * columns + column, minlength=1)))

    def _some(self, values: ArrayF32) -> ArrayF32:
        """The values of enough points for statistics of all."""
        return values[:: max(1, len(values) // _COUNTED)]


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
    sizes = [len(part[0]) for part in parts]
    rays = np.repeat([points.footprint_px == 0.0 for points in measured], sizes)
    return Samples(
        x,
        y,
        d,
        q,
        weight,
        rays,
        tuple(points.source for points in measured),
        tuple(sizes),
        tuple(map(len, measured)),
        (values.shape[0], values.shape[1]),
    )


def _gather_one(values: ArrayF32, points: SparseDepth) -> tuple[ArrayF32, ...]:
    d = sample_disparity(values, points)
    keep = np.flatnonzero((d > 0.0) & np.isfinite(d))
    x, y = grid_coordinates(points, (values.shape[0], values.shape[1]))
    depth = points.depth[keep]
    # A sensor's error counts in comparison with the network's.
    noise = points.sigma[keep] / (depth * np.float32(TYPICAL_ERROR))
    one = np.float32(1.0)
    return x[keep], y[keep], d[keep], one / depth, one / (one + noise * noise)
