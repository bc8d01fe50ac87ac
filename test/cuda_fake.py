"""A strict CUDA runtime for tests, as cuda-python offers it.

Host memory is real; device memory has addresses of its own, so that mixing them up is noticed.
"""

# ruff: noqa: N802, N815 - the names are CUDA's
from __future__ import annotations

import ctypes
import enum
import types
from typing import Any

import numpy as np

_DEVICE_SPACE = 0x7F00_0000_0000


class MisuseError(AssertionError):
    """The real libraries would not have stood for it."""


def need(condition: object, complaint: str) -> None:
    if not condition:
        raise MisuseError(complaint)


class CudaRuntime(types.ModuleType):
    """`cuda.bindings.runtime`: host memory is real, device memory has addresses of its own."""

    cudaError_t = enum.IntEnum(
        "cudaError_t",
        {"cudaSuccess": 0, "cudaErrorMemoryAllocation": 2, "cudaErrorInsufficientDriver": 35},
    )
    cudaMemcpyKind = enum.IntEnum(
        "cudaMemcpyKind", {"cudaMemcpyHostToDevice": 1, "cudaMemcpyDeviceToHost": 2}
    )
    cudaStreamCaptureMode = enum.IntEnum(
        "cudaStreamCaptureMode", {"cudaStreamCaptureModeThreadLocal": 1}
    )
    cudaStreamNonBlocking = 1

    def __init__(self) -> None:
        super().__init__("runtime")
        self.device: dict[int, np.ndarray] = {}
        self.host: dict[int, Any] = {}
        self.streams: dict[int, list[Any] | None] = {}
        self.graphs: dict[int, list[Any]] = {}
        self.next_address = _DEVICE_SPACE
        self.executed = 0
        self.launched = 0
        self.count = 1
        self.driver = 12080
        self.runtime = 12080

    def _new(self) -> int:
        self.next_address += 1 << 32
        return self.next_address

    def cudaGetDeviceCount(self):
        if self.driver // 1000 < self.runtime // 1000:
            return self.cudaError_t(35), None
        return self.cudaError_t(0), self.count

    def cudaGetDeviceProperties(self, device):
        need(device == 0, "device 0 only")
        properties = types.SimpleNamespace(name=b"Test GPU", major=9, minor=0)
        return self.cudaError_t(0), properties

    def cudaDriverGetVersion(self):
        return self.cudaError_t(0), self.driver

    def cudaRuntimeGetVersion(self):
        return self.cudaError_t(0), self.runtime

    def cudaMemGetInfo(self):
        return self.cudaError_t(0), 8 << 30, 16 << 30

    def cudaMalloc(self, size):
        need(size > 0, "an empty allocation")
        address = self._new()
        self.device[address] = np.zeros(size, np.uint8)
        return self.cudaError_t(0), address

    def cudaMallocHost(self, size):
        memory = (ctypes.c_uint8 * size)()
        address = ctypes.addressof(memory)
        self.host[address] = memory
        return self.cudaError_t(0), address

    def cudaFree(self, address):
        need(address in self.device, "cudaFree of what is not allocated")
        del self.device[address]
        return (self.cudaError_t(0),)

    def cudaFreeHost(self, address):
        need(address in self.host, "cudaFreeHost of what is not allocated")
        del self.host[address]
        return (self.cudaError_t(0),)

    def cudaStreamCreateWithFlags(self, flags):
        need(flags == self.cudaStreamNonBlocking, "the stream would wait for the default stream")
        handle = self._new()
        self.streams[handle] = None
        return self.cudaError_t(0), handle

    def cudaStreamDestroy(self, stream):
        del self.streams[stream]
        return (self.cudaError_t(0),)

    def cudaStreamSynchronize(self, stream):
        need(self.streams[stream] is None, "a stream that is recording cannot be waited for")
        return (self.cudaError_t(0),)

    def cudaStreamBeginCapture(self, stream, mode):
        need(isinstance(mode, self.cudaStreamCaptureMode), "not a capture mode")
        need(self.streams[stream] is None, "the stream is recording already")
        self.streams[stream] = []
        return (self.cudaError_t(0),)

    def cudaStreamEndCapture(self, stream):
        recorded = self.streams[stream]
        need(recorded is not None, "the stream is not recording")
        self.streams[stream] = None
        handle = self._new()
        self.graphs[handle] = recorded
        return self.cudaError_t(0), handle

    def cudaGraphInstantiate(self, graph, flags):
        need(flags == 0, "flags")
        handle = self._new()
        self.graphs[handle] = self.graphs[graph]
        return self.cudaError_t(0), handle

    def cudaGraphDestroy(self, graph):
        del self.graphs[graph]
        return (self.cudaError_t(0),)

    cudaGraphExecDestroy = cudaGraphDestroy

    def cudaGraphLaunch(self, executable, stream):
        need(self.streams[stream] is None, "the stream is recording")
        self.launched += 1
        for work in self.graphs[executable]:
            work()
        return (self.cudaError_t(0),)

    def cudaMemcpyAsync(self, target, source, size, kind, stream):
        up = kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice
        host, device = (source, target) if up else (target, source)
        need(host in self.host, "not pinned host memory")
        need(device in self.device, "not device memory")
        need(0 < size <= min(len(self.host[host]), self.device[device].size), "beyond a buffer")

        def copy() -> None:
            there, here = self.device[device], np.ctypeslib.as_array(self.host[host])
            if up:
                there[:size] = here[:size]
            else:
                here[:size] = there[:size]

        self.submit(stream, copy)
        return (self.cudaError_t(0),)

    def submit(self, stream: int, work: Any) -> None:
        recording = self.streams[stream]
        if recording is None:
            work()
        else:
            recording.append(work)

    def left(self) -> int:
        """What has not been given back."""
        return len(self.device) + len(self.host) + len(self.streams) + len(self.graphs)
