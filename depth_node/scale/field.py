"""The local correction: what the points say about the prediction, pixel by pixel.

Two estimates of the log residual r = log q - log(scale d + shift) are joined. Near points, a
local regression on the nearest ones: it averages their noise and keeps to surfaces that look alike
in the prediction. Far from them, a field that diffuses along surfaces and stops at edges. The
nearer the points, the more the first counts; where they lie next to each other, their own values
replace the prediction's detail.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.scale.apply import fitted_inverse_depth
from depth_node.scale.diffusion import diffuse
from depth_node.scale.fit import MAD_TO_SIGMA
from depth_node.scale.kernel import Anchors, Regression, regress, take, unsupported
from depth_node.scale.nearest import nearest_points
from depth_node.scale.points import sample
from depth_node.scale.uncertainty import (
    TWO_SIDED_90,
    calibration,
    edge_strength,
    log_bound,
)
from depth_node.scale.upsample import guided, joint_bilateral_double
from depth_node.types import ArrayF32

MIN_POINTS = 12
"""With fewer points there is no local correction."""
MAX_POINTS = 60_000
"""More points than this are thinned evenly."""
_DENSE_POINTS = 20_000
_MAX_CELLS = 115_000
_MAX_CELLS_DENSE = 460_000
_NEIGHBOURS = 6
_DENSE_SEARCH = 3_000
_SHARP_POINTS = 9_000  # from here on a sharper way of enlarging shows; it takes 0.3 ms
_SMOOTH = 0.3
_EDGE = 0.02
_FAR_WEIGHT = 0.005  # weight of the diffused field per squared cell of distance to a point
_GATE = 0.12  # a point farther than this (in log) plus the local spread from its neighbours is out
_SUSPECT_SIGMAS = 3.0  # of the global fit's residuals, beyond which a point must be confirmed
_CONTAMINATED = 0.1  # share of suspects, plus 0.8 over the root of n for chance
_SAME_SCALE = 0.01  # relative step of the scale up to which corrections need no re-reference
_STILL = 5e-3  # relative change per frame that is taken for granted
_LEAST_SHARE = 0.25  # of the new correction
_CONTRADICTION = 2.5  # standard deviations between old and new from which the old one is forgotten
_CALIBRATION_POINTS = 256
_DETAIL_SIGMA = 0.8  # cells of the fine grid, of the kernel that spreads a point
_DETAIL_SMOOTHING = 1.2  # cells, of the prediction below it
_DETAIL_POINTS = 0.5  # in the kernel, for which half of the detail is theirs


@dataclass(frozen=True, eq=False)
class Grids:
    """The prediction at three sizes, each half of the one before.

    Attributes:
        fine: 4h x 4w float32, multiples of 8, log of the predicted inverse depth.
        middle: 2h x 2w float32.
        coarse: h x w float32.
    """

    fine: ArrayF32
    middle: ArrayF32
    coarse: ArrayF32


@dataclass(frozen=True, eq=False)
class Correction:
    """The local correction on the fine grid.

    Attributes:
        log_field: h x w float32, to be added to the log of the predicted inverse depth.
        log_sigma: h x w float32 standard deviation of the corrected log inverse depth, so that
            90% of the errors lie within 1.645 times it.
        used: (n,) bool, the points that their neighbours did not contradict.
        far: h/4 x w/4 float32 diffused field, where the next frame's search begins.
        guide: h x w float32, log of the predicted inverse depth that was corrected.
    """

    log_field: ArrayF32
    log_sigma: ArrayF32
    used: NDArray[np.bool_]
    far: ArrayF32
    guide: ArrayF32


def fine_shape(height: int, width: int, points: int = 0) -> tuple[int, int]:
    """Rows and columns, multiples of 8, of the grid on which an image is corrected."""
    cells = _MAX_CELLS if points <= _DENSE_POINTS else _MAX_CELLS_DENSE
    shrink = max(1, int(np.ceil(np.sqrt(height * width / cells))))
    return max(1, round(height / shrink / 8)) * 8, max(1, round(width / shrink / 8)) * 8


def build_grids(disparity: ArrayF32, scale: float, shift: float, points: int = 0) -> Grids:
    """Log of the predicted inverse depth at three sizes.

    Args:
        disparity: hxw float32, NaN where the camera saw nothing.
        scale: 1/m per unit of disparity.
        shift: 1/m.
        points: how many points will correct it; many need a finer grid.

    Returns:
        The grids.
    """
    height, width = disparity.shape
    rows, columns = fine_shape(height, width, points)
    fine = disparity = _filled(disparity)
    if (height, width) != (rows, columns):
        fine = _shrink(disparity, rows, columns)
    fine = fitted_inverse_depth(fine, scale, shift)
    np.log(fine, out=fine)
    middle = _shrink(fine, rows // 2, columns // 2)
    coarse = _shrink(middle, rows // 4, columns // 4)
    return Grids(fine, middle, coarse)


def _filled(disparity: ArrayF32) -> ArrayF32:
    """The disparity with its mean where the camera saw nothing (NaN).

    What lies there is not published. NaN would spoil the correction of the whole image, and the
    edge of a sky that of what is beside it.
    """
    unseen = np.isnan(disparity)
    if not unseen.any():
        return disparity
    seen = np.asarray(~unseen).view(np.uint8)
    return np.where(unseen, np.float32(cv2.mean(disparity, seen)[0]), disparity)


def _shrink(image: ArrayF32, rows: int, columns: int) -> ArrayF32:
    return np.asarray(cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)


def correct(
    grids: Grids,
    x: ArrayF32,
    y: ArrayF32,
    residual: ArrayF32,
    before: Correction | None = None,
) -> Correction:
    """Correct the prediction by the points' log residuals.

    Args:
        grids: the prediction.
        x: (n,) float32 column of each point on the fine grid; n from 12 to 65536.
        y: (n,) float32 row of each point on the fine grid.
        residual: (n,) float32 log of the measured over the predicted inverse depth, outliers of
            the global fit already refused.
        before: the correction of the frame before, which saves time, or None.

    Returns:
        The correction, of the size of the fine grid.
    """
    shape = grids.middle.shape
    anchors = Anchors(
        0.5 * x - np.float32(0.25), 0.5 * y - np.float32(0.25), sample(grids.fine, x, y), residual
    )
    dense = len(x) >= _DENSE_SEARCH
    near = nearest_points(anchors.x, anchors.y, shape, _NEIGHBOURS, dense=dense)
    cell = _cells(anchors.x, anchors.y, shape)
    refused = np.zeros(len(x), bool)
    suspects = np.flatnonzero(np.abs(residual) > _SUSPECT_SIGMAS * _spread(residual))
    # A few points that the global fit does not explain are thin objects more often than errors,
    # and the regression's own robustness deals with them. Many are errors.
    if len(suspects) > _CONTAMINATED * len(x) + 0.8 * np.sqrt(len(x)):
        refused[unsupported(anchors, near, suspects, cell)] = True
    exclude = refused[near] if refused.any() else None
    rows, columns = np.indices(shape, dtype=np.float32)
    local = regress(columns.ravel(), rows.ravel(), grids.middle.ravel(), anchors, near, exclude)
    expected = anchors.guide - take(grids.middle.ravel(), cell)
    expected *= take(local.slope, cell)
    expected += take(local.value, cell)
    expected -= residual
    used = np.abs(expected, out=expected) <= take(local.spread, cell) + np.float32(_GATE)
    used &= ~refused

    diffused = _diffused(grids, anchors, used, before)
    far = joint_bilateral_double(diffused, grids.coarse, grids.middle, _EDGE)
    far_weight = (np.float32(_FAR_WEIGHT) * local.distance2 + np.float32(1e-6)).reshape(shape)
    support = local.support.reshape(shape)
    share = support / (support + far_weight)
    apart = local.value.reshape(shape) - far
    joined = far + share * apart
    slope = share * local.slope.reshape(shape)
    if len(x) >= _SHARP_POINTS:
        field = joint_bilateral_double(joined, grids.middle, grids.fine, _EDGE, slope)
    else:
        field = guided(joined, slope, grids.middle, grids.fine)
    _add_detail(field, grids.fine, x[used], y[used], residual[used])

    edge = edge_strength(grids.middle).ravel()
    bound = log_bound(local, edge, np.abs(apart).ravel())
    bound *= np.float32(_calibrate(anchors, near, cell, edge, far.ravel(), used))
    bound *= np.float32(1.0 / TWO_SIDED_90)
    size = grids.fine.shape[::-1]
    log_sigma = cv2.resize(bound.reshape(shape), size, interpolation=cv2.INTER_LINEAR)
    return Correction(field, np.asarray(log_sigma, np.float32), used, diffused, grids.fine)


def referred(
    before: Correction, now: Correction, carried: tuple[float, float], scale: tuple[float, float]
) -> Correction:
    """The correction of the frame before, as one of this frame's prediction.

    It corrected what the scale of that frame predicted. A step of the scale, as points on other
    surfaces bring, is no news of what they measured: it would be averaged in as an error.

    Args:
        before: of the frame before.
        now: of this frame.
        carried: scale (1/m per unit of disparity) and shift (1/m) of the frame before, carried
            into this frame's gauge.
        scale: scale and shift of this frame.

    Returns:
        The old correction; the same where the step is below 1%.
    """
    if before.log_field.shape != now.guide.shape:
        return before
    ends = np.array([now.guide.min(), now.guide.max()])
    if np.abs(_step(ends, carried, scale)).max() < _SAME_SCALE:
        return before
    return replace(before, log_field=before.log_field + _step(now.guide, carried, scale))


def _step(guide: ArrayF32, carried: tuple[float, float], scale: tuple[float, float]) -> ArrayF32:
    """Log of the carried over the present prediction, where the present one is exp(guide)."""
    disparity = np.exp(guide)
    disparity -= np.float32(scale[1])
    disparity /= np.float32(scale[0])
    step = fitted_inverse_depth(disparity, *carried)
    np.log(step, out=step)
    step -= guide
    return step


def fused(before: Correction, now: Correction, change: float) -> Correction:
    """The correction of this frame, steadied by the one before.

    Other points every frame make the correction flicker; their errors average out as long as the
    picture stands still. A pixel's share of the new correction is that of a Kalman filter, and all
    of it where the two contradict each other.

    Args:
        before: of the frame before.
        now: of this frame.
        change: relative change of the carried disparity between the two.

    Returns:
        The new correction; its sigma stays this frame's, for errors of the network do not average.
    """
    if before.log_field.shape != now.log_field.shape:
        return now
    measured = now.log_sigma * now.log_sigma
    prior = before.log_sigma * before.log_sigma
    prior += np.float32(max(change, _STILL) ** 2)
    share = prior / (prior + measured)
    np.maximum(share, np.float32(_LEAST_SHARE), out=share)
    step = now.log_field - before.log_field
    share[step * step > np.float32(_CONTRADICTION**2) * measured] = 1.0
    step *= share
    step += before.log_field
    return replace(now, log_field=step)


def _cells(x: ArrayF32, y: ArrayF32, shape: tuple[int, int]) -> NDArray[np.int32]:
    rows, columns = shape
    row = np.clip((y + np.float32(0.5)).astype(np.int32), 0, rows - 1)
    row *= columns
    row += np.clip((x + np.float32(0.5)).astype(np.int32), 0, columns - 1)
    return np.asarray(row, np.int32)


def _spread(residual: ArrayF32) -> float:
    """Robust standard deviation of the residuals about 0, at least 3%."""
    middle = len(residual) // 2
    mad = float(np.partition(np.abs(residual), middle)[middle])
    return max(MAD_TO_SIGMA * mad, 0.03)


def _sums(
    x: ArrayF32, y: ArrayF32, value: ArrayF32, shape: tuple[int, int]
) -> tuple[ArrayF32, ArrayF32]:
    """How many points fall into each cell, and the sum of their values."""
    cell = _cells(x, y, shape)
    size = shape[0] * shape[1]
    count = np.bincount(cell, minlength=size).astype(np.float32)
    total = np.bincount(cell, value, minlength=size).astype(np.float32)
    return count.reshape(shape), total.reshape(shape)


def _diffused(
    grids: Grids, anchors: Anchors, used: NDArray[np.bool_], before: Correction | None
) -> ArrayF32:
    half, quarter = np.float32(0.5), np.float32(0.25)
    count, total = _sums(
        half * anchors.x[used] - quarter,
        half * anchors.y[used] - quarter,
        anchors.residual[used],
        grids.coarse.shape,
    )
    mean = total / np.maximum(count, np.float32(1.0))
    start = None
    if before is not None and before.far.shape == mean.shape:
        start = before.far
    return diffuse(np.exp(grids.coarse), count, mean, _SMOOTH, start)


def _add_detail(field: ArrayF32, fine: ArrayF32, x: ArrayF32, y: ArrayF32, r: ArrayF32) -> None:
    """Where points lie next to each other, interpolate them on a smoothed prediction.

    Normalised convolution (Knutsson & Westin 1993) of what the smoothed prediction lacks. At a
    spacing of a pixel or two the network's own detail is no longer better than the points.
    """
    smooth = np.asarray(cv2.GaussianBlur(fine + field, (5, 5), _DETAIL_SMOOTHING), np.float32)
    smooth -= fine  # the field that would turn the prediction into its smoothed self
    count, total = _sums(x, y, r - sample(smooth, x, y), field.shape)
    # In units of one point at its own cell, so that the sum of weights counts points.
    gain = np.float32(2.0 * np.pi * _DETAIL_SIGMA**2)
    count = gain * cv2.GaussianBlur(count, (5, 5), _DETAIL_SIGMA)
    total = gain * cv2.GaussianBlur(total, (5, 5), _DETAIL_SIGMA)
    share = count / (count + np.float32(_DETAIL_POINTS))
    total /= count + np.float32(1e-3)
    total += smooth
    total -= field
    total *= share
    field += total


def _calibrate(
    anchors: Anchors,
    near: NDArray[np.int32],
    cell: NDArray[np.int32],
    edge: ArrayF32,
    far: ArrayF32,
    used: NDArray[np.bool_],
) -> float:
    """Ask the regression about some of the points without telling it their own value."""
    candidates = np.flatnonzero(used)
    if len(candidates) < MIN_POINTS:
        return 1.0
    some = candidates[:: max(1, len(candidates) // _CALIBRATION_POINTS)]
    neighbours = near[:, cell[some]]
    left_out = (neighbours == some) | ~used[neighbours]
    if len(near) < 2:
        return 1.0
    x, y = anchors.x[some], anchors.y[some]
    blind: Regression = regress(x, y, anchors.guide[some], anchors, neighbours, left_out)
    at = cell[some]
    bound = log_bound(blind, edge[at], np.abs(blind.value - far[at]))
    return calibration(np.abs(anchors.residual[some] - blind.value), bound)
