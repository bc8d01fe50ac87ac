"""Scores what the node publishes against the world's ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from depth_node.evaluation.depth import (
    DepthMetrics,
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
    """

    metrics: DepthMetrics
    depth: ArrayF32
    aligned: bool


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
    finite = mask & np.isfinite(depth)
    return Score(depth_metrics(depth, truth, finite), depth, aligned=True)


def score_metric(depth: ArrayF32, truth: ArrayF32) -> Score:
    """Compare published metres with the ground truth where both are finite.

    Args:
        depth: HxW float32 metres as published (NaN invalid, +Inf beyond range).
        truth: HxW float32 metres, +Inf for sky.

    Raises:
        EvaluationError: there is too little ground truth in range.
    """
    depth = _fit(depth, truth)
    mask = valid_mask(truth, NEAREST_M, FARTHEST_M) & np.isfinite(depth)
    return Score(depth_metrics(depth, truth, mask), depth, aligned=False)


def mean_score(scores: list[Score]) -> DepthMetrics | None:
    """The mean over frames, or None without any."""
    return mean_metrics([score.metrics for score in scores]) if scores else None


def _fit(values: ArrayF32, truth: ArrayF32) -> ArrayF32:
    if values.shape == truth.shape:
        return values
    size = (truth.shape[1], truth.shape[0])
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_NEAREST), np.float32)
