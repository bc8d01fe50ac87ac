"""Pixels from OpenCV's conventions to ours."""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.cameras.base import CameraError
from depth_node.types import ImageU8

_TO_RGB = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}


def to_rgb(image: NDArray[Any]) -> ImageU8:
    """Turn what cv2 decodes into a new HxWx3 uint8 RGB image.

    Args:
        image: HxW (grey), HxWx1, HxWx3 (BGR) or HxWx4 (BGRA); uint8, or uint16 whose upper byte is
            taken.

    Raises:
        CameraError: the image is empty or of another shape or type.
    """
    channels = 1 if image.ndim == 2 else image.shape[-1]
    known = image.ndim in (2, 3) and channels in _TO_RGB and image.dtype in (np.uint8, np.uint16)
    if not known or image.size == 0:
        raise CameraError(
            f"an image has shape {image.shape} and type {image.dtype}; it must be grey, BGR or "
            "BGRA with 8 or 16 bits"
        )
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    return cast(ImageU8, cv2.cvtColor(image, _TO_RGB[channels]))


def is_whole_jpeg(data: bytes) -> bool:
    """False for a JPEG that was cut off in its picture, which OpenCV decodes with a grey rest.

    Compressed pixels never contain the end marker (ITU-T T.81, B.1.1.5), but a thumbnail in the
    header does: so it is looked for behind the first start of scan that belongs to the picture.

    Args:
        data: a file's bytes; other formats are whole as far as this function knows.
    """
    position = 2 if data.startswith(b"\xff\xd8") else len(data)
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xDA:
            return data.find(b"\xff\xd9", position) >= 0
        if marker == 0xFF:  # markers may be preceded by any number of fill bytes
            position += 1
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return True
