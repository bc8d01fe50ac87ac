"""`sensor_msgs/Image` to RGB arrays and back.

Every check comes before the first pixel is touched. Sources: sensor_msgs/image_encodings.hpp for
the names, V4L2's pixel format pages for the YUV layouts, cv_bridge for what a name means there.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from depth_node.ros.wire import MAX_PIXELS, ConversionError, fill
from depth_node.types import ArrayF32, ImageU8

MILLIMETRE_RANGE_M = 65.535
"""Farthest depth that a 16UC1 image in millimetres can hold, metres."""


@dataclass(frozen=True)
class _Encoding:
    """How an encoding lies in memory.

    Attributes:
        channels: samples a pixel within one row.
        code: OpenCV's conversion to RGB, or None when the samples are RGB already.
        sample_bytes: 1, or 2 for samples of 16 bits.
        half_rows: rows of `step` bytes for every two image rows; more than 2 with chroma planes.
        even: whether (width, height) must be even, because chroma is shared by neighbours.
    """

    channels: int
    code: int | None
    sample_bytes: int = 1
    half_rows: int = 2
    even: tuple[bool, bool] = (False, False)


_UYVY = _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, even=(True, False))
_YUYV = _Encoding(2, cv2.COLOR_YUV2RGB_YUY2, even=(True, False))

_ENCODINGS = {
    "rgb8": _Encoding(3, None),
    "bgr8": _Encoding(3, cv2.COLOR_BGR2RGB),
    "rgba8": _Encoding(4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Encoding(4, cv2.COLOR_BGRA2RGB),
    "rgb16": _Encoding(3, None, 2),
    "bgr16": _Encoding(3, cv2.COLOR_BGR2RGB, 2),
    "rgba16": _Encoding(4, cv2.COLOR_RGBA2RGB, 2),
    "bgra16": _Encoding(4, cv2.COLOR_BGRA2RGB, 2),
    "mono8": _Encoding(1, cv2.COLOR_GRAY2RGB),
    "mono16": _Encoding(1, cv2.COLOR_GRAY2RGB, 2),
    # Without names for the channels these are OpenCV's own types, and OpenCV's order is BGR.
    "8UC1": _Encoding(1, cv2.COLOR_GRAY2RGB),
    "8UC3": _Encoding(3, cv2.COLOR_BGR2RGB),
    "8UC4": _Encoding(4, cv2.COLOR_BGRA2RGB),
    "16UC1": _Encoding(1, cv2.COLOR_GRAY2RGB, 2),
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": _Encoding(1, cv2.COLOR_YUV2RGB_NV12, half_rows=3, even=(True, True)),
    "nv21": _Encoding(1, cv2.COLOR_YUV2RGB_NV21, half_rows=3, even=(True, True)),
    "nv24": _Encoding(1, None, half_rows=6),
}

# ROS names a mosaic by its first two rows; OpenCV names it by the second row's second and third
# pixel, so that ROS's rggb is OpenCV's BG.
_MOSAICS = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
for _mosaic, _code in _MOSAICS.items():
    _ENCODINGS[f"bayer_{_mosaic}8"] = _Encoding(1, _code)
    _ENCODINGS[f"bayer_{_mosaic}16"] = _Encoding(1, _code, 2)

SUPPORTED_ENCODINGS = tuple(_ENCODINGS)

# ITU-R BT.601 with video range (Y 16..235), as OpenCV's own YUV 4:2:2 and 4:2:0 conversions take.
_YUV_TO_RGB = np.array(
    [
        [1.164384, 0.0, 1.596027, -222.921],
        [1.164384, -0.391762, -0.812968, 135.576],
        [1.164384, 2.017232, 0.0, -276.836],
    ]
)


def decode_image(msg: Image, max_pixels: int = MAX_PIXELS) -> ImageU8:
    """Convert an image message to RGB.

    Samples of 16 bits keep their high byte (value >> 8), in either byte order. 8UC3 and 8UC4 are
    taken as BGR and BGRA, 8UC1 and 16UC1 as grey. `nv12`, `nv21` and `nv24` take `step` as the
    length of a luma row, the chroma plane follows at once. Encodings other than
    `SUPPORTED_ENCODINGS` go to cv_bridge where it is installed.

    Args:
        msg: the image; rows may be padded, the last one may lack its padding.
        max_pixels: larger images are refused before anything is allocated.

    Returns:
        HxWx3 uint8, RGB. For rgb8 it is a view of the message's data, strided when rows are padded.

    Raises:
        ConversionError: unknown encoding, zero or absurd size, wrong step, or too little data.
    """
    width, height, name = msg.width, msg.height, msg.encoding
    what = f"image {width}x{height} {name!r}"
    _check_size(what, width, height, max_pixels)
    encoding = _ENCODINGS.get(name)
    if encoding is None:
        return _decode_with_cv_bridge(msg, what)
    for side, length, even in zip(("width", "height"), (width, height), encoding.even, strict=True):
        if even and length % 2:
            raise ConversionError(
                f"{what}: the {side} is odd, but neighbouring pixels share their colour in this "
                "encoding; set the camera to an even size"
            )
    row_bytes = width * encoding.channels * encoding.sample_bytes
    rows = height * encoding.half_rows // 2
    _check_data(what, msg, row_bytes, rows)

    if name == "nv24":
        return _decode_nv24(msg)
    shape = (rows, width, encoding.channels * encoding.sample_bytes)
    pixels = np.ndarray(shape, np.uint8, msg.data, 0, (msg.step, shape[2], 1))
    if encoding.sample_bytes == 2:
        pixels = np.ascontiguousarray(pixels[:, :, (0 if msg.is_bigendian else 1) :: 2])
    if encoding.code is None:
        return pixels
    samples = pixels if encoding.channels > 1 else pixels[:, :, 0]
    return np.asarray(cv2.cvtColor(samples, encoding.code), np.uint8)


def demosaic(mosaic: ImageU8, encoding: str) -> ImageU8:
    """Interpolate a Bayer mosaic.

    Args:
        mosaic: HxW uint8.
        encoding: `bayer_rggb8` or another of ROS's eight names.

    Returns:
        HxWx3 uint8, RGB.

    Raises:
        ConversionError: the encoding is not a Bayer mosaic.
    """
    code = _MOSAICS.get(encoding[6:10]) if encoding.startswith("bayer_") else None
    if code is None:
        raise ConversionError(f"{encoding!r} is no Bayer mosaic; expected one such as bayer_rggb8")
    return np.asarray(cv2.cvtColor(mosaic, code), np.uint8)


def millimetres(depth: ArrayF32) -> NDArray[np.uint16]:
    """Depth for a 16UC1 image, where 0 is invalid (REP 118).

    16UC1 has no value for "beyond range": sky (+Inf) and everything beyond `MILLIMETRE_RANGE_M`
    become 0 as well, never a wrapped or clamped distance.

    Args:
        depth: HxW float32 metres; NaN invalid, +Inf beyond range.

    Returns:
        HxW uint16, millimetres, rounded to the nearest.
    """
    valid = (depth > 0.0) & (depth <= MILLIMETRE_RANGE_M)  # false for NaN
    scaled = np.where(valid, depth, np.float32(0.0))
    scaled *= np.float32(1000.0)
    scaled += np.float32(0.5)
    return scaled.astype(np.uint16)


# Encodings that this node publishes: dtype and number of channels.
_PUBLISHED: dict[str, tuple[type, int]] = {
    "32FC1": (np.float32, 1),
    "16UC1": (np.uint16, 1),
    "mono8": (np.uint8, 1),
    "rgb8": (np.uint8, 3),
    "bgr8": (np.uint8, 3),
}


def image_message(image: NDArray[Any], encoding: str, header: Header) -> Image:
    """Pack an array into an image message, rows without padding, little-endian.

    Args:
        image: HxW float32 for 32FC1, HxW uint16 for 16UC1 (see `millimetres`), HxW uint8 for
            mono8, HxWx3 uint8 for rgb8 and bgr8.
        encoding: one of those names.
        header: used as it is, not copied.

    Raises:
        ConversionError: the array does not have the encoding's shape and dtype.
    """
    dtype, channels = _PUBLISHED.get(encoding, (None, 0))
    shape = image.shape if channels == 1 else image.shape[:-1]
    if dtype is None or image.dtype != dtype or len(shape) != 2 or image.size == 0:
        raise ConversionError(
            f"cannot publish an array of shape {image.shape}, {image.dtype} as {encoding!r}; "
            f"expected {[f'{k}: {v[0].__name__} x {v[1]}' for k, v in _PUBLISHED.items()]}"
        )
    if channels > 1 and image.shape[-1] != channels:
        raise ConversionError(
            f"cannot publish {image.shape[-1]} channels as {encoding}, which has {channels}"
        )
    height, width = shape
    msg = Image(
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=width * channels * image.dtype.itemsize,
    )
    fill(msg.data, image.astype(image.dtype.newbyteorder("<"), copy=False))
    return msg


def _check_size(what: str, width: int, height: int, max_pixels: int) -> None:
    if width == 0 or height == 0:
        raise ConversionError(
            f"{what} has no pixels; expected a width and height above 0: check the camera driver"
        )
    if width * height > max_pixels:
        raise ConversionError(
            f"{what} has {width * height} pixels, more than the {max_pixels} accepted; reduce the "
            "camera's resolution"
        )


def _check_data(what: str, msg: Image, row_bytes: int, rows: int) -> None:
    if msg.step < row_bytes:
        raise ConversionError(
            f"{what}: step is {msg.step} bytes, but a row needs at least {row_bytes}; the driver "
            "gives a wrong step, width or encoding"
        )
    needed = msg.step * (rows - 1) + row_bytes
    if len(msg.data) < needed:
        raise ConversionError(
            f"{what}: {len(msg.data)} bytes of data, but {rows} rows of step {msg.step} need "
            f"{needed}; the message is truncated or its encoding is wrong"
        )


def _decode_nv24(msg: Image) -> ImageU8:
    """Full-resolution chroma, which OpenCV has no conversion for."""
    size = (msg.height, msg.width)
    luma = np.ndarray(size, np.uint8, msg.data, 0, (msg.step, 1))
    start, stride = msg.step * msg.height, 2 * msg.step
    chroma = np.ndarray((*size, 2), np.uint8, msg.data, start, (stride, 2, 1))
    yuv = np.dstack([luma, chroma])
    return np.asarray(cv2.transform(yuv, _YUV_TO_RGB), np.uint8)


def _decode_with_cv_bridge(msg: Image, what: str) -> ImageU8:
    bridge, why = _cv_bridge()
    known = f"supported: {', '.join(SUPPORTED_ENCODINGS)}"
    if bridge is None:
        raise ConversionError(
            f"{what}: unknown encoding, and cv_bridge cannot be used ({why}); {known}"
        )
    # cv_bridge trusts these two before it looks at the encoding.
    _check_data(what, msg, row_bytes=1, rows=msg.height)
    try:
        image = bridge.imgmsg_to_cv2(msg, "rgb8")
    except (TypeError, ValueError, KeyError, RuntimeError, cv2.error) as error:
        # CvBridgeError is a TypeError; the others come out of its tables and of NumPy.
        raise ConversionError(f"{what}: cv_bridge refused it too ({error}); {known}") from error
    if image.shape != (msg.height, msg.width, 3) or image.dtype != np.uint8:
        raise ConversionError(
            f"{what}: cv_bridge gave {image.dtype} of shape {image.shape} for rgb8; {known}"
        )
    return np.asarray(image, np.uint8)


@functools.lru_cache(maxsize=1)
def _cv_bridge() -> tuple[Any | None, str]:
    """(CvBridge, "") or (None, why not)."""
    try:
        from cv_bridge import CvBridge
    except (ImportError, AttributeError) as error:
        # Built for another NumPy, it fails with either (vision_opencv #535).
        return None, str(error)
    return CvBridge(), ""
