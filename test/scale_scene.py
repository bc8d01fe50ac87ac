"""A scene of which every metre is known, as the test engine, a camera and other sensors see it.

The test engine's disparity is the red channel, so that inverse depth is SCALE * red + SHIFT: two
numbers that the node is not told.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from ros_graph import stamped
from sensor_msgs.msg import CameraInfo, Image, Imu, LaserScan, PointCloud2, Range
from std_msgs.msg import Header

from depth_node.geometry.cloud import Cloud
from depth_node.geometry.transforms import from_xyz_rpy, inverse
from depth_node.ros.clouds import cloud_message
from depth_node.ros.images import image_message
from depth_node.types import ArrayF32, ArrayF64

WIDTH, HEIGHT = 320, 240
FOCAL, CX, CY = 280.0, 159.5, 119.5
SCALE, SHIFT = 0.004, 0.03
SKY_ROWS = 40
FORWARD = "1.5707963 -1.5707963 0"
"""Roll, pitch and yaw in the optical frame of a sensor that looks along its own x, z up."""
LIDAR_POSE = f"0.05 -0.25 0 {FORWARD}"
"""Of the LiDAR in the optical frame: 0.25 m above the camera."""
T_CAMERA_LIDAR = from_xyz_rpy(0.05, -0.25, 0.0, 0.5 * np.pi, -0.5 * np.pi, 0.0)


def disparity() -> ArrayF32:
    """HEIGHTxWIDTH: a slope that comes nearer towards the bottom right, under a sky of 0."""
    rows = np.linspace(20.0, 150.0, HEIGHT)[:, None] + np.linspace(0.0, 30.0, WIDTH)
    rows[:SKY_ROWS] = 0.0
    return np.round(rows).astype(np.float32)


def depth(scale: float = SCALE, shift: float = SHIFT) -> ArrayF32:
    """HEIGHTxWIDTH true metres, +Inf in the sky."""
    d = disparity()
    with np.errstate(divide="ignore"):
        z = 1.0 / (scale * d + shift)
    z[d == 0.0] = np.inf
    return z.astype(np.float32)


def image(values: ArrayF32 | None = None) -> Any:
    """What the camera sees: HEIGHTxWIDTHx3 uint8 with the disparity in the red channel."""
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rgb[..., 0] = disparity() if values is None else values
    return rgb


def frame(stamp_ns: int, values: ArrayF32 | None = None) -> tuple[Image, CameraInfo]:
    info = CameraInfo(width=WIDTH, height=HEIGHT, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [FOCAL, 0.0, CX, 0.0, FOCAL, CY, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [FOCAL, 0.0, CX, 0.0, 0.0, FOCAL, CY, 0.0, 0.0, 0.0, 1.0, 0.0]
    picture = stamped(image_message(image(values), "rgb8", Header()), stamp_ns)
    return picture, stamped(info, stamp_ns)


def points_in_camera(count: int = 2000) -> ArrayF64:
    """(n, 3) points of the scene in the optical frame, on random pixels below the sky."""
    z = depth()
    rng = np.random.default_rng(1)
    v, u = rng.integers(SKY_ROWS + 4, HEIGHT, count), rng.integers(0, WIDTH, count)
    metres = z[v, u].astype(np.float64)
    return np.stack([(u - CX) / FOCAL * metres, (v - CY) / FOCAL * metres, metres], axis=1)


def lidar(
    stamp_ns: int, points: ArrayF64 | None = None, frame_id: str = "lidar_link"
) -> PointCloud2:
    """A cloud of points given in the optical frame, as the LiDAR at LIDAR_POSE publishes them."""
    points = points_in_camera() if points is None else points
    back = inverse(T_CAMERA_LIDAR)
    in_lidar = points @ back[:3, :3].T + back[:3, 3]
    return cloud(stamp_ns, in_lidar, frame_id)


def cloud(stamp_ns: int, points: NDArray[Any], frame_id: str) -> PointCloud2:
    """A cloud of (n, 3) points as they are."""
    packed = Cloud(np.ascontiguousarray(points, np.float32))
    return stamped(cloud_message(packed, Header()), stamp_ns, frame_id)


def scan(stamp_ns: int) -> LaserScan:
    """A scanner in the optical centre, level: its beams meet the image's middle row."""
    z = depth()[round(CY)]
    angles = np.linspace(-0.5, 0.5, 200)  # to the left is positive
    columns = np.clip(np.round(CX - FOCAL * np.tan(angles)), 0, WIDTH - 1).astype(int)
    msg = LaserScan(angle_min=-0.5, angle_max=0.5, angle_increment=1.0 / 199.0)
    msg.range_min, msg.range_max = 0.05, 30.0
    msg.ranges = (z[columns] / np.cos(angles)).astype(np.float32).tolist()
    return stamped(msg, stamp_ns, "scan_link")


def range_reading(stamp_ns: int, metres: float) -> Range:
    msg = Range(field_of_view=0.02, min_range=0.05, max_range=20.0, range=metres)
    return stamped(msg, stamp_ns, "range_link")


def imu(stamp_ns: int, pitch: float) -> Imu:
    """At rest in a camera that looks down by `pitch`, with the axes of the optical frame."""
    msg = Imu()
    force = msg.linear_acceleration  # upwards
    force.x, force.y, force.z = 0.0, -9.80665 * np.cos(pitch), -9.80665 * np.sin(pitch)
    return stamped(msg, stamp_ns, "imu_link")


def ground(height: float, pitch: float) -> tuple[ArrayF32, ArrayF32]:
    """Disparity and depth of level ground under a camera that looks down, sky above the horizon."""
    v = np.arange(HEIGHT, dtype=np.float64)[:, None] * np.ones((1, WIDTH))
    inverse_depth = (np.cos(pitch) * (v - CY) / FOCAL + np.sin(pitch)) / height
    scale = float(inverse_depth.max()) / 250.0
    d = np.round(np.clip(inverse_depth, 0.0, None) / scale)
    with np.errstate(divide="ignore"):
        z = np.where(d > 0, 1.0 / inverse_depth, np.inf)
    return d.astype(np.float32), z.astype(np.float32)
