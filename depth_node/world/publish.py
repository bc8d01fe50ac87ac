"""Publishes a cached drive as ROS topics, at the camera's rate."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import rclpy
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image, Imu, LaserScan, PointCloud2, Range

from depth_node.types import ArrayF64
from depth_node.world import messages
from depth_node.world.cache import CachedDrive

CAMERA_FRAME = "camera_optical_frame"
_SENSOR_FRAMES = {
    "camera": CAMERA_FRAME,
    "lidar": "lidar_link",
    "scan": "scan_link",
    "range": "range_link",
    "imu": "imu_link",
}
_RELIABLE = QoSProfile(
    depth=2, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE
)
_LATCHED = QoSProfile(
    depth=1,
    history=HistoryPolicy.KEEP_LAST,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


class Published(NamedTuple):
    """What was published: frames, and for how many seconds."""

    frames: int
    seconds: float


class WorldPublisher:
    """The topics of a drive: camera, ground truth, odometry, TF and the ranging sensors."""

    def __init__(self, node: Any, drive: CachedDrive) -> None:
        self._node = node
        self._drive = drive
        settings = drive.settings
        height, width = settings.height, settings.width
        self._image = messages.ImageBuffer(height, width, "rgb8", np.uint8, 3)
        self._depth = messages.ImageBuffer(height, width, "32FC1", np.float32, 1)
        self._info = messages.camera_info(drive.camera, CAMERA_FRAME)
        self._velocity, self._turn = _velocities(drive.poses, settings.fps)

        def advertise(kind: Any, topic: str) -> Any:
            return node.create_publisher(kind, topic, _RELIABLE)

        self._publish_image = advertise(Image, "camera/image_raw")
        self._publish_info = advertise(CameraInfo, "camera/camera_info")
        self._publish_depth = advertise(Image, "camera/depth_gt")
        self._publish_odometry = advertise(Odometry, "odom")
        self._publish_lidar = advertise(PointCloud2, "lidar/points")
        self._publish_scan = advertise(LaserScan, "scan")
        self._publish_range = advertise(Range, "range")
        self._publish_imu = advertise(Imu, "imu/data")
        self._start_tf()

    def _start_tf(self) -> None:
        """TF where its message package is installed; it is not among the ROS wheels on PyPI."""
        self._tf: Any = None
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:
            self._node.get_logger().info("tf2_msgs is not installed: /tf is not published")
            return
        self._tf_message = TFMessage
        self._tf = self._node.create_publisher(TFMessage, "/tf", _RELIABLE)
        self._tf_static = self._node.create_publisher(TFMessage, "/tf_static", _LATCHED)
        now = messages.stamp(time.time_ns())
        mounts = self._drive.settings.mounts
        self._tf_static.publish(
            TFMessage(
                transforms=[
                    messages.transform(mounts.base_to(sensor), now, "base_link", frame)
                    for sensor, frame in _SENSOR_FRAMES.items()
                ]
            )
        )

    def publish(self, frame: int, stamp_ns: int) -> None:
        """Publish everything that belongs to one frame of the drive, stamped `stamp_ns`."""
        drive, when = self._drive, messages.stamp(stamp_ns)
        self._info.header.stamp = when
        self._publish_info.publish(self._info)
        self._publish_image.publish(self._image.fill(drive.rgb[frame], when, CAMERA_FRAME))
        if self._publish_depth.get_subscription_count():
            self._publish_depth.publish(self._depth.fill(drive.depth[frame], when, CAMERA_FRAME))
        pose, velocity, turn = drive.poses[frame], self._velocity[frame], self._turn[frame]
        self._publish_odometry.publish(messages.odometry(pose, velocity, turn, when))
        if self._tf is not None:
            moved = messages.transform(pose, when, "odom", "base_link")
            self._tf.publish(self._tf_message(transforms=[moved]))
        reading = messages.range_message(float(drive.ranges[frame]), when, _SENSOR_FRAMES["range"])
        self._publish_range.publish(reading)
        force = drive.accelerations[frame]
        self._publish_imu.publish(messages.imu(force, turn, when, _SENSOR_FRAMES["imu"]))
        every = drive.settings.lidar_every
        if frame % every == 0:
            if self._publish_lidar.get_subscription_count():
                records = drive.lidar_sweep(frame)
                cloud = messages.point_cloud(records, when, _SENSOR_FRAMES["lidar"])
                self._publish_lidar.publish(cloud)
            scan = drive.scans[frame // every]
            self._publish_scan.publish(messages.laser_scan(scan, when, _SENSOR_FRAMES["scan"]))


def _velocities(poses: ArrayF64, fps: float) -> tuple[ArrayF64, ArrayF64]:
    """Linear and angular velocity in `base_link` along a closed loop of poses, each (n, 3)."""
    after = np.roll(poses, -1, axis=0)
    rotation = np.swapaxes(poses[:, :3, :3], 1, 2)
    linear = (rotation @ (after - poses)[:, :3, 3:])[..., 0] * fps
    change = rotation @ after[:, :3, :3]  # small: the skew part is the rotation vector
    skew = 0.5 * (change - np.swapaxes(change, 1, 2))
    angular = np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], axis=1) * fps
    return linear, angular


def publish_drive(
    drive: CachedDrive, *, seconds: float | None = None, namespace: str = ""
) -> Published:
    """Publish a drive in a loop until SIGINT, SIGTERM or the given time.

    Topic names are relative to `namespace`. Must be called from the main thread, which handles the
    signals. Nothing is spun: the node only publishes.
    """
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("world", namespace=namespace, start_parameter_services=False)
    try:
        world = WorldPublisher(node, drive)
        what = node.resolve_topic_name("camera/image_raw")
        node.get_logger().info(f"publishing {what} and the other sensors; Ctrl-C ends it")
        period, start = 1.0 / drive.settings.fps, time.monotonic()
        count = sent = 0
        while not stop.wait(max(0.0, start + count * period - time.monotonic())):
            if seconds is not None and time.monotonic() - start >= seconds:
                break
            world.publish(count % len(drive.rgb), node.get_clock().now().nanoseconds)
            sent += 1
            # a machine that was too busy skips frames, as a camera does, and never queues them
            count = max(count + 1, int((time.monotonic() - start) / period))
        return Published(sent, time.monotonic() - start)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
        for number, handler in before.items():
            signal.signal(number, handler)
