"""What a benchmark ran on, and how it prints its result."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "openvino", "ros-rclpy", "torch")
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd")
"""Those that decide how fast a network is on a CPU: one processor's name covers several."""


def describe_machine() -> dict[str, Any]:
    """Processor, its vector instructions, cores and versions, for the result of a benchmark."""
    flags = (_cpuinfo("flags") or _cpuinfo("Features")).split()
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "machine": {
            "processor": _cpuinfo("model name") or platform.machine(),
            "instructions": [flag for flag in INSTRUCTIONS if flag in flags],
            "cores": len(os.sched_getaffinity(0)),
            "python": platform.python_version(),
            "kernel": platform.release(),
            "versions": versions,
        }
    }


def _cpuinfo(key: str) -> str:
    """What the kernel says of the first core; empty where it does not know the key."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.split(":")[0].strip() == key:
            return line.split(":", 1)[1].strip()
    return ""


def print_result(result: dict[str, Any], *, as_json: bool) -> None:
    """Print one JSON object, or the same as readable lines."""
    if as_json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key}: {json.dumps(value) if isinstance(value, dict) else value}")
