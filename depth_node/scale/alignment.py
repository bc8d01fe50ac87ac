"""An extrinsic that is off, found from how the points lie on the prediction.

A small error of the sensor's pitch or yaw against the camera shifts all of its points in the
picture by about f times the angle; an error of its height shifts each by f times the error times
its inverse depth. Shifted back, they fit the prediction better: their edges fall on its edges, and
their ground on its ground. An error of its place to the side is not searched: it hardly shows on
the ground, so it hardly harms the scale and cannot be told from the prediction's own error.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np

from depth_node.scale.fit import fit_affine
from depth_node.scale.points import SparseDepth, sample_disparity
from depth_node.types import ArrayF32

_POINTS = 400
_MIN_POINTS = 200
_BANDS = 24  # of rows; a few scan lines fit somewhere else as well as where they belong
_MIN_BANDS = 8  # with a hundredth of the points each
_TRUNCATED = 0.3
_STEPS = 3  # each way, over the whole reach
_HALVINGS = 2
_TURN_REACH = 0.0266  # of the image's width: 1.5 degrees at a focal length of one image width
_TURN_POOR = 0.15  # truncated residual from which on the prediction is no reference
# Part of the truncated relative residual that is to be removed, and how much of it at least: points
# that fit well anyway gain that part by chance.
_TURN_GAIN = (0.18, 0.015)
_AXIS_GAIN = 0.06  # more, for turning about a second axis
_LIFT_REACH = 0.24  # of the image's width times metres: 0.4 m at a focal length of 0.6 widths
_LIFT_SHIFT = 0.04  # of the image's width, for a point at the median depth
# An error of height also scales the ground, as an error of the prediction does: it takes a better
# prediction to tell the two apart.
_LIFT_POOR = 0.1
_LIFT_GAIN = (0.1, 0.008)


@dataclass(frozen=True)
class Offset:
    """Where a sensor's points really belong: (du, dv + lift / Z) from where they were projected.

    Attributes:
        du: columns to add, as a part of the image's width.
        dv: rows to add, as a part of the image's width.
        lift: rows to add per inverse depth, as a part of the image's width, times metres.
        gain: part of the truncated relative residual that this removes, 0..1.
    """

    du: float = 0.0
    dv: float = 0.0
    lift: float = 0.0
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

    def down_m(self, focal_widths: float) -> float:
        """How far the sensor's points must be moved down, metres.

        Args:
            focal_widths: focal length over image width.
        """
        return self.lift / focal_widths

    def described(self, focal_widths: float) -> str:
        """What is to be done to the points, in words; empty below 0.25 degrees and 0.05 m.

        Args:
            focal_widths: focal length over image width.
        """
        yaw, pitch = (round(2.0 * angle) / 2.0 for angle in self.angles_deg(focal_widths))
        down = round(self.down_m(focal_widths), 1)
        parts = []
        if yaw:
            parts.append(
                f"turned by about {abs(yaw):g} deg to the {'right' if yaw > 0 else 'left'}"
            )
        if pitch:
            parts.append(f"turned by about {abs(pitch):g} deg {'down' if pitch > 0 else 'up'}")
        if down:
            parts.append(f"moved by about {abs(down):g} m {'down' if down > 0 else 'up'}")
        return " and ".join(parts)

    def applied(self, points: SparseDepth) -> SparseDepth:
        """The points moved by this offset; those that leave the image are dropped."""
        if self.gain == 0.0:
            return points
        width, height = points.size
        u = points.u + np.float32(self.du * width)
        v = points.v + np.float32(self.dv * width)
        v += np.float32(self.lift * width) / points.depth
        inside = (u >= -0.5) & (u < width - 0.5) & (v >= -0.5) & (v < height - 0.5)
        return replace(
            points,
            u=u[inside],
            v=v[inside],
            depth=points.depth[inside],
            sigma=points.sigma[inside],
        )

    def blended(self, other: Offset, share: float) -> Offset:
        """This offset, moved towards another one by a share of the way."""
        mine, theirs = vars(self), vars(other)
        return Offset(**{k: (1.0 - share) * mine[k] + share * theirs[k] for k in mine})


Search = Generator[None, None, Offset]
"""Yields after each fit, so that the fits may be spread over as many frames."""


def find_offset(values: ArrayF32, points: SparseDepth, lowest: float = 0.0) -> Offset:
    """Search the rotation or the change of height that fits the points to the prediction best.

    Args:
        values: hxw float32 disparity.
        points: points of one source; with fewer than 200 nothing is searched.
        lowest: smallest disparity of the frame, 0 where some is saturated.

    Returns:
        The one that removes more of the residual; none when neither removes enough of it, the best
        lies at the end of the search, or the prediction is too poor to tell.
    """
    fits = search(values, points, lowest)
    while True:
        try:
            next(fits)
        except StopIteration as end:
            found: Offset = end.value
            return found


def search(values: ArrayF32, points: SparseDepth, lowest: float) -> Search:
    """`find_offset` in about thirty steps."""
    if not tells(points):
        return Offset()
    trial = Trial(values, points, lowest)
    turned, lifted = Offset(), Offset()
    if trial.still <= _TURN_POOR:
        turned = yield from _turned(trial)
    if trial.still <= _LIFT_POOR:
        lifted = yield from _lifted(trial)
    return max(turned, lifted, key=lambda offset: offset.gain)


def tells(points: SparseDepth) -> bool:
    """Whether there are enough points, in enough rows, to show where they belong."""
    if len(points) < _MIN_POINTS or points.footprint_px > 0.0:
        return False
    band = np.clip(points.v * (_BANDS / points.size[1]), 0, _BANDS - 1).astype(np.intp)
    return bool(np.count_nonzero(np.bincount(band) >= 0.01 * len(points)) >= _MIN_BANDS)


class Trial:
    """How well the points fit one prediction under an offset.

    Attributes:
        points: at most 400 of them, as they were projected.
        still: mean truncated relative residual of the points as they are.
    """

    def __init__(self, values: ArrayF32, points: SparseDepth, lowest: float) -> None:
        self.points = points.at_most(_POINTS)
        self._values, self._lowest = values, lowest
        self.still = max(self._score(Offset()), 1e-9)

    def of(self, *, du: float = 0.0, dv: float = 0.0, lift: float = 0.0) -> Offset:
        """The offset with the gain that it brings."""
        gain = 1.0 - self._score(Offset(du, dv, lift, gain=1.0)) / self.still
        return Offset(du, dv, lift, gain)

    def convinces(self, offset: Offset, needed: tuple[float, float]) -> bool:
        """Whether an offset removes that part of the residual, and that much of it."""
        part, least = needed
        return offset.gain >= max(part, least / self.still)

    def _score(self, offset: Offset) -> float:
        """Mean truncated residual, to which points that left the image count as the median."""
        moved = offset.applied(self.points)
        d = sample_disparity(self._values, moved)
        seen = d > 0.0
        if np.count_nonzero(seen) < _MIN_POINTS // 2:
            return _TRUNCATED
        d, q = d[seen], np.float32(1.0) / moved.depth[seen]
        fit = fit_affine(d, q, lowest=self._lowest)
        if not fit.accepted:
            return _TRUNCATED
        error = np.abs((fit.scale * d + fit.shift) / q - 1.0)
        lost = len(self.points) - len(d)
        total = float(np.minimum(error, _TRUNCATED).sum()) + lost * float(np.median(error))
        return total / len(self.points)


def _turned(trial: Trial) -> Search:
    """Rows over the whole reach, then columns, then both in halved steps."""
    best = Offset()
    step = _TURN_REACH / _STEPS
    for i in range(-_STEPS, _STEPS + 1):
        best = _better(best, trial.of(dv=step * i))
        yield
    for i in range(-_STEPS, _STEPS + 1):
        best = _better(best, trial.of(du=step * i, dv=best.dv))
        yield
    for _ in range(_HALVINGS):
        step *= 0.5
        u, v = best.du, best.dv
        for du, dv in ((u + step, v), (u - step, v), (u, v + step), (u, v - step)):
            best = _better(best, trial.of(du=du, dv=dv))
            yield
    # Fitted to chance, a second axis gains a little always.
    simpler = _better(trial.of(du=best.du), trial.of(dv=best.dv))
    if best.gain - simpler.gain < _AXIS_GAIN:
        best = simpler
    inside = max(abs(best.du), abs(best.dv)) < _TURN_REACH
    return best if inside and trial.convinces(best, _TURN_GAIN) else Offset()


def _lifted(trial: Trial) -> Search:
    best = Offset()
    reach = min(_LIFT_REACH, _LIFT_SHIFT * float(np.median(trial.points.depth)))
    step = reach / _STEPS
    for i in range(-_STEPS, _STEPS + 1):
        best = _better(best, trial.of(lift=step * i))
        yield
    for _ in range(_HALVINGS):
        step *= 0.5
        middle = best.lift
        for lift in (middle + step, middle - step):
            best = _better(best, trial.of(lift=lift))
            yield
    return best if abs(best.lift) < reach and trial.convinces(best, _LIFT_GAIN) else Offset()


def _better(one: Offset, other: Offset) -> Offset:
    return max(one, other, key=lambda offset: offset.gain)
