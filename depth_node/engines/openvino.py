"""OpenVINO: the fastest way through a network on most CPUs."""

from __future__ import annotations

import io
import sys
from typing import Any

from depth_node.engines.base import EngineError, EngineUnavailable
from depth_node.engines.by_shape import ByShape
from depth_node.engines.cache import EngineCache
from depth_node.engines.cpu import cpu_name, device_name, thread_count
from depth_node.engines.guard import Guard
from depth_node.engines.result import as_disparity
from depth_node.engines.selftest import GOLDEN_SIZE, SelfTest
from depth_node.engines.size import require_size, shape_name
from depth_node.network.front import size_policy, split_front
from depth_node.network.graph import INPUT, Graph
from depth_node.types import ArrayF32, Disparity, ImageU8


class OpenVino:
    """A graph compiled by OpenVINO for the CPU, its resize taken over by OpenCV where possible.

    A network whose size follows the image is compiled for each size that it meets: fixed shapes
    run up to twice as fast as dynamic ones.
    """

    name = "openvino"

    def __init__(
        self,
        graph: Graph,
        precision: str,
        threads: int,
        cache: EngineCache,
        self_test: SelfTest | None = None,
    ) -> None:
        """Load a graph, and compile it if its size is fixed.

        Args:
            graph: the network.
            precision: `fp32` or `bf16` for an fp32 graph; `fp16` for an fp16 graph; `int8` for an
                int8 graph, whose other layers then run in bf16 where the CPU has it.
            threads: CPU threads, 0 for as many as suit the network.
            cache: where compiled networks are kept.
            self_test: judges what is compiled; None for an engine that is the reference itself.

        Raises:
            EngineError: OpenVINO is not installed, refuses the graph or lacks the precision.
        """
        openvino = _import_openvino()
        self._core = openvino.Core()
        self._tensor = openvino.Tensor
        capabilities = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision in ("bf16", "fp16") and precision.upper() not in capabilities:
            raise EngineError(f"this CPU has no {precision} instructions")
        threads = thread_count(threads, graph.size_bytes)
        self.model = graph.name
        self.device = device_name(threads)
        self.precision = precision
        self.signature = {
            "graph": graph.sha256,
            "engine": self.name,
            "runtime": openvino.__version__,
            "device": cpu_name(),
            "capability": " ".join(sorted(capabilities)),
            "precision": precision,
            "threads": str(threads),
        }
        self._cache = cache
        self._kind = graph.kind
        self._path = graph.path
        self._config = _configuration(precision, threads, has_bf16="BF16" in capabilities)
        self._policy = size_policy(graph.proto)
        self._split = split_front(graph.proto)
        self._proto = self._split.proto if self._split else graph.proto
        self._requests: ByShape[tuple[int, ...], Any] = ByShape(
            self.name, graph.size_bytes, self._open
        )
        self._self_test = self_test
        self._guard = Guard(self.name)
        size = self._split.size_of(*GOLDEN_SIZE) if self._split else GOLDEN_SIZE
        self.signature["shape"] = shape_name((*size, 3))
        if self._split and self._split.fixed_size:
            self._requests.load((*size, 3))

    def infer(self, image: ImageU8) -> Disparity:
        """Run the network on one HxWx3 uint8 RGB image of any size; see `Engine.infer`."""
        with self._guard:
            return self._infer(image)

    def close(self) -> None:
        """Free the compiled networks."""
        self._guard.close()
        self._requests.clear()

    def _infer(self, image: ImageU8) -> Disparity:
        require_size(self._policy, image)
        pixels: ArrayF32 | ImageU8 = self._split.resize(image) if self._split else image
        if not pixels.flags.c_contiguous:
            pixels = pixels.copy()
        shape = pixels.shape
        request = self._requests.get(shape, lambda: self._test(shape, image.shape))
        try:
            request.set_tensor(INPUT, self._tensor(pixels, shared_memory=True))
            request.infer()
            raw = request.get_output_tensor(0).data
        except RuntimeError as error:
            raise EngineError(f"openvino failed on a frame: {error}") from error
        return as_disparity(raw, self.name, self._kind)

    def _test(self, shape: tuple[int, ...], image: tuple[int, ...]) -> None:
        """Test what was compiled for a shape on images that come to it."""
        if self._self_test is not None:
            size = (image[0], image[1])
            self._self_test.require(self, self._signature(shape), size, self._infer)

    def _signature(self, shape: tuple[int, ...]) -> dict[str, str]:
        return {**self.signature, "shape": shape_name(shape)}

    def _open(self, shape: tuple[int, ...]) -> Any:
        """A request of the network compiled for one shape of input.

        Raises:
            EngineError: OpenVINO refuses the graph, or also what it has compiled a second time.
        """
        signature = self._signature(shape)
        for attempt in range(2):
            payload = self._cache.get_or_build(signature, lambda: self._compile(shape))
            try:
                compiled = self._core.import_model(io.BytesIO(payload), "CPU", self._config)
                return compiled.create_infer_request()
            except RuntimeError as error:
                reason = str(error)
            self._cache.forget(signature)
            if attempt == 0:
                self._cache.log(
                    f"openvino refuses the cached network, which is compiled again: {reason}"
                )
        raise EngineError(f"openvino refuses the network that it has just compiled: {reason}")

    def _compile(self, shape: tuple[int, ...]) -> bytes:
        try:
            model = self._core.read_model(self._proto.SerializeToString())
            model.reshape({INPUT: list(shape)})
            compiled = self._core.compile_model(model, "CPU", self._config)
        except Exception as error:  # RuntimeError and classes of its frontends
            raise EngineError(f"openvino refuses {self._path}: {error}") from error
        return bytes(compiled.export_model().getvalue())


def _import_openvino() -> Any:
    """The openvino module.

    Raises:
        EngineUnavailable: it is not installed.
    """
    # Its converter would write an identifier into the user's home and report to its maker; it does
    # neither where this package is missing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise EngineUnavailable(f"openvino is not installed ({error})") from error
    return openvino


def _configuration(precision: str, threads: int, *, has_bf16: bool) -> dict[str, str]:
    """OpenVINO's properties for a network in a precision on so many threads."""
    hints = {"bf16": "bf16", "fp16": "f16", "int8": "bf16" if has_bf16 else "f32"}
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        # A pinned thread waits for its core while others are free: on a busy robot that costs more
        # than caches gain (docs/engines.md).
        "ENABLE_CPU_PINNING": "NO",
        "INFERENCE_PRECISION_HINT": hints.get(precision, "f32"),
    }
