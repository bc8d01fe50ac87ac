"""Publishes TF: a robot that drives along x of `odom` at 1 m/s, with a camera and a LiDAR.

Every message also holds the loop `base_link` -> `odom`, which a listener must refuse.
"""

from __future__ import annotations

import time

import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

CAMERA = (0.1, 0.0, 0.5, (-0.5, 0.5, -0.5, 0.5))
"""The optical frame in base_link: looks along x, 0.5 m above the ground."""
LIDAR = (0.1, 0.0, 0.75, (0.0, 0.0, 0.0, 1.0))


def transform(
    parent: str,
    child: str,
    stamp_ns: int,
    x: float,
    y: float = 0.0,
    z: float = 0.0,
    quaternion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0),
) -> TransformStamped:
    msg = TransformStamped(child_frame_id=child)
    msg.header.frame_id = parent
    msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    body = msg.transform
    body.translation.x, body.translation.y, body.translation.z = x, y, z
    body.rotation.x, body.rotation.y, body.rotation.z, body.rotation.w = quaternion
    return msg


def main() -> None:
    rclpy.init()
    node = rclpy.create_node("tf_publisher")
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    static = node.create_publisher(TFMessage, "/tf_static", latched)
    moving = node.create_publisher(TFMessage, "/tf", 100)
    static.publish(
        TFMessage(
            transforms=[
                transform("base_link", "camera_optical_frame", 0, *CAMERA),
                transform("base_link", "lidar_link", 0, *LIDAR),
            ]
        )
    )
    while True:
        now = time.time_ns()
        here = (now % 1_000_000_000_000) * 1e-9
        robot = transform("odom", "base_link", now, here)
        loop = transform("base_link", "odom", now, -here)
        moving.publish(TFMessage(transforms=[robot, loop]))
        time.sleep(0.02)


if __name__ == "__main__":
    main()
