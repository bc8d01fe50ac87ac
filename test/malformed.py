"""Messages that no driver should send: hypothesis strategies that spoil good ones."""

from __future__ import annotations

import copy
import math
from array import array
from typing import Any

import cv2
import numpy as np
from hypothesis import strategies as st
from sensor_msgs.msg import (
    CameraInfo,
    CompressedImage,
    Image,
    Imu,
    LaserScan,
    PointCloud2,
    PointField,
    Range,
)

from depth_node.ros.images import SUPPORTED_ENCODINGS
from depth_node.ros.wire import make_header

U8, U32 = 2**8 - 1, 2**32 - 1


def _near(*usual: int, top: int = U32) -> Any:
    """Small numbers, the usual ones and their neighbours, and the ends of the range."""
    edges = {0, 1, 2, top, top - 1, top // 2 + 1, 60_000 % (top + 1)}
    edges |= {min(max(value + step, 0), top) for value in usual for step in (-1, 0, 1)}
    return st.one_of(st.sampled_from(sorted(edges)), st.integers(0, top))


def _number(width: int = 64) -> Any:
    edges = [0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 1e-38, 1e30]
    if width == 64:
        edges += [1e-300, 1e300]
    return st.one_of(st.sampled_from(edges), st.floats(width=width))  # type: ignore[arg-type]


def _numbers(count: int, width: int = 64) -> Any:
    return st.lists(_number(width), min_size=count, max_size=count)


_text = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", "\x00", "rgb8", "jpeg", "png", "é" * 5000, "16UC1; compressedDepth"]),
)
_bytes = st.binary(max_size=400)


@st.composite
def _spoilt(draw: Any, good: Any, changes: dict[str, Any]) -> Any:
    """A copy of `good` with up to four fields replaced; `a.b` names a field of a field."""
    msg = copy.deepcopy(good)
    for name in draw(st.sets(st.sampled_from(sorted(changes)), min_size=1, max_size=4)):
        owner, *rest = name.split(".")
        target, field = (getattr(msg, owner), rest[0]) if rest else (msg, owner)
        value = draw(changes[name])
        setattr(target, field, array("B", value) if isinstance(value, bytes) else value)
    return msg


def images() -> Any:
    """Images of 16x12 pixels and worse."""
    good = Image(height=12, width=16, encoding="rgb8", step=48, data=array("B", bytes(12 * 48)))
    encodings = st.one_of(st.sampled_from(SUPPORTED_ENCODINGS), _text)
    return _spoilt(
        good,
        {
            "height": _near(12),
            "width": _near(16),
            "step": _near(16, 32, 48, 64, 96),
            "encoding": encodings,
            "is_bigendian": st.integers(0, U8),
            "data": st.one_of(_bytes, st.integers(0, 2000).map(bytes)),
        },
    )


@st.composite
def _spoilt_file(draw: Any) -> bytes:
    """A JPEG or PNG with bytes changed, cut or added, or a claim of another size."""
    kind, base = draw(st.sampled_from(FILES))
    data = bytearray(base)
    for _ in range(draw(st.integers(0, 6))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, U8))
    if draw(st.booleans()):
        at = 16 if kind == "png" else base.index(b"\xff\xc0") + 5
        size = draw(st.sampled_from([60_000, 65_535, 0, 1, 17]))
        count = 4 if kind == "png" else 2
        data[at : at + 2 * count] = 2 * size.to_bytes(count, "big")
    cut = draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))
    return bytes(data[:cut]) + draw(st.binary(max_size=8))


def _files() -> list[tuple[str, bytes]]:
    colour = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
    pictures = [colour, colour[:, :, 0], np.dstack([colour, colour[:, :, 0]])]
    pngs = [cv2.imencode(".png", picture)[1].tobytes() for picture in pictures]
    jpegs = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures[:2]]
    return [("png", data) for data in pngs] + [("jpg", data) for data in jpegs]


FILES = _files()


