"""`depth-node eval depth`: a network's depth on images with ground truth, one frozen protocol."""

from __future__ import annotations

import argparse
import glob
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from depth_node.engines.select import load_engine
from depth_node.evaluation.depth import (
    DepthMetrics,
    EvaluationError,
    align_depth,
    depth_metrics,
    evaluate_disparity,
    mean_metrics,
    row_baseline,
    valid_mask,
)
from depth_node.parameters import ModelSettings
from depth_node.types import ArrayF32, Disparity, ImageU8

SATURATED = 65535
"""What several depth cameras store where they measured nothing."""


def add_depth_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    parser.add_argument("--rgb", required=True, metavar="GLOB", help="images, in sorted order")
    parser.add_argument("--depth", required=True, metavar="GLOB", help="their 16-bit depth images")
    parser.add_argument("--depth-scale", type=float, default=1000.0, help="stored units in a metre")
    parser.add_argument(
        "--range", type=float, nargs=2, default=(1e-3, 10.0), metavar=("LO", "HI"), help="metres"
    )
    parser.add_argument("--crop", choices=("none", "eigen", "garg"), default="none")
    parser.add_argument(
        "--align",
        choices=("disparity", "depth", "none"),
        default="disparity",
        help="what scale and shift are fitted in, for each image; none for metric networks",
    )
    parser.add_argument("--model", default="auto", help="network, as the parameter model.name")
    parser.add_argument("--engine", default="auto", help="engine, as the parameter model.engine")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run_depth(args: argparse.Namespace) -> int:
    """Evaluate every frame, print the mean beside that of the row baseline, and return 0."""
    settings = ModelSettings(name=args.model, engine=args.engine)
    engine = load_engine(settings, lambda line: print(line, file=sys.stderr))
    low, high = args.range
    scores, baseline = [], []
    for name, image, truth in _frames(args.rgb, args.depth, args.depth_scale):
        mask = valid_mask(truth, low, high, args.crop)
        try:
            scores.append(_score(engine.infer(image), truth, mask, args))
            baseline.append(evaluate_disparity(row_baseline(*truth.shape), truth, mask, low, high))
        except EvaluationError as error:
            raise EvaluationError(f"{name}: {error}") from error
    result = {
        "model": engine.model,
        "engine": engine.name,
        "precision": engine.precision,
        "frames": len(scores),
        "align": args.align,
        "crop": args.crop,
        "range_m": [low, high],
        **asdict(mean_metrics(scores)),
        "row_baseline": asdict(mean_metrics(baseline)),
    }
    engine.close()
    if args.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key}: {value}")
    return 0


def _frames(
    images: str, depths: str, units_per_metre: float
) -> Iterator[tuple[str, ImageU8, ArrayF32]]:
    """Name, HxWx3 uint8 RGB and HxW float32 metres (0 is unknown) of every frame.

    Raises:
        EvaluationError: the globs find nothing or different numbers, or a file cannot be read.
    """
    pairs = sorted(glob.glob(images)), sorted(glob.glob(depths))  # noqa: PTH207 - absolute globs
    if not pairs[0] or len(pairs[0]) != len(pairs[1]):
        raise EvaluationError(
            f"--rgb finds {len(pairs[0])} files and --depth {len(pairs[1])}; both must find the "
            "same number, in the same sorted order"
        )
    for image_file, depth_file in zip(*pairs, strict=True):
        image, raw = cv2.imread(image_file), cv2.imread(depth_file, cv2.IMREAD_UNCHANGED)
        if image is None or raw is None or raw.ndim != 2:
            raise EvaluationError(
                f"{image_file} and {depth_file} must be an image and a depth image of one channel"
            )
        metres = np.where(raw == SATURATED, 0, raw).astype(np.float32) / units_per_metre
        rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
        yield Path(image_file).name, rgb, metres.astype(np.float32)


def _score(
    seen: Disparity, truth: ArrayF32, mask: np.ndarray, args: argparse.Namespace
) -> DepthMetrics:
    low, high = args.range
    if args.align == "disparity":
        return evaluate_disparity(seen.values, truth, mask, low, high)
    if args.align == "none" and seen.kind != "metric":
        raise EvaluationError("the network's output is relative: it has to be aligned")
    size = (truth.shape[1], truth.shape[0])
    disparity = np.asarray(cv2.resize(seen.values, size, interpolation=cv2.INTER_LINEAR))
    depth = (1.0 / np.maximum(disparity, 1.0 / high)).astype(np.float32)
    if args.align == "depth":
        scale, shift = align_depth(depth, truth, mask)
        depth = (depth * scale + shift).astype(np.float32)
    return depth_metrics(np.clip(depth, low, high), truth, mask)
