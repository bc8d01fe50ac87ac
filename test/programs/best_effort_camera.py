"""A driver that publishes 1920x1080 rgb8 at 10 Hz, best effort as most do, until it is ended."""

from __future__ import annotations

import signal
import sys
import time

import numpy as np
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from depth_node.ros.images import image_message
from depth_node.ros.wire import make_header

WIDTH, HEIGHT, RATE_HZ = 1920, 1080, 10.0

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
node = rclpy.create_node("large_camera")
qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
images = node.create_publisher(Image, "/large/image_raw", qos)
infos = node.create_publisher(CameraInfo, "/large/camera_info", qos)
image = image_message(np.zeros((HEIGHT, WIDTH, 3), np.uint8), "rgb8", Header())
info = CameraInfo(width=WIDTH, height=HEIGHT)
info.k = [500.0, 0.0, 960.0, 0.0, 500.0, 540.0, 0.0, 0.0, 1.0]
while True:
    image.header = info.header = make_header(time.time_ns(), "camera_optical_frame")
    infos.publish(info)
    images.publish(image)
    time.sleep(1.0 / RATE_HZ)
