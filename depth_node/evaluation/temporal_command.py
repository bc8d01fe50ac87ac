"""`depth-node eval temporal`: how steady a network's depth is along a recorded path."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from depth_node.evaluation.depth import (
    DepthProtocol,
    EvaluationError,
    Mask,
    aligned_depth,
    depth_metrics,
    mean_metrics,
    resized,
)
from depth_node.evaluation.options import (
    add_depth_image_arguments,
    add_network_arguments,
    open_engine,
    with_progress,
)
from depth_node.evaluation.recording import Recording, read_poses
from depth_node.evaluation.temporal import temporal_alignment_error
from depth_node.types import ArrayF32, ArrayF64


def add_temporal_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    parser.add_argument("--rgb", required=True, metavar="GLOB", help="consecutive images")
    parser.add_argument("--depth", required=True, metavar="GLOB", help="their depth images")
    add_depth_image_arguments(parser)
    parser.add_argument(
        "--poses",
        required=True,
        metavar="GLOB",
        help="T_world_cam: a 4x4 matrix in a file for each image, or one file with a line for each",
    )
    parser.add_argument(
        "--intrinsics",
        required=True,
        type=float,
        nargs=4,
        metavar=("FX", "FY", "CX", "CY"),
        help="pixels of the depth images",
    )
    parser.add_argument(
        "--align",
        choices=("disparity", "none"),
        default="disparity",
        help="one scale and shift for the whole sequence, or metres as the network gives them",
    )
    add_network_arguments(parser)


def run_temporal(args: argparse.Namespace) -> int:
    """Measure the sequence, print its figures beside those of the recorded depth, return 0."""
    low, high = args.range
    protocol = DepthProtocol(low, high)
    recording = Recording.find(args.rgb, args.depth, args.depth_scale)
    if len(recording) < 2:
        raise EvaluationError("a sequence has 2 frames at least, and --rgb finds 1")
    poses = read_poses(args.poses, len(recording))
    fx, fy, cx, cy = args.intrinsics
    K = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    with open_engine(args) as engine, tempfile.TemporaryDirectory() as folder:
        files = []
        fit = SequenceFit()
        for index, frame in enumerate(with_progress(recording)):
            seen = engine.infer(frame.image)
            if args.align == "none" and seen.kind != "metric":
                raise EvaluationError("the network's output is relative: it has to be aligned")
            fit.add(resized(seen.values, frame.truth), frame.truth, protocol.mask(frame.truth))
            files.append(Path(folder) / f"{index}.npy")
            np.save(files[-1], seen.values)
        gauge = fit.solve() if args.align == "disparity" else (1.0, 0.0)
        result: dict[str, Any] = {
            "model": engine.model,
            "engine": engine.name,
            "precision": engine.precision,
            "frames": len(recording),
            "align": "disparity, whole sequence" if args.align == "disparity" else "none",
            "range_m": [protocol.low, protocol.high],
            **_measure(recording, files, gauge, poses, K, protocol),
        }
    print(
        json.dumps(result)
        if args.json
        else "\n".join(f"{key}: {value}" for key, value in result.items())
    )
    return 0


class SequenceFit:
    """Least squares of 1/depth = scale * disparity + shift over all frames of a sequence.

    It keeps sums, not pixels.
    """

    def __init__(self) -> None:
        self._normal = np.zeros((2, 2))
        self._moment = np.zeros(2)

    def add(self, disparity: ArrayF32, truth: ArrayF32, mask: Mask) -> None:
        """Take the pixels of one frame: HxW disparity, HxW metres, HxW bool."""
        d = disparity[mask].astype(np.float64)
        rows = np.stack([d, np.ones_like(d)])
        self._normal += rows @ rows.T
        self._moment += rows @ (1.0 / truth[mask].astype(np.float64))

    def solve(self) -> tuple[float, float]:
        """The sequence's scale and shift.

        Raises:
            EvaluationError: there is no truth, or the prediction is constant.
        """
        if np.linalg.matrix_rank(self._normal) < 2:
            raise EvaluationError(
                "the sequence has no ground truth within the range, or the prediction is constant: "
                "no scale and shift can be fitted"
            )
        scale, shift = np.linalg.solve(self._normal, self._moment)
        return float(scale), float(shift)


def _measure(
    recording: Recording,
    disparities: list[Path],
    gauge: tuple[float, float],
    poses: list[ArrayF64],
    K: ArrayF64,
    protocol: DepthProtocol,
) -> dict[str, float | None]:
    """TAE of network and recording and the errors of single frames; two frames are in memory."""
    errors, ours, recorded = [], [], []
    before = None
    for frame, path, pose in zip(recording, disparities, poses, strict=True):
        mask = protocol.mask(frame.truth)
        disparity = resized(np.load(path), frame.truth)
        depth = aligned_depth(disparity, *gauge, protocol.low, protocol.high)
        truth = np.where(mask, frame.truth, np.float32(np.nan))
        try:
            errors.append(depth_metrics(depth, frame.truth, mask))
        except EvaluationError as error:
            raise EvaluationError(f"{frame.name}: {error}") from error
        if before is not None:
            ours.append(temporal_alignment_error((before[0], depth), (before[2], pose), K))
            recorded.append(temporal_alignment_error((before[1], truth), (before[2], pose), K))
        before = depth, truth, pose
    if np.isnan(ours).any():
        raise EvaluationError(
            f"the views of {recording.images[int(np.argmax(np.isnan(ours)))].name} and the next "
            "image share nothing by their poses; check that --poses are T_world_cam of the optical "
            "frame in metres, and --intrinsics"
        )
    mean = mean_metrics(errors)
    measured = [error for error in recorded if not np.isnan(error)]
    return {
        "tae_percent": 100.0 * float(np.mean(ours)),
        "tae_of_truth_percent": 100.0 * float(np.mean(measured)) if measured else None,
        "absrel": mean.absrel,
        "delta1": mean.delta1,
    }
