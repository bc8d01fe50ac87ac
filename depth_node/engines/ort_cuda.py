"""ONNX Runtime on an NVIDIA GPU."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from depth_node.engines.base import EngineError, EngineUnavailable
from depth_node.engines.by_shape import ByShape
from depth_node.engines.guard import Guard
from depth_node.engines.ort import import_onnxruntime, open_session
from depth_node.engines.result import as_disparity
from depth_node.engines.selftest import GOLDEN_SIZE, SelfTest
from depth_node.engines.size import require_size, shape_name
from depth_node.network.front import size_policy
from depth_node.network.graph import INPUT, OUTPUT, Graph
from depth_node.types import Disparity, ImageU8

_COMPUTE_MAJOR, _COMPUTE_MINOR = 75, 76
"""Of CUdevice_attribute in cuda.h: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""
_KERNEL_MODULE = Path("/sys/module/nvidia/version")
"""The driver's own version; CUDA's changes less often."""


@dataclass(frozen=True, eq=False)
class Bound:
    """A session with device memory for one shape of image, which is used again for every frame.

    Attributes:
        session: `onnxruntime.InferenceSession`; shapes may share it.
        pixels: the image on the device, an `OrtValue`.
        binding: the session's `IOBinding` of it.
    """

    session: Any
    pixels: Any
    binding: Any


class OnnxRuntimeCuda:
    """A graph in ONNX Runtime's CUDA provider; only camera bytes and disparity cross the bus.

    All sizes of image share one session. A network whose size follows the image is tested for each
    all the same: it runs other kernels, on other numbers.
    """

    name = "onnxruntime-cuda"
    _provider = "CUDAExecutionProvider"
    _memory = "cuda"
    _fallbacks: tuple[str, ...] = ("CPUExecutionProvider",)
    _needs = "CUDA and cuDNN"

    def __init__(self, graph: Graph, self_test: SelfTest | None = None) -> None:
        """Load a graph.

        Args:
            graph: the network; its precision is the graph's own.
            self_test: judges it at further sizes of image; None for no test.

        Raises:
            EngineUnavailable: onnxruntime-gpu or a device it can use is not here.
            EngineError: ONNX Runtime refuses the graph.
        """
        self._ort = self.require()
        self.model = graph.name
        self.device, driver = _gpu()
        self.precision = graph.precision
        self._graph = graph
        self.signature = {
            "graph": graph.sha256,
            "engine": self.name,
            "runtime": self._ort.__version__,
            "driver": driver,
            "device": self.device,
            "precision": self.precision,
            "shape": shape_name((*GOLDEN_SIZE, 3)),
        }
        self._self_test = self_test
        self._policy = size_policy(graph.proto)
        self._session: Any = None
        self._shapes = self._load()
        self._guard = Guard(self.name)

    @classmethod
    def require(cls) -> Any:
        """The onnxruntime module, if it has been built with this engine's provider.

        Raises:
            EngineUnavailable: it is not installed, or has not.
        """
        ort = import_onnxruntime()
        if cls._provider not in ort.get_available_providers():
            raise EngineUnavailable(
                f"this onnxruntime has no {cls._provider}; install onnxruntime-gpu"
            )
        return ort

    def infer(self, image: ImageU8) -> Disparity:
        """Run the network on one HxWx3 uint8 RGB image of any size; see `Engine.infer`."""
        with self._guard:
            return self._infer(image)

    def close(self) -> None:
        """Free the session and its memory."""
        self._guard.close()
        self._shapes.clear()
        self._session = None

    def _load(self) -> ByShape[tuple[int, ...], Bound]:
        """Open what is needed before the first frame; returns what is kept by shape of image."""
        self._session = self._open(self._graph.proto, {})
        return ByShape(self.name, 0, lambda shape: self._bind(self._session, shape))

    def _infer(self, image: ImageU8) -> Disparity:
        require_size(self._policy, image)
        try:
            bound = self._shapes.get(image.shape, lambda: self._test(image.shape))
            bound.pixels.update_inplace(np.ascontiguousarray(image))
            bound.session.run_with_iobinding(bound.binding)
            raw = bound.binding.get_outputs()[0].numpy()
        except EngineError:
            raise
        except Exception as error:  # its exceptions derive from Exception only
            raise EngineError(f"{self.name} failed on a frame: {error}") from error
        return as_disparity(raw, self.name, self._graph.kind)

    def _test(self, shape: tuple[int, ...]) -> None:
        """Test a shape before its first frame, unless all of them come to the network as one."""
        if self._policy is None or self._policy.follows_image:
            self._require(shape)

    def _require(self, shape: tuple[int, ...]) -> None:
        """Hold the engine to the fp32 network on images of a shape.

        Raises:
            EngineError: it has not passed.
        """
        if self._self_test is not None:
            size = (shape[0], shape[1])
            self._self_test.require(self, self._signature(shape), size, self._infer)

    def _signature(self, shape: tuple[int, ...]) -> dict[str, str]:
        return {**self.signature, "shape": shape_name(shape)}

    def _bind(self, session: Any, shape: tuple[int, ...]) -> Bound:
        """Reserve device memory for images of a shape."""
        blank = np.zeros(shape, np.uint8)  # on the CPU the value is this array itself
        pixels = self._ort.OrtValue.ortvalue_from_numpy(blank, self._memory, 0)
        binding = session.io_binding()
        binding.bind_ortvalue_input(INPUT, pixels)
        binding.bind_output(OUTPUT, "cpu")
        return Bound(session, pixels, binding)

    def _open(self, proto: Any, options: dict[str, str]) -> Any:
        """Open a session whose first provider is this engine's, with these options.

        Raises:
            EngineUnavailable: ONNX Runtime went on without that provider.
            EngineError: ONNX Runtime refuses the graph.
        """
        settings = self._ort.SessionOptions()
        settings.log_severity_level = 3
        providers = [(self._provider, options), *self._fallbacks]
        session = open_session(self._ort, proto, settings, providers, self._graph)
        if session.get_providers()[0] != self._provider:
            raise EngineUnavailable(
                f"onnxruntime goes on without its {self._provider}: it cannot load {self._needs} "
                "(are they of the version that it was built for?)"
            )
        return session


def _gpu() -> tuple[str, str]:
    """The GPU that CUDA calls device 0, with its compute capability, and the driver's version.

    The driver itself is asked: nvidia-smi heeds neither CUDA_VISIBLE_DEVICES nor CUDA's order.
    """
    unknown = "CUDA device 0", "unknown"
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return unknown
    version, device, major, minor = (ctypes.c_int() for _ in range(4))
    name = ctypes.create_string_buffer(256)
    for function, *arguments in (
        ("cuInit", 0),
        ("cuDriverGetVersion", ctypes.byref(version)),
        ("cuDeviceGet", ctypes.byref(device), 0),
        ("cuDeviceGetName", name, len(name), device),
        ("cuDeviceGetAttribute", ctypes.byref(major), _COMPUTE_MAJOR, device),
        ("cuDeviceGetAttribute", ctypes.byref(minor), _COMPUTE_MINOR, device),
    ):
        if getattr(cuda, function)(*arguments) != 0:
            return unknown
    driver = f"CUDA {version.value}"
    if _KERNEL_MODULE.is_file():
        driver += f", module {_KERNEL_MODULE.read_text(encoding='ascii').strip()}"
    return f"{name.value.decode()} (compute {major.value}.{minor.value})", driver
