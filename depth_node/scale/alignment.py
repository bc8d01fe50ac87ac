"""An extrinsic rotation that is off, found from how the points lie on the prediction.

A small error of the sensor's pitch or yaw against the camera shifts all of its points in the
picture by about f times the angle. Shifted back, they fit the prediction better: their edges fall
on its edges, and their ground on its ground.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from depth_node.scale.fit import fit_affine
from depth_node.scale.points import SparseDepth, sample_disparity
from depth_node.types import ArrayF32

_POINTS = 400
_MIN_POINTS = 200
_MIN_SPREAD = 0.1  # of the image's height, between the 5th and the 95th percentile of the rows
_REACH = 0.0266  # of the image's width: 1.5 degrees at a focal length of one image width
_STEPS = 3
_MIN_GAIN = 0.18
_TRUNCATED = 0.3
_POOR = 0.15  # truncated residual from which on the prediction is no reference
_PERIOD_S = 5.0


@dataclass(frozen=True)
class Offset:
    """Where a sensor's points really belong in the picture.

    Attributes:
        du: columns to add, as a part of the image's width.
        dv: rows to add, as a part of the image's width.
        gain: part of the truncated relative residual that the shift removes, 0..1.
    """

    du: float = 0.0
    dv: float = 0.0
    gain: float = 0.0

    def angles_deg(self, focal_widths: float) -> tuple[float, float]:
        """(yaw, pitch) of the extrinsic error in degrees.

        Args:
            focal_widths: focal length over image width.

        Returns:
            Angles by which the sensor's points must be turned to the right and down.
        """
        scale = float(np.degrees(1.0)) / focal_widths
        return self.du * scale, self.dv * scale

    def applied(self, points: SparseDepth) -> SparseDepth:
        """The points moved by this offset; those that leave the image are dropped."""
        if self.gain == 0.0:
            return points
        width, height = points.size
        u = points.u + np.float32(self.du * width)
        v = points.v + np.float32(self.dv * width)
        inside = (u >= -0.5) & (u < width - 0.5) & (v >= -0.5) & (v < height - 0.5)
        return replace(
            points,
            u=u[inside],
            v=v[inside],
            depth=points.depth[inside],
            sigma=points.sigma[inside],
        )


def find_offset(values: ArrayF32, points: SparseDepth, lowest: float = 0.0) -> Offset:
    """Search the shift of the points that fits the prediction best.

    Args:
        values: hxw float32 disparity.
        points: points of one source; with fewer than 200 nothing is searched.
        lowest: smallest disparity of the frame, 0 where some is saturated.

    Returns:
        The shift, or none when it would not remove at least 18% of the residual, lies at the end
        of the search, or the prediction is too poor to tell.
    """
    points = points.at_most(_POINTS)
    if len(points) < _MIN_POINTS or points.footprint_px > 0.0:
        return Offset()
    low, high = np.percentile(points.v, (5, 95))
    if high - low < _MIN_SPREAD * points.size[1]:
        return Offset()  # one scan line fits somewhere else as well as where it belongs
    still = _score(values, points, lowest, 0.0, 0.0)
    if still > _POOR:
        return Offset()
    best = (still, 0.0, 0.0)
    step = _REACH / _STEPS
    reach = step * np.arange(-_STEPS, _STEPS + 1)
    best = min([best, *((_score(values, points, lowest, 0.0, dv), 0.0, dv) for dv in reach)])
    best = min(
        [best, *((_score(values, points, lowest, du, best[2]), du, best[2]) for du in reach)]
    )
    for _ in range(2):
        step *= 0.5
        _, du, dv = best
        near = ((du - step, dv), (du + step, dv), (du, dv - step), (du, dv + step))
        best = min([best, *((_score(values, points, lowest, a, b), a, b) for a, b in near)])
    gain = 1.0 - best[0] / max(still, 1e-9)
    inside = max(abs(best[1]), abs(best[2])) < _REACH
    return (
        Offset(float(best[1]), float(best[2]), gain) if gain >= _MIN_GAIN and inside else Offset()
    )


def _score(values: ArrayF32, points: SparseDepth, lowest: float, du: float, dv: float) -> float:
    """Mean truncated relative residual of the shifted points, those that left counting fully."""
    moved = Offset(du, dv, 1.0).applied(points)
    d = sample_disparity(values, moved)
    seen = d > 0.0
    if np.count_nonzero(seen) < _MIN_POINTS // 2:
        return _TRUNCATED
    d, q = d[seen], np.float32(1.0) / moved.depth[seen]
    fit = fit_affine(d, q, lowest=lowest)
    if not fit.accepted:
        return _TRUNCATED
    error = np.abs((fit.scale * d + fit.shift) / q - 1.0)
    lost = len(points) - len(d)
    total = float(np.minimum(error, _TRUNCATED).sum()) + lost * float(np.median(error))
    return total / len(points)


class ExtrinsicMonitor:
    """Follows the offset of each source, slowly: extrinsics do not change from frame to frame."""

    def __init__(self) -> None:
        self._offsets: dict[str, Offset] = {}
        self._searched_ns: dict[str, int] = {}

    def reset(self) -> None:
        """Forget every offset."""
        self._offsets.clear()
        self._searched_ns.clear()

    @property
    def offsets(self) -> dict[str, Offset]:
        """The offset of each source that was searched."""
        return dict(self._offsets)

    def align(self, values: ArrayF32, points: SparseDepth, lowest: float) -> SparseDepth:
        """The points where they belong; every few seconds the search runs again."""
        source = points.source
        before = self._offsets.get(source)
        elapsed_s = (points.stamp_ns - self._searched_ns.get(source, points.stamp_ns)) * 1e-9
        if before is None or elapsed_s >= _PERIOD_S:
            found = find_offset(values, points, lowest)
            self._searched_ns[source] = points.stamp_ns
            self._offsets[source] = found if before is None else _between(before, found)
        return self._offsets[source].applied(points)


def _between(before: Offset, now: Offset) -> Offset:
    return Offset(
        0.7 * before.du + 0.3 * now.du,
        0.7 * before.dv + 0.3 * now.dv,
        0.7 * before.gain + 0.3 * now.gain,
    )
