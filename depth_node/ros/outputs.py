"""Everything the node publishes about one frame; what nobody subscribes to is not computed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from depth_node.geometry.cloud import CloudPacker
from depth_node.geometry.depth import published_size
from depth_node.geometry.preview import render_preview, render_relative_preview
from depth_node.metrics import Metrics
from depth_node.parameters import Settings
from depth_node.pipeline import Result
from depth_node.ros.camera_info import info_from_camera
from depth_node.ros.clouds import cloud_message
from depth_node.ros.compressed_depth import encode_compressed_depth
from depth_node.ros.images import image_message, millimetres
from depth_node.ros.qos import output_qos
from depth_node.ros.status import scale_status
from depth_node.ros.wire import make_header
from depth_node.scale.apply import log_sigma
from depth_node.types import ArrayF32, ScaleState

TOPICS: dict[str, type[Any]] = {
    "depth/image_rect": Image,
    "depth/camera_info": CameraInfo,
    "depth/image_rect/compressedDepth": CompressedImage,
    "depth/sigma": Image,
    "depth/relative": Image,
    "depth/preview": Image,
    "image_rect": Image,
    "points": PointCloud2,
    "~/scale_status": DiagnosticArray,
}
"""Every output with its type, relative to the node's namespace."""


class Outputs:
    """The publishers of one configured node.

    Attributes:
        settings: may be replaced at any time; the next result sees the new ones.
    """

    def __init__(self, node: LifecycleNode, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self._node = node
        self._metrics = metrics
        self._packing_s = self._publishing_s = 0.0  # of the frame in hand
        self._sent = False
        self._publishers: dict[str, Any] = {
            topic: node.create_lifecycle_publisher(
                kind,
                topic,
                output_qos(),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
            for topic, kind in TOPICS.items()
        }
        self._packer = CloudPacker()
        self._last_cloud_ns = 0

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    def wanted(self) -> bool:
        """Whether any output has a subscriber."""
        return any(self._has_subscriber(topic) for topic in TOPICS)

    def publish(self, result: Result) -> bool:
        """Publish what is subscribed to, the depth image first.

        Metres go out only with a metric scale and a calibration; the scale status goes out with
        every frame, and so do relative disparity and the preview unless
        `scale.publish_when_not_metric` forbids it.

        Returns:
            Whether anything went out: not where all that is subscribed to needs metres and there
            are none, nor between two clouds where nothing else is subscribed to.
        """
        frame = result.frame
        self._packing_s = self._publishing_s = 0.0
        self._sent = False
        header = make_header(frame.stamp_ns, frame.frame_id)
        if result.depth is not None:
            self._publish_metres(result, header)
        self._send("depth/camera_info", lambda: self._camera_info(result, header))
        metric = result.estimate.state is ScaleState.METRIC
        if metric or self.settings.scale.publish_when_not_metric != "nothing":
            self._send("depth/relative", lambda: self._relative(result, header))
            self._send("depth/preview", lambda: self._preview(result, header))
        self._send("image_rect", lambda: image_message(frame.image, "rgb8", header))
        self._send("~/scale_status", lambda: scale_status(result.estimate, header))
        self._metrics.took("packing", self._packing_s)
        self._metrics.took("publishing", self._publishing_s)
        return self._sent

    def _has_subscriber(self, topic: str) -> bool:
        return bool(self._publishers[topic].get_subscription_count())

    def _send(self, topic: str, make: Callable[[], Any]) -> None:
        """Make and publish a message if anybody wants it; None is not published."""
        if not self._has_subscriber(topic):
            return
        begun_s = time.perf_counter()
        msg = make()
        packed_s = time.perf_counter()
        self._packing_s += packed_s - begun_s
        if msg is not None:
            self._publishers[topic].publish(msg)
            self._sent = True
            self._publishing_s += time.perf_counter() - packed_s

    def _publish_metres(self, result: Result, header: Header) -> None:
        settings = self.settings
        assert result.depth is not None
        depth = result.depth.depth
        encoded = millimetres if settings.depth.encoding == "16UC1" else np.asarray
        self._send(
            "depth/image_rect",
            lambda: image_message(encoded(depth), settings.depth.encoding, header),
        )
        self._send("depth/sigma", lambda: self._sigma(result, header))
        if self._cloud_is_due(result.frame.stamp_ns):
            self._send("points", lambda: self._cloud(result, header))
        self._send(
            "depth/image_rect/compressedDepth",
            lambda: encode_compressed_depth(encoded(depth), header, settings.depth.max_m),
        )

    def _sigma(self, result: Result, header: Header) -> Any | None:
        sigma = _sigma_m(result)
        return None if sigma is None else image_message(sigma, "32FC1", header)

    def _cloud_is_due(self, stamp_ns: int) -> bool:
        rate = self.settings.points.max_rate_hz
        since_ns = stamp_ns - self._last_cloud_ns
        # A tenth of the period is forgiven, so that a limit at the camera's rate drops nothing.
        if rate > 0.0 and 0 <= since_ns < 0.9e9 / rate:
            return False
        self._last_cloud_ns = stamp_ns
        return True

    def _cloud(self, result: Result, header: Header) -> Any:
        points = self.settings.points
        image = result.frame.image if points.color else None
        assert result.depth is not None
        sigma = None
        if points.sigma:
            sigma = _sigma_m(result)
            if sigma is None:
                sigma = np.full(result.depth.depth.shape, np.nan, np.float32)
        cloud = self._packer.pack(result.depth, image, points, self.settings.depth.max_m, sigma)
        return cloud_message(cloud, header)

    def _camera_info(self, result: Result, header: Header) -> Any | None:
        if result.depth is not None:
            return info_from_camera(result.depth.camera, header)
        if result.frame.camera is None:
            return None
        size = published_size(result.frame, self.settings.depth.downscale)
        return info_from_camera(result.frame.camera.rectified().resized(*size), header)

    def _relative(self, result: Result, header: Header) -> Any:
        return image_message(self._published_disparity(result), "32FC1", header)

    def _preview(self, result: Result, header: Header) -> Any:
        settings = self.settings.preview
        image = result.frame.image if settings.side_by_side else None
        if result.depth is not None:
            picture = render_preview(result.depth.depth, settings, image)
        else:
            picture = render_relative_preview(self._published_disparity(result), settings, image)
        return image_message(picture, "rgb8", header)

    def _published_disparity(self, result: Result) -> ArrayF32:
        size = published_size(result.frame, self.settings.depth.downscale)
        values = result.disparity.values
        return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_LINEAR), np.float32)


def _sigma_m(result: Result) -> ArrayF32 | None:
    """Standard deviation in metres, not finite where the depth is not; None when not known."""
    depth, estimate = result.depth, result.estimate
    assert depth is not None
    if estimate.log_sigma is None and not estimate.covariance.any():
        return None
    height, width = depth.depth.shape
    return depth.depth * log_sigma(result.disparity, estimate, width, height)
