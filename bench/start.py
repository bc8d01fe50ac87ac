"""Seconds from the start of the node's process until its lifecycle says active.

    python bench/start.py --json

The real node over real DDS with the shipped student in OpenVINO: once with an empty cache, then
with the compiled engine in it. CPU seconds are those of the node's process until then: what the
start would take where nothing else runs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import rclpy
from lifecycle_msgs.srv import GetState
from machine import describe_machine, print_result

from depth_node.domain import private_domain

COMMAND = [sys.executable, "-m", "depth_node.ros.main", "--ros-args", "--log-level", "warn"]
PARAMETERS = {"model.name": "student", "model.engine": "openvino"}
LIMIT_S = 60.0


def start_once(node: Any, env: dict[str, str]) -> tuple[float, float]:
    """Start the node, wait until it is active and end it: seconds by the clock and of CPU.

    Raises:
        RuntimeError: the node ended, or was not active within a minute.
    """
    words = [part for item in PARAMETERS.items() for part in ("-p", ":=".join(item))]
    begun = time.monotonic()
    process = subprocess.Popen([*COMMAND, *words], env=env)
    client = node.create_client(GetState, "/depth_node/get_state")
    try:
        # The node answers only once its own transitions are done.
        while not client.wait_for_service(timeout_sec=0.05) or not _is_active(node, client):
            if process.poll() is not None or time.monotonic() - begun > LIMIT_S:
                raise RuntimeError("the node does not become active; see its output above")
        return time.monotonic() - begun, _cpu_seconds(process.pid)
    finally:
        node.destroy_client(client)
        process.terminate()
        process.wait(10.0)


def _is_active(node: Any, client: Any) -> bool:
    future = client.call_async(GetState.Request())
    rclpy.spin_until_future_complete(node, future, timeout_sec=1.0)
    answer = future.result() if future.done() else None
    return answer is not None and answer.current_state.label == "active"


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process (proc(5), fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Measure, print, exit."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--starts", type=int, default=5, help="starts with a cached engine")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    with private_domain(), tempfile.TemporaryDirectory() as cache:
        rclpy.init()
        node = rclpy.create_node("observer")
        path = os.pathsep.join([sys.path[0], os.environ.get("PYTHONPATH", "")])
        env = {**os.environ, "DEPTH_NODE_CACHE": cache, "PYTHONPATH": path}
        first_s, _ = start_once(node, env)
        starts = np.array([start_once(node, env) for _ in range(arguments.starts)])
        node.destroy_node()
        rclpy.shutdown()
    report = {
        "benchmark": "start",
        "network": "student, OpenVINO",
        "empty_cache_s": first_s,
        "cached_p50_s": float(np.median(starts[:, 0])),
        "cached_min_s": float(starts[:, 0].min()),
        "cached_cpu_s": float(np.median(starts[:, 1])),
    }
    print_result({**report, **describe_machine()}, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
