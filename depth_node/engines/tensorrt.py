"""TensorRT through its native Python API, 10.3 (JetPack 6) to 11.x.

Written to the official API, and never run by its authors on a machine that has it: what it
computes on yours is held to the fp32 network by the self-test before it is first used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from depth_node.engines.base import EngineError, EngineUnavailable
from depth_node.engines.by_shape import ByShape
from depth_node.engines.cache import EngineCache
from depth_node.engines.cuda import Buffer, Cuda
from depth_node.engines.guard import Guard
from depth_node.engines.result import as_disparity
from depth_node.engines.selftest import GOLDEN_SIZE, SelfTest
from depth_node.engines.size import require_size
from depth_node.engines.tensorrt_build import Profile, Progress, build_plan, make_logger
from depth_node.network.front import size_policy, split_front
from depth_node.network.graph import INPUT, OUTPUT, Graph
from depth_node.network.precision import require_symmetric
from depth_node.release import run_all
from depth_node.types import Disparity, ImageU8

_ANY_SIZE = Profile((64, 64), GOLDEN_SIZE, (2160, 3840))
"""Images for a network of a fixed size, whose resize alone sees them. A wider range would cost the
memory of its largest image."""


class TensorRt:
    """A graph compiled by TensorRT, with a CUDA graph over copy, network and copy.

    A network of a fixed size is compiled once for images from 64x64 to 3840x2160, and again for
    each size beyond. One whose size follows the image is compiled for each image size that it
    meets: then every shape in it is known.
    """

    name = "tensorrt"

    def __init__(
        self, graph: Graph, cache: EngineCache, progress: Progress, self_test: SelfTest
    ) -> None:
        """Load a graph, compiling it (minutes) if it is not in the cache.

        Args:
            graph: the network; its precision is the graph's own.
            cache: where compiled networks are kept.
            progress: is told how far a build is.
            self_test: judges what is compiled for further sizes of image.

        Raises:
            EngineUnavailable: tensorrt, cuda-python or the device is not here.
            EngineError: TensorRT refuses the graph.
            ModelError: the graph is quantised in a way that TensorRT does not take.
        """
        tensorrt = self.require()
        require_symmetric(graph)
        self._trt = tensorrt
        self._cuda = Cuda()
        self._lines: list[str] = []
        self._logger = make_logger(tensorrt, self._lines)
        self._runtime = tensorrt.Runtime(self._logger)
        self._graph = graph
        self._cache = cache
        self._progress = progress
        self._self_test = self_test
        self.model = graph.name
        self.device = self._cuda.device
        self.precision = graph.precision
        self._policy = size_policy(graph.proto)
        split = split_front(graph.proto)
        self._any_size = split is not None and split.fixed_size is not None
        first = self._profile(GOLDEN_SIZE)
        self.signature = self._signature(first)
        self._guard = Guard(self.name)
        self._sessions = ByShape(self.name, graph.size_bytes, self._open, _Session.free)
        self._sessions.load(first)

    @staticmethod
    def require() -> Any:
        """The tensorrt module.

        Raises:
            EngineUnavailable: it is not installed.
        """
        try:
            import tensorrt
        except ImportError as error:
            raise EngineUnavailable(f"tensorrt is not installed ({error})") from error
        return tensorrt

    def infer(self, image: ImageU8) -> Disparity:
        """Run the network on one HxWx3 uint8 RGB image of any size; see `Engine.infer`."""
        with self._guard:
            return self._infer(image)

    def close(self) -> None:
        """Free contexts, engines and memory.

        Raises:
            EngineError: CUDA refuses to take something back; everything else is freed.
        """
        self._guard.close()
        try:
            self._sessions.clear()
        finally:
            self._runtime = None

    def _infer(self, image: ImageU8) -> Disparity:
        require_size(self._policy, image)
        size = (image.shape[0], image.shape[1])
        profile = self._profile(size)
        session = self._sessions.get(
            profile,
            lambda: self._self_test.require(self, self._signature(profile), size, self._infer),
        )
        return as_disparity(session.run(image), self.name, self._graph.kind)

    def _profile(self, size: tuple[int, int]) -> Profile:
        """What images of a size are compiled for."""
        return _ANY_SIZE if self._any_size and size in _ANY_SIZE else Profile(size, size, size)

    def _signature(self, profile: Profile) -> dict[str, str]:
        return {
            "graph": self._graph.sha256,
            "engine": self.name,
            "runtime": str(self._trt.__version__),
            "driver": self._cuda.driver,
            "device": self._cuda.device,
            "precision": self.precision,
            "shape": str(profile),
        }

    def _open(self, profile: Profile) -> _Session:
        signature = self._signature(profile)
        for attempt in range(2):
            plan = self._cache.get_or_build(signature, lambda: self._build(profile))
            engine = self._runtime.deserialize_cuda_engine(plan)
            if engine is not None:
                return _Session(self._trt, self._cuda, engine, self._why)
            self._cache.forget(signature)
            if attempt == 0:
                self._cache.log("tensorrt refuses the cached engine; it is built again")
        raise EngineError(self._why("tensorrt refuses the engine that it has just built"))

    def _build(self, profile: Profile) -> bytes:
        try:
            return build_plan(
                self._trt,
                self._logger,
                self._graph.proto.SerializeToString(),
                profile,
                exact=self.precision == "fp32",
                workspace_bytes=self._cuda.free_bytes() // 2,
                timing_cache=self._cache.folder / "tensorrt.timing",
                progress=self._progress,
            )
        except EngineError as error:
            raise EngineError(self._why(str(error))) from error

    def _why(self, what: str) -> str:
        """An error with the last that TensorRT has logged."""
        return f"{what}; tensorrt says: {self._lines[-1]}" if self._lines else what


class _Session:
    """One engine with its context, buffers and CUDA graph."""

    def __init__(self, trt: Any, cuda: Cuda, engine: Any, why: Callable[[str], str]) -> None:
        self._cuda = cuda
        self._why = why
        expected = {INPUT: trt.TensorIOMode.INPUT, OUTPUT: trt.TensorIOMode.OUTPUT}
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        modes = {name: engine.get_tensor_mode(name) for name in names}
        types = (trt.DataType.UINT8, trt.DataType.FLOAT)
        if modes != expected or types != tuple(map(engine.get_tensor_dtype, (INPUT, OUTPUT))):
            raise EngineError(f"the engine has the tensors {names}; expected {list(expected)}")
        context = engine.create_execution_context()
        if context is None:
            raise EngineError(why("tensorrt has no memory for an execution context"))
        self._engine, self._context = engine, context
        self._stream = cuda.stream()
        self._shape: tuple[int, ...] = ()
        self._result: tuple[int, int] = (0, 0)
        self._buffers: dict[str, Buffer] = {}
        self._recorded: Any = None

    def run(self, image: ImageU8) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Run the network; the result is this session's pinned memory."""
        if image.shape != self._shape:
            self._prepare(image.shape)
        np.copyto(self._buffers[INPUT].host[: image.size].reshape(image.shape), image)
        if self._recorded is None:
            self._enqueue()  # the first run allocates, and may not be recorded
            self._stream.wait()
            self._stream.begin_capture()
            try:
                self._enqueue()
            except EngineError:
                self._stream.abandon_capture()
                raise
            self._recorded = self._stream.end_capture()
        self._stream.launch(self._recorded)
        self._stream.wait()
        h, w = self._result
        return self._buffers[OUTPUT].host[: 4 * h * w].view(np.float32).reshape(h, w)

    def free(self) -> None:
        """Give everything back.

        Raises:
            EngineError: CUDA refuses something; everything else is given back.
        """
        buffers, self._buffers = self._buffers, {}
        frees = [buffer.free for buffer in buffers.values()]
        try:
            run_all(self._forget_recording, *frees, self._stream.free)
        finally:
            self._context = self._engine = None

    def _prepare(self, shape: tuple[int, ...]) -> None:
        """Set shapes and addresses for an image size, with memory that is kept for the next."""
        self._forget_recording()
        self._shape = ()
        context = self._context
        if not context.set_input_shape(INPUT, shape):
            raise EngineError(self._why(f"the engine takes no image of shape {shape}"))
        result = tuple(context.get_tensor_shape(OUTPUT))
        if len(result) != 2 or min(result) < 1:
            raise EngineError(f"the engine's output has shape {result} for an image of {shape}")
        for name, size in ((INPUT, int(np.prod(shape))), (OUTPUT, 4 * result[0] * result[1])):
            if not context.set_tensor_address(name, self._reserve(name, size)):
                raise EngineError(self._why(f"tensorrt refuses the memory of {name}"))
        self._shape, self._result = shape, (result[0], result[1])

    def _reserve(self, name: str, size: int) -> int:
        """Address of at least `size` bytes of device memory for a tensor."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            if buffer is not None:
                # Forgotten first: if CUDA fails in what follows, it may not be used or freed again.
                del self._buffers[name]
                buffer.free()
            self._buffers[name] = self._cuda.buffer(size)
        return self._buffers[name].device

    def _enqueue(self) -> None:
        self._stream.upload(self._buffers[INPUT], int(np.prod(self._shape)))
        if not self._context.execute_async_v3(self._stream.handle):
            raise EngineError(self._why("tensorrt failed on a frame"))
        self._stream.download(self._buffers[OUTPUT], 4 * self._result[0] * self._result[1])

    def _forget_recording(self) -> None:
        recorded, self._recorded = self._recorded, None
        if recorded is not None:
            self._stream.free_graph(recorded)
