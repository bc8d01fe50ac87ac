"""`depth-node eval pairs`: accuracy on pairs of points, as DA-2K measures it."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from depth_node.evaluation.options import add_network_arguments, open_engine, with_progress
from depth_node.evaluation.pairs import count_right, load_annotations
from depth_node.evaluation.recording import read_image


def add_pairs_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    parser.add_argument(
        "--annotations", type=Path, required=True, help="annotations.json of DA-2K, by its images"
    )
    add_network_arguments(parser)


def run_pairs(args: argparse.Namespace) -> int:
    """Evaluate every image, print accuracy over all pairs and by kind of scene, return 0."""
    images = load_annotations(args.annotations)
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    with open_engine(args) as engine:
        for marked in with_progress(images):
            image = read_image(marked.path)
            size = (image.shape[1], image.shape[0])
            disparity = np.asarray(cv2.resize(engine.infer(image).values, size), np.float32)
            right[marked.scene] += count_right(disparity, marked)
            total[marked.scene] += len(marked.pairs)
        result = {
            "model": engine.model,
            "engine": engine.name,
            "precision": engine.precision,
            "images": len(images),
            "pairs": sum(total.values()),
            "accuracy": sum(right.values()) / sum(total.values()),
            "accuracy_by_scene": {scene: right[scene] / total[scene] for scene in sorted(total)},
        }
    if args.json:
        print(json.dumps(result))
        return 0
    print(f"{engine.model}: {result['accuracy']:.1%} of {result['pairs']} pairs")
    for scene in sorted(total):
        print(f"  {scene or '.'}: {right[scene] / total[scene]:.1%} of {total[scene]}")
    return 0
