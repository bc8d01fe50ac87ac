"""`depth-node eval depth` and `depth-node eval scale`."""

from __future__ import annotations

import argparse

from depth_node.evaluation.depth_command import add_depth_arguments, run_depth
from depth_node.evaluation.scale_command import add_scale_arguments, run_scale


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the two evaluations and their options."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="depth|scale")
    depth = kinds.add_parser("depth", help="a network's depth on images with ground truth")
    add_depth_arguments(depth)
    depth.set_defaults(evaluate=run_depth)
    scale = kinds.add_parser("scale", help="metric scale on one frame with sparse points")
    add_scale_arguments(scale)
    scale.set_defaults(evaluate=run_scale)


def run(args: argparse.Namespace) -> int:
    """Run the evaluation that was named."""
    return int(args.evaluate(args))
