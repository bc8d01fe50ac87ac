"""What the measured points of all sources say about one frame's disparity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from depth_node.scale.apply import fitted_inverse_depth
from depth_node.scale.fit import TYPICAL_ERROR, AffineFit
from depth_node.scale.points import (
    SparseDepth,
    grid_coordinates,
    sample_cones,
    sample_disparity,
)
from depth_node.types import ArrayF32, PointCounts

IN_FRONT = 2.0
"""How many times nearer than the fitted disparity a ray must have measured to be told of."""
_APART = np.log(1.4)
_PATCHES = (15, 20)
_COUNTED = 2048
_PICKS = np.random.default_rng(0).random(_COUNTED)


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
        blind: (m, 3) float32 column, row and inverse depth of the rays that fell on saturated
            disparity.
        blind_sizes: how many of them are of each source.
        left_out: what became of the points of sources that do not count, by source.
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
    blind: ArrayF32
    blind_sizes: tuple[int, ...]
    left_out: Mapping[str, PointCounts] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """The names of the sources, joined by `+`."""
        return "+".join(sorted(self.sources))

    def parts(self) -> Iterator[tuple[str, slice]]:
        """Each source with the place of its points."""
        start = 0
        for name, size in zip(self.sources, self.sizes, strict=True):
            yield name, slice(start, start + size)
            start += size

    def without(self, names: Set[str]) -> Samples:
        """These points without those of some sources, which are refused as a whole."""
        counting = [name not in names for name in self.sources]
        kept = np.flatnonzero(counting)
        points = np.repeat(counting, self.sizes)
        refused = {name: n for name, n in self.counts(None).items() if name in names}
        return Samples(
            x=self.x[points],
            y=self.y[points],
            d=self.d[points],
            q=self.q[points],
            weight=self.weight[points],
            ray=self.ray[points],
            sources=tuple(self.sources[i] for i in kept),
            sizes=tuple(self.sizes[i] for i in kept),
            given=tuple(self.given[i] for i in kept),
            shape=self.shape,
            blind=self.blind[np.repeat(counting, self.blind_sizes)],
            blind_sizes=tuple(self.blind_sizes[i] for i in kept),
            left_out={**self.left_out, **refused},
        )

    def shares(self, most: int) -> NDArray[np.intp]:
        """Indices of at most so many points, each source evenly thinned to the same number."""
        share = most // max(len(self.sources), 1)
        return np.concatenate(
            [
                np.linspace(part.start, part.stop - 1, min(share, part.stop - part.start))
                for _, part in self.parts()
            ]
        ).astype(np.intp)

    def agreeing(self, fit: AffineFit) -> NDArray[np.bool_]:
        """(n,) bool, the points that an accepted fit counts as inliers."""
        error = np.abs((fit.scale * self.d + fit.shift) / self.q - 1.0)
        return np.asarray(error <= fit.gate)

    def apart(self, fit: AffineFit) -> ArrayF32:
        """(n,) float32 log of the predicted over the measured inverse depth."""
        predicted = fitted_inverse_depth(self.d, fit.scale, fit.shift)
        return np.asarray(np.log(predicted / self.q))

    def in_front(self, scale: float, shift: float) -> ArrayF32:
        """The rays that measured a surface far in front of what the network sees there.

        Args:
            scale: 1/m per unit of disparity.
            shift: 1/m.

        Returns:
            (n, 3) float32 column and row on the disparity, and measured inverse depth in 1/m.
        """
        predicted = fitted_inverse_depth(self.d, scale, shift)
        nearer = np.flatnonzero((np.float32(IN_FRONT) * predicted < self.q) & self.ray)
        found = np.stack([values[nearer] for values in (self.x, self.y, self.q)], axis=1)
        return np.concatenate([self.blind, found])

    def agree_with_network(self) -> bool:
        """Whether a metric network's own metres are about those of the points, if there are any."""
        return len(self.d) == 0 or float(np.median(np.abs(np.log(self.q / self.d)))) < _APART

    def counts(self, used: NDArray[np.bool_] | None) -> dict[str, PointCounts]:
        """What became of the points, by source.

        Args:
            used: (n,) bool, the points that were not refused; None when all were.
        """
        counts = dict(self.left_out)
        for (name, own), given, size in zip(self.parts(), self.given, self.sizes, strict=True):
            kept = 0 if used is None else int(np.count_nonzero(used[own]))
            counts[name] = PointCounts(given, given - size, size - kept, kept)
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
        """The values of enough points for statistics of all.

        They are drawn: every n-th point of a spinning LiDAR may be one of a few of its rings.
        """
        if len(values) <= _COUNTED:
            return values
        return values[(_PICKS * len(values)).astype(np.intp)]


def gather(values: ArrayF32, measured: Sequence[SparseDepth]) -> Samples:
    """Sample one frame's disparity at the points of one or more sources.

    Args:
        values: hxw float32 disparity.
        measured: at least one source's points over the same view.

    Returns:
        The samples.
    """
    parts = [_gather_one(values, points) for points in measured]
    x, y, d, q, weight, blind = (np.concatenate(column) for column in zip(*parts, strict=True))
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
        blind,
        tuple(len(part[-1]) for part in parts),
    )


def _gather_one(values: ArrayF32, points: SparseDepth) -> tuple[ArrayF32, ...]:
    cones = points.footprint_px > 0.0
    d, spread = sample_cones(values, points) if cones else (sample_disparity(values, points), None)
    seen = (d > 0.0) & np.isfinite(d)
    keep = np.flatnonzero(seen)
    x, y = grid_coordinates(points, (values.shape[0], values.shape[1]))
    # A cone on nothing says that something is there, but not where; NaN the camera does not see.
    lost = np.flatnonzero(d <= 0.0) if not cones else keep[:0]
    blind = np.stack([x[lost], y[lost], np.float32(1.0) / points.depth[lost]], axis=1)
    depth = points.depth[keep]
    # A sensor's error counts in comparison with the network's.
    noise = points.sigma[keep] / (depth * np.float32(TYPICAL_ERROR))
    if spread is not None:
        noise = np.hypot(noise, spread[keep] / np.float32(TYPICAL_ERROR))
    noise = np.minimum(noise, np.float32(1e6))  # its square is a number
    one = np.float32(1.0)
    return x[keep], y[keep], d[keep], one / depth, one / (one + noise * noise), blind
