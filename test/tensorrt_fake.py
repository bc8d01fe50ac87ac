"""A strict TensorRT and CUDA runtime for tests, on the CPU.

Classes take their names from the official API as data; what is not in it does not exist here. The
network is computed by ONNX Runtime; what is checked on the way is what the real libraries would
refuse, or answer with garbage: order of calls, tensor names, shapes, types, addresses, streams.
"""

from __future__ import annotations

import enum
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from cuda_fake import CudaRuntime, need


def fake_tensorrt(api: dict[str, dict[str, str]], version: str, cuda: CudaRuntime) -> Any:
    """The module `tensorrt` of one version, on a fake CUDA.

    Args:
        api: class to attribute to the first line of its documentation.
        version: the version that the module is to report.
        cuda: where its memory and streams are.
    """

    def official(cls: type) -> type:
        """Refuse a fake, or a use of one, that has what the official class has not."""
        allowed = api[cls.__name__]
        public = {n for n in vars(cls) if not n.startswith("_")}
        need(public <= set(allowed), f"{cls.__name__} has no {public - set(allowed)}")

        def set_attribute(self: Any, name: str, value: Any) -> None:
            need(name.startswith("_") or name in allowed, f"{cls.__name__} has no {name}")
            object.__setattr__(self, name, value)

        cls.__setattr__ = set_attribute
        return cls

    def enumeration(name: str) -> type:
        members = [m for m in api[name] if m.isupper() or m[0].isupper()]
        return enum.IntEnum(name, {m: i for i, m in enumerate(members)})

    trt = types.ModuleType("tensorrt")
    trt.__version__ = version
    for name in ("NetworkDefinitionCreationFlag", "MemoryPoolType", "TensorIOMode", "DataType",
                 "BuilderFlag"):  # fmt: skip
        setattr(trt, name, enumeration(name))
    severity = enum.IntEnum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"])

    @official
    class ILogger:
        Severity = severity

        def __init__(self) -> None:
            object.__setattr__(self, "_initialised", True)

    # pybind11 classes derive freely: only the base is official.
    ILogger.__setattr__ = object.__setattr__

    @official
    class IProgressMonitor:
        def __init__(self) -> None:
            self._initialised = True

    IProgressMonitor.__setattr__ = object.__setattr__

    @official
    class IHostMemory:
        def __init__(self, data: bytes) -> None:
            self._data = data

        def __bytes__(self) -> bytes:
            return self._data

        @property
        def nbytes(self) -> int:
            return len(self._data)

    @official
    class ITimingCache:
        def __init__(self, data: bytes) -> None:
            self._data = data

        def serialize(self) -> Any:
            return IHostMemory((self._data or made_here()) + b"timed ")

    @official
    class IOptimizationProfile:
        def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002
            for low, mid, high in zip(min, opt, max, strict=True):
                need(0 < low <= mid <= high, "a profile must have min <= opt <= max")
            self._shapes = {input: (min, opt, max)}

    @official
    class INetworkDefinition:
        def __init__(self, flags: int) -> None:
            typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
            need(flags == typed, "the network is not strongly typed")
            self._model = b""

    @official
    class ParserError:
        def __init__(self, text: str) -> None:
            self._text = text

        def desc(self) -> str:
            return self._text

        def node(self) -> int:
            return 3

        def node_name(self) -> str:
            return "culprit"

    @official
    class OnnxParser:
        def __init__(self, network: Any, logger: Any) -> None:
            need(isinstance(network, INetworkDefinition), "not a network")
            need(logger._initialised, "ILogger.__init__ was not called")
            self._network, self._errors = network, []

        def parse(self, model: bytes, path: str | None = None) -> bool:
            proto = onnx.load_model_from_string(model)
            if any(node.op_type == "Det" for node in proto.graph.node):
                self._errors = [ParserError("no importer for Det"), ParserError("and another")]
                logger_of(self._network).log(severity.ERROR, "parser: Det")
                return False
            self._network._model = model
            return True

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> Any:
            return self._errors[index]

    @official
    class IBuilderConfig:
        def __init__(self) -> None:
            self._profiles: list[Any] = []
            self._pools: dict[Any, int] = {}
            self._cache: Any = None
            self._cleared: list[Any] = []
            self.progress_monitor = None

        def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
            need(isinstance(pool, trt.MemoryPoolType), "not a pool")
            self._pools[pool] = pool_size

        def clear_flag(self, flag: Any) -> None:
            need(isinstance(flag, trt.BuilderFlag), "not a flag")
            self._cleared.append(flag)

        def add_optimization_profile(self, profile: Any) -> int:
            need(profile._shapes, "the profile has no shapes")
            self._profiles.append(profile)
            return len(self._profiles) - 1

        def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
            if serialized_timing_cache and not serialized_timing_cache.startswith(b"timings of "):
                return None
            return ITimingCache(serialized_timing_cache)

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            need(isinstance(cache, ITimingCache), "not a timing cache")
            need(ignore_mismatch is False, "timings of another device")
            if cache._data and not cache._data.startswith(made_here()):
                return False
            self._cache = cache
            return True

        def get_timing_cache(self) -> Any:
            return self._cache

    @official
    class Builder:
        def __init__(self, logger: Any) -> None:
            need(isinstance(logger, ILogger) and logger._initialised, "not a logger")
            self._logger = logger

        def create_network(self, flags: int = 0) -> Any:
            network = INetworkDefinition(flags)
            network._logger = self._logger
            return network

        def create_builder_config(self) -> Any:
            return IBuilderConfig()

        def create_optimization_profile(self) -> Any:
            return IOptimizationProfile()

        def build_serialized_network(self, network: Any, config: Any) -> Any:
            need(network._model, "nothing was parsed")
            need(len(config._profiles) == 1, "a dynamic input needs one profile")
            need(0 < config._pools[trt.MemoryPoolType.WORKSPACE] <= 2 << 30, "no workspace limit")
            monitor = config.progress_monitor
            need(monitor._initialised, "IProgressMonitor.__init__ was not called")
            monitor.phase_start("Building", None, 4)
            monitor.phase_start("Timing", "Building", 9)
            for step in range(4):
                need(monitor.step_complete("Building", step) is True, "the build was cancelled")
            monitor.phase_finish("Timing")
            monitor.phase_finish("Building")
            trt.builds.append(config)
            header = json.dumps([list(s) for s in config._profiles[0]._shapes["image"]])
            return IHostMemory(header.encode() + b"\n" + network._model)

    @official
    class Runtime:
        def __init__(self, logger: Any) -> None:
            need(isinstance(logger, ILogger) and logger._initialised, "not a logger")

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            need(isinstance(plan, bytes), "plans are bytes")
            header, found, model = plan.partition(b"\n")
            return ICudaEngine(json.loads(header), model) if found else None

    @official
    class ICudaEngine:
        def __init__(self, profile: Any, model: bytes) -> None:
            self._profile, self._model = profile, model
            graph = onnx.load_model_from_string(model).graph
            self._names = [v.name for v in (*graph.input, *graph.output)]

        @property
        def num_io_tensors(self) -> int:
            return len(self._names)

        def get_tensor_name(self, index: int) -> str:
            return self._names[index]

        def get_tensor_mode(self, name: str) -> Any:
            first = self._names.index(name) == 0
            return trt.TensorIOMode.INPUT if first else trt.TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name: str) -> Any:
            return trt.DataType.UINT8 if self._names.index(name) == 0 else trt.DataType.FLOAT

        def create_execution_context(self) -> Any:
            return IExecutionContext(self)

    @official
    class IExecutionContext:
        def __init__(self, engine: Any) -> None:
            self._engine = engine
            self._session = onnxruntime.InferenceSession(engine._model)
            self._shape: tuple[int, ...] | None = None
            self._addresses: dict[str, int] = {}

        def set_input_shape(self, name: str, shape: Any) -> bool:
            need(name == "image", f"{name} is not an input")
            low, _, high = self._engine._profile
            if any(not a <= s <= b for a, s, b in zip(low, shape, high, strict=True)):
                return False
            self._shape = tuple(int(s) for s in shape)
            return True

        def get_tensor_shape(self, name: str) -> Any:
            need(name in self._engine._names, f"there is no tensor {name}")
            need(self._shape, "the input's shape is not set")
            return self._run(np.zeros(self._shape, np.uint8)).shape

        def set_tensor_address(self, name: str, memory: int) -> bool:
            need(name in self._engine._names, f"there is no tensor {name}")
            need(memory in cuda.device, "the address is not device memory")
            self._addresses[name] = memory
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            need(stream_handle in cuda.streams, "not a stream")
            need(self._shape, "the input's shape is not set")
            need(set(self._addresses) == set(self._engine._names), "an address is missing")
            shape, addresses = self._shape, dict(self._addresses)

            def work() -> None:
                cuda.executed += 1
                size = int(np.prod(shape))
                image = cuda.device[addresses["image"]][:size].reshape(shape)
                result = self._run(image).tobytes()
                there = cuda.device[addresses["disparity"]]
                need(len(result) <= there.size, "the output's buffer is too small")
                there[: len(result)] = np.frombuffer(result, np.uint8)

            cuda.submit(stream_handle, work)
            return True

        def _run(self, image: np.ndarray) -> np.ndarray:
            return self._session.run(None, {"image": image})[0]

    def made_here() -> bytes:
        return f"timings of {trt.__version__}: ".encode()

    def logger_of(network: Any) -> Any:
        return network._logger

    for cls in (ILogger, IProgressMonitor, OnnxParser, Builder, Runtime):
        setattr(trt, cls.__name__, cls)
    trt.builds = []
    return trt


def install(
    api: dict[str, dict[str, str]], version: str, cuda: CudaRuntime, patch: pytest.MonkeyPatch
) -> Any:
    """Put the fakes in place of the libraries that the engine imports; returns `tensorrt`."""
    module = fake_tensorrt(api, version, cuda)
    bindings = types.ModuleType("cuda.bindings")
    bindings.runtime = cuda
    patch.setitem(sys.modules, "tensorrt", module)
    patch.setitem(sys.modules, "cuda", types.ModuleType("cuda"))
    patch.setitem(sys.modules, "cuda.bindings", bindings)
    patch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
    return module


def load_api(repo_root: Path, version: str) -> dict[str, dict[str, str]]:
    """Read one version's API; skips the test where it is not: it is not part of the repository."""
    path = repo_root.parent / "shared" / "tensorrt_api" / f"{version}.json"
    if not path.is_file():
        pytest.skip("the official API as data is not on this machine (../shared/tensorrt_api)")
    return json.loads(path.read_text(encoding="utf-8"))
