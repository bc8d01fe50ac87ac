"""What is asked of the ROS graph and what was seen of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.topic_endpoint_info import TopicEndpointInfo

from depth_node.ros.wire import stamp_ns

DEFAULT_NODE = "depth_node"
IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
"""What an image topic may carry, in the order in which the node takes them."""
INFO_TYPE = "sensor_msgs/msg/CameraInfo"
_UNKNOWN_NAME = "_NODE_NAME_UNKNOWN_"  # what rmw says until a node's name is discovered


@dataclass(frozen=True)
class Question:
    """What to look at.

    Attributes:
        image: image topic, or empty for the one that the node listens to.
        camera_info: CameraInfo topic, or empty for the node's, or the image's neighbour.
        node: name of the depth node, or empty for `depth_node` or any node of this package.
        seconds: how long to listen once the depth node is found, or `SETTLE_S` has passed.
    """

    image: str = ""
    camera_info: str = ""
    node: str = ""
    seconds: float = 3.0


@dataclass
class Arrivals:
    """What came in on one topic.

    Attributes:
        count: messages.
        last: the newest message, or None.
        first_s: arrival of the first message, monotonic seconds.
        last_s: arrival of the newest message, monotonic seconds.
        age_ns: age of the newest message's stamp when it arrived, by the clock of the graph.
        stamps: the stamps of all messages in nanoseconds, in the order of their arrival.
    """

    count: int = 0
    last: Any = None
    first_s: float = 0.0
    last_s: float = 0.0
    age_ns: int = 0
    stamps: list[int] = field(default_factory=list)

    @property
    def rate_hz(self) -> float:
        """Messages a second; 0 below two messages."""
        return (self.count - 1) / (self.last_s - self.first_s) if self.count > 1 else 0.0

    def add(self, msg: Any, now_ns: int) -> None:
        """Count a message; `now_ns` is the time of the graph's clock."""
        self.last_s = time.monotonic()
        self.first_s = self.first_s or self.last_s
        self.count += 1
        self.last = msg
        self.stamps.append(stamp_ns(msg.header))
        self.age_ns = now_ns - self.stamps[-1]


@dataclass
class Observation:
    """Everything that was seen of the graph.

    Attributes:
        rmw: the middleware's name.
        nodes: full names of all other nodes.
        topics: every topic that somebody publishes, with its types.
        node: full name of the depth node, or None when there is none.
        depth_nodes: full names of the nodes of this package that send diagnostics.
        state: the node's lifecycle state, or None when it did not answer.
        parameters: the node's parameters that matter here; empty when it did not answer.
        report: the node's latest diagnostics: the first status is its summary.
        image_topic: topic that the image is expected on, or None when it is not known.
        image_type: type of what is published there, or None.
        info_topic: topic of its CameraInfo, or None.
        publishers: endpoints by topic, for the topics that matter here.
        subscribers: endpoints by topic, for the topics that matter here.
        outputs: topics that the depth node publishes.
        images: what came in on the image topic.
        infos: what came in on the CameraInfo topic.
        simulated: whether somebody publishes /clock.
        transforms: (parent, child) frames on /tf and /tf_static, or None without tf2_msgs.
    """

    rmw: str
    nodes: list[str] = field(default_factory=list)
    topics: dict[str, list[str]] = field(default_factory=dict)
    node: str | None = None
    depth_nodes: list[str] = field(default_factory=list)
    state: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    report: list[DiagnosticStatus] = field(default_factory=list)
    image_topic: str | None = None
    image_type: str | None = None
    info_topic: str | None = None
    publishers: dict[str, list[TopicEndpointInfo]] = field(default_factory=dict)
    subscribers: dict[str, list[TopicEndpointInfo]] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    images: Arrivals = field(default_factory=Arrivals)
    infos: Arrivals = field(default_factory=Arrivals)
    simulated: bool = False
    transforms: set[tuple[str, str]] | None = None

    @property
    def facts(self) -> Mapping[str, str]:
        """What the node's diagnostics say it runs on and has counted."""
        return {item.key: item.value for item in self.report[0].values} if self.report else {}


def full_name(endpoint: TopicEndpointInfo) -> str:
    """The full name of the node that an endpoint belongs to."""
    if endpoint.node_name == _UNKNOWN_NAME:
        return "a node of unknown name"
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"
