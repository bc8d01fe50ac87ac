"""The robust global fit: one scale and shift for the whole frame, with their covariance."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from depth_node.types import ArrayF32, ArrayF64

SHIFT_PRIOR = 0.05
"""Standard deviation of the shift a priori, as a part of the median measured inverse depth.

The networks' last layer is a ReLU: disparity 0 stands for "very far", so the shift is small. It
matters only where the points cannot tell scale from shift: one scan line, a narrow band of depth.
"""
_HYPOTHESES = 96
_SAMPLE = 256
_DRAWS = np.random.default_rng(0).random((2, _HYPOTHESES))
_PATIENCE = 1.15  # how much worse than the best hypothesis the one carried from before may be
_STEPS = 6
MAX_POINTS = 768
"""More points than this are thinned evenly."""
_TUKEY = 4.685
MAD_TO_SIGMA = 1.4826
"""Median absolute deviation to standard deviation, for normal errors."""
_SIGMA_FLOOR = 0.01
TYPICAL_ERROR = 0.08
"""Relative error that the best global fit of Depth Anything V2 Small leaves on real scenes."""
_TYPICAL_WEIGHT = 12.0  # how many points it takes to know better
_MAX_CONDITION = 1e4
_MAX_SCALE_SIGMA = 0.3  # relative; beyond it, points on one wall have set scale 0 and its depth
_MIN_INLIERS = 8
_MIN_SHARE = 0.5
_MAX_ERROR = 0.5  # beyond this relative residual a point is an outlier whatever the others do
_MAX_RESIDUAL = 0.3
_MIN_WEIGHT = 1e-4  # a sensor's error 100 times the network's


@dataclass(frozen=True)
class ShiftPrior:
    """What is known of the shift before the points: mean and standard deviation, 1/m."""

    mean: float
    sigma: float


@dataclass(frozen=True, eq=False)
class AffineFit:
    """Inverse depth as an affine function of disparity, q = scale * d + shift.

    Attributes:
        scale: 1/m per unit of disparity; 0 when the fit was refused.
        shift: 1/m.
        covariance: 2x2 float64, of (scale, shift).
        inliers: how many of the fitted points were accepted.
        total: how many points were fitted (at most 768 of those given).
        residual: median |predicted - measured| / measured inverse depth over the inliers.
        gate: largest relative error with which a point is one.
        scale_only: whether the shift is the prior's because the points do not show it.
        reason: why the fit was refused, or empty.
    """

    scale: float = 0.0
    shift: float = 0.0
    covariance: ArrayF64 = field(default_factory=lambda: np.zeros((2, 2)))
    inliers: int = 0
    total: int = 0
    residual: float = 0.0
    gate: float = 0.0
    scale_only: bool = False
    reason: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the fit may be used."""
        return not self.reason


