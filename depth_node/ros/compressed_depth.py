"""Depth images in the wire format of compressed_depth_image_transport, and back.

The format (image_transport_plugins, compressed_depth_image_transport: codec.cpp and
compression_common.h): `format` is "<encoding>; compressedDepth png"; `data` is a 12-byte header
(int32 0, float32 A, float32 B, little-endian), then a PNG of 16 bits. For 16UC1 the PNG holds the
millimetres and A, B mean nothing. For 32FC1 it holds floor(A / z + B) for 0 < z < depth_max, else
0, with A = q (q + 1) and B = 1 - A / depth_max in float32, where q is `depth_quantization`; a
decoder takes z = A / (code - B), and NaN for the code 0.

So 1/z' - 1/z lies in (-1/A, 0]: the decoded depth z' is never nearer than z, and farther by at
most z^2 / (A - z): 1 cm at 10 m with the default q of 100.
"""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from depth_node.ros.compressed_image import png_size
from depth_node.ros.wire import MAX_PIXELS, ConversionError, fill
from depth_node.types import ArrayF32

_CONFIG = struct.Struct("<iff")
_INV_DEPTH = 0
_LARGEST_CODE = 65535


def encode_compressed_depth(
    depth: ArrayF32 | NDArray[np.uint16],
    header: Header,
    depth_max: float,
    quantization: float = 100.0,
    png_level: int | None = None,
) -> CompressedImage:
    """Compress a depth image as compressed_depth_image_transport does, code for code.

    Where the original overflows its 16 bits (0, negative, -Inf and depths under A / (65536 - B),
    15 cm by default) this writes 0, invalid.

    Args:
        depth: HxW float32 metres (NaN invalid, +Inf beyond range), or HxW uint16 millimetres
            (0 invalid).
        header: used as it is, not copied.
        depth_max: this depth and beyond (float32), or beyond it (uint16), becomes invalid, metres.
        quantization: depth at which one code is one metre; larger is finer and moves the nearest
            depth that fits away from the camera.
        png_level: zlib level 0..9; None leaves OpenCV its fastest setting.

    Raises:
        ConversionError: another dtype or shape, or numbers that are not positive.
    """
    if depth.ndim != 2 or depth.size == 0 or depth.dtype not in (np.float32, np.uint16):
        raise ConversionError(
            f"cannot compress an array of shape {depth.shape}, {depth.dtype} as depth; expected "
            "HxW float32 metres or HxW uint16 millimetres"
        )
    if not (0.0 < depth_max < np.inf and 0.0 < quantization < np.inf):
        raise ConversionError(
            f"depth_max is {depth_max} and quantization is {quantization}; both must be positive"
        )
    if depth.dtype == np.float32:
        encoding = "32FC1"
        a, b = _parameters(depth_max, quantization)
        codes = _quantize(np.asarray(depth, np.float32), depth_max, a, b)
    else:
        encoding = "16UC1"
        a, b = np.float32(0.0), np.float32(0.0)
        limit = min(int(depth_max * 1000.0), _LARGEST_CODE)
        codes = np.where(depth <= limit, depth, 0).astype(np.uint16)
    options = [] if png_level is None else [cv2.IMWRITE_PNG_COMPRESSION, png_level]
    done, png = cv2.imencode(".png", codes, options)
    if not done:
        raise ConversionError(f"OpenCV cannot write a PNG of {depth.shape}, {encoding}")
    msg = CompressedImage(header=header, format=f"{encoding}; compressedDepth png")
    msg.data.frombytes(_CONFIG.pack(_INV_DEPTH, a, b))
    fill(msg.data, png)
    return msg


def decode_compressed_depth(msg: CompressedImage, max_pixels: int = MAX_PIXELS) -> NDArray[Any]:
    """Decompress a depth image.

    Args:
        msg: 32FC1 or 16UC1 with the png codec, from this node or from image_transport.
        max_pixels: images that claim more are refused before they are decoded.

    Returns:
        HxW float32 metres, NaN invalid, for 32FC1; HxW uint16 millimetres, 0 invalid, for 16UC1.

    Raises:
        ConversionError: another format, no PNG, truncated, or too large.
    """
    encoding, _, codec = (part.strip() for part in msg.format.partition(";"))
    # Old releases write no codec at all; png was the only one.
    if encoding not in {"32FC1", "16UC1"} or codec not in {
        "",
        "compressedDepth",
        "compressedDepth png",
    }:
        raise ConversionError(
            f"format is {msg.format!r}; expected '32FC1; compressedDepth png' or the same with "
            "16UC1: set the publisher's compressedDepth format to png"
        )
    data = bytes(msg.data)
    png = data[_CONFIG.size :]
    width, height = png_size(png)
    if not 0 < width * height <= max_pixels:
        raise ConversionError(
            f"compressed depth claims {width}x{height} pixels; expected 1 to {max_pixels}"
        )
    try:
        codes = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ConversionError(
            f"compressed depth of {width}x{height} is damaged: {error}"
        ) from error
    if codes is None or codes.dtype != np.uint16 or codes.shape != (height, width):
        raise ConversionError(
            f"compressed depth of {width}x{height} does not hold a grey PNG of 16 bits; it is "
            "damaged or not compressed depth"
        )
    if encoding == "16UC1":
        return codes
    _, a, b = _CONFIG.unpack_from(data)
    if not (0.0 < a < np.inf and np.isfinite(b)):
        raise ConversionError(
            f"compressed depth has the parameters A = {a}, B = {b}; A must be > 0"
        )
    depth = np.full(codes.shape, np.nan, np.float32)
    offset = codes.astype(np.float32) - np.float32(b)
    # A code that does not exceed B has no depth; only damaged data has one.
    np.divide(np.float32(a), offset, out=depth, where=(codes > 0) & (offset > 0.0))
    return depth


def _parameters(depth_max: float, quantization: float) -> tuple[np.float32, np.float32]:
    """(A, B), in float32 as the original computes them."""
    q = np.float32(quantization)
    a = q * (q + np.float32(1.0))
    return a, np.float32(1.0) - a / np.float32(depth_max)


def _quantize(
    depth: ArrayF32, depth_max: float, a: np.float32, b: np.float32
) -> NDArray[np.uint16]:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        codes = a / depth
        codes += b
        valid = (depth > 0.0) & (depth < np.float32(depth_max)) & (codes < _LARGEST_CODE + 1)
    return np.where(valid, codes, np.float32(0.0)).astype(np.uint16)
