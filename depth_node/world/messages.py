"""ROS messages of a replayed drive, prepared so that filling one costs next to nothing."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image, Imu, LaserScan, PointCloud2, PointField, Range

from depth_node.types import ArrayF32, ArrayF64, CameraModel
from depth_node.world import sensors

_POINT_TYPES = {"<f4": PointField.FLOAT32, "<u2": PointField.UINT16}


def stamp(nanoseconds: int) -> Time:
    """A ROS time of nanoseconds since the epoch."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return Time(sec=seconds, nanosec=rest)


class ImageBuffer:
    """An Image whose bytes are overwritten in place from frame to frame.

    The setter of `data` may copy what it is given, so the view is one of the message's own array.
    """

    def __init__(self, height: int, width: int, encoding: str, dtype: type, channels: int) -> None:
        size = height * width * channels * np.dtype(dtype).itemsize
        self.message = Image(height=height, width=width, encoding=encoding, is_bigendian=0)
        self.message.step = size // height
        self.message.data = array.array("B", bytes(size))
        shape = (height, width, channels) if channels > 1 else (height, width)
        self._pixels: NDArray[Any] = np.frombuffer(self.message.data, dtype).reshape(shape)

    def fill(self, pixels: NDArray[Any], when: Time, frame_id: str) -> Image:
        """Copy an image in and return the message."""
        self._pixels[...] = pixels
        self.message.header.stamp = when
        self.message.header.frame_id = frame_id
        return self.message


def camera_info(camera: CameraModel, frame_id: str) -> CameraInfo:
    """The calibration of an image without distortion."""
    info = CameraInfo(height=camera.height, width=camera.width, distortion_model="plumb_bob")
    info.header.frame_id = frame_id
    info.d = [0.0] * 5
    info.k, info.r = camera.K.ravel(), camera.R.ravel()
    info.p = camera.P.ravel()
    return info


def point_cloud(records: NDArray[Any], when: Time, frame_id: str) -> PointCloud2:
    """An unorganised cloud of records, a field for each of their members."""
    cloud = PointCloud2(height=1, width=len(records), is_bigendian=False, is_dense=True)
    cloud.header.stamp, cloud.header.frame_id = when, frame_id
    assert records.dtype.fields is not None
    cloud.fields = [
        PointField(name=name, offset=offset, datatype=_POINT_TYPES[kind.str], count=1)
        for name, (kind, offset, *_) in records.dtype.fields.items()
    ]
    cloud.point_step = records.dtype.itemsize
    cloud.row_step = cloud.point_step * cloud.width
    storage = array.array("B")
    storage.frombytes(records.tobytes())
    cloud.data = storage
    return cloud


def laser_scan(ranges: ArrayF32, when: Time, frame_id: str) -> LaserScan:
    """A planar scan over a full turn."""
    angles = sensors.scan_angles()
    scan = LaserScan(
        angle_min=float(angles[0]),
        angle_max=float(angles[-1]),
        angle_increment=float(angles[1] - angles[0]),
        range_min=sensors.SCAN_MIN_M,
        range_max=sensors.SCAN_MAX_M,
        scan_time=sensors.LIDAR_PERIOD_S,
    )
    scan.header.stamp, scan.header.frame_id = when, frame_id
    scan.ranges = array.array("f", np.asarray(ranges, np.float32).tobytes())
    return scan


def range_message(metres: float, when: Time, frame_id: str) -> Range:
    """A range finder's reading."""
    reading = Range(
        radiation_type=Range.INFRARED,
        field_of_view=sensors.RANGE_FOV_RAD,
        min_range=sensors.RANGE_MIN_M,
        max_range=sensors.RANGE_MAX_M,
        range=metres,
    )
    reading.header.stamp, reading.header.frame_id = when, frame_id
    return reading


def imu(force: ArrayF64, turn: ArrayF64, when: Time, frame_id: str) -> Imu:
    """Specific force and angular velocity; the orientation is marked as not measured (REP 145)."""
    message = Imu()
    message.header.stamp, message.header.frame_id = when, frame_id
    message.orientation_covariance[0] = -1.0
    for name, vector in (("linear_acceleration", force), ("angular_velocity", turn)):
        field = getattr(message, name)
        field.x, field.y, field.z = (float(v) for v in vector)
    return message


def quaternion(rotation: ArrayF64) -> tuple[float, float, float, float]:
    """(x, y, z, w) of a rotation matrix (Shepperd's method: divide by the largest component)."""
    m = rotation
    squares = [m[0, 0], m[1, 1], m[2, 2], np.trace(m)]
    k = int(np.argmax(squares))
    if k == 3:
        q = [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], 1 + squares[3]]
    else:
        i, j = (k + 1) % 3, (k + 2) % 3
        q = [0.0] * 4
        q[k] = 1 + m[k, k] - m[i, i] - m[j, j]
        q[i], q[j] = m[i, k] + m[k, i], m[j, k] + m[k, j]
        q[3] = m[j, i] - m[i, j]
    unit = np.array(q) / np.linalg.norm(q)
    return float(unit[0]), float(unit[1]), float(unit[2]), float(unit[3])


def transform(pose: ArrayF64, when: Time, parent: str, child: str) -> TransformStamped:
    """4x4 T_parent_child as a message."""
    message = TransformStamped(child_frame_id=child)
    message.header.stamp, message.header.frame_id = when, parent
    body = message.transform
    body.translation.x, body.translation.y, body.translation.z = (float(v) for v in pose[:3, 3])
    body.rotation.x, body.rotation.y, body.rotation.z, body.rotation.w = quaternion(pose[:3, :3])
    return message


def odometry(pose: ArrayF64, velocity: ArrayF64, turn: ArrayF64, when: Time) -> Odometry:
    """Pose in `odom`; linear and angular velocity (m/s, rad/s) in `base_link` (REP 105)."""
    message = Odometry(child_frame_id="base_link")
    message.header.stamp, message.header.frame_id = when, "odom"
    place, twist = message.pose.pose, message.twist.twist
    place.position.x, place.position.y, place.position.z = (float(v) for v in pose[:3, 3])
    o = place.orientation
    o.x, o.y, o.z, o.w = quaternion(pose[:3, :3])
    for field, vector in ((twist.linear, velocity), (twist.angular, turn)):
        field.x, field.y, field.z = (float(v) for v in vector)
    return message
