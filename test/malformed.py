"""Messages that no driver should send: good ones, spoilt at random and reproducibly.

Every generator takes a `random.Random` and gives one message; a seed is a case. They are plain code
and no hypothesis strategies so that 100,000 cases take seconds and not an hour.
"""

from __future__ import annotations

import math
import random
import struct
from array import array
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from geometry_msgs.msg import TransformStamped
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

Random = random.Random
Value = Callable[[Random], Any]
U8, U32 = 2**8 - 1, 2**32 - 1
EDGES = (0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 1e-38, 1e30)
TEXTS = ("", "\x00", "rgb8", "jpeg", "png", "é" * 5000, "16UC1; compressedDepth", "a/b c\n")
FRAMES = ("map", "odom", "base", "/base", "lidar", "camera", "imu")


def near(*usual: int, top: int = U32) -> Value:
    """The usual numbers and their neighbours, the ends of the range, and any number."""
    edges = {0, 1, 2, top, top - 1, top // 2 + 1, 60_000 % (top + 1)}
    edges |= {min(max(value + step, 0), top) for value in usual for step in (-1, 0, 1)}
    few = sorted(edges)
    return lambda rng: rng.choice(few) if rng.random() < 0.7 else rng.randrange(top + 1)


def number(width: int = 64) -> Value:
    """Small numbers, edges, and any bits; of float32 or float64."""
    bits = {32: "<f", 64: "<d"}[width]
    edges = EDGES if width == 32 else (*EDGES, 1e-300, 1e300)

    def draw(rng: Random) -> float:
        kind = rng.random()
        if kind < 0.4:
            return rng.choice(edges)
        if kind < 0.8:
            return struct.unpack("<f", struct.pack("<f", rng.uniform(-10.0, 10.0)))[0]
        return struct.unpack(bits, rng.randbytes(width // 8))[0]

    return draw


def numbers(count: int, width: int = 64) -> Value:
    draw = number(width)
    return lambda rng: [draw(rng) for _ in range(count)]


def some(draw: Value, most: int) -> Value:
    """A list of up to so many."""
    return lambda rng: [draw(rng) for _ in range(rng.randrange(most + 1))]


def text(*usual: str) -> Value:
    """The usual texts, odd ones, and any characters."""
    few = (*usual, *TEXTS)
    return lambda rng: (
        rng.choice(few)
        if rng.random() < 0.8
        else "".join(chr(rng.randrange(0xD800)) for _ in range(rng.randrange(20)))
    )


def either(*draws: Value) -> Value:
    return lambda rng: rng.choice(draws)(rng)


def raw(rng: Random) -> array[int]:
    """Up to 400 bytes, or 2000 zeros."""
    length = rng.randrange(400)
    return array("B", rng.randbytes(length) if rng.random() < 0.5 else bytes(5 * length))


def spoil(rng: Random, msg: Any, changes: dict[str, Value]) -> Any:
    """Replace up to four fields; `a.b` names a field of a field."""
    for name in rng.sample(list(changes), min(rng.randint(1, 4), len(changes))):
        *owner, field = name.split(".")
        setattr(getattr(msg, owner[0]) if owner else msg, field, changes[name](rng))
    return msg


IMAGE_CHANGES: dict[str, Value] = {
    "height": near(12),
    "width": near(16),
    "step": near(16, 32, 48, 64, 96),
    "encoding": text(*SUPPORTED_ENCODINGS),
    "is_bigendian": lambda rng: rng.randrange(U8 + 1),
    "data": raw,
}


def image(rng: Random) -> Image:
    """An image of 16x12 pixels or worse."""
    good = Image(height=12, width=16, encoding="rgb8", step=48, data=array("B", bytes(12 * 48)))
    return spoil(rng, good, IMAGE_CHANGES)


def depth_image(rng: Random) -> Image:
    """A depth image of 16x12 pixels or worse."""
    good = Image(height=12, width=16, encoding="32FC1", step=64, data=array("B", bytes(12 * 64)))
    encoding = {"encoding": text("32FC1", "16UC1", "mono16")}
    return spoil(rng, good, IMAGE_CHANGES | encoding)


def _files() -> list[tuple[str, bytes]]:
    colour = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
    pictures = [colour, colour[:, :, 0], np.dstack([colour, colour[:, :, 0]])]
    pngs = [cv2.imencode(".png", picture)[1].tobytes() for picture in pictures]
    jpegs = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures[:2]]
    return [("png", data) for data in pngs] + [("jpg", data) for data in jpegs]


FILES = _files()


def spoilt_file(rng: Random) -> array[int]:
    """A JPEG or PNG with bytes changed, cut or added, or a claim of another size."""
    kind, base = rng.choice(FILES)
    data = bytearray(base)
    for _ in range(rng.randrange(7)):
        data[rng.randrange(len(data))] = rng.randrange(U8 + 1)
    if rng.random() < 0.5:
        at = 16 if kind == "png" else base.index(b"\xff\xc0") + 5
        size = rng.choice([60_000, 65_535, 0, 1, 17])
        count = 4 if kind == "png" else 2
        data[at : at + 2 * count] = 2 * size.to_bytes(count, "big")
    cut = rng.choice([len(data), rng.randrange(len(data) + 1)])
    return array("B", bytes(data[:cut]) + rng.randbytes(rng.randrange(9)))


def compressed_image(rng: Random) -> CompressedImage:
    """A compressed image of 16x12 pixels or worse."""
    good = CompressedImage(format="jpeg", data=array("B", FILES[-1][1]))
    formats = ("rgb8; png compressed bgr8", "bayer_rggb8; png compressed", "tiff")
    data = either(spoilt_file, spoilt_file, raw)
    return spoil(rng, good, {"format": text(*formats), "data": data})


def camera_info(rng: Random) -> CameraInfo:
    """The calibration of a 16x12 camera or worse."""
    good = CameraInfo(width=16, height=12, distortion_model="plumb_bob", d=[0.0] * 5)
    good.k = [15.0, 0.0, 8.0, 0.0, 15.0, 6.0, 0.0, 0.0, 1.0]
    good.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    good.p = [15.0, 0.0, 8.0, 0.0, 0.0, 15.0, 6.0, 0.0, 0.0, 0.0, 1.0, 0.0]

    def one_of(usual: Sequence[float]) -> Value:
        def draw(rng: Random) -> list[float]:
            changed = [float(value) for value in usual]
            changed[rng.randrange(len(changed))] = _float64(rng)
            return changed

        return draw

    changes: dict[str, Value] = {
        "width": near(16),
        "height": near(12),
        "k": either(numbers(9), one_of(good.k)),
        "r": either(numbers(9), one_of(good.r)),
        "p": either(numbers(12), one_of(good.p)),
        "d": some(_float64, 15),
        "distortion_model": text("plumb_bob", "rational_polynomial", "equidistant"),
        "binning_x": near(2),
        "binning_y": near(2),
        "roi.x_offset": near(4),
        "roi.y_offset": near(4),
        "roi.width": near(16),
        "roi.height": near(12),
    }
    return spoil(rng, good, changes)


def _field(rng: Random) -> PointField:
    names = ("x", "y", "z", "t", "time", "timestamp")
    return PointField(
        name=text(*names)(rng),
        offset=near(0, 4, 8, 12)(rng),
        datatype=rng.randrange(13),
        count=near(1)(rng),
    )


def cloud(rng: Random) -> PointCloud2:
    """A cloud of eight points or worse."""
    fields = [PointField(name=n, offset=4 * i, datatype=7, count=1) for i, n in enumerate("xyzt")]
    good = PointCloud2(
        header=make_header(10**18, "lidar"), height=2, width=4, fields=fields, point_step=16,
        row_step=64, data=array("B", np.arange(32, dtype=np.float32).tobytes()),
    )  # fmt: skip
    changes: dict[str, Value] = {
        "height": near(2),
        "width": near(4),
        "fields": lambda rng: [*rng.choice([[], fields]), *some(_field, 4)(rng)],
        "is_bigendian": lambda rng: rng.random() < 0.5,
        "point_step": near(16),
        "row_step": near(64),
        "data": either(raw, lambda rng: array("B", rng.randbytes(128))),
    }
    return spoil(rng, good, changes)


def scan(rng: Random) -> LaserScan:
    """A scan of nine beams or worse."""
    good = LaserScan(
        angle_min=-1.0, angle_max=1.0, angle_increment=0.25, range_min=0.1, range_max=30.0
    )
    good.ranges = array("f", [2.0] * 9)
    names = ("angle_min", "angle_max", "angle_increment", "range_min", "range_max")
    changes = dict.fromkeys((*names, "time_increment", "scan_time"), _float32)

    def values(rng: Random) -> array[float]:
        return array("f", some(_float32, 12)(rng))

    return spoil(rng, good, {**changes, "ranges": values, "intensities": values})


def range_reading(rng: Random) -> Range:
    """A single distance or worse."""
    good = Range(field_of_view=0.4, min_range=0.1, max_range=5.0, range=2.0)
    names = ["field_of_view", "min_range", "max_range", "range"]
    if hasattr(good, "variance"):  # Humble's has none
        names.append("variance")
    changes = dict.fromkeys(names, _float32)
    return spoil(rng, good, {**changes, "radiation_type": lambda rng: rng.randrange(U8 + 1)})


def imu(rng: Random) -> Imu:
    """An acceleration or worse."""
    good = Imu()
    good.linear_acceleration.z = 9.81
    axes = dict.fromkeys((f"linear_acceleration.{axis}" for axis in "xyz"), _float64)
    return spoil(rng, good, {**axes, "linear_acceleration_covariance": numbers(9)})


def transforms(rng: Random) -> Any:
    """Up to three transforms between few frames, in any order: loops, other parents, nonsense.

    It has what a `tf2_msgs/TFMessage` has, which not every ROS brings along.
    """
    return SimpleNamespace(transforms=[_transform(rng) for _ in range(rng.randrange(4))])


def _transform(rng: Random) -> TransformStamped:
    msg = TransformStamped(child_frame_id=rng.choice(FRAMES))
    msg.header = make_header(10**18 + rng.randrange(20) * 10**9, rng.choice(FRAMES))
    turn = rng.uniform(-3.0, 3.0)
    msg.transform.rotation.z, msg.transform.rotation.w = math.sin(turn), math.cos(turn)
    if rng.random() < 0.4:  # as it is, it is a good one
        return msg
    changes: dict[str, Value] = {"child_frame_id": text(), "header.frame_id": text()}
    for name in rng.sample(["child_frame_id", "header.frame_id", "stamp", "body"], 2):
        if name == "stamp":
            msg.header.stamp.sec = rng.choice([0, -1, 2**31 - 1, -(2**31)])
            msg.header.stamp.nanosec = near(10**9)(rng)
        elif name == "body":
            part = rng.choice([msg.transform.translation, msg.transform.rotation])
            setattr(part, rng.choice("xyz"), _float64(rng))
        else:
            spoil(rng, msg, {name: changes[name]})
    return msg


_float32, _float64 = number(32), number(64)
