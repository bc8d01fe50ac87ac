"""Metrics of structure: local similarity and the edges of objects, which mean errors hardly see.

All compare HxW metres with HxW metres where the mask says that there is ground truth; pixels
outside it are unknown and enter nothing, neither as a neighbour nor through a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.evaluation.depth import MINIMUM_PIXELS, Mask
from depth_node.types import ArrayF32

BOUNDARY_RATIOS = np.linspace(1.05, 1.25, 10)
"""From which ratio of neighbouring depths on there is a contour, as in Depth Pro's evaluation."""

EDGE_RATIO = 1.25
"""The same for the soft edge error; smaller ones also occur on a floor that is seen far away."""

_SSIM_WINDOW, _SSIM_SIGMA = (11, 11), 1.5
_SSIM_K1, _SSIM_K2 = 0.01, 0.03


@dataclass(frozen=True)
class StructureMetrics:
    """Structural errors of one image.

    Attributes:
        ssim: mean structural similarity of the depth, at most 1.
        soft_edge_error: metres, at contours of the truth; None where it has too few.
        boundary_f1: 0 to 1, of contours; None where the truth has too few.
    """

    ssim: float
    soft_edge_error: float | None
    boundary_f1: float | None


def structure_metrics(
    predicted: ArrayF32, truth: ArrayF32, mask: Mask, similarity: ArrayF32
) -> StructureMetrics:
    """Measure one image.

    Args:
        predicted: HxW float32 metres, positive.
        truth: HxW float32 metres.
        mask: HxW bool.
        similarity: HxW float32, from `ssim_map`.
    """
    return StructureMetrics(
        ssim=float(np.mean(similarity[mask], dtype=np.float64)),
        soft_edge_error=soft_edge_error(predicted, truth, mask),
        boundary_f1=boundary_f1(predicted, truth, mask),
    )


def ssim_map(predicted: ArrayF32, truth: ArrayF32, mask: Mask, span: float) -> ArrayF32:
    """Local structural similarity (Wang et al., IEEE TIP 2004, eq. 13) of two depth images.

    Gaussian window of 11x11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03. Inside a window only
    pixels of the mask have weight, so that a hole in the truth is no structure.

    Args:
        predicted: HxW float32 metres.
        truth: HxW float32 metres.
        mask: HxW bool.
        span: the dynamic range L, metres: farthest less nearest depth of the truth.

    Returns:
        HxW float32 from -1 to 1, NaN outside the mask.
    """
    blur = partial(
        cv2.GaussianBlur, ksize=_SSIM_WINDOW, sigmaX=_SSIM_SIGMA, borderType=cv2.BORDER_CONSTANT
    )
    x = np.where(mask, predicted, 0.0).astype(np.float64)
    y = np.where(mask, truth, 0.0).astype(np.float64)
    weight = blur(mask.astype(np.float64))
    weight[~mask] = np.nan
    mean_x, mean_y = blur(x) / weight, blur(y) / weight
    variance_x = blur(x * x) / weight - mean_x**2
    variance_y = blur(y * y) / weight - mean_y**2
    covariance = blur(x * y) / weight - mean_x * mean_y
    c1, c2 = (_SSIM_K1 * span) ** 2, (_SSIM_K2 * span) ** 2
    luminance = (2.0 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2.0 * covariance + c2) / (variance_x + variance_y + c2)
    return np.asarray(luminance * structure, np.float32)


def soft_edge_error(predicted: ArrayF32, truth: ArrayF32, mask: Mask) -> float | None:
    """Error at the contours of the truth, forgiving an edge that lies one pixel aside.

    At every pixel of a contour the smallest |predicted - truth| over the 3x3 neighbourhood in the
    truth (Chen et al., ICCV 2019; the form of Tosi et al., SMD-Nets, CVPR 2021), then the mean. A
    depth between foreground and background, which a soft edge invents, is near neither.

    Args:
        predicted: HxW float32 metres.
        truth: HxW float32 metres.
        mask: HxW bool.

    Returns:
        Metres, or None with fewer than 16 pixels on contours: both sides of a step between
        neighbours by more than `EDGE_RATIO`.
    """
    edges = np.zeros_like(mask)
    for first, second in _neighbours():
        step = np.abs(_log_step(truth, mask, first, second)) > np.log(EDGE_RATIO)
        edges[first] |= step
        edges[second] |= step
    v, u = np.nonzero(edges)
    if v.size < MINIMUM_PIXELS:
        return None
    known = np.pad(np.where(mask, truth, np.float32(np.inf)), 1, constant_values=np.inf)
    best = np.full(v.size, np.inf, np.float32)
    for dv in range(3):
        for du in range(3):
            np.minimum(best, np.abs(known[v + dv, u + du] - predicted[v, u]), out=best)
    return float(np.mean(best, dtype=np.float64))


def boundary_f1(predicted: ArrayF32, truth: ArrayF32, mask: Mask) -> float | None:
    """Scale-invariant boundary F1 (Bochkovskii et al., Depth Pro, arXiv 2410.02073, section 4).

    Two neighbouring pixels have a contour between them when the depth of one is more than t times
    that of the other. For each of the four directions from near to far the predicted contours
    have a precision and a recall against those of the truth; F1 of their means over directions is
    averaged over t from 1.05 to 1.25, with weights proportional to t. This is how the authors'
    published code has it wherever the truth has contours in every direction at every t. Where it
    has none there is no recall, which that code counts as 0 and this leaves out; what is found
    there counts against precision in both.

    Args:
        predicted: HxW float32 metres, positive.
        truth: HxW float32 metres.
        mask: HxW bool; a pair of neighbours counts when both do.

    Returns:
        0 to 1; None where the truth has fewer than 16 contours at every t.
    """
    steps = [
        [sign * _log_step(depth, mask, *pair) for depth in (predicted, truth)]
        for pair in _neighbours()
        for sign in (1.0, -1.0)
    ]
    scores, weights = [], []
    for ratio in BOUNDARY_RATIOS:
        contours = [[step > np.log(ratio) for step in pair] for pair in steps]
        counts = np.array(
            [[np.count_nonzero(x) for x in (p, g, p & g)] for p, g in contours], np.float64
        )
        found, given, matched = counts.T
        if given.sum() < MINIMUM_PIXELS:
            continue
        judged = (found + given) > 0
        precision = np.mean(matched[judged] / np.maximum(found[judged], 1.0))
        recall = np.mean(matched[given > 0] / given[given > 0])
        scores.append(2.0 * precision * recall / max(precision + recall, 1e-12))
        weights.append(ratio)
    return float(np.average(scores, weights=weights)) if scores else None


_Slices = tuple[slice, slice]


def _neighbours() -> tuple[tuple[_Slices, _Slices], tuple[_Slices, _Slices]]:
    """Slices that put every pixel over its right and over its lower neighbour."""
    every, head, tail = slice(None), slice(None, -1), slice(1, None)
    return ((every, head), (every, tail)), ((head, every), (tail, every))


def _log_step(depth: ArrayF32, mask: Mask, first: _Slices, second: _Slices) -> NDArray[np.floating]:
    """Logarithm of the ratio of neighbouring depths, 0 where one of the two is unknown."""
    known = np.where(mask, depth, np.float32(1.0))
    return np.where(mask[first] & mask[second], np.log(known[second] / known[first]), 0.0)
