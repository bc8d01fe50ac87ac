"""Messages of ranging sensors to measured depths in the rectified picture."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image, LaserScan, PointCloud2

from depth_node.geometry.transforms import Fault, TransformError, Transforms
from depth_node.ros.clouds import points_from_cloud
from depth_node.ros.sensors import points_from_scan, reading_from_range
from depth_node.ros.wire import ConversionError, stamp_ns
from depth_node.types import ArrayF32, ArrayF64, Frame

TF_TIMEOUT_S = 0.05
"""How long after a frame's arrival transforms that are still on their way are waited for."""
_NS = 1_000_000_000
_LAGS_NS = tuple(ms * 1_000_000 for ms in (0, 5, 10, 20, 35, 50, 75, 100))
_WIDEST_RAD = 1.4  # beyond it a cone covers the whole picture
_STILL_M, _STILL_RAD = 0.002, 0.0005
_DEPTH_TYPES = {"32FC1": "f4", "16UC1": "u2", "mono16": "u2"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Measured:
    """Points of one message in their sensor's frame.

    Attributes:
        points: (n, 3) float32 metres.
        times_s: (n,) float64 seconds after `stamp_ns` at which each was measured, or None when all
            hold at that stamp.
        frame_id: the sensor's frame.
        stamp_ns: the message's stamp.
        half_angle_rad: opening of the cone around a point in which the nearest surface was
            measured; 0 is a ray.
        sigma_m: standard deviation of the distance that came with it, or None.
    """

    points: ArrayF32
    times_s: ArrayF64 | None
    frame_id: str
    stamp_ns: int
    half_angle_rad: float = 0.0
    sigma_m: float | None = None


def read(msg: Any, min_intensity: float = 0.0) -> Measured:
    """Read a message of a ranging sensor.

    Args:
        msg: a PointCloud2, LaserScan or Range.
        min_intensity: beams of a scan that returned less are dropped; 0 keeps all.

    Returns:
        Its points, none where nothing returned.

    Raises:
        ConversionError: the message cannot be right.
    """
    where = (msg.header.frame_id, stamp_ns(msg.header))
    if isinstance(msg, PointCloud2):
        return Measured(*points_from_cloud(msg), *where)
    if isinstance(msg, LaserScan):
        return Measured(*points_from_scan(msg, min_intensity or None), *where)
    reading = reading_from_range(msg)
    if reading is None:
        return Measured(np.zeros((0, 3), np.float32), None, *where)
    point = np.array([[reading.distance, 0.0, 0.0]], np.float32)  # it looks along x
    half_angle = min(0.5 * reading.field_of_view, _WIDEST_RAD)
    return Measured(point, None, *where, half_angle, reading.sigma)


def depth_from_image(msg: Image) -> ArrayF32:
    """Read a depth image.

    Args:
        msg: 32FC1 in metres or 16UC1 (also named mono16) in millimetres, either byte order; rows
            may be padded.

    Returns:
        HxW float32 metres; invalid pixels are 0, NaN or infinite as they came.

    Raises:
        ConversionError: another encoding, no pixels, or too little data for the size.
    """
    if msg.encoding not in _DEPTH_TYPES:
        raise ConversionError(
            f"depth image has the encoding {msg.encoding!r}; expected 32FC1 in metres or 16UC1 in "
            "millimetres: choose the depth topic"
        )
    kind = np.dtype((">" if msg.is_bigendian else "<") + _DEPTH_TYPES[msg.encoding])
    if msg.width == 0 or msg.height == 0:
        raise ConversionError(
            f"depth image is {msg.width}x{msg.height}; expected a size above 0: the message is "
            "empty, correct the driver"
        )
    row_bytes = msg.width * kind.itemsize
    needed = msg.step * (msg.height - 1) + row_bytes
    if msg.step < row_bytes or len(msg.data) < needed:
        raise ConversionError(
            f"depth image of {msg.width}x{msg.height} has {len(msg.data)} bytes in rows of "
            f"{msg.step}; expected {needed} bytes in rows of at least {row_bytes}: the message is "
            "truncated or its step is wrong"
        )
    shape, strides = (msg.height, msg.width), (msg.step, kind.itemsize)
    pixels: NDArray[Any] = np.ndarray(shape, kind, msg.data, 0, strides)
    depth = pixels.astype(np.float32)
    if kind.kind == "u":
        depth *= np.float32(1e-3)
    return depth


def located(
    measured: Measured, frame: Frame, transforms: Transforms, odometry_frame: str
) -> tuple[Measured, ArrayF64, bool]:
    """Where the points were when they were measured, seen from the camera when it took the image.

    Through the odometry frame that is T_camera_odometry(image) T_odometry_sensor(measurement).
    Where TF does not have that, the robot is taken to stand still in between; so it is where
    odometry is later than the two are apart, for what it lacks would be a larger error.

    Args:
        measured: the points.
        frame: the image.
        transforms: TF.
        odometry_frame: name of a fixed frame, or empty.

    Returns:
        The points, straightened where their motion is known, T_camera_sensor (4x4), and whether
        the motion in between is in it.

    Raises:
        TransformError: TF does not connect sensor and camera at the image's stamp.
    """
    if odometry_frame:
        try:
            camera, lag_ns = _newest(transforms, frame.frame_id, odometry_frame, frame.stamp_ns)
            sensor = transforms.lookup(odometry_frame, measured.frame_id, measured.stamp_ns)
        except TransformError as error:
            _log.debug("points are not moved to the image's time: %s", error)
        else:
            if lag_ns == 0 or lag_ns < abs(frame.stamp_ns - measured.stamp_ns):
                straight = _straightened_if_known(measured, transforms, odometry_frame)
                return straight, camera @ sensor, True
    where = transforms.lookup(frame.frame_id, measured.frame_id, frame.stamp_ns, patience_s(frame))
    return measured, where, False


def mounting(frame: Frame, sensor: str, transforms: Transforms) -> ArrayF64 | None:
    """T_camera_sensor (4x4) at a frame's time or up to 0.1 s before, or None where TF lacks it."""
    try:
        return _newest(transforms, frame.frame_id, sensor, frame.stamp_ns)[0]
    except TransformError:
        return None


def patience_s(frame: Frame) -> float:
    """How long a look-up for a frame may still wait.

    All of a frame's look-ups share `TF_TIMEOUT_S`, or each joint that is silent would slow the
    depth down.
    """
    return max(0.0, TF_TIMEOUT_S - (time.monotonic_ns() - frame.received_ns) / _NS)


def _straightened_if_known(
    measured: Measured, transforms: Transforms, odometry_frame: str
) -> Measured:
    try:
        return straightened(measured, transforms, odometry_frame)
    except TransformError as error:  # the end of the sweep is newer than the odometry
        _log.debug("a sweep is not straightened: %s", error)
        return measured


def _newest(
    transforms: Transforms, target: str, source: str, stamp_ns: int
) -> tuple[ArrayF64, int]:
    """T_target_source at a time or, where TF is late, up to 0.1 s before, and by how much."""
    for lag_ns in _LAGS_NS[:-1]:
        try:
            return transforms.lookup(target, source, stamp_ns - lag_ns), lag_ns
        except TransformError as error:
            if error.fault is not Fault.NOT_YET:
                raise
    return transforms.lookup(target, source, stamp_ns - _LAGS_NS[-1]), _LAGS_NS[-1]


def straightened(measured: Measured, transforms: Transforms, odometry_frame: str) -> Measured:
    """The points as they lie in the sensor's frame at the message's stamp, without times.

    A spinning LiDAR moves during a sweep. Each point is moved by the share of the motion that
    belongs to its time; blending the first and the last pose is right to 0.2% for turns of 0.1 rad.

    Args:
        measured: points; without times they are returned as they are.
        transforms: TF.
        odometry_frame: name of the fixed frame.

    Returns:
        The same points, moved.

    Raises:
        TransformError: TF does not know where the sensor was during the sweep.
    """
    points, times = measured.points, measured.times_s
    if times is None or not times.size:
        return measured
    first, last = float(times.min()), float(times.max())
    sensor, stamp = measured.frame_id, measured.stamp_ns
    reference = transforms.lookup(sensor, odometry_frame, stamp)
    start, end = (
        reference @ transforms.lookup(odometry_frame, sensor, stamp + int(t * _NS))
        for t in (first, last)
    )
    if still(start) and still(end):
        return replace(measured, times_s=None)
    share = ((times - first) / ((last - first) or 1.0)).astype(np.float32)
    moved = _transformed(points, end - start)
    moved *= share[:, None]
    moved += _transformed(points, start)
    return replace(measured, points=moved, times_s=None)


def _transformed(points: ArrayF32, T: ArrayF64) -> ArrayF32:
    # Not a matrix product: threads of BLAS make one of n x 3 a hundred times slower on a busy CPU.
    return np.asarray(cv2.transform(points[:, None], T[:3])[:, 0], np.float32)


def still(motion: ArrayF64) -> bool:
    """Whether a 4x4 motion is less than anything here resolves: 0.03 degrees and 2 mm."""
    turned = math.acos(min(1.0, max(-1.0, 0.5 * (float(np.trace(motion[:3, :3])) - 1.0))))
    return turned < _STILL_RAD and float(np.linalg.norm(motion[:3, 3])) < _STILL_M
