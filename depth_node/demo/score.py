"""Scores what the node publishes against the world's ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from depth_node.evaluation.depth import (
    DepthMetrics,
    Mask,
    align_disparity,
    aligned_depth,
    depth_metrics,
    mean_metrics,
    valid_mask,
)
from depth_node.types import ArrayF32

NEAREST_M = 0.1
FARTHEST_M = 50.0


@dataclass(frozen=True)
class Score:
    """One frame against its ground truth.

    Attributes:
        metrics: the errors.
        depth: HxW float32 metres, as scored.
        aligned: whether scale and shift were fitted to the ground truth first.
        share: of the pixels with ground truth in range, those that were compared; the others have
            no finite depth.
    """

    metrics: DepthMetrics
    depth: ArrayF32
    aligned: bool
    share: float


def score_relative(disparity: ArrayF32, truth: ArrayF32) -> Score:
    """Align relative disparity to the ground truth (one scale and shift) and compare.

    Args:
        disparity: HxW float32.
        truth: HxW float32 metres, +Inf for sky.

    Raises:
        EvaluationError: there is too little ground truth in range.
    """
    disparity = _fit(disparity, truth)
    mask = valid_mask(truth, NEAREST_M, FARTHEST_M)
    scale, shift = align_disparity(disparity, truth, mask)
    depth = aligned_depth(disparity, scale, shift, NEAREST_M, FARTHEST_M)
    depth[disparity <= 0.0] = np.inf  # saturated: the network saw sky
    return _score(depth, truth, mask, aligned=True)


def score_metric(depth: ArrayF32, truth: ArrayF32) -> Score:
    """Compare published metres with the ground truth where both are finite.

    Args:
        depth: HxW float32 metres as published (NaN invalid, +Inf beyond range).
        truth: HxW float32 metres, +Inf for sky.

    Raises:
        EvaluationError: there is too little ground truth in range.
    """
    depth = _fit(depth, truth)
    return _score(depth, truth, valid_mask(truth, NEAREST_M, FARTHEST_M), aligned=False)


def _score(depth: ArrayF32, truth: ArrayF32, mask: Mask, *, aligned: bool) -> Score:
    """Compare where the depth is finite; `mask` says where there is ground truth."""
    compared = mask & np.isfinite(depth)
    metrics = depth_metrics(depth, truth, compared)  # refuses what has nothing to compare
    share = np.count_nonzero(compared) / np.count_nonzero(mask)
    return Score(metrics, depth, aligned, share)


def mean_score(scores: list[Score]) -> DepthMetrics | None:
    """The mean over frames, or None without any."""
    return mean_metrics([score.metrics for score in scores]) if scores else None


def mean_share(scores: list[Score]) -> float:
    """The mean over frames of what was compared, or NaN without any."""
    return float(np.mean([score.share for score in scores])) if scores else np.nan


def _fit(values: ArrayF32, truth: ArrayF32) -> ArrayF32:
    if values.shape == truth.shape:
        return values
    size = (truth.shape[1], truth.shape[0])
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_NEAREST), np.float32)
