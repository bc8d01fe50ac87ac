"""A reliable subscriber of the depth image and the cloud that needs two seconds for a message."""

from __future__ import annotations

import time

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2


def work(msg: object) -> None:
    print("got one", flush=True)
    time.sleep(2.0)


rclpy.init()
node = rclpy.create_node("slow_subscriber")
qos = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
subscriptions = [
    node.create_subscription(kind, topic, work, qos)
    for kind, topic in ((Image, "/depth/image_rect"), (PointCloud2, "/points"))
]
rclpy.spin(node)
