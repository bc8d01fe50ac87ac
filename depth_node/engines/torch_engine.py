"""PyTorch: CUDA graphs on a GPU, and the reference on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from depth_node.engines.base import EngineError, EngineUnavailable
from depth_node.engines.cpu import device_name, thread_count
from depth_node.engines.guard import Guard
from depth_node.engines.result import as_disparity
from depth_node.network.compose import Size
from depth_node.network.errors import ModelError
from depth_node.network.graph import Graph
from depth_node.network.registry import Entry
from depth_node.types import Disparity, ImageU8

_WARM_UPS = 3
_BATCH = 4
"""Most frames in one run on a GPU."""
_KEPT_SHAPES = 2 * _BATCH
"""How many CUDA graphs are kept: for two sizes of image, and batches of every length."""


class Torch:
    """A network of the registry in PyTorch, from camera bytes to disparity on the device.

    On a GPU: half precision, channels last, fused attention (`scaled_dot_product_attention`), one
    CUDA graph for each size of image and length of batch, pinned host memory.

    Its self-test is that of the golden frames' size alone: what PyTorch runs at other sizes of
    image is not held to the fp32 network.

    Attributes:
        batch_limit: 4 on a GPU; a CPU gains nothing from batches.
    """

    name = "torch"

    def __init__(
        self,
        graph: Graph,
        entry: Entry,
        weights: Path,
        precision: str,
        threads: int,
        *,
        allow_cpu: bool,
    ) -> None:
        """Load a network.

        Args:
            graph: its fp32 graph, for the size that it runs at and as its identity.
            entry: its entry in the registry.
            weights: its checkpoint, already checked.
            precision: `fp32`, `fp16` or `bf16`.
            threads: CPU threads, where it runs on the CPU.
            allow_cpu: whether the CPU will do where there is no GPU.

        Raises:
            EngineUnavailable: PyTorch is not installed, or there is no GPU.
            EngineError: the precision or the network cannot be had.
            ModelError: the checkpoint does not fit.
        """
        try:
            import torch
        except ImportError as error:
            raise EngineUnavailable(f"torch is not installed ({error})") from error
        from depth_node.network.architecture import traceable
        from depth_node.network.export import load_module

        self._torch = torch
        self._gpu = torch.cuda.is_available()
        self.batch_limit = _BATCH if self._gpu else 1
        if not self._gpu and not allow_cpu:
            raise EngineUnavailable("torch sees no CUDA device")
        types = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
        if precision not in types or (precision == "fp16" and not self._gpu):
            raise EngineError(f"torch has no {precision} here")
        size = next((m.value for m in graph.proto.metadata_props if m.key == "size"), "")
        self._size = Size.parse(size, entry.multiple)
        self._entry, self._kind = entry, graph.kind
        self.model, self.precision = graph.name, precision
        self._device = torch.device("cuda" if self._gpu else "cpu")
        if self._gpu:
            properties = torch.cuda.get_device_properties(0)
            capability = f"{properties.major}.{properties.minor}"
            self.device = f"{properties.name} (compute {capability})"
            driver = str(torch.version.cuda)
        else:
            threads = thread_count(threads, graph.size_bytes)
            torch.set_num_threads(threads)
            self.device, driver = device_name(threads), ""
        self.signature = {
            "graph": graph.sha256,
            "engine": self.name,
            "runtime": torch.__version__,
            "driver": driver,
            "device": self.device,
            "precision": precision,
        }
        module = traceable(entry, load_module(entry, weights))
        self._type = types[precision]
        self._module = module.to(self._device, self._type, memory_format=torch.channels_last)
        self._mean = torch.tensor(entry.mean, device=self._device).view(1, 3, 1, 1) * 255.0
        self._std = torch.tensor(entry.std, device=self._device).view(1, 3, 1, 1) * 255.0
        self._guard = Guard(self.name)
        self._recorded: dict[tuple[int, ...], Callable[[Sequence[ImageU8]], Any]] = {}

    def infer(self, image: ImageU8) -> Disparity:
        """Run the network on one HxWx3 uint8 RGB image of any size; see `Engine.infer`."""
        return self.infer_batch([image])[0]

    def infer_batch(self, images: Sequence[ImageU8]) -> list[Disparity]:
        """Run the network on images of one size together; see `BatchEngine.infer_batch`."""
        height, width = images[0].shape[:2]
        try:
            self._size.of(height, width, self._entry.multiple)  # before anything is recorded for it
            with self._guard, self._torch.inference_mode():
                raw = self._run_on_gpu(images) if self._gpu else self._run_on_cpu(images)
                return [as_disparity(values, self.name, self._kind) for values in raw]
        except EngineError:
            raise
        except ModelError as error:
            raise EngineError(str(error)) from error
        except RuntimeError as error:
            raise EngineError(f"torch failed on a frame: {error}") from error

    def close(self) -> None:
        """Free the network and its memory."""
        self._guard.close()
        self._module = None
        self._recorded.clear()
        if self._gpu:
            self._torch.cuda.empty_cache()

    def forward(self, batch: Any) -> Any:
        """Disparity of camera images, on the device.

        Args:
            batch: NxHxWx3 uint8 tensor, RGB.

        Returns:
            Nxhxw float32 tensor.
        """
        functional = self._torch.nn.functional
        planes = batch.permute(0, 3, 1, 2).to(self._torch.float32)
        size = self._size.of(batch.shape[1], batch.shape[2], self._entry.multiple)
        # The cubic kernel of PyTorch has OpenCV's constant, -0.75.
        mode = "bicubic" if self._entry.interpolation == "cubic" else "bilinear"
        resized = functional.interpolate(planes, size=size, mode=mode, align_corners=False)
        pixels = ((resized - self._mean) / self._std).to(self._type)
        raw = self._module(pixels.contiguous(memory_format=self._torch.channels_last)).float()
        return raw.clamp(min=1e-3).reciprocal() if self._entry.output == "depth" else raw

    def record(self, shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
        """Capture a CUDA graph for batches of one shape.

        Args:
            shape: (N, H, W, 3).

        Returns:
            The graph, its input on the device (uint8) and its output on the device (float32).
        """
        torch = self._torch
        entering = torch.zeros(shape, dtype=torch.uint8, device=self._device)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self.forward(entering)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            leaving = self.forward(entering)
        return graph, entering, leaving

    def _run_on_cpu(self, images: Sequence[ImageU8]) -> Any:
        return self.forward(self._torch.from_numpy(np.stack(images))).numpy()

    def _run_on_gpu(self, images: Sequence[ImageU8]) -> Any:
        shape = (len(images), *images[0].shape)
        if shape not in self._recorded:
            while len(self._recorded) >= _KEPT_SHAPES:
                del self._recorded[next(iter(self._recorded))]
            self._recorded[shape] = self._prepare(shape)
        return self._recorded[shape](images)

    def _prepare(self, shape: tuple[int, ...]) -> Callable[[Sequence[ImageU8]], Any]:
        torch = self._torch
        graph, entering, leaving = self.record(shape)
        pinned_in = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        pinned_out = torch.empty(leaving.shape, dtype=torch.float32, pin_memory=True)
        host_in, host_out = pinned_in.numpy(), pinned_out.numpy()

        def run(images: Sequence[ImageU8]) -> Any:
            np.stack(images, out=host_in)
            entering.copy_(pinned_in, non_blocking=True)
            graph.replay()
            pinned_out.copy_(leaving, non_blocking=True)
            torch.cuda.current_stream().synchronize()
            return host_out

        return run
