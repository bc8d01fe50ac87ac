"""`depth-node eval scale`: accuracy of metric scale on one frame, for one pattern of points."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from depth_node.evaluation.scale import Result, choose_points, evaluate, load_scene
from depth_node.types import ScaleState


def add_scale_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--disparity", type=Path, required=True, help="npz (key disp) or npy, larger is nearer"
    )
    parser.add_argument(
        "--truth", type=Path, required=True, help="depth image, 16 bits (0, 65535: none) or floats"
    )
    parser.add_argument(
        "--truth-scale", type=float, default=256.0, help="stored units in a metre (256)"
    )
    parser.add_argument(
        "--pattern",
        default="random:500",
        help="which pixels of the truth are given: random:N, lines:L (L of 64 rings) or scan",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random pattern (0)")
    parser.add_argument("--global-only", action="store_true", help="without local correction")
    parser.add_argument("--report", type=Path, help="write a picture of error, sigma and points")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run_scale(args: argparse.Namespace) -> int:
    """Evaluate, print, and return 0, or 2 when no metric scale came out."""
    scene = load_scene(args.disparity, args.truth, args.truth_scale)
    given = choose_points(scene, args.pattern, args.seed)
    result = evaluate(scene, given, local=not args.global_only)
    figures = {"pattern": args.pattern, "seed": args.seed, **result.figures}
    if args.report is not None:
        from depth_node.evaluation.scale_report import write_report

        write_report(args.report, scene, given, result)
        figures["report"] = str(args.report)
    if args.json:
        print(json.dumps(_without_nan(figures)))
    else:
        _print_table(figures, result)
    return 2 if result.estimate.state is ScaleState.RELATIVE else 0


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: null stands for what could not be measured."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print_table(figures: dict[str, Any], result: Result) -> None:
    print(f"{figures['given']} points given ({figures['pattern']}), {figures['tested']} tested")
    print(f"{'method':<16}{'AbsRel':>9}{'RMSE m':>9}{'delta1':>9}")
    for name, errors in figures["methods"].items():
        print(f"{name:<16}{errors['absrel']:9.4f}{errors['rmse']:9.3f}{errors['delta1']:9.4f}")
    if "coverage_90" in figures:
        print(f"the 90% interval covers {figures['coverage_90']:.1%}")
    reason = f": {result.estimate.reason}" if result.estimate.reason else ""
    print(f"status {figures['status']}{reason}")
    print("  ".join(f"{stage} {ms:.1f} ms" for stage, ms in figures["time_ms"].items()))
