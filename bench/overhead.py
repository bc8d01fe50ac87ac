"""What the node costs beside the network: image callback to the return of the last publish().

A camera process publishes 640x480 images at 30 Hz; this process subscribes to the depth image and
to the full xyz+rgb cloud. In between runs the real node with an engine that answers at once, and
then, for comparison, a plain rclpy relay that publishes messages of the same sizes.
"""

from __future__ import annotations

import argparse
import array
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
from machine import describe_machine, print_result

from depth_node.domain import private_domain

WIDTH, HEIGHT, RATE_HZ = 640, 480, 30.0


def disparity() -> Any:
    """256x192 float32: a floor, a wall and boxes, blurred as a network's edges are."""
    values = np.full((192, 256), 10.0, np.float32)
    values[100:] += np.linspace(0.0, 60.0, 92, dtype=np.float32)[:, None]
    for x, top, height, value in ((30, 60, 90, 40.0), (110, 40, 120, 70.0), (200, 80, 70, 25.0)):
        values[top : top + height, x : x + 40] = value
    values[:20] = 0.0
    return cv2.GaussianBlur(values, (0, 0), 1.0)


def run_node() -> None:
    """The real node; only the network is replaced."""
    from instant import replace_network

    from depth_node.ros.main import main

    replace_network(disparity())
    parameters = {"scale.source": "fixed", "scale.fixed_scale": "0.01"}
    arguments = [f"{name}:={value}" for name, value in parameters.items()]
    ros = ["--ros-args", "-r", "image:=/camera/image_raw"]
    main([sys.argv[0], *ros, *(part for item in arguments for part in ("-p", item))])


def run_relay() -> None:
    """Publish ready messages of the node's sizes for every image, and print the time it takes."""
    import rclpy
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import Image, PointCloud2

    rclpy.init()
    node = rclpy.create_node("relay")
    depth = Image(width=WIDTH, height=HEIGHT, encoding="32FC1", step=4 * WIDTH)
    depth.data = array.array("B", bytes(4 * WIDTH * HEIGHT))
    cloud = PointCloud2(width=WIDTH, height=HEIGHT, point_step=16, row_step=16 * WIDTH)
    cloud.data = array.array("B", bytes(16 * WIDTH * HEIGHT))
    publishers = [
        (node.create_publisher(Image, "depth/image_rect", QoSProfile(depth=2)), depth),
        (node.create_publisher(PointCloud2, "points", QoSProfile(depth=2)), cloud),
    ]
    times_ms: list[float] = []

    def on_image(msg: Image) -> None:
        start = time.perf_counter()
        for publisher, message in publishers:
            message.header = msg.header
            publisher.publish(message)
        times_ms.append(1e3 * (time.perf_counter() - start))
        if len(times_ms) % 30 == 0:
            p50, p99 = np.percentile(times_ms[-300:], (50, 99))
            print(f"{p50:.3f} {p99:.3f}", flush=True)

    node.create_subscription(Image, "/camera/image_raw", on_image, QoSProfile(depth=2))
    rclpy.spin(node)


def run_camera() -> None:
    """Publish one image with its CameraInfo at 30 Hz."""
    import rclpy
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import CameraInfo, Image

    rclpy.init()
    node = rclpy.create_node("camera")
    images = node.create_publisher(Image, "/camera/image_raw", QoSProfile(depth=2))
    infos = node.create_publisher(CameraInfo, "/camera/camera_info", QoSProfile(depth=2))
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    image = Image(width=WIDTH, height=HEIGHT, encoding="rgb8", step=3 * WIDTH)
    image.data = array.array("B", pixels.tobytes())
    info = CameraInfo(width=WIDTH, height=HEIGHT, k=[500.0, 0, 320, 0, 500, 240, 0, 0, 1])
    image.header.frame_id = info.header.frame_id = "camera_optical_frame"

    def tick() -> None:
        image.header.stamp = info.header.stamp = node.get_clock().now().to_msg()
        infos.publish(info)
        images.publish(image)

    node.create_timer(1.0 / RATE_HZ, tick)
    rclpy.spin(node)


def start(role: str, env: dict[str, str]) -> subprocess.Popen[str]:
    """Start one of the roles above as a process."""
    command = [sys.executable, __file__, "--role", role]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def measure(seconds: float) -> dict[str, Any]:
    """Run both, one after the other, and collect the figures."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import Image, PointCloud2

    rclpy.init()
    observer = rclpy.create_node("observer")
    counts = {"depth": 0, "cloud": 0}
    reports: list[Any] = []

    def count(name: str) -> Any:
        def add(msg: Any) -> None:
            counts[name] += 1

        return add

    qos = QoSProfile(depth=2)
    observer.create_subscription(Image, "depth/image_rect", count("depth"), qos)
    observer.create_subscription(PointCloud2, "points", count("cloud"), qos)
    observer.create_subscription(DiagnosticArray, "/diagnostics", reports.append, 10)

    def spin(duration: float) -> None:
        end = time.monotonic() + duration
        while time.monotonic() < end:
            rclpy.spin_once(observer, timeout_sec=0.1)

    camera = start("camera", dict(os.environ))
    node = start("node", dict(os.environ))
    spin(3.0 + seconds)
    node.send_signal(signal.SIGINT)
    node.wait(5.0)
    values = {item.key: item.value for item in reports[-1].status[0].values}
    seen = dict(counts)
    relay = start("relay", dict(os.environ))
    spin(3.0 + seconds)
    for process in (relay, camera):
        process.kill()
    assert relay.stdout is not None
    relay_p50, relay_p99 = map(float, relay.stdout.read().split("\n")[-2].split())
    rclpy.shutdown()
    p50, p99 = (float(values[f"turnaround_ms.{q}"]) for q in ("p50", "p99"))
    return {
        "p50_ms": p50,
        "p99_ms": p99,
        "relay_p50_ms": relay_p50,
        "relay_p99_ms": relay_p99,
        "ratio_to_relay_p50": round(p50 / relay_p50, 2),
        "stages_p50_ms": {k[:-7]: float(v) for k, v in values.items() if k.endswith("_ms.p50")},
        "frames": int(values["published"]),
        "depth_images_received": seen["depth"],
        "clouds_received": seen["cloud"],
    }


def main() -> None:
    """Parse the command line and run the role that it names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each of two runs")
    parser.add_argument("--role", choices=("node", "relay", "camera"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    roles = {"node": run_node, "relay": run_relay, "camera": run_camera}
    if args.role:
        roles[args.role]()
        return
    with private_domain():
        figures = measure(args.seconds)
    result = {"benchmark": "overhead", "image": f"{WIDTH}x{HEIGHT}", **figures}
    print_result({**result, **describe_machine()}, as_json=args.json)


if __name__ == "__main__":
    main()
