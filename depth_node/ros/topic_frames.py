"""Camera images from a topic of the running graph, taken now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage

from depth_node.cameras.base import CameraError
from depth_node.ros.compressed_image import decode_compressed
from depth_node.ros.image_topic import image_offer
from depth_node.ros.images import decode_image
from depth_node.ros.qos import input_qos
from depth_node.ros.wire import ConversionError
from depth_node.types import ImageU8

SPACING_S = 0.5
"""Between frames: neighbours of a video teach a quantiser little."""
SILENCE_S = 10.0
"""How long discovery and then every next frame may take."""


def topic_frames(topic: str, count: int, spacing_s: float = SPACING_S) -> list[ImageU8]:
    """Take images from a topic, raw or compressed as it is published.

    Args:
        topic: the image topic.
        count: how many images are taken; fewer are returned when the topic falls silent.
        spacing_s: least time between two of them, seconds.

    Returns:
        HxWx3 uint8 RGB images.

    Raises:
        CameraError: nobody publishes the topic, no image arrives, or one cannot be decoded.
    """
    context = Context()
    rclpy.init(context=context, args=[])
    executor = SingleThreadedExecutor(context=context)
    node = rclpy.create_node("depth_node_frames", context=context)
    executor.add_node(node)
    try:
        return _Taker(node, executor, topic).take(count, spacing_s)
    finally:
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()


class _Taker:
    """Subscribes to what is published of a topic, and decodes a message when its time has come."""

    def __init__(self, node: Node, executor: SingleThreadedExecutor, topic: str) -> None:
        self._node, self._executor, self._topic = node, executor, topic
        self._newest: Any = None

    def take(self, count: int, spacing_s: float) -> list[ImageU8]:
        if not self._spin_until(self._subscribed):
            raise CameraError(
                f"nobody publishes {self._topic} as an image; start the camera driver, or see "
                "`depth-node doctor`"
            )
        images: list[ImageU8] = []
        while len(images) < count:
            self._newest = None
            if not self._spin_until(lambda: self._newest is not None):
                break
            images.append(self._decoded())
            self._spin_for(spacing_s if len(images) < count else 0.0)
        if not images:
            raise CameraError(
                f"{self._topic} is published, but no image arrived within {SILENCE_S:g} s; see "
                "`depth-node doctor`"
            )
        return images

    def _subscribed(self) -> bool:
        offer = image_offer(self._node, self._topic)
        if offer is None:
            return False
        qos = input_qos(offer.reliability, depth=1)
        self._node.create_subscription(offer.kind, offer.topic, self._keep, qos)
        return True

    def _keep(self, msg: Any) -> None:
        self._newest = msg

    def _decoded(self) -> ImageU8:
        msg = self._newest
        try:
            return decode_compressed(msg) if isinstance(msg, CompressedImage) else decode_image(msg)
        except ConversionError as error:
            raise CameraError(f"an image of {self._topic} cannot be decoded: {error}") from error

    def _spin_until(self, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + SILENCE_S
        while not condition():
            if time.monotonic() >= deadline:
                return False
            self._executor.spin_once(timeout_sec=0.1)
        return True

    def _spin_for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left)
