"""One runtime looked at in a process of its own: `python -m depth_node.doctor.probe NAME`.

A runtime whose libraries do not fit (another CUDA, another Python, a half-removed driver) may hang
or crash on import; it then takes the probe along and not the doctor. Prints one JSON object:
`{"found": "what is here"}` or `{"missing": "why not"}`.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import sys
from collections.abc import Callable
from types import ModuleType

_NAME_BYTES = 256


class _MissingError(RuntimeError):
    """What was looked for is not here; the message says why."""


def _load(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module:
            raise _MissingError(f"{module} is not installed") from error
        raise _MissingError(f"{module} is installed but lacks {error.name}") from error
    except Exception as error:  # what a broken installation raises is its own affair
        raise _MissingError(
            f"{module} is installed but cannot be imported ({type(error).__name__}: {error})"
        ) from error


def _version(module: ModuleType) -> str:
    return f"{module.__name__} {getattr(module, '__version__', '(no version)')}"


def _onnx() -> str:
    return _version(_load("onnx"))


def _onnxruntime() -> str:
    return _onnxruntime_with("CPUExecutionProvider")


def _onnxruntime_cuda() -> str:
    return _onnxruntime_with("CUDAExecutionProvider")


def _onnxruntime_tensorrt() -> str:
    return _onnxruntime_with("TensorrtExecutionProvider")


def _onnxruntime_with(provider: str) -> str:
    module = _load("onnxruntime")
    providers = module.get_available_providers()
    if provider not in providers:
        raise _MissingError(f"{_version(module)} has no {provider} (it has {', '.join(providers)})")
    return f"{_version(module)}, {provider}"


def _openvino() -> str:
    module = _load("openvino")
    devices = module.Core().available_devices
    if "CPU" not in devices:
        raise _MissingError(f"{_version(module)} finds no CPU device (it finds {devices})")
    return f"{_version(module)}, devices {', '.join(devices)}"


def _tensorrt() -> str:
    return _version(_load("tensorrt"))


def _torch() -> str:
    module = _load("torch")
    where = "with CUDA" if module.cuda.is_available() else "without CUDA"
    return f"{_version(module)}, {where}"


def _gpu() -> str:
    """The NVIDIA GPUs by the driver's own library, which Jetson has too (nvidia-smi it has not)."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise _MissingError("there is no NVIDIA driver (libcuda.so.1 is not here)") from error
    status = driver.cuInit(0)
    if status != 0:
        raise _MissingError(f"the NVIDIA driver finds no usable GPU (cuInit gives error {status})")
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    names = []
    for index in range(count.value):
        name = ctypes.create_string_buffer(_NAME_BYTES)
        driver.cuDeviceGetName(name, _NAME_BYTES, index)
        names.append(name.value.decode(errors="replace"))
    if not names:
        raise _MissingError("the NVIDIA driver is here but lists no GPU")
    return ", ".join(names)


PROBES: dict[str, Callable[[], str]] = {
    "tensorrt": _tensorrt,
    "onnxruntime-tensorrt": _onnxruntime_tensorrt,
    "onnxruntime-cuda": _onnxruntime_cuda,
    "torch": _torch,
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
    "onnx": _onnx,
    "gpu": _gpu,
}
"""What can be looked at: the engines by their names, onnx (reads every network) and the GPU."""


def main(name: str) -> None:
    """Look at one thing and print what is there."""
    try:
        answer = {"found": PROBES[name]()}
    except _MissingError as error:
        answer = {"missing": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1])
