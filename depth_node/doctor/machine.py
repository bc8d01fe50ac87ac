"""The machine without ROS: engines, GPU, network and webcams."""

from __future__ import annotations

import contextlib
import json
import os
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from depth_node.cameras.base import CameraError
from depth_node.cameras.v4l2 import find_device, list_devices
from depth_node.doctor.findings import Finding, error, ok, warn
from depth_node.engines.select import PRECISIONS
from depth_node.health import Level
from depth_node.imports import pip_install
from depth_node.network.errors import ModelError
from depth_node.network.graph import read_graph
from depth_node.network.resolve import resolve_model
from depth_node.parameters import ModelSettings
from depth_node.resources import ResourceError

PROBE_TIMEOUT_S = 20.0
"""Long enough for torch from a cold disk; a runtime that takes longer hangs."""
_NEEDS_GPU = ("tensorrt", "onnxruntime-tensorrt", "onnxruntime-cuda")
_REFERENCES = ("onnxruntime", "openvino")
_CPU_CURE = pip_install("cpu")
_GPU_CURE = f"{pip_install('gpu')}; TensorRT comes with JetPack or from NVIDIA"


@dataclass(frozen=True)
class Probe:
    """What a probe saw.

    Attributes:
        found: what is there, in words, or empty.
        missing: why it is not, or empty.
    """

    found: str = ""
    missing: str = ""


def check_machine() -> list[Finding]:
    """Everything about this machine that the node needs or could use."""
    probes = run_probes([*PRECISIONS, "onnx", "gpu"])
    return [
        *judge_engines({name: probes[name] for name in PRECISIONS}, probes["gpu"]),
        *_check_model(probes["onnx"]),
        *_check_webcams(),
    ]


def run_probes(names: Sequence[str]) -> dict[str, Probe]:
    """Look at several runtimes at once, each in a process of its own."""
    deadline = time.monotonic() + PROBE_TIMEOUT_S
    with _started(names) as processes:
        return {name: _answer(process, deadline) for name, process in processes.items()}


@contextlib.contextmanager
def _started(names: Sequence[str]) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """The probes' processes, ended with the block whatever happens.

    Their home is a folder that ends with them: OpenVINO and ONNX Runtime write identifiers for
    their telemetry into it when they are imported, and a look must leave nothing behind.
    """
    processes: dict[str, subprocess.Popen[str]] = {}
    home = tempfile.TemporaryDirectory(prefix="depth_node_doctor_", ignore_cleanup_errors=True)
    env = {**os.environ, "HOME": home.name, "XDG_CACHE_HOME": home.name}
    env["PYTHONUSERBASE"] = site.getuserbase()  # `pip install --user` lies in the real home
    try:
        for name in names:
            processes[name] = subprocess.Popen(
                [sys.executable, "-m", "depth_node.doctor.probe", name],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
        home.cleanup()


def _answer(process: subprocess.Popen[str], deadline: float) -> Probe:
    try:
        output, errors = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return Probe(missing=f"it did not load within {PROBE_TIMEOUT_S:.0f} s")
    try:
        return Probe(**json.loads(output.splitlines()[-1]))
    except (IndexError, TypeError, ValueError):
        last = (errors.strip().splitlines() or ["no message"])[-1]
        return Probe(missing=f"loading it ends with exit code {process.returncode} ({last})")


def judge_engines(engines: dict[str, Probe], gpu: Probe) -> list[Finding]:
    """The engines in the order in which `auto` tries them, and the GPU."""
    findings = []
    usable = []
    for name, probe in engines.items():
        if not probe.found:
            cure = "" if gpu.missing and name in _NEEDS_GPU else _cure(name)
            findings.append(ok("engine", f"{name} is not available: {probe.missing}", cure))
        elif name in _NEEDS_GPU and gpu.missing:
            seen = f"{name} is installed ({probe.found}) but cannot run: {gpu.missing}"
            findings.append(ok("engine", seen))
        else:
            usable.append(name)
            findings.append(ok("engine", f"{name}: {probe.found}"))
    if not usable:
        findings.append(error("engine", "nothing here can run a network", _CPU_CURE))
    elif not set(usable) & set(_REFERENCES):
        seen = (
            f"no engine can be tested before it is used: {' or '.join(_REFERENCES)} computes the "
            "self-test's reference on the CPU, and neither is here"
        )
        findings.append(error("engine", seen, "pip install onnxruntime"))
    if gpu.missing:
        findings.append(ok("gpu", f"none: {gpu.missing}; the network runs on the CPU"))
    elif not set(usable) & {*_NEEDS_GPU, "torch"}:
        seen = f"{gpu.found} is here but no engine can use it; the network runs on the CPU"
        findings.append(warn("gpu", seen, _GPU_CURE))
    else:
        findings.append(ok("gpu", gpu.found))
    return findings


def _cure(engine: str) -> str:
    if engine in _NEEDS_GPU:
        return _GPU_CURE
    return "" if engine == "torch" else _CPU_CURE


def _check_model(onnx: Probe) -> list[Finding]:
    """The network that `model.name: auto` stands for."""
    lines: list[str] = []
    try:
        files = resolve_model(ModelSettings(), lines.append)
        if onnx.found:
            read_graph(files.graphs["fp32"])
    except (ModelError, ResourceError) as problem:
        cure = "install the package again, or export a network: depth-node models export"
        return [Finding.from_text(Level.ERROR, "model", str(problem), cure)]
    if not onnx.found:
        return [error("model", f"no network can be read: {onnx.missing}", _CPU_CURE)]
    seen, _, hint = lines[-1].partition("; ")
    return [ok("model", f"{seen}, in {', '.join(files.graphs)}", hint)]


def _check_webcams() -> list[Finding]:
    devices = list_devices()
    if not devices:
        return [ok("webcam", "none; the node needs one only for camera.source webcam")]
    findings = []
    for device in devices:
        try:
            findings.append(ok("webcam", str(find_device(str(device.path)))))
        except CameraError as problem:
            findings.append(Finding.from_text(Level.WARN, "webcam", str(problem)))
    return findings
