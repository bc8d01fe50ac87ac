"""Time of every message conversion at 640x480, without any transport."""

from __future__ import annotations

import argparse
import statistics
import time
from array import array
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
from machine import describe_machine, print_result
from sensor_msgs.msg import CompressedImage, Image, LaserScan
from std_msgs.msg import Header

from depth_node.geometry.cloud import Cloud
from depth_node.ros.clouds import cloud_message, points_from_cloud
from depth_node.ros.compressed_depth import encode_compressed_depth
from depth_node.ros.compressed_image import decode_compressed
from depth_node.ros.images import SUPPORTED_ENCODINGS, decode_image, image_message, millimetres
from depth_node.ros.sensors import points_from_scan
from depth_node.ros.wire import fill

WIDTH, HEIGHT = 640, 480


def measure(action: Callable[[], object], repeats: int) -> dict[str, float]:
    """Wall time of one call in milliseconds: the minimum and the median of `repeats` calls."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(1e3 * (time.perf_counter() - start))
    return {"min_ms": round(min(times), 4), "p50_ms": round(statistics.median(times), 4)}


def bytes_per_pixel(encoding: str) -> tuple[int, float]:
    """(bytes of a pixel within a row, rows of data for each row of the image)."""
    planar = {"nv12": (1, 1.5), "nv21": (1, 1.5), "nv24": (1, 3.0)}
    if encoding in planar:
        return planar[encoding]
    if encoding.startswith(("yu", "uy")):
        return 2, 1.0
    channels = {"rgba": 4, "bgra": 4, "8UC4": 4, "8UC3": 3, "rgb": 3, "bgr": 3}
    count = next((n for name, n in channels.items() if encoding.startswith(name)), 1)
    return count * (2 if "16" in encoding else 1), 1.0


def camera_image(encoding: str, rng: np.random.Generator) -> Image:
    """An image of noise in any encoding."""
    pixel, rows = bytes_per_pixel(encoding)
    data = rng.integers(0, 256, int(WIDTH * HEIGHT * pixel * rows), np.uint8)
    msg = Image(width=WIDTH, height=HEIGHT, encoding=encoding, step=WIDTH * pixel)
    fill(msg.data, data)
    return msg


def scene() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A smooth RGB picture and a smooth depth image with noise, some NaN and some sky."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    rgb = np.dstack([127 + 120 * np.sin(x / 40), 127 + 120 * np.cos(y / 30), x * 255 / WIDTH])
    rgb = (rgb + rng.normal(0, 3, rgb.shape)).clip(0, 255).astype(np.uint8)
    depth = 3 + 2 * np.sin(x / 100) + y / 150 + 0.01 * rng.standard_normal(x.shape)
    depth[:60] = np.inf
    depth[200:210] = np.nan
    return rgb, depth.astype(np.float32)


def random_cloud(height: int, width: int) -> Cloud:
    """An organised cloud of x, y, z, rgb."""
    data = np.random.default_rng(1).random((height, width, 4), np.float32)
    return Cloud(data)


def run(repeats: int) -> dict[str, dict[str, float]]:
    """Measure every conversion."""
    rng = np.random.default_rng(0)
    rgb, depth = scene()
    header = Header(frame_id="camera_optical_frame")
    actions: dict[str, Callable[[], object]] = {}
    for encoding in SUPPORTED_ENCODINGS:
        msg = camera_image(encoding, rng)
        actions[f"decode {encoding}"] = partial(decode_image, msg)
    for kind in ("jpg", "png"):
        data = cv2.imencode(f".{kind}", rgb)[1]
        compressed = CompressedImage(format=kind)
        fill(compressed.data, data)
        actions[f"decode {kind}"] = partial(decode_compressed, compressed)

    cloud = random_cloud(HEIGHT, WIDTH)
    points = cloud_message(random_cloud(1000, 1000), header)
    scan = LaserScan(
        angle_max=6.28,
        angle_increment=6.28 / 1079,
        range_max=30.0,
        ranges=array("f", rng.random(1080, np.float32)),
    )
    actions |= {
        "encode 32FC1": lambda: image_message(depth, "32FC1", header),
        "encode 16UC1 with millimetres": lambda: image_message(millimetres(depth), "16UC1", header),
        "encode rgb8": lambda: image_message(rgb, "rgb8", header),
        "encode compressedDepth": lambda: encode_compressed_depth(depth, header, 50.0),
        "encode cloud xyz+rgb, 307,200 points": lambda: cloud_message(cloud, header),
        "read cloud xyz+rgb, 1,000,000 points": lambda: points_from_cloud(points),
        "read scan, 1080 beams": lambda: points_from_scan(scan),
        "fill 0.9 MB": lambda: fill(array("B"), rgb),
        "fill 4.9 MB": lambda: fill(array("B"), cloud.data),
    }
    return {name: measure(action, repeats) for name, action in actions.items()}


def main() -> None:
    """Print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=50, help="calls of each (default: 50)")
    arguments = parser.parse_args()
    results = run(arguments.repeats)
    if arguments.json:
        size = {"width": WIDTH, "height": HEIGHT}
        print_result({**size, "conversions": results, **describe_machine()}, as_json=True)
        return
    for name, figures in results.items():
        print(f"{name:40} {figures['min_ms']:9.3f} {figures['p50_ms']:9.3f} ms (minimum, median)")
    print_result(describe_machine(), as_json=False)


if __name__ == "__main__":
    main()
