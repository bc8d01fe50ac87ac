"""ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import Any

from depth_node.engines.base import EngineError, EngineUnavailable
from depth_node.engines.by_shape import ByShape
from depth_node.engines.cpu import device_name, thread_count
from depth_node.engines.guard import Guard
from depth_node.engines.result import as_disparity
from depth_node.network.front import split_front
from depth_node.network.graph import INPUT, Graph
from depth_node.types import ArrayF32, Disparity, ImageU8


class OnnxRuntimeCpu:
    """A graph in ONNX Runtime's CPU provider, its resize taken over by OpenCV where possible.

    A network whose size follows the image gets a session for each size that it meets: with known
    sizes ONNX Runtime folds away what depends on them only (the position embedding's resize).
    """

    name = "onnxruntime"

    def __init__(self, graph: Graph, threads: int = 0) -> None:
        """Load a graph.

        Args:
            graph: the network; its precision is the graph's own.
            threads: CPU threads, 0 for as many as suit the network.

        Raises:
            EngineError: ONNX Runtime is not installed or refuses the graph.
        """
        self._ort = import_onnxruntime()
        self._threads = thread_count(threads, graph.size_bytes)
        self.model = graph.name
        self.device = device_name(self._threads)
        self.precision = graph.precision
        self.signature = {
            "graph": graph.sha256,
            "engine": self.name,
            "runtime": self._ort.__version__,
            "device": self.device,
            "precision": self.precision,
        }
        self._graph = graph
        self._split = split_front(graph.proto)
        self._proto = self._split.proto if self._split else graph.proto
        self._sessions: ByShape[tuple[int, int], Any] = ByShape(
            self.name, graph.size_bytes, self._open
        )
        self._guard = Guard(self.name)
        fixed = self._split.fixed_size if self._split else (0, 0)
        if fixed is not None:
            self._sessions.load(fixed)

    def infer(self, image: ImageU8) -> Disparity:
        """Run the network on one HxWx3 uint8 RGB image of any size; see `Engine.infer`."""
        with self._guard:
            return self._infer(image)

    def close(self) -> None:
        """Free the sessions."""
        self._guard.close()
        self._sessions.clear()

    def _infer(self, image: ImageU8) -> Disparity:
        pixels: ArrayF32 | ImageU8 = self._split.resize(image) if self._split else image
        h, w = pixels.shape[:2] if self._split else (0, 0)
        session = self._sessions.get((h, w))
        try:
            (raw,) = session.run(None, {INPUT: pixels})
        except Exception as error:  # its exceptions derive from Exception only
            raise EngineError(f"onnxruntime failed on a frame: {error}") from error
        return as_disparity(raw, self.name, self._graph.kind)

    def _open(self, size: tuple[int, int]) -> Any:
        """Open a session for a network of (h, w), or of any size for (0, 0)."""
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads that spin between frames would take the node's own cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if all(size):
            options.add_free_dimension_override_by_name("h", size[0])
            options.add_free_dimension_override_by_name("w", size[1])
        providers = ["CPUExecutionProvider"]
        return open_session(self._ort, self._proto, options, providers, self._graph)


def import_onnxruntime() -> Any:
    """The onnxruntime module.

    Raises:
        EngineUnavailable: it is not installed, or lacks a library.
    """
    try:
        import onnxruntime
    except (ImportError, OSError) as error:
        raise EngineUnavailable(f"onnxruntime is not installed, or not whole ({error})") from error
    onnxruntime.disable_telemetry_events()  # a robot reports to its owner only
    return onnxruntime


def open_session(ort: Any, proto: Any, options: Any, providers: list[Any], graph: Graph) -> Any:
    """Create an `InferenceSession` from a parsed model.

    Raises:
        EngineError: ONNX Runtime refuses the graph.
    """
    try:
        return ort.InferenceSession(proto.SerializeToString(), options, providers=providers)
    except Exception as error:  # its exceptions derive from Exception only
        raise EngineError(f"onnxruntime refuses {graph.path}: {error}") from error
