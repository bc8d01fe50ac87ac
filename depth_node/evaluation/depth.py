"""One frozen protocol for depth: how a prediction is aligned, and what is measured afterwards.

The protocol is that of MiDaS and Depth Anything: one scale and one shift per image, by least
squares in disparity; the aligned disparity is clipped at 1e-3 (1/m), inverted, and the depth is
clipped to the range of the data set. Published numbers differ by up to three times between
protocols, so figures from here compare only with figures from here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.types import ArrayF32, ArrayF64, Disparity

MINIMUM_DISPARITY = 1e-3
MINIMUM_PIXELS = 16
BENCHMARK_CROP = (352, 1216)
"""Rows and columns of KITTI's depth benchmark, at the bottom and in the middle of the image."""

Crop = Literal["none", "eigen", "garg"]
Align = Literal["disparity", "depth", "none"]
Mask = NDArray[np.bool_]


class EvaluationError(ValueError):
    """What was given cannot be evaluated; the message says why."""


@dataclass(frozen=True)
class DepthMetrics:
    """Errors of one image, or their mean over images.

    Attributes:
        absrel: mean of |z - g| / g.
        sqrel: mean of (z - g)^2 / g, metres.
        rmse: root of the mean squared error, metres.
        log_rmse: root of the mean squared error of the natural logarithm.
        delta1: share of pixels with max(z/g, g/z) < 1.25.
        delta2: the same for 1.25^2.
        delta3: the same for 1.25^3.
    """

    absrel: float
    sqrel: float
    rmse: float
    log_rmse: float
    delta1: float
    delta2: float
    delta3: float


@dataclass(frozen=True)
class DepthProtocol:
    """What counts, and what is fitted to the truth before it is compared.

    Attributes:
        low: nearest depth of the data set, metres.
        high: farthest depth of the data set, metres.
        crop: part of the image that counts, see `valid_mask`.
        benchmark: whether KITTI's benchmark crop comes before it.
        align: what one scale and shift for each image are fitted in; `none` compares metres.
    """

    low: float = 1e-3
    high: float = 10.0
    crop: Crop = "none"
    benchmark: bool = False
    align: Align = "disparity"

    def __post_init__(self) -> None:
        if not 0.0 < self.low < self.high < np.inf:
            raise EvaluationError(
                f"the range {self.low:g} to {self.high:g} m is none: both ends must be positive, "
                "finite and in this order"
            )

    def mask(self, truth: ArrayF32) -> Mask:
        """Say which pixels of HxW float32 metres count; HxW bool."""
        return valid_mask(truth, self.low, self.high, self.crop, self.benchmark)

    def predicted_depth(self, seen: Disparity, truth: ArrayF32, mask: Mask) -> ArrayF32:
        """Turn what a network saw into metres that may be compared with the truth.

        Args:
            seen: at any resolution; it is resized linearly to the truth's.
            truth: HxW float32 metres.
            mask: HxW bool, what to fit on.

        Returns:
            HxW float32 metres within the range.

        Raises:
            EvaluationError: as align_disparity; or the network is relative, and its output shall
                not be fitted in disparity.
        """
        disparity = resized(seen.values, truth)
        if self.align == "disparity":
            scale, shift = align_disparity(disparity, truth, mask)
            return aligned_depth(disparity, scale, shift, self.low, self.high)
        if seen.kind != "metric":
            raise EvaluationError(
                "the network's output is relative: it has to be aligned in disparity, where its "
                "unknown scale and shift are"
            )
        if self.align == "none":
            return aligned_depth(disparity, 1.0, 0.0, self.low, self.high)
        depth = aligned_depth(disparity, 1.0, 0.0, 0.0, np.inf)  # fitted first, then clipped
        scale, shift = align_depth(depth, truth, mask)
        return np.clip(depth * np.float32(scale) + np.float32(shift), self.low, self.high)


def valid_mask(
    depth: ArrayF32, low: float, high: float, crop: Crop = "none", benchmark: bool = False
) -> Mask:
    """Say which pixels of the ground truth count.

    Args:
        depth: HxW float32 metres; 0, NaN and Inf are no ground truth.
        low: nearest depth that counts, metres.
        high: farthest depth that counts, metres.
        crop: `garg` (Garg et al., ECCV 2016) or `eigen` (Eigen et al., NIPS 2014); for 640x480
            images `eigen` is the crop of NYU, otherwise that of KITTI.
        benchmark: take the crop of KITTI's depth benchmark first, 352x1216 at the bottom and in
            the middle.

    Returns:
        HxW bool.
    """
    with np.errstate(invalid="ignore"):
        mask: Mask = (depth >= low) & (depth <= high) & (depth > 0)
    return mask & _crop_mask(depth.shape[0], depth.shape[1], crop, benchmark)


def _crop_mask(height: int, width: int, crop: Crop, benchmark: bool) -> Mask:
    mask = np.zeros((height, width), bool)
    top, left, h, w = 0, 0, height, width
    if benchmark:
        h, w = min(BENCHMARK_CROP[0], height), min(BENCHMARK_CROP[1], width)
        top, left = height - h, (width - w) // 2
    if crop == "eigen" and (height, width) == (480, 640):
        mask[45:471, 41:601] = True
        return mask
    # Fractions of Garg's and of Eigen's crop, as the Monodepth evaluation publishes them.
    y0, y1, x0, x1 = {
        "none": (0.0, 1.0, 0.0, 1.0),
        "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
        "eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
    }[crop]
    rows = slice(top + int(y0 * h), top + int(y1 * h))
    mask[rows, left + int(x0 * w) : left + int(x1 * w)] = True
    return mask