def compressed_images() -> Any:
    """Compressed images of 16x12 pixels and worse."""
    good = CompressedImage(format="jpeg", data=array("B", FILES[-1][1]))
    formats = st.sampled_from(
        ["jpeg", "rgb8; png compressed bgr8", "bayer_rggb8; png compressed", "tiff"]
    )
    return _spoilt(
        good,
        {"format": st.one_of(formats, _text), "data": st.one_of(_spoilt_file(), _bytes)},
    )


def camera_infos() -> Any:
    """Calibrations of a 16x12 camera and worse."""
    good = CameraInfo(width=16, height=12, distortion_model="plumb_bob", d=[0.0] * 5)
    good.k = [15.0, 0.0, 8.0, 0.0, 15.0, 6.0, 0.0, 0.0, 1.0]
    good.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    good.p = [15.0, 0.0, 8.0, 0.0, 0.0, 15.0, 6.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    models = ["plumb_bob", "rational_polynomial", "equidistant", ""]
    one_entry = [
        st.tuples(st.integers(0, 8), _number()).map(
            lambda change: [*good.k[: change[0]], change[1], *good.k[change[0] + 1 :]]
        )
    ]
    return _spoilt(
        good,
        {
            "width": _near(16),
            "height": _near(12),
            "k": st.one_of(_numbers(9), *one_entry),
            "r": _numbers(9),
            "p": _numbers(12),
            "d": st.lists(_number(), max_size=15),
            "distortion_model": st.one_of(st.sampled_from(models), _text),
            "binning_x": _near(2),
            "binning_y": _near(2),
            "roi.x_offset": _near(4),
            "roi.y_offset": _near(4),
            "roi.width": _near(16),
            "roi.height": _near(12),
        },
    )


def clouds() -> Any:
    """Clouds of eight points and worse."""
    fields = [PointField(name=n, offset=4 * i, datatype=7, count=1) for i, n in enumerate("xyzt")]
    good = PointCloud2(
        header=make_header(10**18, "lidar"),
        height=2,
        width=4,
        fields=fields,
        point_step=16,
        row_step=64,
        data=array("B", np.arange(32, dtype=np.float32).tobytes()),
    )
    field = st.builds(
        PointField,
        name=st.one_of(st.sampled_from(["x", "y", "z", "t", "time", "timestamp"]), _text),
        offset=_near(0, 4, 8, 12),
        datatype=st.integers(0, 12),
        count=_near(1),
    )
    return _spoilt(
        good,
        {
            "height": _near(2),
            "width": _near(4),
            "fields": st.one_of(
                st.lists(field, max_size=5), st.lists(field, max_size=2).map(fields.__add__)
            ),
            "is_bigendian": st.booleans(),
            "point_step": _near(16),
            "row_step": _near(64),
            "data": st.one_of(_bytes, st.integers(0, 200).map(bytes)),
        },
    )


def scans() -> Any:
    """Scans of nine beams and worse."""
    good = LaserScan(
        angle_min=-1.0, angle_max=1.0, angle_increment=0.25, range_min=0.1, range_max=30.0
    )
    good.ranges = array("f", [2.0] * 9)
    values = st.lists(_number(32), max_size=12).map(lambda numbers: array("f", numbers))
    names = ("angle_min", "angle_max", "angle_increment", "range_min", "range_max")
    numbers = dict.fromkeys((*names, "time_increment", "scan_time"), _number(32))
    return _spoilt(good, {**numbers, "ranges": values, "intensities": values})


def ranges() -> Any:
    """Single distances and worse."""
    good = Range(field_of_view=0.4, min_range=0.1, max_range=5.0, range=2.0)
    names = ["field_of_view", "min_range", "max_range", "range"]
    if hasattr(good, "variance"):  # Humble's has none
        names.append("variance")
    changes = dict.fromkeys(names, _number(32))
    return _spoilt(good, {**changes, "radiation_type": st.integers(0, U8)})


def imus() -> Any:
    """Accelerations and worse."""
    good = Imu()
    good.linear_acceleration.z = 9.81
    axes = dict.fromkeys((f"linear_acceleration.{axis}" for axis in "xyz"), _number())
    return _spoilt(good, {**axes, "linear_acceleration_covariance": _numbers(9)})
