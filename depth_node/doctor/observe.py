"""Listens to the ROS graph for some seconds, as any other node does, and says nothing."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from depth_node.doctor.observation import (
    DEFAULT_NODE,
    IMAGE_TYPES,
    INFO_TYPE,
    Arrivals,
    Observation,
    Question,
)
from depth_node.ros.image_topic import camera_info_beside, image_offer
from depth_node.ros.qos import input_qos

SETTLE_S = 5.0
"""How long to wait for the depth node before listening. Discovery takes half a second, or more than
three when the first announcement of a node's name is lost (measured: 1 in 3 on two busy cores)."""
LOOK_PERIOD_S = 0.25
"""How often the graph is asked who is there."""
_TYPES = dict(zip((Image, CompressedImage), IMAGE_TYPES, strict=True))
_ASKED = ("camera.source", "camera.calibration", "camera.transport")


class GraphError(RuntimeError):
    """The ROS graph cannot be joined; the message says why."""


def observe(question: Question) -> Observation:
    """Join the graph, wait for discovery, listen for `question.seconds`, and leave.

    Must be called from the main thread, which handles Ctrl-C.

    Raises:
        GraphError: the graph cannot be joined.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    context = Context()
    try:
        # Without external logs rclpy leaves no file behind.
        rclpy.init(
            args=["--ros-args", "--disable-external-lib-logs"],
            context=context,
            signal_handler_options=SignalHandlerOptions.NO,
        )
    except Exception as error:  # rcl's own errors derive from different bases by version
        raise GraphError(f"the ROS graph cannot be joined: {error}") from error
    try:
        observer = _Observer(question, context)
        try:
            with _noted_interrupt() as interrupted:
                return observer.watch(interrupted)
        finally:
            observer.close()
    finally:
        context.try_shutdown()


@contextmanager
def _noted_interrupt() -> Iterator[threading.Event]:
    """Turn Ctrl-C into an event.

    As an exception it would rise wherever the interpreter is, and be lost where that is a
    callback that rclpy's C++ calls, or a destructor.
    """
    interrupted = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


class _Observer:
    """A node that subscribes to what the question needs, once it is there."""

    def __init__(self, question: Question, context: Context) -> None:
        self._question = question
        self._node = rclpy.create_node(
            f"_depth_node_doctor_{os.getpid()}",  # a leading underscore hides it from `ros2 node`
            context=context,
            enable_rosout=False,
            start_parameter_services=False,
        )
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)
        self._seen = Observation(rmw=rclpy.get_rmw_implementation_identifier())
        self._reports: dict[str, list[DiagnosticStatus]] = {}
        self._clock_ns: int | None = None
        self._asked: dict[type[Any], Any] = {}
        self._subscriptions: dict[type[Any], tuple[tuple[Any, ...], Any]] = {}
        subscribe = self._node.create_subscription
        subscribe(DiagnosticArray, "/diagnostics", self._on_diagnostics, QoSProfile(depth=50))
        subscribe(Clock, "/clock", self._on_clock, input_qos(ReliabilityPolicy.BEST_EFFORT, 1))
        self._listen_to_transforms()

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()

    def watch(self, interrupted: threading.Event) -> Observation:
        """Listen, and give what was seen.

        Raises:
            KeyboardInterrupt: `interrupted` was set.
        """
        now = next_look = time.monotonic()
        settle_end, end = now + SETTLE_S, math.inf
        while now < end:
            if now >= next_look:
                next_look = now + LOOK_PERIOD_S
                self._look()
            if end == math.inf and (self._settled() or now >= settle_end):
                end = now + self._question.seconds
            # Short waits, so that Ctrl-C is heard.
            self._executor.spin_once(timeout_sec=0.05)
            if interrupted.is_set():
                raise KeyboardInterrupt
            now = time.monotonic()
        self._look()
        self._note_endpoints()
        return self._seen

    def _settled(self) -> bool:
        """Whether the depth node is found and has told all that it is asked."""
        seen = self._seen
        return bool(seen.node and seen.report and seen.state and seen.parameters)

    def _look(self) -> None:
        """Who is there now? Ask and subscribe as soon as it is known."""
        seen = self._seen
        own = self._node.get_name()
        names = self._node.get_node_names_and_namespaces()
        seen.nodes = sorted(f"{space.rstrip('/')}/{name}" for name, space in names if name != own)
        seen.topics = {
            topic: list(types)
            for topic, types in self._node.get_topic_names_and_types()
            if self._node.count_publishers(topic)
        }
        seen.simulated = "/clock" in seen.topics
        seen.depth_nodes = sorted(self._reports)
        self._follow(self._find_node())
        if seen.node is not None:
            self._ask(GetState, f"{seen.node}/get_state", GetState.Request())
            request = GetParameters.Request(names=list(_ASKED))
            self._ask(GetParameters, f"{seen.node}/get_parameters", request)
            seen.report = self._reports.get(seen.node, [])
        self._resolve_topics()
        self._listen_to_camera()

    def _follow(self, node: str | None) -> None:
        """Look at this node from now on; what another one answered is not its state."""
        seen = self._seen
        if node == seen.node:
            return
        if seen.node is not None:
            self._forget_node()
        seen.node = node

    def _forget_node(self) -> None:
        """Drop what a node answered, and the camera that it named."""
        for client, _ in self._asked.values():
            self._node.destroy_client(client)
        for _, subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._asked.clear()
        self._subscriptions.clear()
        seen = self._seen
        seen.state, seen.parameters, seen.report = None, {}, []
        seen.image_topic = seen.image_type = seen.info_topic = None
        seen.images, seen.infos = Arrivals(), Arrivals()

    def _find_node(self) -> str | None:
        """The node asked for; without a name, `depth_node`, or whichever sends its diagnostics."""
        wanted = self._question.node or DEFAULT_NODE
        for name in self._seen.nodes:
            # Diagnostics print the full name without its first slash.
            if wanted in (name, name.lstrip("/"), name.rsplit("/", 1)[-1]):
                return name
        if not self._question.node:
            return next((name for name in self._seen.nodes if name in self._reports), None)
        return None

    def _ask(self, kind: type[Any], service: str, request: Any) -> None:
        """Call a service again and again, one call at a time; answers come while listening."""
        client, future = self._asked.get(kind, (None, None))
        if client is None:
            client = self._node.create_client(kind, service)
        if future is not None and future.done():
            self._on_answer(future.result())
            future = None
        if future is None and client.service_is_ready():
            future = client.call_async(request)
        self._asked[kind] = (client, future)

    def _on_answer(self, answer: Any) -> None:
        if isinstance(answer, GetState.Response):
            self._seen.state = str(answer.current_state.label)
        else:
            values = [parameter_value_to_python(value) for value in answer.values]
            self._seen.parameters = dict(zip(_ASKED, values, strict=False))

    def _resolve_topics(self) -> None:
        seen = self._seen
        image = self._question.image or seen.facts.get("image_topic", "")
        if not image:
            return
        image = f"/{image.lstrip('/')}"
        info = self._question.camera_info or seen.facts.get("camera_info_topic", "")
        if self._question.image and not self._question.camera_info:
            info = camera_info_beside(image)
        seen.image_topic, seen.info_topic = image, f"/{info.lstrip('/')}"

    def _listen_to_camera(self) -> None:
        """Subscribe as the node does: raw before compressed, reliable where that is offered."""
        seen = self._seen
        if seen.image_topic is None or seen.info_topic is None:
            return
        transport = seen.parameters.get("camera.transport", "auto")
        offer = image_offer(self._node, seen.image_topic, transport)
        if offer is not None:
            seen.image_topic, seen.image_type = offer.topic, _TYPES[offer.kind]
            if self._subscribe(offer.kind, offer.topic, offer.reliability):
                seen.images = Arrivals()
        endpoints = self._node.get_publishers_info_by_topic(seen.info_topic)
        if any(endpoint.topic_type == INFO_TYPE for endpoint in endpoints) and self._subscribe(
            CameraInfo, seen.info_topic, ReliabilityPolicy.BEST_EFFORT
        ):
            seen.infos = Arrivals()

    def _subscribe(self, kind: type[Any], topic: str, reliability: ReliabilityPolicy) -> bool:
        """Listen to the image or its CameraInfo; true when that is a new subscription."""
        role = CameraInfo if kind is CameraInfo else Image
        choice = (kind, topic, reliability)
        known, subscription = self._subscriptions.get(role, (None, None))
        if choice == known:
            return False
        if subscription is not None:  # the first publisher discovered need not be the one to take
            self._node.destroy_subscription(subscription)
        receive = self._on_info if kind is CameraInfo else self._on_image
        subscription = self._node.create_subscription(kind, topic, receive, input_qos(reliability))
        self._subscriptions[role] = (choice, subscription)
        return True

    def _on_image(self, msg: Any) -> None:
        self._seen.images.add(msg, self._now_ns())

    def _on_info(self, msg: Any) -> None:
        self._seen.infos.add(msg, self._now_ns())

    def _listen_to_transforms(self) -> None:
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:  # not on PyPI; the check says that it could not look
            return
        self._seen.transforms = set()
        for topic, durability in (
            ("/tf", DurabilityPolicy.VOLATILE),
            ("/tf_static", DurabilityPolicy.TRANSIENT_LOCAL),
        ):
            qos = QoSProfile(depth=100, durability=durability)
            self._node.create_subscription(TFMessage, topic, self._on_transforms, qos)

    def _on_transforms(self, msg: Any) -> None:
        assert self._seen.transforms is not None
        for transform in msg.transforms:
            pair = (transform.header.frame_id.lstrip("/"), transform.child_frame_id.lstrip("/"))
            self._seen.transforms.add(pair)

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        statuses = [status for status in msg.status if status.hardware_id == "depth_node"]
        if statuses:
            name = str(statuses[0].name).split(":", 1)[0]
            self._reports[f"/{name.lstrip('/')}"] = statuses

    def _on_clock(self, msg: Clock) -> None:
        self._clock_ns = int(msg.clock.sec) * 1_000_000_000 + int(msg.clock.nanosec)

    def _now_ns(self) -> int:
        return time.time_ns() if self._clock_ns is None else self._clock_ns

    def _note_endpoints(self) -> None:
        """Who publishes and subscribes to the topics that matter, at the end."""
        seen = self._seen
        if seen.node is not None:
            seen.outputs = self._outputs_of(seen.node)
        topics = {*seen.outputs, "/tf", "/tf_static"}
        topics |= {topic for topic in (seen.image_topic, seen.info_topic) if topic is not None}
        for topic in sorted(topics):
            seen.publishers[topic] = self._others(self._node.get_publishers_info_by_topic(topic))
            seen.subscribers[topic] = self._others(
                self._node.get_subscriptions_info_by_topic(topic)
            )

    def _outputs_of(self, node: str) -> list[str]:
        namespace, name = node.rsplit("/", 1)
        own = ("/rosout", "/parameter_events", "/diagnostics", f"{node}/transition_event")
        published = self._node.get_publisher_names_and_types_by_node(name, namespace or "/")
        return sorted(topic for topic, _ in published if topic not in own)

    def _others(self, endpoints: Sequence[TopicEndpointInfo]) -> list[TopicEndpointInfo]:
        return [endpoint for endpoint in endpoints if endpoint.node_name != self._node.get_name()]
