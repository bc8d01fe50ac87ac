"""What the TensorRT engine needs of CUDA, through cuda-python: memory, one stream, one graph."""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_node.engines.base import EngineError, EngineUnavailable
from depth_node.release import run_all


class Cuda:
    """The CUDA runtime on device 0; every call is checked.

    Attributes:
        device: the device in words, such as `NVIDIA H200 (compute 9.0)`.
        driver: version of the driver's CUDA, such as `12080`.
    """

    def __init__(self) -> None:
        """Find the runtime and the device.

        Raises:
            EngineUnavailable: cuda-python is not installed or too new for the driver, or there is
                no device.
        """
        try:
            try:
                from cuda.bindings import runtime
            except ImportError:  # cuda-python before 12.8
                from cuda import cudart as runtime
        except ImportError as error:
            raise EngineUnavailable(f"cuda-python is not installed ({error})") from error
        self._runtime = runtime
        try:
            if self.call("cudaGetDeviceCount") < 1:
                raise EngineUnavailable("there is no CUDA device")
            properties = self.call("cudaGetDeviceProperties", 0)
        except EngineUnavailable:
            raise
        except EngineError as error:
            raise EngineUnavailable(f"{error}{self._cure()}") from error
        name = properties.name
        name = name.decode() if isinstance(name, bytes) else str(name)
        self.device = f"{name} (compute {properties.major}.{properties.minor})"
        self.driver = str(self.call("cudaDriverGetVersion"))

    def _cure(self) -> str:
        """What to do where nothing can be asked of a device, from what driver and runtime are.

        The runtime is linked into cuda-python: one of a later major version than the driver's
        refuses every call (cudaErrorInsufficientDriver), as does any without a driver.
        """
        try:
            driver = int(self.call("cudaDriverGetVersion"))  # 1000 major + 10 minor; 0 for none
            runtime = int(self.call("cudaRuntimeGetVersion"))
        except EngineError:
            return ""
        if driver == 0:
            return ": there is no NVIDIA driver"
        has, wants = driver // 1000, runtime // 1000
        if wants <= has:
            return ""
        return (
            f": cuda-python is made for CUDA {wants} and the driver has CUDA {has}; "
            f"pip install 'cuda-python<{has + 1}', or update the driver"
        )

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the runtime and return its result (None, one value or a tuple).

        Raises:
            EngineError: it failed.
        """
        error, *results = getattr(self._runtime, name)(*arguments)
        if error != self._runtime.cudaError_t.cudaSuccess:
            raise EngineError(f"{name} failed: {error.name} ({int(error)})")
        if not results:
            return None
        return results[0] if len(results) == 1 else tuple(results)

    def free_bytes(self) -> int:
        """Memory of the device that is free now."""
        return int(self.call("cudaMemGetInfo")[0])

    def stream(self) -> Stream:
        """A stream that does not wait for the default stream."""
        return Stream(self)

    def buffer(self, size: int) -> Buffer:
        """A pair of `size` bytes of pinned host memory and of device memory."""
        return Buffer(self, size)

    @property
    def names(self) -> Any:
        """The runtime's module, for its enumerations."""
        return self._runtime


class Buffer:
    """Pinned host memory and device memory of one size, kept for the life of an engine.

    Attributes:
        device: address on the device.
        host: the pinned memory as uint8.
        size: bytes.
    """

    def __init__(self, cuda: Cuda, size: int) -> None:
        self._cuda = cuda
        self.size = size
        self._host_address = int(cuda.call("cudaMallocHost", size))
        try:
            self.device = int(cuda.call("cudaMalloc", size))
        except EngineError:
            with contextlib.suppress(EngineError):  # the first failure is the one to tell of
                cuda.call("cudaFreeHost", self._host_address)
            raise
        memory = (ctypes.c_uint8 * size).from_address(self._host_address)
        self.host: NDArray[np.uint8] = np.ctypeslib.as_array(memory)

    def free(self) -> None:
        """Give both memories back.

        Raises:
            EngineError: CUDA refuses one of them; the other is given back.
        """
        run_all(
            lambda: self._cuda.call("cudaFree", self.device),
            lambda: self._cuda.call("cudaFreeHost", self._host_address),
        )

    @property
    def host_address(self) -> int:
        """Address of the pinned memory."""
        return self._host_address


class Stream:
    """A CUDA stream, and what is done on it.

    Attributes:
        handle: the stream as an integer, as TensorRT takes it.
    """

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._stream = cuda.call("cudaStreamCreateWithFlags", cuda.names.cudaStreamNonBlocking)
        self.handle = int(self._stream)

    def upload(self, buffer: Buffer, size: int) -> None:
        """Copy the first `size` bytes of a buffer to the device."""
        kind = self._cuda.names.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._cuda.call(
            "cudaMemcpyAsync", buffer.device, buffer.host_address, size, kind, self._stream
        )

    def download(self, buffer: Buffer, size: int) -> None:
        """Copy the first `size` bytes of a buffer from the device."""
        kind = self._cuda.names.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._cuda.call(
            "cudaMemcpyAsync", buffer.host_address, buffer.device, size, kind, self._stream
        )

    def begin_capture(self) -> None:
        """Record what is done from here on instead of doing it."""
        mode = self._cuda.names.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._cuda.call("cudaStreamBeginCapture", self._stream, mode)

    def end_capture(self) -> Any:
        """End the recording and return it, ready to be launched."""
        graph = self._cuda.call("cudaStreamEndCapture", self._stream)
        try:
            return self._cuda.call("cudaGraphInstantiate", graph, 0)
        finally:
            self._cuda.call("cudaGraphDestroy", graph)

    def abandon_capture(self) -> None:
        """End a recording in which something has failed."""
        with contextlib.suppress(EngineError):  # CUDA repeats here what has failed
            self._cuda.call(
                "cudaGraphDestroy", self._cuda.call("cudaStreamEndCapture", self._stream)
            )

    def launch(self, executable: Any) -> None:
        """Run a recording."""
        self._cuda.call("cudaGraphLaunch", executable, self._stream)

    def free_graph(self, executable: Any) -> None:
        """Give a recording back."""
        self._cuda.call("cudaGraphExecDestroy", executable)

    def wait(self) -> None:
        """Wait until all that was asked for is done; releases the GIL."""
        self._cuda.call("cudaStreamSynchronize", self._stream)

    def free(self) -> None:
        """Give the stream back."""
        self._cuda.call("cudaStreamDestroy", self._stream)
