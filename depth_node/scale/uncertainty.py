"""How far off the corrected depth may be, from what is known around each pixel."""

from __future__ import annotations

import cv2
import numpy as np

from depth_node.scale.kernel import Regression
from depth_node.types import ArrayF32

TWO_SIDED_90 = 1.645
"""A normal error lies within this many standard deviations nine times out of ten."""
_KERNEL = np.ones((3, 3), np.uint8)
# The bound that holds 90% of the log errors, as a product of powers of (feature + offset). Fitted
# by quantile regression (Koenker 2005) on 77 scenes of the synthetic world with the shipped
# network, over patterns from one row of points to 15,000 points.
_LEVEL = np.float32(1.128)
_POWERS = {
    "distance": (np.float32(0.846), np.float32(0.5)),
    "spread": (np.float32(0.462), np.float32(0.003)),
    "edge": (np.float32(0.239), np.float32(0.005)),
    "apart": (np.float32(0.653), np.float32(0.005)),
}
_SMALLEST, _LARGEST = np.float32(0.005), np.float32(1.5)
_CALIBRATION_RANGE = (0.6, 2.5)
_CALIBRATION_INERTIA = 50.0
_PIXELS_TO_POINTS = 1.12  # the median pixel is harder than a left-out point with its neighbours


def edge_strength(guide: ArrayF32) -> ArrayF32:
    """Range of a hxw float32 guide over each pixel's 3x3 neighbourhood, hxw float32."""
    return cv2.dilate(guide, _KERNEL) - cv2.erode(guide, _KERNEL)


def log_bound(regression: Regression, edge: ArrayF32, apart: ArrayF32) -> ArrayF32:
    """The bound that nine out of ten errors of log inverse depth stay within.

    Args:
        regression: what the points near m places say.
        edge: (m,) float32 edge strength of the log of predicted inverse depth.
        apart: (m,) float32 how far the local regression and the diffused field are apart.

    Returns:
        (m,) float32.
    """
    features = {
        "distance": np.sqrt(regression.distance2),
        "spread": regression.spread,
        "edge": edge,
        "apart": apart,
    }
    total = np.full(len(edge), _LEVEL, np.float32)
    for name, feature in features.items():
        power, offset = _POWERS[name]
        total += power * np.log(feature + offset)
    return np.clip(np.exp(total), _SMALLEST, _LARGEST)


def calibration(error: ArrayF32, bound: ArrayF32) -> float:
    """Factor on the bounds that makes them hold for points that were left out.

    Args:
        error: (t,) absolute log error of the regression at points that it was not given.
        bound: (t,) the bounds there.

    Returns:
        1 without points, 0.67 to 2.8 with many.
    """
    if len(error) == 0:
        return 1.0
    ratio = error / bound
    rank = int(0.9 * len(ratio))
    factor = np.clip(float(np.partition(ratio, rank)[rank]), *_CALIBRATION_RANGE)
    inertia = len(error) / (len(error) + _CALIBRATION_INERTIA)
    return float((factor * _PIXELS_TO_POINTS) ** inertia)
