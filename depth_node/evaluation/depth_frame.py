"""One frame through the protocol: every metric, and the maps that a picture of it needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from depth_node.evaluation.depth import (
    DepthMetrics,
    DepthProtocol,
    EvaluationError,
    Mask,
    depth_metrics,
    evaluate_disparity,
    row_baseline,
)
from depth_node.evaluation.recording import TrueFrame
from depth_node.evaluation.structure import StructureMetrics, ssim_map, structure_metrics
from depth_node.types import ArrayF32, Disparity


@dataclass(frozen=True)
class FrameScore:
    """What one frame is worth.

    Attributes:
        name: the frame's.
        errors: of the pixels.
        structure: of windows and contours.
        baseline: errors of the best affine function of the image row, fitted in disparity whatever
            the protocol aligns: the row has no metres of its own.
    """

    name: str
    errors: DepthMetrics
    structure: StructureMetrics
    baseline: DepthMetrics


@dataclass(frozen=True, eq=False)
class ScoredFrame:
    """A frame with its score and its maps.

    Attributes:
        frame: image and truth.
        score: the figures.
        mask: HxW bool, what counted.
        predicted: HxW float32 metres, aligned and clipped as the protocol says.
        similarity: HxW float32 local SSIM, NaN where nothing counted.
    """

    frame: TrueFrame
    score: FrameScore
    mask: Mask
    predicted: ArrayF32
    similarity: ArrayF32


def score_frame(frame: TrueFrame, seen: Disparity, protocol: DepthProtocol) -> ScoredFrame:
    """Run the protocol on one frame.

    Raises:
        EvaluationError: prediction and truth cannot be compared; the message names the frame.
    """
    truth = frame.truth
    mask = protocol.mask(truth)
    low, high = protocol.low, protocol.high
    try:
        predicted = protocol.predicted_depth(seen, truth, mask)
        errors = depth_metrics(predicted, truth, mask)
        baseline = evaluate_disparity(row_baseline(*truth.shape), truth, mask, low, high)
    except EvaluationError as error:
        raise EvaluationError(f"{frame.name}: {error}") from error
    # The far end of the set's range would hide all that is near, so the frame's own range is taken.
    span = max(float(np.ptp(truth[mask])), low)
    similarity = ssim_map(predicted, truth, mask, span)
    structure = structure_metrics(predicted, truth, mask, similarity)
    score = FrameScore(frame.name, errors, structure, baseline)
    return ScoredFrame(frame, score, mask, predicted, similarity)
