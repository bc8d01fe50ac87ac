"""Looks transforms up over DDS as the node does, and prints one JSON object with the answers.

Beside it runs `tf_publisher.py`.
"""

from __future__ import annotations

import json
import threading
import time

import rclpy
from rclpy.executors import SingleThreadedExecutor

from depth_node.geometry.transforms import TransformError, Transforms
from depth_node.ros.transforms import listen

PATIENCE_S = 30.0


def answers(transforms: Transforms) -> dict[str, object]:
    def fault(target: str, source: str, stamp_ns: int, timeout_s: float = 0.0) -> str:
        try:
            transforms.lookup(target, source, stamp_ns, timeout_s)
        except TransformError as error:
            return error.fault.value
        return "none"

    def first(target: str, source: str) -> int:
        """The first moment at which a look-up succeeds."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            now = time.time_ns()
            if fault(target, source, now, 0.5) == "none":
                return now
        raise SystemExit(f"no transform from {source} to {target} within {PATIENCE_S} s")

    found: dict[str, object] = {}
    begun = first("odom", "camera_optical_frame")
    static = transforms.lookup("camera_optical_frame", "lidar_link", 0)
    found["listener"] = type(transforms).__name__
    found["static"] = static.tolist()
    errors = []
    for _ in range(20):
        now = time.time_ns()
        x = float(transforms.lookup("odom", "base_link", now, 10.0)[0, 3])  # between two stamps
        errors.append(abs(x - (now % 1_000_000_000_000) * 1e-9))
    found["worst_error_m"] = max(errors)
    found["unknown"] = fault("odom", "nowhere", begun)
    found["too_old"] = fault("odom", "base_link", begun - 60_000_000_000)
    found["future"] = fault("odom", "base_link", time.time_ns() + 60_000_000_000, 0.05)
    print("the robot may fall silent now", flush=True)
    while fault("odom", "base_link", time.time_ns(), 0.5) == "none":
        pass
    found["stale"] = fault("odom", "base_link", time.time_ns())
    found["static_while_stale"] = fault("camera_optical_frame", "lidar_link", time.time_ns())
    return found


def main() -> None:
    rclpy.init()
    node = rclpy.create_node("tf_looker")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    try:
        print(json.dumps(answers(listen(node))), flush=True)
    finally:
        executor.shutdown()
        spinning.join()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
