"""The filter over time: a Kalman filter on (log scale, shift) that is carried through the gauge."""

from __future__ import annotations

from dataclasses import dataclass

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
        rejected: measurements refused in a row.
    """

    scale: float
    shift: float
    covariance: ArrayF64
    age_s: float
    rejected: int


class ScaleFilter:
    """Carries (log scale, shift) from frame to frame and corrects it by measurements.

    A measurement that contradicts the prediction (Mahalanobis distance over the 99% gate) is
    refused; three in a row that agree with one another replace it.
    """

    def __init__(self) -> None:
        self._mean: ArrayF64 | None = None
        self._P = np.zeros((2, 2))
        self._common = np.zeros((2, 2))
        self._refused: list[tuple[ArrayF64, ArrayF64]] = []
        self._age_s = 0.0

    def reset(self) -> None:
        """Forget everything."""
        self._mean = None
        self._refused.clear()
        self._age_s = 0.0

    @property
    def current(self) -> Scale | None:
        """The scale in the gauge of the last frame that was predicted, or None."""
        if self._mean is None:
            return None
        scale = float(np.exp(self._mean[0]))
        to_scale = np.diag([scale, 1.0])
        covariance = to_scale @ (self._P + self._common) @ to_scale
        return Scale(scale, float(self._mean[1]), covariance, self._age_s, len(self._refused))

    def predict(self, gauge: Gauge | None, elapsed_s: float) -> bool:
        """Carry the scale to the next frame.

        From q = s d' + t and d = a d' + b follows s -> s / a and t -> t - s b / a.

        Args:
            gauge: between the frame before and this one, or None when there is none.
            elapsed_s: seconds between them.

        Returns:
            False when the scene changed and everything was forgotten.
        """
        if self._mean is None:
            return True
        if gauge is None or gauge.share < _SAME_SCENE:
            self.reset()
            return False
        a, b = gauge.a, gauge.b
        self._refused = [(_carried(m, a, b), R) for m, R in self._refused]
        self._mean = _carried(self._mean, a, b)
        scale = float(np.exp(self._mean[0]))
        jacobian = np.array([[1.0, 0.0], [-scale * b, 1.0]])
        drift = (_DRIFT_PER_S * elapsed_s) ** 2 + _DRIFT_PER_S**2 * 0.01 * elapsed_s
        lost = _LOST_NOISE * max(1.0 - gauge.share - _LOST_ANYWAY, 0.0)
        noise = max(gauge.sigma - _STILL, 0.0) ** 2 * _GAUGE_NOISE**2 + lost**2 + drift
        level = scale * gauge.level
        self._P = jacobian @ self._P @ jacobian.T + noise * np.diag([1.0, 0.1 * level**2])
        self._age_s += elapsed_s
        return True

    def update(self, fit: AffineFit, age_s: float = 0.0) -> bool:
        """Correct the scale by a measurement in the gauge of the current frame.

        Args:
            fit: an accepted fit.
            age_s: how long before the frame its measurements were made.

        Returns:
            Whether it was taken.
        """
        z = np.array([np.log(fit.scale), fit.shift])
        to_log = np.diag([1.0 / fit.scale, 1.0])
        R = _NOT_WHITE * (to_log @ fit.covariance @ to_log)
        if self._mean is None:
            self._start(z, R, age_s)
            return True
        innovation = z - self._mean
        S = self._P + self._common + R
        if float(innovation @ np.linalg.solve(S, innovation)) > _GATE:
            self._refused.append((z, R))
            if len(self._refused) < _AGREEING:
                return False
            if not _agree(self._refused):
                self._refused.pop(0)
                return False
            self._start(z, R, age_s)
            return True
        self._refused.clear()
        gain = self._P @ np.linalg.inv(self._P + R)
        self._mean = self._mean + gain @ innovation
        self._P = (np.eye(2) - gain) @ self._P
        self._common = _COMMON * R
        self._age_s = age_s
        return True

    def _start(self, z: ArrayF64, R: ArrayF64, age_s: float) -> None:
        self._mean, self._P, self._common = z, R.copy(), _COMMON * R
        self._refused.clear()
        self._age_s = age_s


def _carried(mean: ArrayF64, a: float, b: float) -> ArrayF64:
    return np.array([mean[0] - np.log(a), mean[1] - np.exp(mean[0]) * b / a])


def _agree(measurements: list[tuple[ArrayF64, ArrayF64]]) -> bool:
    last, R = measurements[-1]
    for mean, other in measurements[:-1]:
        difference = last - mean
        if float(difference @ np.linalg.solve(R + other, difference)) > _GATE:
            return False
    return True
