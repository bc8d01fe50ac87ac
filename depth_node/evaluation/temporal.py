"""Temporal alignment error: how well the depths of neighbouring frames are one scene."""

from __future__ import annotations

import numpy as np

from depth_node.evaluation.depth import EvaluationError
from depth_node.geometry.transforms import inverse
from depth_node.types import ArrayF32, ArrayF64


def temporal_alignment_error(
    depths: tuple[ArrayF32, ArrayF32], poses: tuple[ArrayF64, ArrayF64], K: ArrayF64
) -> float:
    """Relative error between each depth, moved into the other frame, and the depth there.

    The term of one pair of frames in TAE (Chen et al., Video Depth Anything, arXiv 2501.12375,
    section 4): AbsRel(f(z_k, T), z_k+1) and AbsRel(f(z_k+1, T^-1), z_k), averaged; f reprojects
    every pixel and rounds it to the nearest one. TAE of a sequence is the mean over its pairs.

    Args:
        depths: two HxW float32, metres; NaN, Inf and what is not positive enters nothing.
        poses: T_world_cam of both, 4x4 float64, optical frame, metres.
        K: 3x3 float64, intrinsics of this image size, pixels.

    Returns:
        A fraction (papers print percent), NaN where the two views share nothing.

    Raises:
        EvaluationError: the two differ in size.
    """
    (a, b), (T_a, T_b) = depths, poses
    if a.shape != b.shape:
        raise EvaluationError(
            f"neighbouring depths have shapes {a.shape} and {b.shape}; one sequence has one size"
        )
    errors = [_one_way(a, b, inverse(T_b) @ T_a, K), _one_way(b, a, inverse(T_a) @ T_b, K)]
    return float(np.mean(errors))


def _one_way(source: ArrayF32, target: ArrayF32, T_target_source: ArrayF64, K: ArrayF64) -> float:
    """Mean of |moved - target| / target over the pixels of `source` that `target` sees."""
    height, width = source.shape
    v, u = np.nonzero(np.isfinite(source) & (source > 0.0))
    z = source[v, u].astype(np.float64)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    points = np.stack([(u - cx) / fx * z, (v - cy) / fy * z, z])
    x, y, moved = T_target_source[:3, :3] @ points + T_target_source[:3, 3:]
    ahead = moved > 0.0
    x, y, moved = x[ahead], y[ahead], moved[ahead]
    column, row = np.rint(fx * x / moved + cx), np.rint(fy * y / moved + cy)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    there = target[row[inside].astype(np.intp), column[inside].astype(np.intp)]
    known = np.isfinite(there) & (there > 0.0)
    if not known.any():
        return float("nan")
    there = there[known].astype(np.float64)
    return float(np.mean(np.abs(moved[inside][known] - there) / there))
