"""The one way through: camera -> Frame -> engine -> Disparity -> scale -> MetricDepth -> sink.

Two threads do the work, so that the network never waits for packing and sending: one turns the
newest camera frame into disparity, the other turns the newest disparity into metres and publishes.
Between them, and before them, stands a slot in which the newest item wins. Every frame that is
submitted ends exactly once, published or dropped for a counted reason.

Published depth is as fresh as the network allows: a frame that is about to be overtaken by the next
is not begun, because its result would be older by more than the wait costs. Where cameras share an
engine, a pipeline waits for its turn first and takes the newest frame then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from depth_node.cadence import Cadence
from depth_node.engines.base import Engine, EngineError
from depth_node.geometry.depth import MetricConverter
from depth_node.geometry.rectify import Blinder, Rectifier, leave_raw
from depth_node.geometry.transforms import RESTART_S
from depth_node.handover import Line, Place, Slot, worker
from depth_node.health import Health, Level, apart
from depth_node.metrics import Metrics
from depth_node.parameters import Settings
from depth_node.scale.base import ScaleEstimator
from depth_node.types import (
    CameraModel,
    Disparity,
    Frame,
    ImageU8,
    MetricDepth,
    ScaleEstimate,
    ScaleState,
)
from depth_node.watch import NetworkWatch, ScaleWatch

JOIN_S = 1.0
"""Least time that a thread has to end in."""
LONGEST_JOIN_S = 10.0
"""Most time that a slow network has to return in from its last frame."""
WAIT_SHARE = 0.1
"""Longest wait for a fresher frame, as a share of an inference: what it may cost in rate."""
CLOCK_TOLERANCE_S = 1.0
"""How far an image's stamp may lie from its arrival before the clocks are said to disagree."""
_ENGINE_CURE = "choose another model.engine or model.precision if it happens again"
_IMAGE_CURE = "correct the camera's driver or its settings"
_INTERNAL_CURE = "see the traceback in the node's log, and report it if it happens again"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Result:
    """All that is known about one frame when it leaves the pipeline.

    Attributes:
        frame: the frame that the network saw, rectified.
        disparity: what the network saw in it.
        estimate: the scale of this frame.
        depth: metres, or None when there is no scale that may be published or no calibration.
    """

    frame: Frame
    disparity: Disparity
    estimate: ScaleEstimate
    depth: MetricDepth | None


@dataclass(frozen=True, eq=False)
class _Seen:
    """What one thread hands to the other; `unseen` marks pixels that rectification left empty."""

    frame: Frame
    unseen: ImageU8 | None
    disparity: Disparity


@dataclass(frozen=True, eq=False)
class _Captured:
    """A frame that waits for the network; `arrived_s` is on the monotonic clock."""

    decode: Callable[[], Frame]
    arrived_s: float


class Sink(Protocol):
    """Where results go."""

    def wanted(self) -> bool:
        """Whether anybody listens; a frame that nobody wants is not computed."""
        ...

    def publish(self, result: Result) -> bool:
        """Send what is wanted of one result; whether that was anything."""
        ...


