"""ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import Any

from depth_node.engines.base import EngineError, EngineUnavailable
from depth_node.engines.by_shape import ByShape
from depth_node.engines.cpu import device_name, thread_count
from depth_node.engines.guard import Guard
from depth_node.engines.result import as_disparity
from depth_node.engines.selftest import GOLDEN_SIZE, SelfTest
from depth_node.engines.size import require_size, shape_name
from depth_node.network.front import size_policy, split_front
from depth_node.network.graph import INPUT, Graph
from depth_node.types import ArrayF32, Disparity, ImageU8


class OnnxRuntimeCpu:
    """A graph in ONNX Runtime's CPU provider, its resize taken over by OpenCV where possible.

    A network whose size follows the image gets a session for each size that it meets: with known
    sizes ONNX Runtime folds away what depends on them only (the position embedding's resize). One
    that is run whole has one session for all, and is tested for each size of image all the same.
    """

    name = "onnxruntime"

    def __init__(self, graph: Graph, threads: int = 0, self_test: SelfTest | None = None) -> None:
        """Load a graph.

        Args:
            graph: the network; its precision is the graph's own.
            threads: CPU threads, 0 for as many as suit the network.
            self_test: judges what is opened for further sizes of image; None for an engine that is
                the reference itself.

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
        self._self_test = self_test
        self._policy = size_policy(graph.proto)
        self._split = split_front(graph.proto)
        self._proto = self._split.proto if self._split else graph.proto
        self._whole = None if self._split else self._session_of(None)
        self._sessions: ByShape[tuple[int, int], Any] = ByShape(
            self.name, graph.size_bytes if self._split else 0, self._open
        )
        self._guard = Guard(self.name)
        size = self._split.size_of(*GOLDEN_SIZE) if self._split else GOLDEN_SIZE
        self.signature["shape"] = shape_name((*size, 3))
        if self._split and self._split.fixed_size:
            self._sessions.load(size)

    def infer(self, image: ImageU8) -> Disparity:
        """Run the network on one HxWx3 uint8 RGB image of any size; see `Engine.infer`."""
        with self._guard:
            return self._infer(image)

    def close(self) -> None:
        """Free the sessions."""
        self._guard.close()
        self._sessions.clear()
        self._whole = None

    def _infer(self, image: ImageU8) -> Disparity:
        require_size(self._policy, image)
        pixels: ArrayF32 | ImageU8 = self._split.resize(image) if self._split else image
        size = (pixels.shape[0], pixels.shape[1])
        session = self._sessions.get(size, lambda: self._test(size, image.shape))
        try:
            (raw,) = session.run(None, {INPUT: pixels})
        except Exception as error:  # its exceptions derive from Exception only
            raise EngineError(f"onnxruntime failed on a frame: {error}") from error
        return as_disparity(raw, self.name, self._graph.kind)

    def _test(self, size: tuple[int, int], image: tuple[int, ...]) -> None:
        """Test what was opened for an input of (h, w) on images that come to it."""
        if self._self_test is not None:
            signature = {**self.signature, "shape": shape_name((*size, 3))}
            self._self_test.require(self, signature, (image[0], image[1]), self._infer)

    def _open(self, size: tuple[int, int]) -> Any:
        return self._session_of(size) if self._whole is None else self._whole

    def _session_of(self, size: tuple[int, int] | None) -> Any:
        """Open a session for a network of (h, w), or for one of any size."""
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads that spin between frames would take the node's own cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if size is not None:
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
