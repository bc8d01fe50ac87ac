"""The sensors that metric scale rests on: subscribed, asked for every frame, and watched."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from depth_node.geometry.transforms import Fault, TransformError, Transforms
from depth_node.health import Health, Level, apart
from depth_node.parameters import Settings
from depth_node.ros.followed_topic import SILENCE_S
from depth_node.ros.ground_input import GroundInput
from depth_node.ros.ranging import KINDS, RangingSensor, SensorError
from depth_node.ros.status import points_used
from depth_node.ros.transforms import NoTransforms
from depth_node.ros.wire import ConversionError
from depth_node.scale.alignment import Offset
from depth_node.scale.ground import GroundReference
from depth_node.scale.metric import MetricScaleEstimator
from depth_node.scale.select import measuring
from depth_node.scale_parameters import FROM_TF
from depth_node.types import CameraModel, Disparity, Frame, ScaleEstimate, ScaleState

LOOK_PERIOD_S = 0.5
"""How often the graph is asked who publishes the sensors' topics."""


class ScaleInputs:
    """Everything that measures metres around the camera, as the parameters enable it.

    Callbacks only keep the message. It is converted, located by TF and projected on the pipeline's
    thread, for a frame that wants it; the newest messages win. What a source lacks is reported from
    `SILENCE_S` after it was first listened to, and not once it is stopped.
    """

    def __init__(
        self, node: Node, settings: Settings, health: Health, listen: Callable[[], Transforms]
    ) -> None:
        """Resolve the topics; nothing is subscribed to before `start`.

        Args:
            node: the node that subscribes.
            settings: the parameters in force.
            health: where problems are reported, under the name of the parameter group.
            listen: begins to listen to TF; called on the executor's thread when it is needed.
        """
        self._settings = settings
        self._node = node
        self._health = health
        self._listen = listen
        self._transforms: Transforms = NoTransforms()
        self._listens_since_ns: int | None = None
        self._timer: Any = None
        self._running = False
        self._lock = threading.Lock()
        self._sensors = [RangingSensor(node, name, getattr(settings, name).topic) for name in KINDS]
        self._ground = GroundInput(node, settings.ground)

    @property
    def settings(self) -> Settings:
        """The parameters in force; new ones hold from the next frame on, and are followed at once.

        They are set on the executor's thread.
        """
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        if self._running:
            self._follow(settings)  # before a frame can ask for what is enabled by them
        self._settings = settings

    def start(self) -> None:
        """Subscribe to what is enabled, and follow the parameters and the graph from now on."""
        self._running = True
        # Not the ROS clock: a simulation that stands still publishes its topics all the same.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self._node.create_timer(LOOK_PERIOD_S, self.look, clock=steady)
        self.look()

    def stop(self) -> None:
        """Unsubscribe, forget what was measured, and report nothing more."""
        with self._lock:
            self._running = False
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None
        for sensor in self._sensors:
            sensor.close()
            self._health.clear(sensor.name)
            self._health.clear(f"{sensor.name} extrinsics")
        self._ground.close()
        for topic in ("ground", "contradiction"):
            self._health.clear(topic)

    def look(self) -> None:
        """Subscribe to what is enabled and published now."""
        self._follow(self._settings)

    def _follow(self, settings: Settings) -> None:
        wanted = measuring(settings)
        for sensor in self._sensors:
            if sensor.name in wanted:
                sensor.topic.look()
            else:
                sensor.close()
                self._health.clear(sensor.name)
            if sensor.name not in wanted or not settings.scale.align:
                self._health.clear(f"{sensor.name} extrinsics")
        # There may be no estimator any more that would tell of its end.
        if not any(sensor.name in wanted for sensor in self._sensors):
            self._health.clear("contradiction")
        if "ground" in wanted and settings.ground.direction == "imu":
            self._ground.imu.look()
        else:
            self._ground.close()
        if "ground" not in wanted:
            self._health.clear("ground")
        listens = self._listens_since_ns is not None
        if not listens and any(_needs_tf(settings, name) for name in wanted):
            self._transforms = self._listen()
            self._listens_since_ns = time.monotonic_ns()

    def forget_use(self) -> None:
        """Give again what was given: the estimator has forgotten it."""
        for sensor in self._sensors:
            sensor.forget_use()

    def give(self, frame: Frame, estimator: MetricScaleEstimator) -> None:
        """Hand what was measured around a frame to an estimator.

        Never raises on bad measurements: what cannot be used is counted and reported.
        """
        settings = self.settings
        wanted = measuring(settings)
        estimator.set_ground(self._ground_reference(frame) if "ground" in wanted else None)
        if frame.camera is None:
            return
        for sensor in self._sensors:
            if sensor.name not in wanted:
                continue
            group = getattr(settings, sensor.name)
            try:
                points = sensor.depths(frame, frame.camera, group, settings.scale, self._transforms)
            except SensorError as error:
                self._refuse(sensor, error.why, error)
            except TransformError as error:
                if not self._may_come(error, frame):
                    self._refuse(sensor, f"transform {error.fault.value}", error)
            except ConversionError as error:
                self._refuse(sensor, "unreadable", error)
            else:
                self._health.clear(sensor.name)
                if points is not None:
                    estimator.add(points)

    def compare_extrinsics(self, camera: CameraModel, offsets: Mapping[str, Offset]) -> None:
        """Say which sensor's points fit the picture better elsewhere, for the doctor to find.

        Args:
            camera: the rectified camera.
            offsets: of each sensor that measured the frame and is judged; of others nothing is
                said any more.
        """
        focal_widths = camera.intrinsics[0] / camera.width
        for sensor in self._sensors:
            topic = f"{sensor.name} extrinsics"
            offset = offsets.get(sensor.name)
            where = "" if offset is None else offset.described(focal_widths)
            if not where:
                self._health.clear(topic)
                continue
            self._warn(
                topic,
                f"{sensor.name}: its points fit the picture better when they are {where}",
                "calibrate its extrinsics, or set scale.align to false if they are right",
            )

    def tell_contradiction(self, contradicted: str) -> None:
        """Say which sources were left out because others contradict them.

        Args:
            contradicted: their names joined by `+`, or empty.
        """
        if not contradicted:
            self._health.clear("contradiction")
            return
        self._warn(
            "contradiction",
            f"{contradicted}: its depths contradict those of the other sensors by a factor of 1.4 "
            "or more, and it is left out",
            "check ground.height_m and ground.direction; a table is no ground"
            if contradicted == "ground"
            else "check its extrinsics and its unit; a map of monocular SLAM has no scale",
        )

    def _ground_reference(self, frame: Frame) -> GroundReference | None:
        settings = self.settings
        try:
            reference = self._ground.reference(
                frame, settings.ground, self._transforms, settings.scale.max_age_s
            )
        except (ConversionError, TransformError) as error:
            if not (isinstance(error, TransformError) and self._may_come(error, frame)):
                self._report("ground", error)
            return None
        self._health.clear("ground")
        return reference

    def _refuse(self, sensor: RangingSensor, why: str, error: Exception) -> None:
        sensor.refused[why] += 1
        self._report(sensor.name, error)

    def _report(self, source: str, error: Exception) -> None:
        seen, cure = apart(
            str(error), f"check what it needs (docs/scale_sources.md), or disable {source}"
        )
        self._warn(source, f"{source}: {seen}", cure)

    def _warn(self, topic: str, seen: str, cure: str) -> None:
        """Report, unless stopped meanwhile: then nobody would take it back."""
        with self._lock:
            if self._running:
                self._health.report(topic, Level.WARN, seen, cure)

    def _may_come(self, error: TransformError, frame: Frame) -> bool:
        """Whether what TF lacks may be published, and not heard yet."""
        if error.fault is Fault.INVALID:  # heard, or given as numbers
            return False
        since_ns = self._listens_since_ns
        return since_ns is None or frame.received_ns < since_ns + SILENCE_S * 1e9

    def problems(self) -> str:
        """What keeps enabled sources from being used now, or empty."""
        names = [*(sensor.name for sensor in self._sensors), "ground"]
        problems = [self._health.problem(name) for name in names]
        return "; ".join(problem.text for problem in problems if problem is not None)

    def facts(self) -> dict[str, str]:
        """What each enabled sensor gives, for the diagnostics."""
        facts = {}
        for sensor in self._sensors:
            if sensor.name not in measuring(self.settings):
                continue
            seen, total = sensor.in_picture
            how = "moved by odometry" if sensor.moved else "not moved by odometry"
            facts[sensor.name] = (
                f"{sensor.topic.topic}: {seen} of {total} points in the picture, {how}; "
                f"used for {sensor.used} frames"
            )
            for why, count in sorted(sensor.refused.items()):
                facts[f"{sensor.name} refused: {why}"] = str(count)
        return facts


