"""Watches the node from outside, as any other subscriber does."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image

from depth_node.demo.score import Score, score_metric, score_relative
from depth_node.evaluation.depth import EvaluationError
from depth_node.ros.camera_info import camera_from_info
from depth_node.ros.wire import stamp_ns
from depth_node.types import ArrayF32, CameraModel, ImageU8

SCORE_PERIOD_S = 0.4
KEPT = 90


@dataclass
class Sight:
    """One frame of which everything has arrived.

    Attributes:
        image: HxWx3 uint8 RGB.
        values: HxW float32, metres or relative disparity.
        metric: which of the two.
        truth: HxW float32 metres, or None without ground truth.
    """

    image: ImageU8
    values: ArrayF32
    metric: bool
    truth: ArrayF32 | None = None
    score: Score | None = None


@dataclass
class Tally:
    """Everything seen so far."""

    frames: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    arrivals_s: list[float] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    status: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    # the view with the widest range of depth so far, or without ground truth the newest
    sight: Sight | None = None
    camera: CameraModel | None = None

    @property
    def rate_hz(self) -> float:
        """Depth images a second, over everything seen."""
        if len(self.arrivals_s) < 2:
            return 0.0
        return (len(self.arrivals_s) - 1) / (self.arrivals_s[-1] - self.arrivals_s[0])

    def latency_ms(self, percent: float) -> float:
        """A percentile of stamp-to-subscriber latency; NaN before the first frame."""
        return float(np.percentile(self.latencies_ms, percent)) if self.latencies_ms else np.nan


class Watcher:
    """Subscribes to the node's outputs and to the world's ground truth, and keeps a tally.

    A frame counts when its depth arrives: `depth/image_rect` while the scale is metric, else
    `depth/relative`. Its latency is the time from its stamp to the arrival here, one process and
    one transport later. Only that one of the two is subscribed to: the node makes nothing that
    nobody wants, and on two cores what the watcher takes is missing there.
    """

    def __init__(self, truth_topic: str | None) -> None:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self.tally = Tally()
        self._node: Node = rclpy.create_node("depth_node_demo")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._pending: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._needed = {"image", "depth"} | ({"truth"} if truth_topic else set())
        self._next_score_s = 0.0
        self._subscribe(Image, "image_rect", lambda msg: self._part("image", msg))
        self._relative: Any = None
        self._want_relative(True)
        self._subscribe(Image, "depth/image_rect", lambda msg: self._depth(msg, metric=True))
        self._subscribe(CameraInfo, "depth/camera_info", self._on_camera_info)
        self._subscribe(DiagnosticArray, "depth_node/scale_status", self._on_status)
        self._subscribe(DiagnosticArray, "/diagnostics", self._on_diagnostics)
        if truth_topic:
            self._subscribe(Image, truth_topic, lambda msg: self._part("truth", msg))

    def _subscribe(self, kind: type[Any], topic: str, callback: Any) -> Any:
        return self._node.create_subscription(kind, topic, callback, QoSProfile(depth=5))

    def _want_relative(self, wanted: bool) -> None:
        if wanted and self._relative is None:
            self._relative = self._subscribe(
                Image, "depth/relative", lambda msg: self._depth(msg, metric=False)
            )
        elif not wanted and self._relative is not None:
            self._node.destroy_subscription(self._relative)
            self._relative = None

    def watch(self, seconds: float) -> None:
        """Take in what arrives for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left)

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.try_shutdown()

    def restart_tally(self) -> None:
        """Count anew from here, with what is known of the node kept."""
        old = self.tally
        self.tally = Tally(status=old.status, facts=old.facts, sight=old.sight, camera=old.camera)

    def _on_status(self, msg: Any) -> None:
        self.tally.status = {item.key: item.value for item in msg.status[0].values}
        self._want_relative(not self._metric)

    @property
    def _metric(self) -> bool:
        return self.tally.status.get("state") in ("metric", "held")

    def _on_diagnostics(self, msg: Any) -> None:
        self.tally.facts = {item.key: item.value for item in msg.status[0].values}
        self.tally.problem = msg.status[0].message if ord(msg.status[0].level) else ""

    def _on_camera_info(self, msg: Any) -> None:
        if self.tally.camera is None:
            self.tally.camera = camera_from_info(msg)

    def _depth(self, msg: Any, *, metric: bool) -> None:
        now_ns, now_s = time.time_ns(), time.monotonic()
        if metric != self._metric:
            return
        self.tally.frames += 1
        self.tally.arrivals_s.append(now_s)
        self.tally.latencies_ms.append(1e-6 * (now_ns - stamp_ns(msg.header)))
        self._part("depth", (msg, metric))

    def _part(self, name: str, part: Any) -> None:
        msg = part[0] if name == "depth" else part
        parts = self._pending.setdefault(stamp_ns(msg.header), {})
        parts[name] = part
        while len(self._pending) > KEPT:
            self._pending.popitem(last=False)
        if self._needed <= parts.keys() and time.monotonic() >= self._next_score_s:
            self._next_score_s = time.monotonic() + SCORE_PERIOD_S
            self._look(parts)

    def _look(self, parts: dict[str, Any]) -> None:
        depth, metric = parts["depth"]
        sight = Sight(_rgb(parts["image"]), _float32(depth), metric)
        if "truth" in parts:
            sight.truth = _float32(parts["truth"])
            judge = score_metric if metric else score_relative
            try:
                sight.score = judge(sight.values, sight.truth)
            except EvaluationError:
                return  # a frame that shows nothing but sky has no score
            self.tally.scores.append(sight.score)
        if self.tally.sight is None or _spread(sight) >= _spread(self.tally.sight):
            self.tally.sight = sight


def _spread(sight: Sight) -> float:
    """How much there is to see: the ratio of far to near in the ground truth, or 1 without it."""
    if sight.truth is None:
        return 1.0
    some = sight.truth[::4, ::4]
    near, far = np.percentile(some[np.isfinite(some)], (5, 95))
    return float(far / near)


def _float32(msg: Any) -> ArrayF32:
    return np.frombuffer(msg.data, np.float32).reshape(msg.height, msg.width)


def _rgb(msg: Any) -> ImageU8:
    return np.frombuffer(msg.data, np.uint8).reshape(msg.height, msg.width, 3)
