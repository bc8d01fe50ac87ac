"""ONNX Runtime's TensorRT provider: for an onnxruntime-gpu that finds TensorRT's libraries.

Names and meaning of the options: onnxruntime.ai, "TensorRT Execution Provider". None of its
switches for precision is used: without them ONNX Runtime makes a strongly typed network (its pull
request 18707), whose precision is the graph's own.
"""

from __future__ import annotations

from typing import Any

from depth_node.engines.base import EngineError, EngineUnavailable
from depth_node.engines.by_shape import ByShape
from depth_node.engines.cache import EngineCache
from depth_node.engines.ort_cuda import Bound, OnnxRuntimeCuda
from depth_node.engines.selftest import GOLDEN_SIZE, SelfTest
from depth_node.engines.tensorrt_build import WORKSPACE_BYTES
from depth_node.network.graph import INPUT, Graph
from depth_node.network.precision import require_symmetric


class OnnxRuntimeTensorRt(OnnxRuntimeCuda):
    """A graph whose parts ONNX Runtime gives to TensorRT, and the rest to CUDA.

    It is compiled (minutes) for each size of image that it meets: then every shape in it is known,
    whichever parts ONNX Runtime cuts it into.
    """

    name = "onnxruntime-tensorrt"
    _provider = "TensorrtExecutionProvider"
    _fallbacks = ("CUDAExecutionProvider", "CPUExecutionProvider")
    _needs = "TensorRT, CUDA and cuDNN"

    def __init__(self, graph: Graph, cache: EngineCache, self_test: SelfTest) -> None:
        """Load a graph, and compile it for golden frames.

        Args:
            graph: the network; its precision is the graph's own.
            cache: where compiled networks are kept.
            self_test: judges what is compiled for further sizes of image.

        Raises:
            EngineUnavailable: onnxruntime-gpu, TensorRT or a device they can use is not here.
            EngineError: ONNX Runtime or TensorRT refuses the graph.
            ModelError: the graph is quantised in a way that TensorRT does not take.
        """
        require_symmetric(graph)
        self._cache = cache
        super().__init__(graph, self_test)

    def _load(self) -> ByShape[tuple[int, ...], Bound]:
        shapes: ByShape[tuple[int, ...], Bound] = ByShape(
            self.name, self._graph.size_bytes, self._open_at
        )
        shapes.load((*GOLDEN_SIZE, 3))
        return shapes

    def _test(self, shape: tuple[int, ...]) -> None:
        self._require(shape)  # whatever the network: each shape is compiled by itself

    def _open_at(self, shape: tuple[int, ...]) -> Bound:
        signature = self._signature(shape)
        with self._cache.building(signature):
            session = self._compiled(shape, signature)
        return self._bind(session, shape)

    def _compiled(self, shape: tuple[int, ...], signature: dict[str, str]) -> Any:
        proto = _at_shape(self._graph.proto, shape)
        folder, kept = self._cache.open_folder(signature)
        if kept:
            try:
                return self._open(proto, _options(str(folder)))
            except EngineUnavailable:  # nothing is wrong with what is kept
                raise
            except EngineError as error:
                self._cache.log(f"the cached engine is built again: {error}")
                self._cache.forget(signature)
                folder, _ = self._cache.open_folder(signature)
        self._cache.log(f"TensorRT compiles {self.model} for {shape[0]}x{shape[1]}; minutes")
        session = self._open(proto, _options(str(folder)))
        self._cache.seal_folder(signature)
        return session


def _options(folder: str) -> dict[str, str]:
    return {
        "device_id": "0",
        "trt_max_workspace_size": str(WORKSPACE_BYTES),
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": folder,
    }


def _at_shape(proto: Any, shape: tuple[int, ...]) -> Any:
    """The model for images of one shape only."""
    fixed = type(proto)()
    fixed.CopyFrom(proto)
    image = next(item for item in fixed.graph.input if item.name == INPUT)
    for dimension, side in zip(image.type.tensor_type.shape.dim, shape, strict=True):
        dimension.dim_value = side
    return fixed
