"""The camera as a ROS topic: raw or compressed, with the reliability that is offered."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from depth_node.cameras.calibration import read_calibration
from depth_node.cameras.intrinsics import Intrinsics
from depth_node.health import Health, Level, apart
from depth_node.parameters import CameraSettings
from depth_node.ros.calibration import CameraInfoCache
from depth_node.ros.camera_info import optical_frame_warning
from depth_node.ros.compressed_image import decode_compressed
from depth_node.ros.followed_topic import SILENCE_S
from depth_node.ros.images import decode_image
from depth_node.ros.qos import input_qos, offered_reliability
from depth_node.ros.wire import stamp_ns
from depth_node.types import CameraModel, Frame, ImageU8

LOOK_PERIOD_S = 0.5
"""How often the graph is asked who publishes the image."""

_FRAME_CURE = "correct the driver's frame_id"
_SCALED_CURE = "calibrate the camera at this size"
_RELIABILITIES = {
    "reliable": ReliabilityPolicy.RELIABLE,
    "best_effort": ReliabilityPolicy.BEST_EFFORT,
}


@dataclass(frozen=True)
class ImageOffer:
    """How an image is published, and so how it is subscribed to.

    Attributes:
        topic: where.
        kind: `Image` or `CompressedImage`.
        reliability: the strongest that all who publish it can serve.
    """

    topic: str
    kind: type[Any]
    reliability: ReliabilityPolicy


def image_offer(node: Node, topic: str, transport: str = "auto") -> ImageOffer | None:
    """What is published of an image topic now: raw images before compressed ones.

    Args:
        node: the node that asks the graph.
        topic: the resolved image topic.
        transport: the parameter `camera.transport`.

    Returns:
        None where nobody publishes it as an image.
    """
    taken: list[tuple[str, type[Any]]] = [(topic, Image)] if transport in ("auto", "raw") else []
    if transport in ("auto", "compressed"):
        taken += [(topic, CompressedImage), (f"{topic}/compressed", CompressedImage)]
    for name, kind in taken:
        wanted = f"sensor_msgs/msg/{kind.__name__}"
        endpoints = node.get_publishers_info_by_topic(name)
        publishers = [endpoint for endpoint in endpoints if endpoint.topic_type == wanted]
        if publishers:
            return ImageOffer(name, kind, offered_reliability(publishers))
    return None


def image_base(topic: str) -> str:
    """The image topic of image_transport's convention: without the suffix of the transport."""
    return topic.removesuffix("/compressed")


def is_rectified(topic: str) -> bool:
    """Whether an image topic's name says that its images are, as `image_rect` and `rect_color` do.

    `rect` has to be a word of the last part: `image_direct` and `corrected` are not rectified.
    """
    words = re.findall("[A-Z]?[a-z]+", image_base(topic).rpartition("/")[2])
    return not {"rect", "rectified"}.isdisjoint(word.lower() for word in words)


def camera_info_beside(topic: str) -> str:
    """The neighbour of an image topic, raw or compressed, on which its CameraInfo is published."""
    return image_base(topic).rpartition("/")[0] + "/camera_info"


