"""`sensor_msgs/CompressedImage` (jpeg, png) to RGB arrays.

The sizes that the file claims are read and checked first: an image of a few hundred bytes can
claim gigabytes, as its size or as the length of one of its chunks, and OpenCV allocates what is
claimed.
"""

from __future__ import annotations

import struct

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage

from depth_node.health import joined
from depth_node.ros.images import demosaic
from depth_node.ros.wire import MAX_PIXELS, ConversionError
from depth_node.types import ImageU8

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8\xff"
_PNG_GREY = 0
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEFLATE_RATIO = 1032  # no stream of deflate expands by more (zlib's technical details)
_JPEG_PIXELS_A_BYTE = 512  # Huffman codes spend a bit or more on the mean of 8x8 pixels (T.81)
# SOF0..SOF15 without DHT, JPG and DAC, which share the range (ITU-T T.81, table B.1).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
_DAMAGED_CURE = "check the camera's driver, and the transport that the image came by"
# CameraInfo describes the sensor's rows and columns, so an EXIF orientation must not turn them.
_READ_COLOR = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
_READ_GREY = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION


def decode_compressed(msg: CompressedImage, max_pixels: int = MAX_PIXELS) -> ImageU8:
    """Decode a JPEG or PNG message to RGB.

    What the data is comes from the data; `format` decides only what the data cannot tell, by
    image_transport's rules ("rgb8; jpeg compressed bgr8"): pixels that were handed to the encoder
    in RGB order, and Bayer mosaics inside a grey PNG. Grey is repeated, alpha dropped, 16 bits keep
    their high byte, CMYK is converted; EXIF orientation is ignored.

    Args:
        msg: the compressed image.
        max_pixels: images that claim more are refused before they are decoded.

    Returns:
        HxWx3 uint8, RGB.

    Raises:
        ConversionError: no image, truncated, too large, or compressed depth.
    """
    label = msg.format.lower()
    if "compresseddepth" in label:
        seen = f"format {msg.format!r} is compressed depth, not a camera image"
        raise ConversionError(joined(seen, "subscribe to the camera's colour or grey topic"))
    data = bytes(msg.data)
    if data.startswith(_JPEG_MAGIC):
        kind, (width, height) = "JPEG", _jpeg_size(data)
    elif data.startswith(_PNG_MAGIC):
        kind, (width, height) = "PNG", png_size(data)
    else:
        seen = (
            f"compressed image of format {msg.format!r}: {len(data)} bytes that begin with "
            f"{data[:8].hex(' ') or 'nothing'} are neither JPEG nor PNG"
        )
        raise ConversionError(joined(seen, "publish jpeg or png"))
    what = f"{kind} of {width}x{height}"
    if width == 0 or height == 0:
        raise ConversionError(
            f"{what} has no pixels, expected a width and height above 0; {_DAMAGED_CURE}"
        )
    if width * height > max_pixels:
        raise ConversionError(
            f"{what} claims {width * height} pixels, more than the {max_pixels} accepted, and was "
            "not decoded; reduce the camera's resolution"
        )
    if width * height > _capacity(kind, data):
        raise ConversionError(
            f"{what} has only {len(data)} bytes, which cannot hold so many pixels: it is damaged, "
            f"and was not decoded; {_DAMAGED_CURE}"
        )

    original = label.split(";")[0].strip()
    mosaic = kind == "PNG" and original.startswith("bayer_") and data[25] == _PNG_GREY
    try:
        pixels = np.frombuffer(data, np.uint8)
        decoded = cv2.imdecode(pixels, _READ_GREY if mosaic else _READ_COLOR)
    except cv2.error as error:
        seen = f"{what} is damaged, OpenCV cannot decode it ({error})"
        raise ConversionError(joined(seen, _DAMAGED_CURE)) from error
    if decoded is None or decoded.shape[:2] != (height, width):
        raise ConversionError(f"{what} is damaged: OpenCV cannot decode it; {_DAMAGED_CURE}")
    image = np.asarray(decoded, np.uint8)
    if mosaic:
        return demosaic(image, original)
    if "compressed rgb" in label:  # red and blue changed places before the encoder saw them
        return image
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image), np.uint8)


def _capacity(kind: str, data: bytes) -> int:
    """The most pixels that an image of so many bytes can have."""
    if kind == "JPEG":
        return _JPEG_PIXELS_A_BYTE * len(data)
    bits = max(data[24], 1) * _PNG_CHANNELS.get(data[25], 1)
    return _DEFLATE_RATIO * 8 * len(data) // bits


def png_size(data: bytes) -> tuple[int, int]:
    """(width, height) from the IHDR chunk, which must come first (PNG specification, 5.6).

    Raises:
        ConversionError: the header, the end or a part of a chunk is missing.
    """
    if len(data) < 33 or data[8:16] != b"\x00\x00\x00\x0dIHDR":
        raise _truncated("PNG", data, "has no whole header")
    position, kind = 8, b""
    while kind != b"IEND":
        if position + 12 > len(data):
            raise _truncated("PNG", data, "has no end chunk")
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        position += 12 + length
    if position > len(data):
        raise ConversionError(
            f"PNG of {len(data)} bytes is damaged: its end chunk has {length}; {_DAMAGED_CURE}"
        )
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """(width, height) from the frame header, found by walking the segments before the scan."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise _damaged_jpeg(f"no marker at byte {position} of its header")
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker in _JPEG_STANDALONE:
            position += 2
            continue
        if marker in {_JPEG_SCAN, _JPEG_END}:
            raise _damaged_jpeg("it has pixels before the header of its frame")
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker in _JPEG_FRAMES and length >= 8 and position + 9 <= len(data):
            # Embedded thumbnails have an end marker as well, but they lie before the frame.
            if data.rfind(b"\xff\xd9") < position:
                raise _truncated("JPEG", data, "has no end")
            height, width = struct.unpack_from(">HH", data, position + 5)
            return width, height
        if length < 2:
            raise _damaged_jpeg(f"a segment of {length} bytes at {position}")
        position += 2 + length
    raise _truncated("JPEG", data, "ends within its header")


def _truncated(kind: str, data: bytes, how: str) -> ConversionError:
    text = f"{kind} of {len(data)} bytes {how}: it is truncated; {_DAMAGED_CURE}"
    return ConversionError(text)


def _damaged_jpeg(how: str) -> ConversionError:
    return ConversionError(f"JPEG is damaged: {how}; {_DAMAGED_CURE}")
