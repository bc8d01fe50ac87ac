"""`depth-node eval depth`: a network's depth on images with ground truth, one frozen protocol."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from depth_node.evaluation.depth import DepthProtocol, EvaluationError
from depth_node.evaluation.depth_frame import score_frame
from depth_node.evaluation.depth_report import WorstFrames, make_folder, write_report
from depth_node.evaluation.depth_summary import DepthSummary
from depth_node.evaluation.options import (
    add_depth_image_arguments,
    add_network_arguments,
    open_engine,
    with_progress,
)
from depth_node.evaluation.recording import Recording, WorldViews


def add_depth_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    frames = parser.add_mutually_exclusive_group(required=True)
    frames.add_argument("--rgb", metavar="GLOB", help="images, in sorted order")
    frames.add_argument(
        "--world", type=int, metavar="COUNT", help="views of the synthetic world, unseen seeds"
    )
    parser.add_argument("--depth", metavar="GLOB", help="the images' depth images, in sorted order")
    add_depth_image_arguments(parser)
    parser.add_argument("--crop", choices=("none", "eigen", "garg"), default="none")
    parser.add_argument(
        "--benchmark-crop", action="store_true", help="KITTI's 352x1216 crop, before --crop"
    )
    parser.add_argument(
        "--align",
        choices=("disparity", "depth", "none"),
        default="disparity",
        help="what scale and shift are fitted in, for each image; none for metric networks",
    )
    add_network_arguments(parser)
    parser.add_argument("--report", type=Path, metavar="DIR", help="write DIR/index.html")
    parser.add_argument(
        "--worst", type=int, default=8, help="frames with pictures in the report (%(default)s)"
    )


def run_depth(args: argparse.Namespace) -> int:
    """Evaluate every frame, print the mean beside that of the row baseline, and return 0."""
    low, high = args.range
    protocol = DepthProtocol(low, high, args.crop, args.benchmark_crop, args.align)
    frames = _frames(args)
    worst = WorstFrames(max(args.worst, 0) if args.report else 0)
    if args.report:
        make_folder(args.report)
    scores = []
    with open_engine(args) as engine:
        for frame in with_progress(frames):
            scored = score_frame(frame, engine.infer(frame.image), protocol)
            scores.append(scored.score)
            worst.offer(scored)
        summary = DepthSummary(engine.model, engine.name, engine.precision, protocol, tuple(scores))
    figures = summary.figures()
    if args.report:
        figures["report"] = str(write_report(args.report, summary, worst.frames))
    if args.json:
        print(json.dumps(figures))
    else:
        print(f"{summary.sentence()}\n\n{summary.table()}")
        if args.report:
            print(f"\nwrote {figures['report']}")
    return 0


def _frames(args: argparse.Namespace) -> Recording | WorldViews:
    if args.world is not None:
        if args.depth is not None:
            raise EvaluationError("--world brings its own truth; leave --depth out")
        return WorldViews(args.world)
    if args.depth is None:
        raise EvaluationError("--rgb needs --depth GLOB: the depth images that are the truth")
    return Recording.find(args.rgb, args.depth, args.depth_scale)
