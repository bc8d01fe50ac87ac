"""What must hold of every message, however malformed: refused with words, or read rightly.

`SUBSCRIPTIONS` has everything that the node subscribes to: what makes a malformed message, and what
checks its reading. A check raises `AssertionError`, and says whether the message was read.
"""

from __future__ import annotations

import math
import random
import resource
from collections.abc import Callable
from typing import Any

import malformed
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu, LaserScan, PointCloud2, Range

from depth_node.geometry.transforms import MAX_FRAMES, TransformBuffer
from depth_node.ros.camera_info import camera_from_info
from depth_node.ros.clouds import points_from_cloud
from depth_node.ros.compressed_image import decode_compressed
from depth_node.ros.images import decode_image
from depth_node.ros.sensors import gravity_direction, points_from_scan, reading_from_range
from depth_node.ros.sparse import depth_from_image
from depth_node.ros.transforms import take_in
from depth_node.scale.points import from_depth_image, project
from depth_node.types import ArrayF32, CameraModel

GROWTH_MB = 50.0  # for messages of a few hundred bytes, whatever they claim
SHORTEST_REASON = 20
CAMERA = CameraModel.pinhole(16, 12, 15.0, 15.0, 7.5, 5.5)


def peak_mb() -> float:
    """The most memory that this process has ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def read_or_refused(convert: Callable[[], Any]) -> Any | None:
    """What the conversion gives, or None when it refuses with words; both in little memory."""
    before = peak_mb()
    result, refusal = None, ""
    try:
        result = convert()
    except ValueError as error:
        refusal = str(error)
        assert len(refusal) >= SHORTEST_REASON, refusal
    assert peak_mb() - before < GROWTH_MB
    return result


def check_image(msg: Image) -> bool:
    image = read_or_refused(lambda: decode_image(msg))
    if image is None:
        return False
    assert (image.shape, image.dtype) == ((msg.height, msg.width, 3), np.uint8)
    assert 0 < image.size <= 12 * len(msg.data)
    return True


def check_depth_image(msg: Image) -> bool:
    depth = read_or_refused(lambda: depth_from_image(msg))
    if depth is None:
        return False
    assert (depth.shape, depth.dtype) == ((msg.height, msg.width), np.float32)
    assert 0 < depth.size <= len(msg.data)
    points = from_depth_image(depth, CAMERA, source="landmarks", stamp_ns=0)
    assert np.isfinite([points.u, points.v, points.depth]).all()
    return True


def check_compressed_image(msg: CompressedImage) -> bool:
    image = read_or_refused(lambda: decode_compressed(msg))
    if image is None:
        return False
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.dtype == np.uint8
    assert image.size > 0
    return True


def check_camera_info(msg: CameraInfo) -> bool:
    camera = read_or_refused(lambda: camera_from_info(msg, (16, 12)))
    if camera is None:
        return False
    assert (camera.width, camera.height) == (16, 12)
    for matrix, shape in ((camera.K, (3, 3)), (camera.R, (3, 3)), (camera.P, (3, 4))):
        assert matrix.shape == shape
        assert np.isfinite(matrix).all()
    assert np.isfinite(camera.D).all()
    fx, fy, _, _ = camera.intrinsics
    assert min(fx, fy, camera.K[0, 0], camera.K[1, 1]) > 0.0
    np.testing.assert_allclose(camera.R @ camera.R.T, np.eye(3), atol=1e-2)
    return True


def check_in_picture(points: ArrayF32) -> None:
    """Whatever was read can be looked for in the picture."""
    seen = project(points, np.eye(4), CAMERA, source="lidar", stamp_ns=0)
    assert np.isfinite([seen.u, seen.v, seen.depth]).all()


def check_cloud(msg: PointCloud2) -> bool:
    read = read_or_refused(lambda: points_from_cloud(msg))
    if read is None:
        return False
    points, times = read
    assert points.dtype == np.float32
    assert points.shape[1:] == (3,)
    assert len(points) <= msg.width * msg.height
    assert np.isfinite(points).all()
    if times is not None:
        assert times.shape == (len(points),)
        assert not times.size or np.abs(times).max() <= 1.0
    check_in_picture(points)
    return True


def check_scan(msg: LaserScan) -> bool:
    read = read_or_refused(lambda: points_from_scan(msg))
    if read is None:
        return False
    points, times = read
    assert points.shape == (len(points), 3)
    assert len(points) <= len(msg.ranges)
    assert np.isfinite(points).all()
    distances = np.linalg.norm(points.astype(np.float64), axis=1)
    assert np.all(distances <= msg.range_max * (1.0 + 1e-5))
    assert np.all(distances >= msg.range_min * (1.0 - 1e-5))
    assert times is None or np.isfinite(times).all()
    check_in_picture(points)
    return True


def check_range(msg: Range) -> bool:
    reading = read_or_refused(lambda: reading_from_range(msg))
    if reading is None:
        return False
    assert msg.min_range <= reading.distance <= msg.max_range
    assert math.isfinite(reading.distance)
    assert reading.distance > 0.0
    assert 0.0 <= reading.field_of_view <= 2.0 * math.pi
    assert reading.sigma is None or 0.0 < reading.sigma < math.inf
    return True


def check_imu(msg: Imu) -> bool:
    down = read_or_refused(lambda: gravity_direction(msg))
    if down is None:
        return False
    assert down.shape == (3,)
    assert abs(math.hypot(*down) - 1.0) < 1e-6
    return True


class TransformChecks:
    """Feeds one buffer with everything, and asks it for everything."""

    def __init__(self) -> None:
        self._buffer = TransformBuffer()
        self._random = random.Random(0)
        level = np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])
        self._buffer.add("robot", "sensor", 0, *level, static=True)

    def __call__(self, msg: Any) -> bool:
        refused = take_in(self._buffer, msg, static=self._random.random() < 0.1)
        assert all(len(str(error)) >= SHORTEST_REASON for _, error in refused)
        if self._random.random() < 0.01:
            assert len(self._buffer.frames()) <= 2 * MAX_FRAMES
        here, there = self._random.choices(malformed.FRAMES, k=2)
        stamp_ns = 10**18 + self._random.randrange(20 * 10**9)
        T = read_or_refused(lambda: self._buffer.lookup(here, there, stamp_ns))
        if T is not None:
            rotation = T[:3, :3]
            assert np.isfinite(T).all()
            assert np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-6
            assert T[3].tolist() == [0.0, 0.0, 0.0, 1.0]
        # Nobody spoke of these two, and so nothing may have moved them.
        assert np.array_equal(self._buffer.lookup("robot", "sensor", 0), np.eye(4))
        return not refused


SUBSCRIPTIONS: dict[str, tuple[malformed.Value, Callable[[], Callable[[Any], bool]]]] = {
    "image": (malformed.image, lambda: check_image),
    "compressed image": (malformed.compressed_image, lambda: check_compressed_image),
    "camera_info": (malformed.camera_info, lambda: check_camera_info),
    "point cloud": (malformed.cloud, lambda: check_cloud),
    "depth image": (malformed.depth_image, lambda: check_depth_image),
    "scan": (malformed.scan, lambda: check_scan),
    "range": (malformed.range_reading, lambda: check_range),
    "IMU": (malformed.imu, lambda: check_imu),
    "TF": (malformed.transforms, TransformChecks),
}
"""By subscription: what makes a message, and what makes a check of as many as are to come."""


def run_cases(name: str, count: int) -> int:
    """Make and check so many messages of one subscription; how many of them were read.

    Raises:
        AssertionError: one was read wrongly, refused without a reason, or neither; it names the
            case, which is the seed that makes the same message again.
    """
    make, checks = SUBSCRIPTIONS[name]
    check = checks()
    read = 0
    for case in range(count):
        msg = make(random.Random(case))
        try:
            read += check(msg)
        except Exception as error:
            raise AssertionError(f"{name}, case {case}: {error!r}: {str(msg)[:1000]}") from error
    return read
