"""Every message that the node subscribes to, malformed: refused with a reason, or read rightly.

`MALFORMED_EXAMPLES` sets how many cases each type gets (a release is checked with 100,000).
"""

from __future__ import annotations

import math
import os
import resource
import struct
from array import array
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

pytest.importorskip("sensor_msgs.msg", reason="the message packages are not installed")

import malformed
from sensor_msgs.msg import (
    CameraInfo,
    CompressedImage,
    Image,
    Imu,
    LaserScan,
    PointCloud2,
    Range,
)

from depth_node.ros.camera_info import camera_from_info
from depth_node.ros.clouds import points_from_cloud
from depth_node.ros.compressed_image import decode_compressed
from depth_node.ros.images import decode_image
from depth_node.ros.sensors import gravity_direction, points_from_scan, reading_from_range
from depth_node.ros.wire import ConversionError

EXAMPLES = int(os.environ.get("MALFORMED_EXAMPLES", "1000"))
GROWTH_MB = 50.0  # for messages of a few hundred bytes, whatever they claim
many = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def read_or_refused(convert: Callable[[], object]) -> object | None:
    """What the conversion gives, or None when it refuses with words; both in little memory."""
    before = _peak_mb()
    words = "it gave a result, and so no reason"
    result = None
    try:
        result = convert()
    except ValueError as error:
        words = str(error)
    assert _peak_mb() - before < GROWTH_MB
    assert len(words) > 20
    return result


@many
@given(malformed.images())
def test_images(msg: Image) -> None:
    image = read_or_refused(lambda: decode_image(msg))
    if image is not None:
        assert (image.shape, image.dtype) == ((msg.height, msg.width, 3), np.uint8)
        assert 0 < image.size <= 12 * len(msg.data)


@many
@given(malformed.compressed_images())
def test_compressed_images(msg: CompressedImage) -> None:
    image = read_or_refused(lambda: decode_compressed(msg))
    if image is not None:
        assert image.ndim == 3
        assert image.shape[2] == 3
        assert image.dtype == np.uint8
        assert image.size > 0


@pytest.mark.parametrize("claim", ["chunk of 2 GB", "end of 4 GB", "48 megapixels"])
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_claims_that_the_bytes_cannot_hold_are_refused_before_decoding(
    kind: str, claim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", None)
    data = bytearray(next(data for name, data in malformed.FILES if name == kind))
    size = 16 if kind == "png" else data.index(b"\xff\xc0") + 5
    if claim == "48 megapixels":
        data[size : size + (8 if kind == "png" else 4)] = (
            struct.pack(">II", 8000, 6000) if kind == "png" else struct.pack(">HH", 6000, 8000)
        )
    elif kind == "png" and claim == "end of 4 GB":
        data[-12:-8] = struct.pack(">I", 2**32 - 1)
    elif kind == "png":
        data[33:37] = struct.pack(">I", 2**31 - 1)
    else:
        data[4:6] = struct.pack(">H", 2**16 - 1)
    with pytest.raises(ConversionError):
        decode_compressed(CompressedImage(format=kind, data=array("B", bytes(data))))


@many
@given(malformed.camera_infos())
def test_camera_infos(msg: CameraInfo) -> None:
    camera = read_or_refused(lambda: camera_from_info(msg, (16, 12)))
    if camera is None:
        return
    assert (camera.width, camera.height) == (16, 12)
    for matrix, shape in ((camera.K, (3, 3)), (camera.R, (3, 3)), (camera.P, (3, 4))):
        assert matrix.shape == shape
        assert np.isfinite(matrix).all()
    assert np.isfinite(camera.D).all()
    fx, fy, _, _ = camera.intrinsics
    assert min(fx, fy, camera.K[0, 0], camera.K[1, 1]) > 0.0
    np.testing.assert_allclose(camera.R @ camera.R.T, np.eye(3), atol=1e-2)


@many
@given(malformed.clouds())
def test_clouds(msg: PointCloud2) -> None:
    read = read_or_refused(lambda: points_from_cloud(msg))
    if read is None:
        return
    points, times = read
    assert points.dtype == np.float32
    assert points.shape[1:] == (3,)
    assert len(points) <= msg.width * msg.height
    assert np.isfinite(points).all()
    if times is not None:
        assert times.shape == (len(points),)
        assert not times.size or np.abs(times).max() <= 1.0


@many
@given(malformed.scans())
def test_scans(msg: LaserScan) -> None:
    read = read_or_refused(lambda: points_from_scan(msg))
    if read is None:
        return
    points, times = read
    assert points.shape == (len(points), 3)
    assert len(points) <= len(msg.ranges)
    assert np.isfinite(points).all()
    distances = np.linalg.norm(points.astype(np.float64), axis=1)
    assert np.all(distances <= msg.range_max * (1.0 + 1e-5))
    assert np.all(distances >= msg.range_min * (1.0 - 1e-5))
    assert times is None or np.isfinite(times).all()


@many
@given(malformed.ranges())
def test_ranges(msg: Range) -> None:
    reading = read_or_refused(lambda: reading_from_range(msg))
    if reading is not None:
        assert msg.min_range <= reading.distance <= msg.max_range
        assert math.isfinite(reading.distance)
        assert reading.distance > 0.0
        assert 0.0 <= reading.field_of_view <= 2.0 * math.pi
        assert reading.sigma is None or 0.0 < reading.sigma < math.inf


@many
@given(malformed.imus())
def test_imus(msg: Imu) -> None:
    down = read_or_refused(lambda: gravity_direction(msg))
    if down is not None:
        assert down.shape == (3,)
        assert math.hypot(*down) == pytest.approx(1.0)
