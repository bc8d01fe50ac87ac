"""The metric scale estimator: whatever was measured around a frame, made one scale estimate."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace

import numpy as np

from depth_node.scale.alignment import ExtrinsicMonitor, Offset
from depth_node.scale.apply import FARTHEST_M
from depth_node.scale.field import MAX_POINTS, MIN_POINTS, Correction, build_grids, correct, fused
from depth_node.scale.filter import Scale, ScaleFilter
from depth_node.scale.fit import AffineFit, ShiftPrior, fit_affine
from depth_node.scale.gauge import carry, lowest, thumbnail
from depth_node.scale.ground import GroundReference, fit_ground
from depth_node.scale.inbox import Inbox
from depth_node.scale.points import SparseDepth
from depth_node.scale.samples import TYPICAL_ERROR, Samples, gather
from depth_node.types import (
    ArrayF32,
    ArrayF64,
    CameraModel,
    Disparity,
    Frame,
    ScaleEstimate,
    ScaleState,
)

_NS = 1e-9
_OTHER_CLOCK_S = 5.0
_FEW_POINTS = 8
_GATE_LOG = 1.5  # a point farther than this (in log) from the global fit is on another surface
_FADE_PER_S = 0.05  # of a held local correction in a still scene
_FADE_BY_MOTION = 25.0  # more, per second and per relative change of the carried disparity


@dataclass(frozen=True)
class ScaleConfig:
    """How measurements become a scale.

    Attributes:
        max_skew_s: a measurement belongs to frames at most this far from its stamp, seconds.
        hold_s: how long after the last measurement the scale is still `held`, seconds.
        max_hold_sigma: relative uncertainty of the held scale beyond which it is given up.
        local_correction: whether points also correct the depth locally.
        filtered: whether scale and shift are filtered over time.
        align: whether an extrinsic rotation that is off is searched and undone.
    """

    max_skew_s: float = 0.06
    hold_s: float = 3.0
    max_hold_sigma: float = 0.2
    local_correction: bool = True
    filtered: bool = True
    align: bool = True


@dataclass(frozen=True)
class PointCounts:
    """What became of the points of one frame, for the diagnostics.

    Attributes:
        given: points inside the image.
        saturated: on disparity 0, where nothing was measured.
        refused: contradicted by the global fit or by their neighbours (seen through an edge,
            glass, wet floor, something that moved).
        used: the rest.
    """

    given: int = 0
    saturated: int = 0
    refused: int = 0
    used: int = 0


class MetricScaleEstimator:
    """Estimates the scale of every frame from sparse points and from the ground.

    `add` and `set_ground` may be called from any thread; `estimate` and `reset` from the
    pipeline's. Points come first; the ground stands in where there are none.
    """

    def __init__(self, config: ScaleConfig = ScaleConfig()) -> None:
        self._config = config
        self._inbox = Inbox()
        self._ground: GroundReference | None = None
        self._ground_lock = threading.Lock()
        self._filter = ScaleFilter()
        self._extrinsics = ExtrinsicMonitor()
        self._forget()

    def add(self, points: SparseDepth) -> None:
        """Take a measurement of any source, projected into the camera's picture."""
        self._inbox.add(points)

    def set_ground(self, reference: GroundReference | None) -> None:
        """Take the camera's height and the direction of gravity, or None to stop using them."""
        with self._ground_lock:
            self._ground = reference

    @property
    def counts(self) -> PointCounts:
        """What became of the points of the last frame."""
        return self._counts

    @property
    def offsets(self) -> dict[str, Offset]:
        """By source, the shift of its points that its extrinsics seem to need, for the doctor."""
        return self._extrinsics.offsets

    def reset(self) -> None:
        """Forget everything carried from earlier frames, and every measurement."""
        self._inbox.clear()
        self._extrinsics.reset()
        self._filter.reset()
        self._forget()

    def _forget(self) -> None:
        self._before: ArrayF32 | None = None
        self._lowest = 0.0  # disparity of the frame; 0 where some is saturated
        self._change = 0.0  # relative, of the carried disparity between the last two frames
        self._stamp_ns = 0
        self._correction: Correction | None = None
        self._last = AffineFit()
        self._source = "none"
        self._counts = PointCounts()

    def estimate(self, frame: Frame, disparity: Disparity) -> ScaleEstimate:
        """Estimate the scale of one frame; frames arrive in the order of their stamps."""
        if self._before is not None and frame.stamp_ns < self._stamp_ns:
            self._filter.reset()
            self._forget()
        elapsed_s = (frame.stamp_ns - self._stamp_ns) * _NS if self._before is not None else 0.0
        same_scene = self._carry(disparity.values, elapsed_s)
        self._stamp_ns = frame.stamp_ns
        fit, samples, source, reason = self._measure(frame, disparity)
        taken = fit.accepted and self._filter.update(fit)
        if taken:
            self._last, self._source = fit, source
        elif fit.accepted:
            reason = f"the scale from {source} contradicts the filter; waiting for it to repeat"
        elif not same_scene:
            reason = f"the scene changed at once; {reason}"
        scale = self._filter.current
        if scale is None:
            return _without_measurement(disparity, reason)
        if taken and not self._config.filtered:
            scale = replace(scale, scale=fit.scale, shift=fit.shift, covariance=fit.covariance)
        correction = self._correct(disparity.values, samples if taken else None, scale, elapsed_s)
        return self._answer(disparity, scale, correction, taken, reason)

    def _carry(self, values: ArrayF32, elapsed_s: float) -> bool:
        now = thumbnail(values)
        before, self._before = self._before, now
        self._lowest = lowest(now)
        if before is None:
            return True
        gauge = carry(before, now)
        self._change = gauge.sigma if gauge is not None else 1.0
        same = self._filter.predict(gauge, elapsed_s)
        if not same:
            self._correction = None
        return same

    def _measure(
        self, frame: Frame, disparity: Disparity
    ) -> tuple[AffineFit, Samples | None, str, str]:
        """(fit, its points, source, reason why there is no fit)."""
        near = self._inbox.nearest(frame.stamp_ns)
        skew = {p.source: abs(p.stamp_ns - frame.stamp_ns) * _NS for p in near}
        current = [p for p in near if skew[p.source] <= self._config.max_skew_s]
        reason = _lateness(skew)
        self._counts = PointCounts()
        if current:
            if self._config.align:
                current = [
                    self._extrinsics.align(disparity.values, p, self._lowest) for p in current
                ]
            samples = gather(disparity.values, current)
            # One or a few points, or a band of equal depth, show no shift: it stays the filter's.
            held = self._filter.current if len(samples.d) < _FEW_POINTS else None
            prior = None
            if held is not None:
                prior = ShiftPrior(held.shift, float(np.sqrt(held.covariance[1, 1])))
            fit = fit_affine(
                samples.d,
                samples.q,
                samples.weight,
                patches=samples.patches(),
                lowest=self._lowest,
                prior=prior,
            )
            self._counts = PointCounts(
                samples.given, samples.given - len(samples.d), 0, len(samples.d)
            )
            if fit.accepted:
                return fit, samples, samples.source, ""
            reason = f"{samples.source}: {fit.reason}"
        ground = self._ground_fit(frame.camera, disparity.values)
        if ground is not None:
            if ground.accepted:
                return ground, None, "ground", ""
            reason = f"{reason}; ground: {ground.reason}" if near else f"ground: {ground.reason}"
        return AffineFit(reason=reason), None, "none", reason

    def _ground_fit(self, camera: CameraModel | None, values: ArrayF32) -> AffineFit | None:
        with self._ground_lock:
            reference = self._ground
        if reference is None:
            return None
        if camera is None:
            return AffineFit(reason="the camera has no calibration")
        return fit_ground(values, camera.rectified(), reference).fit

    def _correct(
        self, values: ArrayF32, samples: Samples | None, scale: Scale, elapsed_s: float
    ) -> Correction | None:
        if not self._config.local_correction:
            return None
        if samples is None:
            return self._fade(elapsed_s)
        before, now = self._correction, self._local(values, samples, scale)
        if before is not None and now is not None and self._config.filtered:
            now = fused(before, now, self._change)
        self._correction = now
        return now

    def _fade(self, elapsed_s: float) -> Correction | None:
        """The last local correction, weaker and less certain the more the scene has moved."""
        before = self._correction
        if before is not None:
            rate = _FADE_PER_S + _FADE_BY_MOTION * self._change
            fade = np.float32(np.exp(-elapsed_s * rate))
            spent = np.float32(TYPICAL_ERROR) * (np.float32(1.0) - fade)
            self._correction = replace(
                before, log_field=before.log_field * fade, log_sigma=before.log_sigma + spent
            )
        return self._correction

    def _local(self, values: ArrayF32, samples: Samples, scale: Scale) -> Correction | None:
        floor = np.float32(1.0 / FARTHEST_M)
        predicted = samples.d * np.float32(scale.scale) + np.float32(scale.shift)
        residual = np.log(samples.q / np.maximum(predicted, floor))
        kept = np.flatnonzero((np.abs(residual) <= _GATE_LOG) & samples.ray)
        counts = self._counts
        refused = len(samples.d) - len(kept)
        self._counts = replace(counts, refused=refused, used=len(kept))
        if len(kept) > MAX_POINTS:
            kept = kept[np.linspace(0, len(kept) - 1, MAX_POINTS).astype(np.intp)]
        if len(kept) < MIN_POINTS:
            return None
        grids = build_grids(values, scale.scale, scale.shift, float(floor), len(kept))
        height, width = values.shape
        rows, columns = grids.fine.shape
        half = np.float32(0.5)
        x = (samples.x[kept] + half) * np.float32(columns / width) - half
        y = (samples.y[kept] + half) * np.float32(rows / height) - half
        correction = correct(grids, x, y, residual[kept])
        contradicted = int(np.count_nonzero(~correction.used))
        self._counts = replace(
            self._counts, refused=refused + contradicted, used=len(kept) - contradicted
        )
        return correction

    def _answer(
        self,
        disparity: Disparity,
        scale: Scale,
        correction: Correction | None,
        taken: bool,
        reason: str,
    ) -> ScaleEstimate:
        level = (
            float(np.median(self._before[self._before > 0.0])) if self._before is not None else 0.0
        )
        uncertain = _relative_sigma(scale, level) > self._config.max_hold_sigma
        if not taken and (scale.age_s > self._config.hold_s or uncertain):
            gone = f"nothing was measured for {scale.age_s:.1f} s"
            return _without_measurement(disparity, f"{gone}: {reason}" if reason else gone)
        return ScaleEstimate(
            state=ScaleState.METRIC if taken else ScaleState.HELD,
            source=self._source,
            scale=scale.scale,
            shift=scale.shift,
            covariance=scale.covariance,
            age_s=scale.age_s,
            inliers=self._last.inliers,
            residual=self._last.residual,
            reason="" if taken else reason,
            log_field=None if correction is None else correction.log_field,
            log_sigma=None if correction is None else correction.log_sigma,
        )


def _without_measurement(disparity: Disparity, reason: str) -> ScaleEstimate:
    if disparity.kind == "metric":
        return ScaleEstimate(state=ScaleState.METRIC, source="network", reason=reason)
    return ScaleEstimate(state=ScaleState.RELATIVE, reason=reason)


def _lateness(skew: dict[str, float]) -> str:
    if not skew:
        return "no measurement has arrived"
    least, source = min((age, name) for name, age in skew.items())
    if least > _OTHER_CLOCK_S:
        return (
            f"the stamps of {source} are {least:.0f} s from the image's: another clock, or its "
            "driver stopped"
        )
    return f"the newest measurement of {source} is {least:.2f} s from the image"


def _relative_sigma(scale: Scale, level: float) -> float:
    q = scale.scale * level + scale.shift
    if q <= 0.0:
        return float("inf")
    row: ArrayF64 = np.array([level, 1.0])
    return math.sqrt(max(float(row @ scale.covariance @ row), 0.0)) / q
