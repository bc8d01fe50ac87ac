"""Shapes of images: their names in signatures, and which ones a network would be too large for."""

from __future__ import annotations

from depth_node.engines.base import EngineError
from depth_node.network.errors import ModelError
from depth_node.network.front import SizePolicy
from depth_node.types import ImageU8


def require_size(policy: SizePolicy | None, image: ImageU8) -> None:
    """Refuse an image for which a network that follows its size would be too large.

    Called before anything is resized, compiled or recorded for the image.

    Args:
        policy: the network's; None where its front is not understood, and nothing is refused.
        image: HxWx3 uint8 RGB.

    Raises:
        EngineError: it would be; says which size it would have, and what to set.
    """
    if policy is None:
        return
    try:
        policy.size_of(image.shape[0], image.shape[1])
    except ModelError as error:
        raise EngineError(str(error)) from error


def shape_name(shape: tuple[int, ...]) -> str:
    """A shape as signatures hold it, such as `480x640x3`."""
    return "x".join(map(str, shape))