class Pipeline:
    """Runs frames through engine, scale and conversion on two threads of its own.

    Attributes:
        settings: may be replaced at any time; the next frame sees the new ones.
        estimator: likewise.
        last_estimate: the scale of the newest frame that was finished, or None before the first.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        estimator: ScaleEstimator,
        sink: Sink,
        settings: Settings,
        metrics: Metrics,
        health: Health,
        now_ns: Callable[[], int],
        place: Place | None = None,
    ) -> None:
        """Connect the parts.

        Args:
            engine: runs the network.
            estimator: finds the scale.
            sink: takes results.
            settings: the parameters.
            metrics: counts and times.
            health: is told what is wrong.
            now_ns: the clock of the images' stamps, nanoseconds.
            place: in the line for the engine; None where nobody else uses it.
        """
        self.settings = settings
        self.estimator = estimator
        self.last_estimate: ScaleEstimate | None = None
        self._engine = engine
        self._place = place or Line().join()
        self._sink = sink
        self._metrics = metrics
        self._health = health
        self._now_ns = now_ns
        self._rectifier = Rectifier()
        self._blinder = Blinder()
        self._converter = MetricConverter()
        self._last_stamp_ns: int | None = None
        self._cadence = Cadence()
        self._inference_s = 0.0
        self._network_watch = NetworkWatch()
        self._scale_watch = ScaleWatch(health)
        self._captured: Slot[_Captured] = Slot()
        self._inferred: Slot[_Seen] = Slot()
        self._network_thread = worker("network", self._run_network)
        self._output_thread = worker("output", self._run_output)

    def start(self) -> None:
        """Begin to work; a pipeline is started once."""
        self._network_thread.start()
        self._output_thread.start()

    def stop(self, *, hurry: bool = False) -> bool:
        """Refuse further frames and end both threads.

        Args:
            hurry: wait for a slow network no longer than for a fast one: the process is to end.

        Returns:
            False when the network has not returned from its last frame in three times its usual
            time (at least 1 s, at most 10 s). Its thread then ends by itself when it does, and
            nothing of that frame is published.
        """
        for slot in (self._captured, self._inferred):
            if slot.close() is not None:
                self._metrics.dropped("node stopped")
        self._place.close()
        patience_s = 0.0 if hurry else min(3.0 * self._network_watch.usual_s, LONGEST_JOIN_S)
        self._network_thread.join(max(patience_s, JOIN_S))
        self._output_thread.join(JOIN_S)
        return not self._network_thread.is_alive()

    def look(self) -> None:
        """Follow what no frame tells: a network that does not return, a scale not asked for."""
        self._network_watch.report_stall(self._health)
        if self.settings.scale.source == "none":
            self._scale_watch.forget()

    def submit(self, decode: Callable[[], Frame]) -> None:
        """Offer the newest frame; `decode` is called only if the frame is still the newest.

        `decode` may raise `ValueError` for an image that cannot be understood.
        """
        self._metrics.received()
        captured = _Captured(decode, time.monotonic())
        self._cadence.arrived(captured.arrived_s)
        displaced = self._captured.put(captured)
        if displaced is not None:
            reason = "node stopped" if displaced is captured else "newer frame arrived"
            self._metrics.dropped(reason)

    def _run_network(self) -> None:
        while not self._captured.closed:
            captured = self._captured.take()
            if captured is not None:
                with self._network_watch, self._place:
                    captured = self._newer(captured, 0.0)
                    self._guard(self._see, self._freshest(captured).decode)

    def _freshest(self, captured: _Captured) -> _Captured:
        """This frame, or the next one where that makes the result fresher by more than it waits.

        Where other cameras wait for the engine it is this one: their frames age meanwhile.
        """
        if self._place.awaited:
            return captured
        period_s = self._cadence.period_s
        age_s = time.monotonic() - captured.arrived_s
        wait_s = min(WAIT_SHARE * self._inference_s, period_s)
        due_s = period_s - age_s
        if due_s > min(age_s, wait_s):
            return captured
        return self._newer(captured, wait_s)

    def _newer(self, captured: _Captured, wait_s: float) -> _Captured:
        """The frame that has come since this one, or comes within the wait; else this one."""
        newer = self._captured.take(wait_s)
        if newer is None:
            return captured
        self._metrics.dropped("newer frame arrived")
        return newer

    def _run_output(self) -> None:
        while not self._inferred.closed:
            seen = self._inferred.take()
            if seen is not None:
                self._guard(self._finish, seen)

    def _guard(self, step: Callable[..., str | None], *args: object) -> None:
        """Run one step of one frame; whatever goes wrong costs this frame and no other."""
        try:
            reason = step(*args)
        except Exception as error:
            reason = self._blame(error)
        if reason is not None:
            self._metrics.dropped(reason)

    def _blame(self, error: Exception) -> str:
        """Report what cost a frame; why it is dropped."""
        if self._captured.closed:  # whoever stopped the node is told of nothing that comes later
            return "node stopped"
        report = self._health.report
        if isinstance(error, EngineError):
            report("engine", Level.ERROR, *apart(str(error), _ENGINE_CURE))
            return "engine failed"
        if isinstance(error, ValueError):
            report("image", Level.ERROR, *apart(str(error), _IMAGE_CURE))
            return "bad image"
        seen = (
            f"a frame failed in a way that the node does not know, {type(error).__name__}: {error}"
        )
        report("internal", Level.ERROR, seen, _INTERNAL_CURE, error=error)
        return "internal error"

    def _see(self, decode: Callable[[], Frame]) -> str | None:
        if self._captured.closed:
            return "node stopped"
        if not self._sink.wanted():
            return "no subscriber"
        begun_ns = time.monotonic_ns()
        frame = decode()
        self._time_arrival(frame, begun_ns)
        with self._metrics.stage("rectification"):
            frame, unseen = self._rectify(frame)
        self._health.clear("image")
        started_s = time.perf_counter()
        disparity = self._engine.infer(frame.image)
        self._inference_s = time.perf_counter() - started_s
        self._network_watch.answered()
        self._metrics.took("network", self._inference_s)
        self._health.clear("engine")
        displaced = self._inferred.put(_Seen(frame, unseen, disparity))
        if displaced is None:
            return None
        return "node stopped" if self._inferred.closed else "output is slower than the network"

    def _time_arrival(self, frame: Frame, begun_ns: int) -> None:
        """Time what came before the network: the way here, the wait for it, and the decoding."""
        now_ns = time.monotonic_ns()
        transport_s = 1e-9 * ((self._now_ns() - now_ns) - (frame.stamp_ns - frame.received_ns))
        if frame.stamp_ns > 0:
            self._metrics.took("transport", transport_s)
        self._metrics.took("waiting", 1e-9 * (begun_ns - frame.received_ns))
        self._metrics.took("conversion", 1e-9 * (now_ns - begun_ns))
        if frame.stamp_ns <= 0:
            seen = "the images carry no stamp"
        elif abs(transport_s) > CLOCK_TOLERANCE_S:
            order = "behind" if transport_s > 0.0 else "ahead of"
            seen = f"image stamps are more than {CLOCK_TOLERANCE_S:g} s {order} this node's clock"
        else:
            self._health.clear("clock")
            return
        cure = (
            "set use_sim_time on every node when a bag or a simulation plays, else synchronise the "
            "clocks of camera and robot"
        )
        seen = f"{seen}: consumers will find no transform for the depth"
        self._health.report("clock", Level.WARN, seen, cure)

    def _rectify(self, frame: Frame) -> tuple[Frame, ImageU8 | None]:
        mode = self.settings.camera.rectify
        camera = frame.camera
        if camera is None or (frame.rectified and mode != "on"):
            return frame, None
        if mode == "off":
            self._report_distortion(camera)
            return leave_raw(frame), None
        return self._rectifier.rectify(replace(frame, rectified=False)), self._rectifier.unseen

    def _report_distortion(self, camera: CameraModel) -> None:
        if not replace(camera, R=np.eye(3)).distorted:  # R is no part of the raw image
            self._health.clear("rectify")
            return
        seen = (
            f"camera.rectify is off but the lens distorts ({camera.distortion_model}): points are "
            "the more out of place the nearer they are to the border"
        )
        self._health.report("rectify", Level.WARN, seen, "set camera.rectify to auto")

    def _finish(self, seen: _Seen) -> str | None:
        frame, disparity, settings = seen.frame, seen.disparity, self.settings
        if not self._follow_clock(frame.stamp_ns):
            return "stamp out of order"
        with self._metrics.stage("scale"):
            seen_disparity = self._blinder.blind(disparity, seen.unseen)
            estimate = self.estimator.estimate(frame, seen_disparity)
        self.last_estimate = estimate
        depth = None
        metres = self._may_be_metres(estimate.state)
        if metres and frame.camera is not None:
            with self._metrics.stage("depth"):
                depth = self._converter.to_metric(
                    disparity, estimate, frame, settings.depth, seen.unseen
                )
        if self._inferred.closed:
            return "node stopped"
        if frame.camera is None:
            self._scale_watch.forget()  # it is the calibration that is missing first
        elif settings.scale.source != "none":
            self._scale_watch.saw(estimate, time.monotonic(), metres=metres)
        sent = self._sink.publish(Result(frame, disparity, estimate, depth))
        self._health.clear("internal")
        if not sent:
            return "nothing to publish"
        latency_s = 1e-9 * (self._now_ns() - frame.stamp_ns)
        self._metrics.published(frame.received_ns, latency_s if frame.stamp_ns > 0 else None)
        return None

    def _may_be_metres(self, state: ScaleState) -> bool:
        """Relative depth is never published as metres; held depth if the user wants it."""
        if state is ScaleState.HELD:
            return self.settings.scale.publish_when_not_metric == "held"
        return state is ScaleState.METRIC

    def _follow_clock(self, stamp_ns: int) -> bool:
        """Whether a stamp comes in its turn.

        One that jumps far back is a bag that loops or a simulation that restarts; one that is a
        little behind is a frame that was overtaken, or a driver whose stamps jitter.
        """
        back_s = 0.0 if self._last_stamp_ns is None else 1e-9 * (self._last_stamp_ns - stamp_ns)
        if 0.0 < back_s < RESTART_S:
            return False
        if back_s > 0.0:
            _log.warning(
                "image stamps jumped back by %.3f s; everything carried over time starts anew",
                back_s,
            )
            self.estimator.reset()
        self._last_stamp_ns = stamp_ns
        return True
