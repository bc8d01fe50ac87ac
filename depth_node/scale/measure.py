"""What was measured around a frame: the sources that count and their fit, or that of the ground."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from depth_node.scale.extrinsics import ExtrinsicMonitor
from depth_node.scale.fit import MAD_TO_SIGMA, TYPICAL_ERROR, AffineFit, fit_affine
from depth_node.scale.fit import MAX_POINTS as MAX_FITTED
from depth_node.scale.gauge import lowest
from depth_node.scale.ground import GroundReference, fit_ground
from depth_node.scale.inbox import Inbox, apart_ns, lateness, measured_ns
from depth_node.scale.points import SparseDepth
from depth_node.scale.samples import Samples, gather
from depth_node.scale.sources import MAX_APART, MIN_POINTS, choose
from depth_node.scale.trust import sigma_of_points
from depth_node.types import ArrayF32, CameraModel, Frame, PointCounts

_NS = 1e-9
_GROUND_PERIOD_NS = 1_000_000_000
"""Fits of the ground within it share the errors of height, slope and network: they count once."""


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
class Measurement:
    """What one frame's measurements say.

    Attributes:
        fit: scale and shift, or a refusal with its reason.
        points: the points of the sources that count, whether or not the fit rests on them; None
            where nothing was measured near the frame.
        source: what was measured with; `ground` where the fit does not rest on the points.
        age_s: the image's stamp minus that of the newest measurement, seconds, at least 0.
        stamp_ns: when it was measured: what has one stamp is one measurement.
        sigma: relative uncertainty of the scale where the robot drives; 0 for the ground's.
        coarse: why depth may not be called metric with it, or empty.
        contradicted: sources that the others contradict, joined by `+`, or empty.
        counts: by source, what became of the points.
    """

    fit: AffineFit
    points: Samples | None = None
    source: str = "none"
    age_s: float = 0.0
    stamp_ns: int | None = None
    sigma: float = 0.0
    coarse: str = ""
    contradicted: str = ""
    counts: Mapping[str, PointCounts] = field(default_factory=dict)

    @property
    def samples(self) -> Samples | None:
        """The points that the fit rests on; None for the ground's."""
        return None if self.source == "ground" else self.points


