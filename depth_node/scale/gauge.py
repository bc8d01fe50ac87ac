"""How the network's gauge moved from one frame to the next.

The scale and shift of relative disparity change with every frame. Before anything measured on an
earlier frame may be compared with this one, it is carried over: d_now ~ A d_before + B.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from depth_node.scale.fit import MAD_TO_SIGMA
from depth_node.types import ArrayF32, ArrayF64

GRID = (48, 36)
"""Columns and rows of the grid on which disparities are compared."""
_STEPS = 5
_TUKEY = 4.685
_SIGMA_FLOOR = 1e-3
_SAME_SCENE = 0.15  # relative change within which a cell shows the same surface
_MIN_CELLS = 48
_PARALLAX = 0.1  # residual of a moving camera, per relative change and relief of the disparity


@dataclass(frozen=True)
class Gauge:
    """The affine map of disparity from the frame before to this one, d = a * d_before + b.

    Attributes:
        a: factor, positive.
        b: offset, units of this frame's disparity.
        sigma: robust standard deviation of the relative residual.
        level: median disparity of this frame, which turns `sigma` into disparity.
        share: part of the cells that show the same surface in both frames.
        doubt: part of the change, 0 to 1, that may be the scene coming nearer instead.
    """

    a: float
    b: float
    sigma: float
    level: float
    share: float
    doubt: float = 1.0


def thumbnail(disparity: ArrayF32) -> ArrayF32:
    """The disparity on a 36x48 grid, 0 where all of a cell is saturated, NaN where it is unseen."""
    # Two cells of the picture for one of the grid are enough; averaging all of it takes longer.
    step = max(1, disparity.shape[1] // (2 * GRID[0]))
    thinned = np.ascontiguousarray(disparity[::step, ::step])
    return np.asarray(cv2.resize(thinned, GRID, interpolation=cv2.INTER_AREA), np.float32)


def lowest(small: ArrayF32) -> float:
    """Smallest disparity of a thumbnail, 0 where some of it is saturated."""
    return float(max(np.fmin.reduce(small, axis=None, initial=np.inf), 0.0))  # leaves NaN out


def carry(before: ArrayF32, now: ArrayF32) -> Gauge | None:
    """Fit the gauge between two thumbnails, robustly.

    Args:
        before: 36x48 float32 thumbnail of the frame before.
        now: 36x48 float32 thumbnail of this frame.

    Returns:
        The gauge, or None when too little is unsaturated or disparity does not grow with
        disparity: another scene.
    """
    seen = (before > 0.0) & (now > 0.0)
    x, y = before[seen].astype(np.float64), now[seen].astype(np.float64)
    if len(x) < _MIN_CELLS:
        return None
    level = _median(y)
    spread_x = _median(np.abs(x - _median(x)))
    spread_y = _median(np.abs(y - level))
    flat = spread_x <= 1e-6 * _median(x) or spread_y <= 1e-6 * level
    a = level / _median(x) if flat else spread_y / spread_x
    b = 0.0 if flat else level - a * _median(x)
    # Disparity near 0 is far away, where a relative residual is all noise.
    base = np.maximum(y, 0.25 * level)
    for _ in range(0 if flat else _STEPS):
        error = (a * x + b - y) / base
        sigma = max(MAD_TO_SIGMA * _median(np.abs(error)), _SIGMA_FLOOR)
        w = np.clip(1.0 - (error / (_TUKEY * sigma)) ** 2, 0.0, None) ** 2 / base**2
        total = float(w.sum())
        mean_x, mean_y = float(w @ x) / total, float(w @ y) / total
        variance = float(w @ (x - mean_x) ** 2)
        if variance <= 0.0:
            break
        a = float(w @ ((x - mean_x) * (y - mean_y))) / variance
        b = mean_y - a * mean_x
    if a <= 0.0:
        return None
    error = np.abs((a * x + b - y) / base)
    sigma = max(MAD_TO_SIGMA * _median(error), _SIGMA_FLOOR)
    # A camera that moves shifts near against far, which is not affine unless the scene is flat.
    moved = _PARALLAX * _median(np.abs(y - x) / base) * spread_y / level
    doubt = min(1.0, sigma / max(moved, 1e-12))
    return Gauge(a, b, sigma, level, float(np.mean(error < _SAME_SCENE)), doubt)


def _median(values: ArrayF64) -> float:
    # The upper median: numpy's own costs more than all else here.
    middle = len(values) // 2
    return float(np.partition(values, middle)[middle])
