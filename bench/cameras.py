"""One, two and four cameras through one engine: rate and age of the depth of each.

A process publishes 640x480 images for every camera, the cameras evenly out of step; between it and
this process, which subscribes to the depth images, runs the real node with one engine for all. Ages
are from the image's stamp to the depth image in this process. Each number of cameras runs at the
cameras' usual rate and at one that is more than the node can do; where the engine takes batches,
once more frame by frame.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from live import arrival, camera_messages
from machine import describe_machine, print_result

from depth_node.domain import private_domain
from depth_node.engines.base import Engine

WIDTH, HEIGHT = 640, 480
START_S = 120.0
SETTLE_S = 2.0


@dataclass(frozen=True)
class Load:
    """What is run.

    Attributes:
        cameras: how many.
        rate_hz: of each of them.
        network: `model.name` of the nodes.
        batches: whether frames may run together where the engine can.
    """

    cameras: int
    rate_hz: float
    network: str
    batches: bool = True

    @property
    def names(self) -> list[str]:
        """The namespace of each camera."""
        return [f"camera_{number}" for number in range(self.cameras)]


class FrameByFrame:
    """An engine without its batches."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name, self.model = engine.name, engine.model
        self.device, self.precision = engine.device, engine.precision

    def infer(self, image: Any) -> Any:
        return self._engine.infer(image)

    def close(self) -> None:
        self._engine.close()


def run_node(load: Load) -> None:
    """The real node; only its batches may be taken from it."""
    import depth_node.ros.node as module
    from depth_node.ros.main import main

    load_engine = module.load_engine
    if not load.batches:
        module.load_engine = lambda *args: FrameByFrame(load_engine(*args))
    parameters = {
        "model.name": load.network,
        "scale.source": "fixed",
        "scale.fixed_scale": "0.01",
    }
    arguments = [part for item in parameters.items() for part in ("-p", ":=".join(item))]
    main([sys.argv[0], "--cameras", *load.names, "--ros-args", *arguments])


def run_cameras(load: Load) -> None:
    """Publish one picture with its CameraInfo for every camera in turn, until a signal."""
    import rclpy
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import CameraInfo, Image

    rclpy.init()
    node = rclpy.create_node("cameras")
    qos = QoSProfile(depth=2)
    publishers = [
        (
            node.create_publisher(Image, f"{name}/image", qos),
            node.create_publisher(CameraInfo, f"{name}/camera_info", qos),
        )
        for name in load.names
    ]
    image, info = camera_messages(WIDTH, HEIGHT)
    due = time.monotonic()
    while True:
        for images, infos in publishers:
            due = max(due + 1.0 / (load.rate_hz * load.cameras), time.monotonic() - 1.0)
            time.sleep(max(0.0, due - time.monotonic()))
            image.header.stamp = info.header.stamp = node.get_clock().now().to_msg()
            infos.publish(info)
            images.publish(image)


class Observer:
    """Subscribes to the depth images of every camera and to the diagnostics.

    Attributes:
        seen: for every camera, (time of arrival in seconds, age in milliseconds) of each image.
        values: for every camera, its node's last diagnostics.
    """

    def __init__(self, load: Load) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import QoSProfile
        from sensor_msgs.msg import Image

        rclpy.init()
        self._rclpy = rclpy
        node = rclpy.create_node("observer")
        self.seen: dict[str, list[tuple[float, float]]] = {name: [] for name in load.names}
        self.values: dict[str, dict[str, str]] = {}
        for name in load.names:
            node.create_subscription(
                Image, f"{name}/depth/image_rect", self._adder(name), QoSProfile(depth=2)
            )
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_report, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)

    def spin(self, seconds: float) -> None:
        """Listen for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left)

    def wait_for_depth(self) -> None:
        """Listen until depth of every camera flows.

        Raises:
            RuntimeError: it does not within two minutes.
        """
        end = time.monotonic() + START_S
        while any(len(images) < 10 for images in self.seen.values()):
            if time.monotonic() > end:
                raise RuntimeError(f"no depth within {START_S:g} s; the node says {self.values}")
            self.spin(0.2)

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._rclpy.shutdown()

    def _adder(self, name: str) -> Any:
        images = self.seen[name]
        return lambda msg: images.append(arrival(msg))

    def _on_report(self, msg: Any) -> None:
        name = msg.status[0].name.partition("/")[0]
        self.values[name] = {item.key: item.value for item in msg.status[0].values}


@contextlib.contextmanager
def running(role: str, load: Load) -> Iterator[subprocess.Popen[bytes]]:
    """A role as a process of its own, ended afterwards."""
    command = [sys.executable, __file__, "--role", role, json.dumps(dataclasses.asdict(load))]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT if role == "node" else signal.SIGKILL)
        process.wait(10.0)


def cpu_s(pid: int) -> float:
    """Processor time that a process has taken, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(load: Load, seconds: float) -> dict[str, Any]:
    """Rate and age of each camera's depth, and what the node's process takes of the machine."""
    with private_domain(), running("node", load) as node, running("cameras", load):
        observer = Observer(load)
        try:
            observer.wait_for_depth()
            observer.spin(SETTLE_S)
            begun = {name: len(images) for name, images in observer.seen.items()}
            taken_s, since_s = cpu_s(node.pid), time.monotonic()
            observer.spin(seconds)
            taken_s, since_s = cpu_s(node.pid) - taken_s, time.monotonic() - since_s
        finally:
            observer.close()
    values = observer.values[load.names[0]]
    cameras = []
    for name in load.names:
        at_s, age_ms = np.array(observer.seen[name][begun[name] :]).T
        p50, p99 = np.percentile(age_ms, (50, 99))
        rate_hz = (len(at_s) - 1) / (at_s[-1] - at_s[0])
        cameras.append(
            {
                "rate_hz": round(float(rate_hz), 1),
                "p50_ms": round(float(p50), 1),
                "p99_ms": round(float(p99), 1),
            }
        )
    return {
        "cameras": load.cameras,
        "camera_hz": load.rate_hz,
        "engine": values["engine"],
        "network": values["network"],
        "network_p50_ms": float(values["network_ms.p50"]),
        "batch_limit": int(values.get("engine_batch.limit", "1")),
        "batch_mean": float(values.get("engine_batch.mean", "1")),
        "rate_hz": round(sum(camera["rate_hz"] for camera in cameras), 1),
        "node_cpu_percent": round(100.0 * taken_s / since_s),
        "each": cameras,
    }


def main() -> None:
    """Parse the command line, run every combination and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each run")
    parser.add_argument("--rate", type=float, default=30.0, help="usual rate of a camera, Hz")
    parser.add_argument(
        "--saturating", type=float, default=240.0, help="rate of all cameras together, Hz, at most"
    )
    parser.add_argument("--network", default="auto", help="model.name of the nodes")
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 2, 4], help="how many")
    parser.add_argument("--role", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role:
        role, load = args.role
        {"node": run_node, "cameras": run_cameras}[role](Load(**json.loads(load)))
        return
    runs = []
    for cameras in args.cameras:
        for rate_hz in (args.rate, args.saturating / cameras):
            load = Load(cameras, rate_hz, args.network)
            runs.append(measure(load, args.seconds))
            print(runs[-1], file=sys.stderr)
            if runs[-1]["batch_limit"] > 1:
                runs.append(measure(dataclasses.replace(load, batches=False), args.seconds))
    result = {"benchmark": "cameras", "image": f"{WIDTH}x{HEIGHT}", "runs": runs}
    print_result({**result, **describe_machine()}, as_json=args.json)


if __name__ == "__main__":
    main()