def align_disparity(disparity: ArrayF32, depth: ArrayF32, mask: Mask) -> tuple[float, float]:
    """Fit 1/depth = scale * disparity + shift by least squares over the mask.

    Args:
        disparity: HxW float32, predicted, any affine gauge.
        depth: HxW float32 metres, ground truth.
        mask: HxW bool, pixels to fit.

    Returns:
        (scale, shift); scale is 0 where the prediction is constant.

    Raises:
        EvaluationError: fewer than 16 pixels, shapes that differ, or a prediction that is not
            finite.
    """
    d, g = _select(disparity, depth, mask)
    q = 1.0 / g
    centred = d - d.mean()
    variance = float(centred @ centred)
    scale = float(centred @ q) / variance if variance > 1e-12 * d.size else 0.0
    return scale, float(q.mean() - scale * d.mean())


def align_depth(prediction: ArrayF32, depth: ArrayF32, mask: Mask) -> tuple[float, float]:
    """Fit depth = scale * prediction + shift by least squares over the mask; see align_disparity.

    For networks whose output is affine in depth instead of in disparity.
    """
    z, g = _select(prediction, depth, mask)
    centred = z - z.mean()
    variance = float(centred @ centred)
    scale = float(centred @ g) / variance if variance > 1e-12 * z.size else 0.0
    return scale, float(g.mean() - scale * z.mean())


def aligned_depth(
    disparity: ArrayF32, scale: float, shift: float, low: float, high: float
) -> ArrayF32:
    """Turn disparity into metres with a fitted scale and shift, clipped as the protocol says.

    Args:
        disparity: HxW float32.
        scale: 1/m per unit of disparity.
        shift: 1/m.
        low: nearest depth of the data set, metres.
        high: farthest depth of the data set, metres.

    Returns:
        HxW float32 metres within [low, high].
    """
    q = np.maximum(disparity * np.float32(scale) + np.float32(shift), MINIMUM_DISPARITY)
    return np.clip(1.0 / q, low, high).astype(np.float32)


def depth_metrics(predicted: ArrayF32, depth: ArrayF32, mask: Mask) -> DepthMetrics:
    """Compare depth with ground truth over the mask.

    Args:
        predicted: HxW float32 metres, positive.
        depth: HxW float32 metres, ground truth.
        mask: HxW bool.

    Raises:
        EvaluationError: as align_disparity; also depth that is not positive.
    """
    z, g = _select(predicted, depth, mask)
    if z.min() <= 0:
        raise EvaluationError(
            f"predicted depth must be positive, got {z.min():.4g} m: align or clip it first"
        )
    error = z - g
    log_ratio = np.log(z / g)
    ratio = np.exp(np.abs(log_ratio))
    return DepthMetrics(
        absrel=float(np.mean(np.abs(error) / g)),
        sqrel=float(np.mean(error**2 / g)),
        rmse=float(np.sqrt(np.mean(error**2))),
        log_rmse=float(np.sqrt(np.mean(log_ratio**2))),
        delta1=float(np.mean(ratio < 1.25)),
        delta2=float(np.mean(ratio < 1.25**2)),
        delta3=float(np.mean(ratio < 1.25**3)),
    )


def evaluate_disparity(
    disparity: ArrayF32, depth: ArrayF32, mask: Mask, low: float, high: float
) -> DepthMetrics:
    """Run the whole protocol on one image.

    Args:
        disparity: hxw float32 at any resolution; it is resized linearly to the ground truth's.
        depth: HxW float32 metres, ground truth.
        mask: HxW bool, from `valid_mask`.
        low: nearest depth of the data set, metres.
        high: farthest depth of the data set, metres.

    Raises:
        EvaluationError: as align_disparity.
    """
    disparity = resized(disparity, depth)
    scale, shift = align_disparity(disparity, depth, mask)
    return depth_metrics(aligned_depth(disparity, scale, shift, low, high), depth, mask)


def resized(values: ArrayF32, depth: ArrayF32) -> ArrayF32:
    """Bring hxw values to the size of HxW `depth`, linearly; as they are where it is theirs."""
    if values.shape == depth.shape:
        return values
    return np.asarray(cv2.resize(values, depth.shape[::-1], interpolation=cv2.INTER_LINEAR))


def row_baseline(height: int, width: int) -> ArrayF32:
    """The blindest prediction: disparity is the image row. HxW float32 for `evaluate_disparity`.

    After alignment it is the best affine function of the row, and a network has to beat it.
    """
    rows = np.arange(height, dtype=np.float32)
    return np.repeat(rows[:, None], width, axis=1)


def mean_metrics(metrics: list[DepthMetrics]) -> DepthMetrics:
    """Average over images, each with the same weight.

    Raises:
        EvaluationError: the list is empty.
    """
    if not metrics:
        raise EvaluationError("no image was evaluated: the list of results is empty")
    rows = [asdict(m) for m in metrics]
    return DepthMetrics(**{k: float(np.mean([r[k] for r in rows])) for k in rows[0]})


def _select(predicted: ArrayF32, depth: ArrayF32, mask: Mask) -> tuple[ArrayF64, ArrayF64]:
    if predicted.shape != depth.shape or mask.shape != depth.shape:
        raise EvaluationError(
            f"prediction {predicted.shape}, ground truth {depth.shape} and mask {mask.shape} "
            "differ in shape"
        )
    p = predicted[mask].astype(np.float64)
    g = depth[mask].astype(np.float64)
    if p.size < MINIMUM_PIXELS:
        raise EvaluationError(
            f"only {p.size} pixels have ground truth within the range; {MINIMUM_PIXELS} are needed"
        )
    if not np.isfinite(p).all():
        raise EvaluationError("the prediction contains NaN or Inf")
    if not (g > 0).all():
        raise EvaluationError("the mask admits ground truth that is not a positive depth")
    return p, g
