"""The filter over time: a Kalman filter on (scale, shift) that is carried through the gauge."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from depth_node.scale.fit import AffineFit
from depth_node.scale.gauge import Gauge
from depth_node.types import ArrayF64

_GATE = 9.21  # chi-square, two degrees of freedom, 99%
_AGREEING = 3
_SAME_SCENE = 0.5
_DRIFT_PER_S = 0.012  # relative drift of scale that nothing measures, per second
_GAUGE_NOISE = 1.0  # part of the gauge fit's residual that biases the carried scale
_STILL = 2e-3  # residual of a scene that stands still
_LOST_NOISE = 0.5  # relative, per part of the picture that changed otherwise
_LOST_ANYWAY = 0.05
_NOT_WHITE = 4.0  # the network's error is larger than its fit shows, and alike in many patches
_COMMON = 0.25  # part of a fit's covariance that is the network's and so does not average out


@dataclass(frozen=True, eq=False)
class Scale:
    """Scale and shift in the gauge of the current frame.

    Attributes:
        scale: 1/m per unit of disparity.
        shift: 1/m.
        covariance: 2x2, of (scale, shift).
        age_s: age of the last accepted measurement, seconds.
    """

    scale: float
    shift: float
    covariance: ArrayF64
    age_s: float


@dataclass(frozen=True, eq=False)
class _Belief:
    """What is known of (scale, shift), in which the gauge and every measurement are linear.

    A disparity that grew by a percent may be the gauge's doing or a scene that came nearer:
    pictures can hardly tell. The mean follows the gauge; how far it has gone from where it would
    be if the scene had moved instead is as uncertain as it is far.

    Attributes:
        mean: if the gauge moved.
        still: if it did not, as far as that is possible.
        P: 2x2 covariance of the mean that measurements reduce, this doubt left aside.
        common: 2x2 covariance that all measurements share, so that it does not average out.
    """

    mean: ArrayF64
    still: ArrayF64
    P: ArrayF64
    common: ArrayF64

    @property
    def reducible(self) -> ArrayF64:
        """2x2 covariance, with the doubt about the gauge, that a measurement reduces."""
        moved = self.still - self.mean
        return self.P + np.outer(moved, moved)

    @property
    def covariance(self) -> ArrayF64:
        """2x2, of all that is not known."""
        return self.reducible + self.common

    def carried(self, gauge: Gauge, noise: float) -> _Belief:
        """Through the gauge of one frame, with relative noise of that variance.

        From q = s d' + t and d = a d' + b follows s -> s / a and t -> t - s b / a.
        """
        step = np.array([[1.0 / gauge.a, 0.0], [-gauge.b / gauge.a, 1.0]])
        mean = step @ self.mean
        spread = np.diag([1.0, 0.1 * gauge.level**2]) * (noise * mean[0] ** 2)
        return _Belief(
            mean,
            gauge.doubt * self.still + (1.0 - gauge.doubt) * (step @ self.still),
            step @ self.P @ step.T + spread,
            step @ self.common @ step.T,
        )


class ScaleFilter:
    """Carries (scale, shift) from frame to frame and corrects it by measurements.

    A measurement that contradicts the prediction (Mahalanobis distance over the 99% gate) is
    refused; three in a row that agree with one another replace it. One message may serve several
    frames: it counts once.
    """

    def __init__(self) -> None:
        self._belief: _Belief | None = None
        self._refused: list[_Belief] = []
        self._refused_ns: int | None = None
        self._age_s = 0.0

    def reset(self) -> None:
        """Forget everything."""
        self._belief = None
        self._refused.clear()
        self._age_s = 0.0

    @property
    def current(self) -> Scale | None:
        """The scale in the gauge of the last frame that was predicted, or None."""
        if self._belief is None:
            return None
        scale, shift = map(float, self._belief.mean)
        return Scale(scale, shift, self._belief.covariance, self._age_s)

    def predict(self, gauge: Gauge | None, elapsed_s: float) -> bool:
        """Carry the scale to the next frame.

        Args:
            gauge: between the frame before and this one, or None when there is none.
            elapsed_s: seconds between them.

        Returns:
            False when the scene changed and everything was forgotten.
        """
        if self._belief is None:
            return True
        if gauge is None or gauge.share < _SAME_SCENE:
            self.reset()
            return False
        drift = (_DRIFT_PER_S * elapsed_s) ** 2 + _DRIFT_PER_S**2 * 0.01 * elapsed_s
        lost = _LOST_NOISE * max(1.0 - gauge.share - _LOST_ANYWAY, 0.0)
        noise = max(gauge.sigma - _STILL, 0.0) ** 2 * _GAUGE_NOISE**2 + lost**2 + drift
        self._belief = self._belief.carried(gauge, noise)
        self._refused = [belief.carried(gauge, noise) for belief in self._refused]
        self._age_s += elapsed_s
        return True

    def contradicted_by(self, fit: AffineFit) -> bool:
        """Whether a measurement in the gauge of the current frame would be refused at first."""
        return self._belief is not None and _contradict(self._belief, _measurement(fit))

    def update(self, fit: AffineFit, age_s: float = 0.0, measured_ns: int | None = None) -> bool:
        """Correct the scale by a measurement in the gauge of the current frame.

        Args:
            fit: an accepted fit.
            age_s: how long before the frame its measurements were made.
            measured_ns: when they were made: what is refused twice at one time is one measurement.
                None is always another.

        Returns:
            Whether it was taken.
        """
        measured = _measurement(fit)
        if self._belief is None:
            self._start(measured, age_s)
            return True
        if _contradict(self._belief, measured):
            believed = self._repeated(measured, measured_ns)
            if believed:
                self._start(measured, age_s)
            return believed
        before = self._belief.reducible
        gain = before @ np.linalg.inv(before + measured.P)
        mean = self._belief.mean + gain @ (measured.mean - self._belief.mean)
        if mean[0] <= 0.0:  # two wide beliefs may meet where no scale is
            self._start(measured, age_s)
            return True
        self._belief = _Belief(mean, mean, (np.eye(2) - gain) @ before, _COMMON * measured.P)
        self._refused.clear()
        self._age_s = age_s
        return True

    def _repeated(self, measured: _Belief, measured_ns: int | None) -> bool:
        """Note a contradiction; whether it is one of three in a row that agree."""
        if self._refused and measured_ns is not None and measured_ns == self._refused_ns:
            return False
        self._refused_ns = measured_ns
        self._refused.append(measured)
        if len(self._refused) < _AGREEING:
            return False
        if any(_contradict(before, measured) for before in self._refused[:-1]):
            self._refused.pop(0)
            return False
        return True

    def restart(self, fit: AffineFit, age_s: float = 0.0) -> None:
        """Believe a measurement, whatever was known before."""
        self._start(_measurement(fit), age_s)

    def _start(self, measured: _Belief, age_s: float) -> None:
        self._belief = replace(measured, common=_COMMON * measured.P)
        self._refused.clear()
        self._age_s = age_s


def _measurement(fit: AffineFit) -> _Belief:
    mean = np.array([fit.scale, fit.shift])
    return _Belief(mean, mean, _NOT_WHITE * fit.covariance, np.zeros((2, 2)))


def _contradict(one: _Belief, other: _Belief) -> bool:
    difference = one.mean - other.mean
    S = one.covariance + other.covariance
    return float(difference @ np.linalg.solve(S, difference)) > _GATE
