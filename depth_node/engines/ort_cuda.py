"""ONNX Runtime on an NVIDIA GPU."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np

from depth_node.engines.base import EngineError, EngineUnavailable
from depth_node.engines.guard import Guard
from depth_node.engines.ort import import_onnxruntime, open_session
from depth_node.engines.result import as_disparity
from depth_node.network.graph import INPUT, OUTPUT, Graph
from depth_node.types import Disparity, ImageU8

_COMPUTE_MAJOR, _COMPUTE_MINOR = 75, 76
"""Of CUdevice_attribute in cuda.h: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""
_KERNEL_MODULE = Path("/sys/module/nvidia/version")
"""The driver's own version; CUDA's changes less often."""


class OnnxRuntimeCuda:
    """A graph in ONNX Runtime's CUDA provider; only camera bytes and disparity cross the bus."""

    name = "onnxruntime-cuda"
    _provider = "CUDAExecutionProvider"
    _memory = "cuda"
    _fallbacks: tuple[str, ...] = ("CPUExecutionProvider",)
    _needs = "CUDA and cuDNN"

    def __init__(self, graph: Graph) -> None:
        """Load a graph.

        Args:
            graph: the network; its precision is the graph's own.

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
        }
        self._session: Any = None
        self._load()
        self._guard = Guard(self.name)
        self._bound: Any = None
        self._input: Any = None
        self._shape: tuple[int, ...] = ()

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
        self._bound = self._input = self._session = None

    def _load(self) -> None:
        self._session = self._open(self._graph.proto, {})

    def _infer(self, image: ImageU8) -> Disparity:
        try:
            pixels = np.ascontiguousarray(image)
            if image.shape != self._shape:
                self._bind(pixels)
            self._input.update_inplace(pixels)
            self._session.run_with_iobinding(self._bound)
            raw = self._bound.get_outputs()[0].numpy()
        except EngineError:
            raise
        except Exception as error:  # its exceptions derive from Exception only
            raise EngineError(f"{self.name} failed on a frame: {error}") from error
        return as_disparity(raw, self.name, self._graph.kind)

    def _bind(self, pixels: ImageU8) -> None:
        """Reserve device memory for this size of image; it is used again for every frame."""
        own = pixels.copy()  # on the CPU the value would be the caller's image itself
        self._input = self._ort.OrtValue.ortvalue_from_numpy(own, self._memory, 0)
        self._bound = self._session.io_binding()
        self._bound.bind_ortvalue_input(INPUT, self._input)
        self._bound.bind_output(OUTPUT, "cpu")
        self._shape = pixels.shape

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