class ImageTopic:
    """Subscribes to the image and its CameraInfo and submits every image, undecoded.

    The subscription is made once somebody publishes, and made anew when a publisher of another
    type or reliability takes over.
    """

    def __init__(self, node: Node, settings: CameraSettings, health: Health) -> None:
        """Resolve the topics.

        Raises:
            CameraError: `camera.calibration` names a file that cannot be used.
        """
        self._node = node
        self._settings = settings
        self._health = health
        self.topic: str = node.resolve_topic_name(settings.topic)
        self._info_topics = self._resolve_info_topics()
        self.info_topic = self._info_topics[0]
        self._fixed: Intrinsics | None = None
        if settings.calibration:
            self._fixed = Intrinsics(read_calibration(settings.calibration), assumed_fov_deg=0.0)
        self._infos = CameraInfoCache(self.info_topic, health)
        self._already_rectified = is_rectified(self.topic)
        self._submit: Callable[[Callable[[], Frame]], None] | None = None
        self._choice: ImageOffer | None = None
        self._subscription: Any = None
        self._info_subscription: Any = None
        self._timer: Any = None
        self._last_image_s = 0.0

    def _resolve_info_topics(self) -> list[str]:
        """The parameter, else a remapping of `camera_info`, else the image's neighbour.

        A remapping to the name that `camera_info` has anyway cannot be told from none: that topic
        comes second.
        """
        if self._settings.info_topic:
            return [str(self._node.resolve_topic_name(self._settings.info_topic))]
        remapped = str(self._node.resolve_topic_name("camera_info"))
        namespace = self._node.get_namespace().rstrip("/")
        if remapped != f"{namespace}/camera_info":
            return [remapped]
        return list(dict.fromkeys([camera_info_beside(self.topic), remapped]))

    def describe(self) -> str:
        """The camera in words."""
        how = "waiting for a publisher"
        if self._choice is not None:
            kind = "raw" if self._choice.kind is Image else "compressed"
            how = f"{kind}, {self._choice.reliability.name.lower()}"
        return f"topic {self.topic} ({how}), calibration from {self.info_topic}"

    @property
    def topics(self) -> dict[str, str]:
        """The resolved topics, by their names in the diagnostics."""
        return {"image_topic": self.topic, "camera_info_topic": self.info_topic}

    def start(self, submit: Callable[[Callable[[], Frame]], None]) -> None:
        """Subscribe, and hand every image to `submit` as a function that decodes it."""
        self._submit = submit
        self._last_image_s = time.monotonic()
        self._listen_to_info()
        # Not the ROS clock: a simulation that stands still publishes its topics all the same.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self._node.create_timer(LOOK_PERIOD_S, self._look, clock=steady)
        self._look()

    def _listen_to_info(self) -> None:
        if self._fixed is not None:
            return
        if self._info_subscription is not None:
            self._node.destroy_subscription(self._info_subscription)
        # Best effort hears every driver; a CameraInfo is small enough to arrive all the same.
        qos = input_qos(ReliabilityPolicy.BEST_EFFORT)
        self._info_subscription = self._node.create_subscription(
            CameraInfo, self.info_topic, self._infos.add, qos
        )

    def stop(self) -> None:
        """Unsubscribe."""
        self._submit = None
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        for subscription in (self._subscription, self._info_subscription):
            if subscription is not None:
                self._node.destroy_subscription(subscription)
        self._timer = self._subscription = self._info_subscription = self._choice = None
        self._infos.clear()

    def _look(self) -> None:
        """Follow the graph: who publishes the image now, and how?"""
        choice = self._choose()
        if choice is not None and choice != self._choice:
            if self._subscription is not None:
                self._node.destroy_subscription(self._subscription)
            self._subscription = self._node.create_subscription(
                choice.kind, choice.topic, self._on_image, input_qos(choice.reliability)
            )
            self._choice = choice
            self._last_image_s = time.monotonic()  # it has only now had a chance to be heard
            self._node.get_logger().info(f"camera: {self.describe()}")
        elif choice is None:
            self._infos.clear()  # who comes next may be another camera
        else:
            self._follow_info()  # half a second after the image: the neighbour had its chance
        self._report_silence(published=choice is not None)

    def _choose(self) -> ImageOffer | None:
        offer = image_offer(self._node, self.topic, self._settings.transport)
        fixed = _RELIABILITIES.get(self._settings.reliability)
        return replace(offer, reliability=fixed) if offer and fixed else offer

    def _follow_info(self) -> None:
        """Take CameraInfo from the first of its topics that is published, the neighbour for good.

        The other one may be that of another camera.
        """
        if len(self._info_topics) == 1:
            return
        published = [t for t in self._info_topics if self._node.count_publishers(t) > 0]
        if not published:
            return
        if published[0] == self._info_topics[0]:
            del self._info_topics[1:]
        if published[0] != self.info_topic:
            self.info_topic = published[0]
            self._infos = CameraInfoCache(self.info_topic, self._health)
            self._listen_to_info()
            self._node.get_logger().info(f"camera: {self.describe()}")

    def _report_silence(self, *, published: bool) -> None:
        silent_s = time.monotonic() - self._last_image_s
        if silent_s < SILENCE_S:
            self._health.clear("camera")
        elif not published:
            self._health.report(
                "camera",
                Level.ERROR,
                f"nobody publishes {self.topic} as an image",
                "start the camera driver, or remap: --ros-args -r image:=/your/camera/image_raw",
            )
        else:
            self._health.report(
                "camera",
                Level.ERROR,
                f"{self.topic} is published but no image has arrived for {SILENCE_S:g} s or more",
                "if the driver runs, the message is too large for the transport: start both ends "
                "with the Fast DDS profile of this package, and see `depth-node doctor`",
            )

    def _on_image(self, msg: Any) -> None:
        self._last_image_s = time.monotonic()
        self._health.clear("camera")
        if self._submit is not None:
            received_ns = time.monotonic_ns()
            self._submit(lambda: self._frame(msg, received_ns))

    def _frame(self, msg: Any, received_ns: int) -> Frame:
        image: ImageU8 = (
            decode_compressed(msg) if isinstance(msg, CompressedImage) else decode_image(msg)
        )
        height, width = image.shape[:2]
        return Frame(
            image=image,
            stamp_ns=stamp_ns(msg.header),
            frame_id=msg.header.frame_id,
            camera=self._camera_for(msg.header, width, height),
            received_ns=received_ns,
            rectified=self._already_rectified,
        )

    def _camera_for(self, header: Any, width: int, height: int) -> CameraModel | None:
        warning = optical_frame_warning(header.frame_id)
        if warning:
            self._health.report("frame_id", Level.WARN, *apart(warning, _FRAME_CURE))
        else:
            self._health.clear("frame_id")
        if self._fixed is None:
            return self._infos.camera_for(header, width, height)
        camera = self._fixed.fitting(width, height)
        if not self._fixed.notices:
            self._health.clear("camera_info")
        for notice in self._fixed.notices:
            level = Level.ERROR if camera is None else Level.WARN
            self._health.report("camera_info", level, *apart(notice, _SCALED_CURE))
        return camera
