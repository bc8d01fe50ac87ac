"""The metric scale estimator: whatever was measured around a frame, made one scale estimate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from depth_node.scale.alignment import Offset
from depth_node.scale.apply import fitted_inverse_depth
from depth_node.scale.field import (
    MAX_POINTS,
    MIN_POINTS,
    Correction,
    build_grids,
    correct,
    fused,
    referred,
)
from depth_node.scale.filter import Scale, ScaleFilter
from depth_node.scale.fit import TYPICAL_ERROR, AffineFit
from depth_node.scale.gauge import carry, thumbnail
from depth_node.scale.ground import GroundReference
from depth_node.scale.measure import Measurement, Measurer, ScaleConfig
from depth_node.scale.points import SparseDepth
from depth_node.scale.samples import Samples
from depth_node.scale.sources import MIN_POINTS as MIN_TOLD
from depth_node.scale.trust import sigma_of_held
from depth_node.types import ArrayF32, Disparity, Frame, PointCounts, ScaleEstimate, ScaleState

_NS = 1e-9
_GATE_LOG = 1.5  # a point farther than this (in log) from the global fit is on another surface
_FADE_PER_S = 0.05  # of a held local correction in a still scene
_STILL = 0.01  # relative change of the carried disparity up to which the last field is a start
_FADE_BY_MOTION = 25.0  # more, per second and per relative change of the carried disparity


class MetricScaleEstimator:
    """Estimates the scale of every frame from sparse points and from the ground.

    `add` and `set_ground` may be called from any thread; `estimate` and `reset` from the
    pipeline's. Points come first; the ground stands in where there are none.
    """

    def __init__(self, config: ScaleConfig | None = None) -> None:
        self._config = config or ScaleConfig()
        self._measurer = Measurer(self._config)
        self._filter = ScaleFilter()
        self._network_errs = False  # a metric one, by what was measured last
        self._forget()

    def add(self, points: SparseDepth) -> None:
        """Take a measurement of any source, projected into the camera's picture."""
        self._measurer.add(points)

    def set_ground(self, reference: GroundReference | None) -> None:
        """Take the camera's height and the direction of gravity, or None to stop using them."""
        self._measurer.set_ground(reference)

    @property
    def counts(self) -> Mapping[str, PointCounts]:
        """By source, what became of the points of the last frame."""
        return self._counts

    @property
    def contradicted(self) -> str:
        """The sources that the others contradicted at the last frame, joined by `+`, or empty."""
        return self._measurement.contradicted

    @property
    def extrinsic_errors(self) -> dict[str, Offset]:
        """By source that measured the last frame, what its extrinsics seem to be off by."""
        verdicts = self._measurer.extrinsics.verdicts
        return {name: offset for name, offset in verdicts.items() if name in self._counts}

    def extrinsics_known(self) -> dict[str, str]:
        """By source that measured the last frame, what is known of its extrinsics, in words."""
        summaries = self._measurer.extrinsics.summaries()
        return {name: text for name, text in summaries.items() if name in self._counts}

    def reset(self) -> None:
        """Forget everything carried from earlier frames, and every measurement."""
        self._measurer.reset()
        self._filter.reset()
        self._network_errs = False
        self._forget()

    def _forget(self) -> None:
        self._view: ArrayF32 | None = None  # thumbnail of the frame
        self._view_measured: ArrayF32 | None = None  # of the last frame with a measurement
        self._change = 0.0  # relative, of the carried disparity between the last two frames
        self._stamp_ns = self._received_ns = 0
        self._correction: Correction | None = None
        self._last = AffineFit()
        self._source = "none"
        self._coarse = False  # the last measurement that was taken
        self._measurement = Measurement(self._last)  # of the frame
        self._counts: Mapping[str, PointCounts] = {}
        self._in_front: ArrayF32 | None = None  # the last ones stay while the scale is held

    def estimate(self, frame: Frame, disparity: Disparity) -> ScaleEstimate:
        """Estimate the scale of one frame; frames arrive in the order of their stamps."""
        if self._view is not None and frame.stamp_ns < self._stamp_ns:
            self._filter.reset()
            self._forget()
        elapsed_s = 0.0
        if self._view is not None:
            # Stamps that stand still (a driver without any, a simulation in a break) tell no time.
            elapsed_ns = frame.stamp_ns - self._stamp_ns or frame.received_ns - self._received_ns
            elapsed_s = max(elapsed_ns, 0) * _NS
        same_scene = self._carry(disparity.values, elapsed_s)
        self._stamp_ns, self._received_ns = frame.stamp_ns, frame.received_ns
        carried = self._filter.current
        measured = self._measure(frame, disparity, carried)
        fit, reason = measured.fit, measured.fit.reason
        taken = False
        if fit.accepted and self._holds_better(carried, measured):
            reason = f"{measured.coarse}; the scale from {self._source} is better"
        elif fit.accepted:
            taken = self._take(measured)
            reason = (
                f"the scale from {measured.source} contradicts the filter; waiting for it to repeat"
            )
        elif not same_scene:
            reason = f"the scene changed at once; {reason}"
        if taken:
            self._last, self._source, self._coarse = fit, measured.source, bool(measured.coarse)
            self._view_measured = self._view
            reason = measured.coarse
        elif fit.accepted and measured.samples is not None:
            self._counts = measured.samples.counts(None)
        scale = self._filter.current
        if scale is None:
            return self._without_measurement(disparity, reason)
        if taken and not self._config.filtered:
            scale = replace(scale, scale=fit.scale, shift=fit.shift, covariance=fit.covariance)
        if self._config.local_correction:
            self._correct(disparity.values, scale, carried, elapsed_s, taken=taken)
        return self._answer(disparity, scale, taken, reason)

    def _carry(self, values: ArrayF32, elapsed_s: float) -> bool:
        now = thumbnail(values)
        before, self._view = self._view, now
        if before is None:
            return True
        gauge = carry(before, now)
        self._change = gauge.sigma if gauge is not None else 1.0
        same = self._filter.predict(gauge, elapsed_s)
        if not same:
            self._correction = self._in_front = None
        return same

    def _measure(self, frame: Frame, disparity: Disparity, carried: Scale | None) -> Measurement:
        assert self._view is not None
        expected = None
        if carried is not None and self._config.filtered:
            expected = carried.scale, carried.shift
        measured = self._measurer.measure(frame, disparity.values, self._view, expected)
        # Replaced at once: the diagnostics may ask at any time.
        self._measurement, self._counts = measured, measured.counts
        points = measured.points
        if disparity.kind == "metric" and points is not None and len(points.d) >= MIN_TOLD:
            self._network_errs = not points.agree_with_network()
        return measured

    def _holds_better(self, carried: Scale | None, measured: Measurement) -> bool:
        """Whether what is carried is better known than what was measured, and not contradicted.

        Metres of a LiDAR that fell silent must not get worse because a range finder is there too.
        """
        if not measured.coarse or self._coarse or carried is None:
            return False
        if carried.age_s > self._config.hold_s:
            return False
        most = min(self._config.max_hold_sigma, measured.sigma)
        return self._doubt(carried) <= most and not self._filter.contradicted_by(measured.fit)

    def _take(self, measured: Measurement) -> bool:
        fit, age_s = measured.fit, measured.age_s
        if self._config.filtered:
            if self._filter.update(fit, age_s, measured.stamp_ns):
                return True
            carried = self._filter.current
            if carried is not None and self._doubt(carried) <= self._config.max_hold_sigma:
                return False  # else nothing is known that is worth a contradiction
        self._filter.restart(fit, age_s)
        return True

    def _correct(
        self,
        values: ArrayF32,
        scale: Scale,
        carried: Scale | None,
        elapsed_s: float,
        *,
        taken: bool,
    ) -> None:
        samples = self._measurement.samples
        if not taken or samples is None:
            if taken:  # the ground's scale: what was local to the points' does not belong to it
                self._correction = None
            self._fade(elapsed_s)
            return
        before, now = self._correction, self._local(values, samples, scale)
        if before is not None and now is not None and self._config.filtered:
            if carried is not None:
                before = referred(
                    before,
                    now,
                    (carried.scale, carried.shift),
                    (scale.scale, scale.shift),
                )
            now = fused(before, now, self._change)
        self._correction = now

    def _fade(self, elapsed_s: float) -> None:
        """Make the last local correction weaker and less certain the more the scene has moved."""
        before = self._correction
        if before is not None:
            rate = _FADE_PER_S + _FADE_BY_MOTION * self._change
            fade = np.float32(np.exp(-elapsed_s * rate))
            spent = np.float32(TYPICAL_ERROR) * (np.float32(1.0) - fade)
            self._correction = replace(
                before, log_field=before.log_field * fade, log_sigma=before.log_sigma + spent
            )

    def _local(self, values: ArrayF32, samples: Samples, scale: Scale) -> Correction | None:
        residual = np.log(samples.q / fitted_inverse_depth(samples.d, scale.scale, scale.shift))
        near = np.abs(residual) <= _GATE_LOG
        kept = np.flatnonzero(near & samples.ray)
        if len(kept) < MIN_POINTS:
            return None
        used = near
        if not samples.ray.all():
            used = np.where(samples.ray, near, samples.agreeing(self._last))
        if len(kept) > MAX_POINTS:
            kept = kept[np.linspace(0, len(kept) - 1, MAX_POINTS).astype(np.intp)]
        grids = build_grids(values, scale.scale, scale.shift, len(kept))
        height, width = values.shape
        rows, columns = grids.fine.shape
        half = np.float32(0.5)
        x = (samples.x[kept] + half) * np.float32(columns / width) - half
        y = (samples.y[kept] + half) * np.float32(rows / height) - half
        start = self._correction if self._change < _STILL else None
        correction = correct(grids, x, y, residual[kept], start)
        used[kept] = correction.used
        self._counts = samples.counts(used)
        return correction

    def _answer(
        self, disparity: Disparity, scale: Scale, taken: bool, reason: str
    ) -> ScaleEstimate:
        metric = taken and not reason
        sigma = 0.0 if metric else self._doubt(scale)
        given_up = scale.age_s > self._config.hold_s or sigma > self._config.max_hold_sigma
        if not metric and given_up:
            if not taken:
                reason = f"nothing was measured for {scale.age_s:.1f} s: {reason}"
            return self._without_measurement(disparity, reason)
        correction = self._correction
        log_sigma = None if correction is None else correction.log_sigma
        if log_sigma is not None and sigma > 0.0:
            log_sigma = np.hypot(log_sigma, np.float32(sigma))
        return ScaleEstimate(
            state=ScaleState.METRIC if metric else ScaleState.HELD,
            source=self._source,
            scale=scale.scale,
            shift=scale.shift,
            covariance=scale.covariance,
            age_s=scale.age_s,
            inliers=self._last.inliers,
            residual=self._last.residual,
            reason=reason,
            log_field=None if correction is None else correction.log_field,
            log_sigma=log_sigma,
            in_front=self._ahead(scale.scale, scale.shift, None if taken else self._in_front),
            counts=self._counts,
        )

    def _ahead(self, scale: float, shift: float, last: ArrayF32 | None = None) -> ArrayF32 | None:
        points = self._measurement.points
        self._in_front = last if points is None else points.in_front(scale, shift)
        return self._in_front

    def _doubt(self, scale: Scale) -> float:
        """Relative uncertainty of a scale that was carried to this frame."""
        assert self._view is not None
        return sigma_of_held(scale, self._view_measured, self._view)

    def _without_measurement(self, disparity: Disparity, reason: str) -> ScaleEstimate:
        points = self._measurement.points
        agrees = points.agree_with_network() if points else not self._network_errs
        metric = disparity.kind == "metric" and agrees
        if disparity.kind == "metric" and not agrees:
            reason = f"{reason}; the network's own metres are not those that were measured last"
        return ScaleEstimate(
            state=ScaleState.METRIC if metric else ScaleState.RELATIVE,
            source="network" if metric else "none",
            reason=reason,
            in_front=self._ahead(1.0, 0.0) if metric else None,
            counts=self._counts,
        )
