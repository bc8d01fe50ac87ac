"""From disparity and a scale estimate to inverse depth and its uncertainty, pixel by pixel."""

from __future__ import annotations

import cv2
import numpy as np

from depth_node.scale.fit import MAD_TO_SIGMA
from depth_node.types import ArrayF32, Disparity, ScaleEstimate

FARTHEST_M = 300.0
"""The global fit predicts nothing beyond this distance: there its shift is all that counts."""
_FLOOR = np.float32(1.0 / FARTHEST_M)
_TYPICAL_RESIDUAL = 0.045  # of the best global fit of a relative network on real scenes
_TYPICAL_WEIGHT = 12.0  # how many points it takes to know better


def fitted_inverse_depth(values: ArrayF32, scale: float, shift: float) -> ArrayF32:
    """Inverse depth by the global fit alone: max(scale * d + shift, 1/300).

    Args:
        values: float32 disparity of any shape.
        scale: 1/m per unit of disparity.
        shift: 1/m.

    Returns:
        float32, 1/m; a new array.
    """
    q: ArrayF32 = values * np.float32(scale)
    q += np.float32(shift)
    np.maximum(q, _FLOOR, out=q)
    return q


def inverse_depth_at_network_size(values: ArrayF32, estimate: ScaleEstimate) -> ArrayF32:
    """Inverse depth q = max(scale * d + shift, 1/300) * exp(field).

    Saturated and non-finite disparity, and what neither the fit nor a measured point brings nearer
    than 300 m, is 0: never finite metres.

    Args:
        values: hxw float32 disparity.
        estimate: metric or held.

    Returns:
        hxw float32, 1/m, finite, not negative; a new array.
    """
    q = fitted_inverse_depth(values, estimate.scale, estimate.shift)
    if estimate.log_field is not None:
        q *= np.exp(_resized(estimate.log_field, values.shape[1], values.shape[0]))
    with np.errstate(invalid="ignore"):
        seen = (values > 0.0) & np.isfinite(values) & (q > np.float32(1.001) * _FLOOR)
    np.copyto(q, np.float32(0.0), where=~seen)
    return q


def inverse_depth(
    disparity: Disparity, estimate: ScaleEstimate, width: int, height: int
) -> ArrayF32:
    """`inverse_depth_at_network_size`, interpolated bilinearly, which is exact on planes.

    Args:
        disparity: of the frame.
        estimate: metric or held.
        width: columns of the result, pixels.
        height: rows of the result, pixels.

    Returns:
        height x width float32, 1/m, finite, not negative.
    """
    coarse = inverse_depth_at_network_size(disparity.values, estimate)
    if coarse.shape == (height, width):
        return coarse
    q = _resized(coarse, width, height)
    # Interpolation would give the rim of a saturated region a finite depth between surface and sky.
    unseen = (coarse == 0.0).view(np.uint8)
    mask = cv2.resize(unseen, (width, height), interpolation=cv2.INTER_NEAREST)
    q[mask.view(bool)] = 0.0
    return q


def log_sigma(disparity: Disparity, estimate: ScaleEstimate, width: int, height: int) -> ArrayF32:
    """Standard deviation of log inverse depth, which is the relative one of depth.

    With a local correction it is the correction's; without, it comes from the residual (a few
    points' residual says little, so it is drawn towards the network's typical one) and the
    covariance C of (scale, shift): (d^2 C00 + 2 d C01 + C11) / q^2.

    Args:
        disparity: of the frame.
        estimate: metric or held.
        width: columns of the result, pixels.
        height: rows of the result, pixels.

    Returns:
        height x width float32. depth * this is metres.
    """
    if estimate.log_sigma is not None:
        return _resized(estimate.log_sigma, width, height)
    d = _resized(disparity.values, width, height)
    q = fitted_inverse_depth(d, estimate.scale, estimate.shift)
    c = np.asarray(estimate.covariance, np.float32)
    variance = d * c[0, 0]
    variance += np.float32(2.0) * c[0, 1]
    variance *= d
    variance += c[1, 1]
    np.maximum(variance, np.float32(0.0), out=variance)
    variance /= q
    variance /= q
    known = estimate.inliers / (estimate.inliers + _TYPICAL_WEIGHT)
    residual = known * estimate.residual**2 + (1.0 - known) * _TYPICAL_RESIDUAL**2
    variance += np.float32(MAD_TO_SIGMA**2 * residual)
    return np.asarray(np.sqrt(variance, out=variance))


def _resized(values: ArrayF32, width: int, height: int) -> ArrayF32:
    if values.shape == (height, width):
        return values
    return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR))
