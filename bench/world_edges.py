"""Flying pixels at the edges of the synthetic world: the share of them before and after removal.

The network is imitated by the exact inverse depth of a view, brought to 256x192 and blurred as a
network's soft edges are. A cloud point is flying when no true surface seen within seven pixels
around it is within 5% of its depth.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
from machine import describe_machine, print_result

import depth_node.world
from depth_node.geometry.depth import MetricConverter
from depth_node.parameters import DepthSettings
from depth_node.types import (
    ArrayF32,
    CameraModel,
    Disparity,
    Frame,
    ScaleEstimate,
    ScaleState,
)

WIDTH, HEIGHT = 640, 480
NETWORK = (256, 192)
WINDOW = 7
FLYING = 0.05
FIRST_SEED = 20_000_000


def share(truth: ArrayF32, blur_px: float) -> tuple[int, int, int, int]:
    """(points before, flying before, points after, flying after) in one view."""
    exact = np.where(np.isfinite(truth), 1.0 / truth, 0.0).astype(np.float32)
    soft = cv2.resize(exact, NETWORK, interpolation=cv2.INTER_AREA)
    soft = np.asarray(cv2.GaussianBlur(soft, (0, 0), blur_px))
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    camera = CameraModel.from_field_of_view(WIDTH, HEIGHT, 70.0)
    frame = Frame(image, 1, "camera_optical_frame", camera, 0, rectified=True)
    estimate = ScaleEstimate(ScaleState.METRIC, "fixed")
    counts = []
    for remove in (False, True):
        settings = DepthSettings(remove_edges=remove)
        depth = MetricConverter().to_metric(Disparity(soft, "metric"), estimate, frame, settings)
        valid = np.isfinite(depth.depth)
        counts += [int(valid.sum()), int((valid & ~_on_a_surface(depth.depth, truth)).sum())]
    return counts[0], counts[1], counts[2], counts[3]


def _on_a_surface(depth: ArrayF32, truth: ArrayF32) -> np.ndarray:
    half = WINDOW // 2
    padded = cv2.copyMakeBorder(truth, half, half, half, half, cv2.BORDER_REPLICATE)
    on = np.zeros(depth.shape, bool)
    for dy in range(WINDOW):
        for dx in range(WINDOW):
            near = padded[dy : dy + HEIGHT, dx : dx + WIDTH]
            with np.errstate(invalid="ignore"):
                on |= np.abs(depth - near) <= FLYING * depth
    return on


def main() -> None:
    """Measure views of unseen seeds and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--views", type=int, default=12, help="views of the world")
    args = parser.parse_args()
    views = [depth_node.world.sample(FIRST_SEED + i, WIDTH, HEIGHT)[1] for i in range(args.views)]
    shares: dict[str, Any] = {}
    for blur_px in (0.5, 1.0, 1.5):
        before, flying_before, after, flying_after = np.sum(
            [share(truth, blur_px) for truth in views], axis=0
        )
        shares[f"blur_{blur_px:g}px"] = {
            "flying_before": round(flying_before / before, 5),
            "flying_after": round(flying_after / after, 5),
            "points_removed": round(1.0 - after / before, 5),
        }
    result = {"benchmark": "world_edges", "views": args.views, "shares": shares}
    print_result({**result, **describe_machine()}, as_json=args.json)


if __name__ == "__main__":
    main()