class MeasuredScale:
    """An estimator that is handed what the sensors measured before every frame."""

    def __init__(self, inputs: ScaleInputs, estimator: MetricScaleEstimator) -> None:
        self._inputs = inputs
        self._estimator = estimator
        inputs.forget_use()

    def estimate(self, frame: Frame, disparity: Disparity) -> ScaleEstimate:
        """Estimate the scale of one frame; the reason against it names what the sensors lack."""
        self._inputs.give(frame, self._estimator)
        estimate = self._estimator.estimate(frame, disparity)
        if frame.camera is not None:
            self._inputs.compare_extrinsics(frame.camera, self._estimator.extrinsic_errors)
            self._inputs.tell_contradiction(self._estimator.contradicted)
        problems = self._inputs.problems()
        if problems and estimate.state is not ScaleState.METRIC:
            return replace(estimate, reason=f"{estimate.reason}; {problems}")
        return estimate

    def facts(self) -> dict[str, str]:
        """What the sensors give and what became of their points, for the diagnostics."""
        points = {
            f"{source} points": points_used(counts)
            for source, counts in self._estimator.counts.items()
        }
        known = self._estimator.extrinsics_known()
        extrinsics = {f"{source} extrinsics": text for source, text in known.items()}
        return {**self._inputs.facts(), **points, **extrinsics}

    def reset(self) -> None:
        """Forget everything carried from earlier frames."""
        self._estimator.reset()
        self._inputs.forget_use()


def _needs_tf(settings: Settings, name: str) -> bool:
    """Whether a source takes anything from TF."""
    if name != "ground":
        return str(getattr(settings, name).extrinsics).strip() == FROM_TF
    ground = settings.ground
    from_imu = ground.direction == "imu" and ground.imu_extrinsics.strip() == FROM_TF
    return ground.direction == "tf" or ground.height_m == 0.0 or from_imu
