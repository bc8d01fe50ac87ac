"""`depth-node eval`: depth, pairs of points, temporal stability and metric scale."""

from __future__ import annotations

import argparse

from depth_node.evaluation.depth_command import add_depth_arguments, run_depth
from depth_node.evaluation.pairs_command import add_pairs_arguments, run_pairs
from depth_node.evaluation.scale_command import add_scale_arguments, run_scale
from depth_node.evaluation.temporal_command import add_temporal_arguments, run_temporal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the evaluations and their options."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="depth|pairs|scale|temporal")
    for name, summary, define, evaluate in (
        ("depth", "a network's depth on images with ground truth", add_depth_arguments, run_depth),
        ("pairs", "which of two points is nearer (DA-2K)", add_pairs_arguments, run_pairs),
        ("scale", "metric scale on one frame with sparse points", add_scale_arguments, run_scale),
        ("temporal", "steadiness along known poses (TAE)", add_temporal_arguments, run_temporal),
    ):
        kind = kinds.add_parser(name, help=summary)
        define(kind)
        kind.set_defaults(evaluate=evaluate)


def run(args: argparse.Namespace) -> int:
    """Run the evaluation that was named."""
    return int(args.evaluate(args))
