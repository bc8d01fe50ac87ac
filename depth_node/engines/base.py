"""What every engine offers to the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from depth_node.types import Disparity, ImageU8


class EngineError(RuntimeError):
    """An engine cannot be loaded, or failed on a frame; the message says what to do."""


class EngineUnavailable(EngineError):  # noqa: N818 - a kind of EngineError
    """An engine's runtime or device is not here, whatever the network and precision."""


class Engine(Protocol):
    """A network, loaded and ready on one device.

    Attributes:
        name: the engine, as the parameter `model.engine` names it.
        model: the network's name in the registry, or the file that it came from.
        device: the device in words, such as `CPU (AMD EPYC, 2 threads)`.
        precision: `fp32`, `fp16`, `bf16` or `int8`.
    """

    name: str
    model: str
    device: str
    precision: str

    def infer(self, image: ImageU8) -> Disparity:
        """Run the network on one HxWx3 uint8 RGB image of any size.

        Blocks until the result is there and releases the GIL meanwhile. The result is the caller's
        to keep: no buffer of the engine is returned.

        Raises:
            EngineError: the engine failed, or its output is not finite.
        """
        ...

    def close(self) -> None:
        """Free the device; the engine cannot be used afterwards."""
        ...


@runtime_checkable
class BatchEngine(Engine, Protocol):
    """An engine that runs several frames in one call.

    Attributes:
        batch_limit: how many frames it gains from running together; 1 where it gains nothing.
    """

    batch_limit: int

    def infer_batch(self, images: Sequence[ImageU8]) -> list[Disparity]:
        """Run the network on up to `batch_limit` HxWx3 uint8 RGB images of one size.

        Returns:
            One disparity an image, in their order; otherwise as `infer`.

        Raises:
            EngineError: the engine failed, or the output of any of them is not finite.
        """
        ...


class TestedEngine(Engine, Protocol):
    """An engine as this package's own loader sees it.

    Attributes:
        signature: all that its results depend on, by name: graph hash, runtime and driver
            versions, device, compute capability, precision and shapes.
    """

    signature: dict[str, str]
