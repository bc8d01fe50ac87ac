"""Time of each step between the network and the publishers, and flying pixels before and after.

Everything runs on one thread at 640x480, from a network output of 256x192, on the exact scenes of
`edge_scenes.py`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
from edge_scenes import measure, scenes
from machine import describe_machine, print_result

from depth_node.geometry.cloud import CloudPacker
from depth_node.geometry.depth import MetricConverter
from depth_node.geometry.preview import render_preview, render_relative_preview
from depth_node.geometry.rectify import Rectifier
from depth_node.parameters import DepthSettings, PointsSettings, PreviewSettings
from depth_node.types import CameraModel, Disparity, Frame, ScaleEstimate, ScaleState

WIDTH, HEIGHT, NETWORK = 640, 480, (256, 192)
BLURS_PX = (0.5, 1.0, 1.5)
PER_FRAME = ("depth_with_edge_removal", "cloud_xyzrgb")


def steps() -> dict[str, Callable[[], Any]]:
    """Each step as a function without arguments."""
    camera = CameraModel.from_field_of_view(WIDTH, HEIGHT, 70.0)
    bent = CameraModel(
        WIDTH, HEIGHT, camera.K, np.array([-0.2, 0.05, 0, 0, 0.0]), distortion_model="plumb_bob"
    )
    scene = next(scenes())
    disparity = Disparity(scene.disparity(camera, *NETWORK, blur_px=1.0))
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    raw = Frame(image, 0, "optical", bent, 0)
    frame = Frame(image, 0, "optical", camera, 0, rectified=True)
    estimate = ScaleEstimate(ScaleState.METRIC, "fixed")
    rectifier, converter, packer = Rectifier(), MetricConverter(), CloudPacker()
    depth = converter.to_metric(disparity, estimate, frame, DepthSettings())
    preview = PreviewSettings()

    def metric(**kwargs: Any) -> Callable[[], Any]:
        chosen = DepthSettings(**kwargs)
        return lambda: converter.to_metric(disparity, estimate, frame, chosen)

    def cloud(**kwargs: Any) -> Callable[[], Any]:
        chosen = PointsSettings(**kwargs)
        return lambda: packer.pack(depth, image, chosen, 50.0)

    return {
        "rectification": lambda: rectifier.rectify(raw),
        "depth": metric(remove_edges=False),
        "depth_with_edge_removal": metric(),
        "cloud_xyzrgb": cloud(),
        "cloud_xyz": cloud(color=False),
        "cloud_stride_4": cloud(stride=4),
        "cloud_voxel_5cm": cloud(voxel_m=0.05),
        "preview": lambda: render_preview(depth.depth, preview),
        "preview_side_by_side": lambda: render_preview(depth.depth, preview, image),
        "preview_relative": lambda: render_relative_preview(disparity.values, preview),
    }


def timing(step: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Milliseconds: the least, the median and the 99th percentile of many calls."""
    step()
    times = np.empty(repeats)
    for i in range(repeats):
        start = time.perf_counter()
        step()
        times[i] = 1e3 * (time.perf_counter() - start)
    low, p50, p99 = np.percentile(times, (0, 50, 99))
    return {"min_ms": round(low, 3), "p50_ms": round(p50, 3), "p99_ms": round(p99, 3)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=300, help="calls of each step")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    times = {name: timing(step, arguments.repeats) for name, step in steps().items()}
    flying = {
        scene.name: {
            f"blur_{blur:g}px": {k: round(v, 4) for k, v in measure(scene, blur).items()}
            for blur in BLURS_PX
        }
        for scene in scenes()
    }
    result = {
        "size": [WIDTH, HEIGHT],
        "network": list(NETWORK),
        "per_frame_p50_ms": round(sum(times[name]["p50_ms"] for name in PER_FRAME), 3),
        "steps": times,
        "flying_pixels": flying,
        **describe_machine(),
    }
    print_result(result, as_json=arguments.json)


if __name__ == "__main__":
    main()
