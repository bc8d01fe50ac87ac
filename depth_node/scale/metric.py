"""The metric scale estimator: whatever was measured around a frame, made one scale estimate."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from depth_node.scale.alignment import Offset
from depth_node.scale.apply import fitted_inverse_depth
from depth_node.scale.extrinsics import ExtrinsicMonitor
from depth_node.scale.field import MAX_POINTS, MIN_POINTS, Correction, build_grids, correct, fused
from depth_node.scale.filter import Scale, ScaleFilter
from depth_node.scale.fit import MAD_TO_SIGMA, TYPICAL_ERROR, AffineFit, fit_affine
from depth_node.scale.fit import MAX_POINTS as MAX_FITTED
from depth_node.scale.gauge import carry, lowest, thumbnail
from depth_node.scale.ground import GroundReference, fit_ground
from depth_node.scale.inbox import Inbox, apart_ns, lateness, measured_ns
from depth_node.scale.points import SparseDepth
from depth_node.scale.samples import Samples, gather
from depth_node.scale.sources import choose
from depth_node.scale.trust import sigma_of_held, sigma_of_points
from depth_node.types import (
    ArrayF32,
    CameraModel,
    Disparity,
    Frame,
    PointCounts,
    ScaleEstimate,
    ScaleState,
)

_NS = 1e-9
_GATE_LOG = 1.5  # a point farther than this (in log) from the global fit is on another surface
_FADE_PER_S = 0.05  # of a held local correction in a still scene
_STILL = 0.01  # relative change of the carried disparity up to which the last field is a start
_FADE_BY_MOTION = 25.0  # more, per second and per relative change of the carried disparity


@dataclass(frozen=True)
class ScaleConfig:
    """How measurements become a scale.

    Attributes:
        max_skew_s: a measurement belongs to frames at most this far from its stamp, seconds.
        hold_s: how long after the last measurement the scale is still `held`, seconds.
        max_hold_sigma: relative uncertainty of the held scale beyond which it is given up.
        max_sigma: relative uncertainty of a measured scale beyond which it is held, not metric.
        network_error: relative error of the network's depth where nothing was measured.
        local_correction: whether points also correct the depth locally.
        filtered: whether scale and shift are filtered over time.
        align: whether an extrinsic rotation that is off is searched and undone.
    """

    max_skew_s: float = 0.06
    hold_s: float = 3.0
    max_hold_sigma: float = 0.2
    max_sigma: float = 0.15
    network_error: float = TYPICAL_ERROR
    local_correction: bool = True
    filtered: bool = True
    align: bool = True


@dataclass(frozen=True, eq=False)
class _Measurement:
    """What one frame's measurements say.

    Attributes:
        fit: scale and shift, or a refusal with its reason.
        samples: the points behind the fit; None for the ground's.
        source: what was measured with.
        age_s: the image's stamp minus that of the newest measurement, seconds, at least 0.
        stamp_ns: when most of the points were measured.
        coarse: why depth may not be called metric with it, or empty.
    """

    fit: AffineFit
    samples: Samples | None = None
    source: str = "none"
    age_s: float = 0.0
    stamp_ns: int | None = None
    coarse: str = ""


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
    def counts(self) -> Mapping[str, PointCounts]:
        """By source, what became of the points of the last frame."""
        return self._counts

    @property
    def contradicted(self) -> str:
        """The sources that the others contradicted at the last frame, joined by `+`, or empty."""
        return self._contradicted

    @property
    def extrinsic_errors(self) -> dict[str, Offset]:
        """By source that measured the last frame, what its extrinsics seem to be off by."""
        return {name: v for name, v in self._extrinsics.verdicts.items() if name in self._counts}

    def extrinsics_known(self) -> dict[str, str]:
        """By source that measured the last frame, what is known of its extrinsics, in words."""
        return {n: text for n, text in self._extrinsics.summaries().items() if n in self._counts}

    def reset(self) -> None:
        """Forget everything carried from earlier frames, and every measurement."""
        self._inbox.clear()
        self._extrinsics.reset()
        self._filter.reset()
        self._forget()

    def _forget(self) -> None:
        self._before: ArrayF32 | None = None
        self._measured: ArrayF32 | None = None  # thumbnail of the last frame with a measurement
        self._lowest = 0.0  # disparity of the frame; 0 where some is saturated
        self._change = 0.0  # relative, of the carried disparity between the last two frames
        self._stamp_ns = 0
        self._correction: Correction | None = None
        self._last = AffineFit()
        self._source = "none"
        self._counts: Mapping[str, PointCounts] = {}
        self._contradicted = ""
        self._gathered: Samples | None = None  # all points of the frame
        self._in_front: ArrayF32 | None = None  # the last ones stay while the scale is held

    def estimate(self, frame: Frame, disparity: Disparity) -> ScaleEstimate:
        """Estimate the scale of one frame; frames arrive in the order of their stamps."""
        if self._before is not None and frame.stamp_ns < self._stamp_ns:
            self._filter.reset()
            self._forget()
        elapsed_s = (frame.stamp_ns - self._stamp_ns) * _NS if self._before is not None else 0.0
        same_scene = self._carry(disparity.values, elapsed_s)
        self._stamp_ns = frame.stamp_ns
        measured = self._measure(frame, disparity)
        fit, reason = measured.fit, measured.fit.reason
        taken = fit.accepted and self._take(measured)
        if taken:
            self._last, self._source = fit, measured.source
            self._measured = self._before
            reason = measured.coarse
        elif fit.accepted:
            source = measured.source
            reason = f"the scale from {source} contradicts the filter; waiting for it to repeat"
            if measured.samples is not None:
                self._counts = measured.samples.counts(None)
        elif not same_scene:
            reason = f"the scene changed at once; {reason}"
        scale = self._filter.current
        if scale is None:
            return self._without_measurement(disparity, reason)
        if taken and not self._config.filtered:
            scale = replace(scale, scale=fit.scale, shift=fit.shift, covariance=fit.covariance)
        samples = measured.samples if taken else None
        correction = self._correct(disparity.values, samples, scale, elapsed_s, taken=taken)
        return self._answer(disparity, scale, correction, taken, reason)

    def _take(self, measured: _Measurement) -> bool:
        fit, age_s = measured.fit, measured.age_s
        if self._config.filtered:
            if self._filter.update(fit, age_s, measured.stamp_ns):
                return True
            carried = self._filter.current
            if carried is not None and self._doubt(carried) <= self._config.max_hold_sigma:
                return False  # else nothing is known that is worth a contradiction
        self._filter.restart(fit, age_s)
        return True

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
            self._correction = self._in_front = None
        return same

    def _measure(self, frame: Frame, disparity: Disparity) -> _Measurement:
        near = self._inbox.nearest(frame.stamp_ns)
        skew = {p.source: apart_ns(p, frame.stamp_ns) / 1e9 for p in near}
        current = [p for p in near if skew[p.source] <= self._config.max_skew_s]
        reason = lateness(skew)
        points = None
        if not current:
            self._counts, self._contradicted, self._gathered = {}, "", None
        else:  # replaced at once: the diagnostics may ask at any time
            self._gathered = self._gather(disparity.values, current)
            samples, fit, self._contradicted = choose(
                self._gathered,
                self._fit,
                lambda fit, samples: not self._coarse(fit, samples),
            )
            self._counts = samples.counts(samples.agreeing(fit) if fit.accepted else None)
            reason = f"{samples.source}: {fit.reason}"
            if fit.accepted:
                points = _Measurement(
                    fit,
                    samples,
                    samples.source,
                    age_s=max(frame.stamp_ns - max(map(measured_ns, current)), 0) * _NS,
                    stamp_ns=measured_ns(max(current, key=len)),
                    coarse=self._coarse(fit, samples),
                )
                if not points.coarse:
                    return points
        ground = self._ground_fit(frame.camera, disparity.values)
        if ground is not None and ground.accepted:
            if points is not None and points.samples is not None:
                self._counts = points.samples.counts(None)
            return _Measurement(ground, source="ground")
        if points is not None:
            return points
        if ground is not None:
            reason = f"{reason}; ground: {ground.reason}" if near else f"ground: {ground.reason}"
        return _Measurement(AffineFit(reason=reason))

    def _gather(self, values: ArrayF32, current: list[SparseDepth]) -> Samples:
        if self._config.align:
            current = [self._extrinsics.align(values, p, self._lowest) for p in current]
        return gather(values, current)

    def _fit(self, samples: Samples) -> AffineFit:
        before = self._filter.current if self._config.filtered else None
        part = samples.shares(MAX_FITTED)
        return fit_affine(
            samples.d[part],
            samples.q[part],
            samples.weight[part],
            patches=samples.patches(),
            lowest=self._lowest,
            expected=None if before is None else (before.scale, before.shift),
            typical=self._config.network_error,
        )

    def _coarse(self, fit: AffineFit, samples: Samples) -> str:
        """Why accepted points are too coarse for the depth to be called metric, or empty."""
        assert self._before is not None
        most = self._config.max_sigma
        sigma = sigma_of_points(fit, samples, self._before, self._config.network_error)
        if sigma <= most:
            return ""
        return (
            f"the scale from {samples.source} is known to {sigma:.0%} only; metric needs "
            f"{most:.0%} (scale.max_sigma): more points, another sensor or a better network"
        )

    def _ground_fit(self, camera: CameraModel | None, values: ArrayF32) -> AffineFit | None:
        with self._ground_lock:
            reference = self._ground
        if reference is None:
            return None
        if camera is None:
            return AffineFit(reason="the camera has no calibration")
        fit = fit_ground(values, camera.rectified(), reference).fit
        # Ground tells nothing of what stands on it, where a poor network errs as it usually does.
        error = self._config.network_error
        if not fit.accepted or error <= TYPICAL_ERROR:
            return fit
        return replace(fit, residual=max(fit.residual, error / MAD_TO_SIGMA))

    def _correct(
        self,
        values: ArrayF32,
        samples: Samples | None,
        scale: Scale,
        elapsed_s: float,
        *,
        taken: bool,
    ) -> Correction | None:
        if not self._config.local_correction:
            return None
        if samples is None:
            if taken:  # the ground's scale: what was local to the points' does not belong to it
                self._correction = None
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
        self,
        disparity: Disparity,
        scale: Scale,
        correction: Correction | None,
        taken: bool,
        reason: str,
    ) -> ScaleEstimate:
        metric = taken and not reason
        sigma = 0.0 if metric else self._doubt(scale)
        given_up = scale.age_s > self._config.hold_s or sigma > self._config.max_hold_sigma
        if not metric and given_up:
            if not taken:
                reason = f"nothing was measured for {scale.age_s:.1f} s: {reason}"
            return self._without_measurement(disparity, reason)
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
        points = self._gathered
        self._in_front = last if points is None else points.in_front(scale, shift)
        return self._in_front

    def _doubt(self, scale: Scale) -> float:
        """Relative uncertainty of a scale that was carried to this frame."""
        assert self._before is not None
        return sigma_of_held(scale, self._measured, self._before)

    def _without_measurement(self, disparity: Disparity, reason: str) -> ScaleEstimate:
        points = self._gathered
        metric = disparity.kind == "metric" and (not points or points.agree_with_network())
        return ScaleEstimate(
            state=ScaleState.METRIC if metric else ScaleState.RELATIVE,
            source="network" if metric else "none",
            reason=reason,
            in_front=self._ahead(1.0, 0.0) if metric else None,
            counts=self._counts,
        )