class Measurer:
    """Keeps what the sensors measured, and fits what belongs to a frame.

    `add` and `set_ground` may be called from any thread; the rest from the pipeline's.

    Attributes:
        extrinsics: what the points of each source say about its extrinsics.
    """

    def __init__(self, config: ScaleConfig) -> None:
        self.extrinsics = ExtrinsicMonitor()
        self._config = config
        self._inbox = Inbox()
        self._ground: GroundReference | None = None
        self._ground_lock = threading.Lock()
        self._ground_ns = 0  # of the last fit of the ground that was another measurement

    def add(self, points: SparseDepth) -> None:
        """Take a measurement of any source, projected into the camera's picture."""
        self._inbox.add(points)

    def set_ground(self, reference: GroundReference | None) -> None:
        """Take the camera's height and the direction of gravity, or None to stop using them."""
        with self._ground_lock:
            self._ground = reference

    def reset(self) -> None:
        """Forget every measurement, and what is known of the extrinsics."""
        self._inbox.clear()
        self.extrinsics.reset()

    def measure(
        self, frame: Frame, values: ArrayF32, view: ArrayF32, expected: tuple[float, float] | None
    ) -> Measurement:
        """Fit the scale of one frame: by points first, by the ground where they do not suffice.

        Args:
            frame: what is to be scaled.
            values: hxw float32, its disparity.
            view: 36x48 float32 thumbnail of it.
            expected: scale and shift as carried from the frame before, or None.

        Returns:
            The measurement; its fit is refused where nothing measured suffices.
        """
        near = self._inbox.nearest(frame.stamp_ns)
        skew = {p.source: apart_ns(p, frame.stamp_ns) / 1e9 for p in near}
        current = [p for p in near if skew[p.source] <= self._config.max_skew_s]
        found = Measurement(AffineFit(reason=lateness(skew)))
        if current:
            found = self._by_points(frame, values, view, current, expected)
            if found.fit.accepted and not found.coarse:
                return found
        ground = self._ground_fit(frame.camera, values)
        if ground is None or (found.fit.accepted and not ground.accepted):
            return found
        if not ground.accepted:
            reason = f"{found.fit.reason}; ground" if near else "ground"
            return replace(found, fit=AffineFit(reason=f"{reason}: {ground.reason}"))
        if against := self._against(ground, found.points):
            found = replace(found, contradicted=_joined(found.contradicted, "ground"))
            if found.fit.accepted:
                return replace(found, coarse=f"{found.coarse}; {against}")
            return replace(found, fit=AffineFit(reason=f"{found.fit.reason}; {against}"))
        if not 0 <= frame.stamp_ns - self._ground_ns < _GROUND_PERIOD_NS:
            self._ground_ns = frame.stamp_ns
        return Measurement(
            ground,
            found.points,
            source="ground",
            stamp_ns=self._ground_ns,
            contradicted=found.contradicted,
            counts={} if found.points is None else found.points.counts(None),
        )

    def _by_points(
        self,
        frame: Frame,
        values: ArrayF32,
        view: ArrayF32,
        current: list[SparseDepth],
        expected: tuple[float, float] | None,
    ) -> Measurement:
        least = lowest(view)
        if self._config.align:
            current = [self.extrinsics.align(values, points, least) for points in current]

        def fitted(samples: Samples) -> AffineFit:
            part = samples.shares(MAX_FITTED)
            return fit_affine(
                samples.d[part],
                samples.q[part],
                samples.weight[part],
                patches=samples.patches(),
                lowest=least,
                expected=expected,
                typical=self._config.network_error,
            )

        def sigma(fit: AffineFit, samples: Samples) -> float:
            return sigma_of_points(fit, samples, view, self._config.network_error)

        most = self._config.max_sigma
        samples, fit, contradicted = choose(
            gather(values, current), fitted, lambda fit, samples: sigma(fit, samples) <= most
        )
        if not fit.accepted:
            return Measurement(
                replace(fit, reason=f"{samples.source}: {fit.reason}"),
                samples,
                contradicted=contradicted,
                counts=samples.counts(None),
            )
        used = [points for points in current if points.source in samples.sources]
        known = sigma(fit, samples)
        coarse = (
            f"the scale from {samples.source} is known to {known:.0%} only; metric needs "
            f"{most:.0%} (scale.max_sigma): more points, another sensor or a better network"
        )
        return Measurement(
            fit,
            samples,
            samples.source,
            age_s=max(frame.stamp_ns - max(map(measured_ns, used)), 0) * _NS,
            stamp_ns=measured_ns(max(used, key=len)),
            sigma=known,
            coarse="" if known <= most else coarse,
            contradicted=contradicted,
            counts=samples.counts(samples.agreeing(fit)),
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

    def _against(self, ground: AffineFit, points: Samples | None) -> str:
        """Why the ground's scale cannot be that of the points, or empty.

        Points that do not suffice for a scale still tell a table from the floor, and a camera's
        height that is off by half. A poor network errs where they lie; few may be wrong.
        """
        if points is None or not len(points.d):
            return ""
        apart = float(np.median(points.apart(ground)))
        bearable = max(MAX_APART, 2.0 * self._config.network_error)
        if len(points.d) < MIN_POINTS:
            bearable *= 2.0
        if abs(apart) <= bearable:
            return ""
        return (
            f"the ground's scale puts what {points.source} measured at {np.exp(-apart):.2g} times "
            "its distance: check ground.height_m, its direction and what the camera stands before"
        )


def _joined(names: str, name: str) -> str:
    return "+".join(sorted({*filter(None, names.split("+")), name}))
