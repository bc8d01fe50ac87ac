"""Compiling a graph with TensorRT 10.3 to 11.x: strongly typed networks only.

Version 11 has no builder flags for precision: what a tensor's type is stands in the graph.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depth_node.engines.base import EngineError
from depth_node.network.errors import ModelError
from depth_node.network.graph import INPUT
from depth_node.network.store import write_atomically

Progress = Callable[[str, float], None]
"""Takes the name of a phase of the build and how much of it is done, 0 to 1."""

WORKSPACE_BYTES = 2 << 30
"""Most device memory that TensorRT may use for scratch: a Jetson shares it with the robot."""


@dataclass(frozen=True)
class Profile:
    """The image sizes that an engine is compiled for, each (height, width) in pixels."""

    smallest: tuple[int, int]
    typical: tuple[int, int]
    largest: tuple[int, int]

    def __contains__(self, size: tuple[int, int]) -> bool:
        return all(
            low <= side <= high
            for low, side, high in zip(self.smallest, size, self.largest, strict=True)
        )

    def __str__(self) -> str:
        return " ".join(f"{h}x{w}" for h, w in (self.smallest, self.typical, self.largest))


def make_logger(trt: Any, lines: list[str]) -> Any:
    """A TensorRT logger that keeps its errors and warnings, newest last."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if severity in (
                trt.ILogger.Severity.INTERNAL_ERROR,
                trt.ILogger.Severity.ERROR,
                trt.ILogger.Severity.WARNING,
            ):
                lines.append(msg)
                del lines[:-20]

    return Logger()


def build_plan(
    trt: Any,
    logger: Any,
    graph: bytes,
    profile: Profile,
    *,
    exact: bool,
    workspace_bytes: int,
    timing_cache: Path,
    progress: Progress,
) -> bytes:
    """Compile a graph.

    Args:
        trt: the tensorrt module.
        logger: a `trt.ILogger`.
        graph: the ONNX file's content.
        profile: the image sizes that it must take.
        exact: whether fp32 is computed in fp32, and not in TF32.
        workspace_bytes: memory that is free on the device; at most 2 GiB of it are used.
        timing_cache: where the timings of earlier builds are kept.
        progress: is told how far the build is.

    Raises:
        EngineError: the graph cannot be parsed or compiled; holds every error of the parser.
    """
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        told = "; ".join(f"{e.desc()} (node {e.node_name() or e.node()})" for e in errors)
        raise EngineError(f"tensorrt cannot parse the graph: {told or 'no reason given'}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(
        trt.MemoryPoolType.WORKSPACE, min(WORKSPACE_BYTES, workspace_bytes)
    )
    if exact:
        config.clear_flag(trt.BuilderFlag.TF32)
    config.progress_monitor = _make_monitor(trt, progress)
    shapes = builder.create_optimization_profile()
    shapes.set_shape(INPUT, (*profile.smallest, 3), (*profile.typical, 3), (*profile.largest, 3))
    if config.add_optimization_profile(shapes) < 0:
        raise EngineError(f"tensorrt refuses the image sizes {profile}")
    _give_timings(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError("tensorrt could not compile the graph")
    _keep_timings(config, timing_cache)
    return bytes(plan)


def _give_timings(config: Any, path: Path) -> None:
    """Let a build use the timings of earlier ones; those of another version or device are left."""
    try:
        kept = path.read_bytes()
    except OSError:
        kept = b""  # an empty cache is valid
    for content in (kept, b""):
        timings = config.create_timing_cache(content)
        if timings is not None and config.set_timing_cache(timings, ignore_mismatch=False):
            return


def _keep_timings(config: Any, path: Path) -> None:
    timings = config.get_timing_cache()
    content = None if timings is None else timings.serialize()
    if content is not None:
        with contextlib.suppress(ModelError):  # a full disk makes the next build longer, no more
            write_atomically(path, bytes(content))


def _make_monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):
        """Passes on the outermost phase only; the inner ones come and go."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if not parent_phase:
                self._steps[phase_name] = max(1, num_steps)
                progress(phase_name, 0.0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self._steps:
                progress(phase_name, min(1.0, (step + 1) / self._steps[phase_name]))
            return True  # go on

        def phase_finish(self, phase_name: str) -> None:
            if self._steps.pop(phase_name, None) is not None:
                progress(phase_name, 1.0)

    return Monitor()