def fit_affine(
    d: ArrayF32,
    q: ArrayF32,
    weight: ArrayF32 | None = None,
    *,
    patches: int = 64,
    lowest: float = 0.0,
    prior: ShiftPrior | None = None,
    expected: tuple[float, float] | None = None,
    typical: float = TYPICAL_ERROR,
) -> AffineFit:
    """Fit inverse depth to disparity with relative residuals e = (scale d + shift - q) / q.

    The relative residual weights a point by 1/q^2; plain least squares in disparity would weight
    its depth error by Z^-4. Two-point hypotheses on points stratified by disparity, scored by
    truncated L1, start Tukey's iteratively reweighted least squares (Huber & Ronchetti, Robust
    Statistics, 2009, ch. 7).

    Args:
        d: (n,) disparity at the points, positive (saturated points are not passed).
        q: (n,) measured inverse depth, 1/m, positive.
        weight: (n,) confidence of each point in 0..1, or None for 1: the variance of the network's
            error over that of both, so that points of a poor sensor widen the covariance.
        patches: how many independent patches of the image the points cover. The network's error
            is correlated inside a patch, so this, not n, is what shrinks the covariance.
        lowest: smallest disparity of the frame, 0 where some is saturated. Inverse depth 0 then
            lies anywhere between disparity 0 and this one.
        prior: the shift from elsewhere; by default inverse depth is 0 at half of
            `lowest`, give or take that half and 5% of the median q.
        expected: (scale, shift) as carried from before. Where two surfaces each have a fit of their
            own that is about as good, the one that starts here is kept from frame to frame.
        typical: relative error that the network's best global fit usually leaves; a few points
            say less of it than this does.

    Returns:
        The fit, or one with a `reason` and scale 0. Never raises on bad points.
    """
    usable = np.isfinite(d) & np.isfinite(q) & (d > 0.0) & (q > 0.0)
    if not usable.all():
        d, q = d[usable], q[usable]
        weight = None if weight is None else weight[usable]
    given = len(d)
    if given == 0:
        return AffineFit(reason="no measured point lies on unsaturated disparity")
    if given > MAX_POINTS:
        keep = np.linspace(0, given - 1, MAX_POINTS).astype(np.intp)
        d, q = d[keep], q[keep]
        weight = None if weight is None else weight[keep]
    # In d' = d - centre the prior of the shift is centred on 0 whatever the scale is.
    centre = 0.0 if prior is not None else min(0.5 * lowest, 0.5 * float(d.min()))
    if prior is None:
        level = float(np.median(q))
        free = centre * level / max(float(np.median(d)) - centre, 1e-12)
        prior = ShiftPrior(0.0, float(np.hypot(SHIFT_PRIOR * level, free)))
    independent = float(max(1, min(patches, len(d))))
    disparity: ArrayF64 = d.astype(np.float64) - centre
    inverse: ArrayF64 = q.astype(np.float64)
    w: ArrayF64 = np.ones_like(disparity) if weight is None else weight.astype(np.float64)
    if not float(w.max()) > _MIN_WEIGHT:
        return AffineFit(reason="no measurement is precise enough to tell the scale")
    # Column 0 in units of the median disparity, so that nothing depends on the network's range.
    unit = float(np.median(disparity))
    rows = np.stack([disparity / (unit * inverse), 1.0 / inverse])
    affine = len(d) >= _MIN_INLIERS and _condition(rows, w) <= _MAX_CONDITION
    if affine:
        start = _best_hypothesis(rows, disparity)
        if expected is not None:
            scale, shift = expected
            carried = np.array([scale * unit, shift + scale * centre])
            if _cost(rows, carried) < _PATIENCE * _cost(rows, start):
                start = carried
        theta, normal, error = _reweighted(rows, w, start, independent, prior, typical)
        spread = float(np.sqrt(np.linalg.inv(normal)[0, 0]))
        affine = bool(spread < _MAX_SCALE_SIGMA * theta[0])
    if not affine:
        theta, normal, error = _scale_only(rows, w, independent, prior, typical)
    sigma = _robust_sigma(error)
    gate = min(_TUKEY * sigma, _MAX_ERROR)
    inlier = np.abs(error) <= gate
    count = int(np.count_nonzero(inlier))
    residual = float(np.median(np.abs(error[inlier]))) if count else 0.0
    reason = _refusal(theta, count, len(d), residual)
    to_units = np.array([[1.0 / unit, 0.0], [-centre / unit, 1.0]])
    return AffineFit(
        scale=0.0 if reason else float(theta[0] / unit),
        shift=float(theta[1] - theta[0] * centre / unit),
        covariance=to_units @ np.linalg.inv(normal) @ to_units.T,
        inliers=count,
        total=len(d),
        residual=residual,
        gate=gate,
        scale_only=not affine,
        reason=reason,
    )


def _refusal(theta: ArrayF64, inliers: int, total: int, residual: float) -> str:
    if not (np.isfinite(theta).all() and theta[0] > 0.0):
        return "measured inverse depth does not grow with the network's disparity"
    needed = max(total // 2 + 1 if total < _MIN_INLIERS else _MIN_INLIERS, _MIN_SHARE * total)
    if inliers < needed:
        return f"{inliers} of {total} points agree; at least {needed:.0f} must"
    if residual > _MAX_RESIDUAL:
        return f"points miss the prediction by {residual:.0%}; at most {_MAX_RESIDUAL:.0%} will do"
    return ""


def _condition(rows: ArrayF64, w: ArrayF64) -> float:
    """Condition number of the normal matrix with both columns scaled to the same length."""
    (a, b), (_, c) = (rows * w) @ rows.T
    cosine = abs(b) / np.sqrt(a * c)
    return float((1.0 + cosine) / max(1.0 - cosine, 1e-12))


def _best_hypothesis(rows: ArrayF64, d: ArrayF64) -> ArrayF64:
    order = np.argsort(d)
    strata = order[np.linspace(0, len(d) - 1, min(_SAMPLE, len(d))).astype(np.intp)]
    half = len(strata) // 2
    near = strata[half + (_DRAWS[0] * (len(strata) - half)).astype(np.intp)]
    far = strata[(_DRAWS[1] * half).astype(np.intp)]
    (a, b), (e, f) = rows[:, near], rows[:, far]  # a s + b t = 1 and e s + f t = 1
    determinant = a * f - b * e
    with np.errstate(divide="ignore", invalid="ignore"):
        s, t = (f - b) / determinant, (a - e) / determinant
    possible = np.isfinite(s) & np.isfinite(t) & (s > 0.0)
    if not possible.any():
        return np.array([np.median(1.0 / rows[0]), 0.0])
    s, t = s[possible], t[possible]
    x, y = rows[:, strata].astype(np.float32)
    error = np.outer(s.astype(np.float32), x)
    error += np.outer(t.astype(np.float32), y)
    error -= np.float32(1.0)
    np.abs(error, out=error)
    best = int(np.argmin(np.minimum(error, np.float32(2.0 * TYPICAL_ERROR)).sum(axis=1)))
    return np.array([s[best], t[best]])


def _cost(rows: ArrayF64, theta: ArrayF64) -> float:
    return float(np.minimum(np.abs(theta @ rows - 1.0), 2.0 * TYPICAL_ERROR).sum())


def _reweighted(
    rows: ArrayF64,
    w: ArrayF64,
    theta: ArrayF64,
    independent: float,
    prior: ShiftPrior,
    typical: float,
) -> tuple[ArrayF64, ArrayF64, ArrayF64]:
    normal = np.eye(2)
    for _ in range(_STEPS):
        error = theta @ rows - 1.0
        sigma = _robust_sigma(error)
        k = np.clip(1.0 - (error / (_TUKEY * sigma)) ** 2, 0.0, None) ** 2
        believed = _believed(sigma, len(error), typical)
        # Against the prior the points count as if they fitted normally: a poor fit would else
        # yield to the prior and so stay poor.
        usual = min(believed, TYPICAL_ERROR)
        k *= w * (independent / max(float(k.sum()), 1e-12) / usual**2)
        normal = (rows * k) @ rows.T
        normal[1, 1] += 1.0 / prior.sigma**2
        right = rows @ k
        right[1] += prior.mean / prior.sigma**2
        theta = np.linalg.solve(normal, right)
        normal *= (usual / believed) ** 2
    return theta, normal, theta @ rows - 1.0


def _scale_only(
    rows: ArrayF64, w: ArrayF64, independent: float, prior: ShiftPrior, typical: float
) -> tuple[ArrayF64, ArrayF64, ArrayF64]:
    t = prior.mean
    ratios = (1.0 - t * rows[1]) / rows[0]
    theta = np.array([_weighted_median(ratios, w), t])
    error = theta @ rows - 1.0
    sigma = _believed(max(_robust_sigma(error), TYPICAL_ERROR), len(error), typical)
    normal = (rows * (w * independent / len(w) / sigma**2)) @ rows.T
    normal[1, 1] += 1.0 / prior.sigma**2
    return theta, normal, error


def _robust_sigma(error: NDArray[np.floating]) -> float:
    middle = len(error) // 2  # the upper median: np.median costs more than a step of the fit
    mad = float(np.partition(np.abs(error), middle)[middle])
    return max(MAD_TO_SIGMA * mad, _SIGMA_FLOOR)


def _believed(sigma: float, count: int, typical: float) -> float:
    """A few points' spread says little: drawn towards what the network's error usually is."""
    share = count / (count + _TYPICAL_WEIGHT)
    return float(np.sqrt(share * sigma**2 + (1.0 - share) * typical**2))


def _weighted_median(values: ArrayF64, w: ArrayF64) -> float:
    order = np.argsort(values)
    cumulative = np.cumsum(w[order])
    return float(values[order[np.searchsorted(cumulative, 0.5 * cumulative[-1])]])
