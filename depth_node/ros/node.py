"""The lifecycle node: owns the camera, the engine, the pipeline and the publishers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_msgs.msg import Header

from depth_node.cameras.base import CameraError
from depth_node.cameras.calibration import CalibrationError
from depth_node.engines.base import EngineError
from depth_node.engines.select import load_engine
from depth_node.engines.shared import EnginePool, EngineShare
from depth_node.geometry.transforms import Transforms
from depth_node.health import Health, Level, apart
from depth_node.metrics import Metrics
from depth_node.parameters import ParameterError, Settings
from depth_node.pipeline import Pipeline
from depth_node.release import run_all
from depth_node.ros.camera_reader import CameraReader
from depth_node.ros.image_topic import ImageTopic
from depth_node.ros.logs import forward_logs
from depth_node.ros.outputs import Outputs
from depth_node.ros.parameters import NodeParameters
from depth_node.ros.scale_inputs import MeasuredScale, ScaleInputs
from depth_node.ros.status import diagnostics
from depth_node.ros.transforms import listen
from depth_node.scale.base import ScaleEstimator
from depth_node.scale.metric import MetricScaleEstimator
from depth_node.scale.select import make_estimator, same_estimator
from depth_node.types import Frame

DIAGNOSTICS_PERIOD_S = 1.0
SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE
_NOT_LOGGED = (
    *("state", "image_topic", "camera_info_topic"),  # said already, in other words
    *("engine_cameras", "engine_batch.limit", "engine_batch.mean"),  # not known yet
)
_PROBLEMS_OF_THE_NODE = ("transition", "name")
"""Topics of health that do not end with the frames."""
_log = logging.getLogger(__name__)


class _Source(Protocol):
    """Where frames come from: a topic or a camera of the node's own."""

    @property
    def topics(self) -> dict[str, str]: ...
    def describe(self) -> str: ...
    def start(self, submit: Callable[[Callable[[], Frame]], None]) -> None: ...
    def stop(self) -> None: ...


class DepthNode(LifecycleNode):
    """One camera in; a metric depth image, a point cloud and their status out.

    `configure` loads the network, opens the camera and creates the publishers; `activate` lets
    frames through. A transition that cannot be made fails with its reason in the log and in the
    diagnostics, and can be tried again.

    Attributes:
        camera_missing: whether the last transition failed for want of a camera that may still come.
        starts_itself: whether somebody configures and activates the node as soon as it is possible.
    """

    def __init__(self, engines: EnginePool | None = None, **kwargs: Any) -> None:
        """Declare the parameters and begin to report.

        Args:
            engines: shared with the other nodes of the process; None where there is none.
            kwargs: of `rclpy.lifecycle.LifecycleNode`.
        """
        super().__init__("depth_node", **kwargs)
        forward_logs(self.get_logger())
        self.health = Health()
        self.metrics = Metrics()
        self.camera_missing = self.starts_itself = False
        self._engines = engines or EnginePool()
        self._engine: EngineShare | None = None
        self._source: _Source | None = None
        self._outputs: Outputs | None = None
        self._pipeline: Pipeline | None = None
        self._scale_inputs: ScaleInputs | None = None
        self._transforms: Transforms | None = None
        self._node_parameters = NodeParameters(
            self,
            statics_are_open=lambda: self.state_label == "unconfigured",
            changed=self._apply,
        )
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Not the ROS clock: a simulation that stands still must not silence the diagnostics.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._diagnose, clock=steady)

    @property
    def settings(self) -> Settings:
        """The parameters in force."""
        return self._node_parameters.settings

    @property
    def state_label(self) -> str:
        """The lifecycle state: `unconfigured`, `inactive`, `active` or `finalized`."""
        return str(self._state_machine.current_state[1])

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the network, open the camera, create the publishers."""
        return self._try("configure", self._configure, undo=self._release)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let frames through."""
        super().on_activate(state)
        return self._try("activate", self._activate, undo=self._halt)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop frames; network, camera and publishers stay ready."""
        result = self._try("deactivate", self._halt)
        super().on_deactivate(state)
        return result

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the network, the camera and the publishers."""
        return self._try("cleanup", self._release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, from whichever state."""
        return self._try("shutdown", lambda: self._release(hurry=True))

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, so that the node can be configured again."""
        return self._try("error processing", self._release)

    def _try(
        self, name: str, step: Callable[[], None], undo: Callable[[], None] | None = None
    ) -> TransitionCallbackReturn:
        """Run one transition; rclpy swallows exceptions in silence, so none may leave here."""
        unknown: Exception | None = None
        missing = self.camera_missing = False
        try:
            step()
        except (ParameterError, EngineError, CameraError, ValueError, OSError) as error:
            reason, cure = apart(str(error), f"mend that, and {name} the node again")
            missing = self.may_come(error)
            if missing and self.starts_itself:
                cure = f"{cure}; the node tries again by itself"
        except Exception as error:
            unknown = error
            reason, cure = f"{type(error).__name__}: {error}", "see the traceback in the node's log"
        else:
            self.health.clear("transition")
            return SUCCESS
        problem = ("transition", Level.ERROR, f"cannot {name}: {reason}", cure)
        self.health.report(*problem, error=unknown, asked=True)
        if undo is not None:
            self._try(f"undo {name}", undo)
            self.health.report(*problem)  # what could be undone has cleared it
        self.camera_missing = missing
        return FAILURE

    def may_come(self, error: Exception) -> bool:
        """Whether the error may go by itself: a device or stream that is not there yet."""
        live = self.settings.camera.source in ("webcam", "url")
        return live and isinstance(error, CameraError) and not isinstance(error, CalibrationError)

    def _configure(self) -> None:
        if self._node_parameters.refused:
            raise ParameterError("; ".join(self._node_parameters.refused.values()))
        settings = self.settings
        settings.check_together()
        if settings.camera.source == "topic":
            self._source = ImageTopic(self, settings.camera, self.health)
        else:
            self._source = CameraReader(settings.camera, self.health)
        self._engine = self._engines.share(
            settings.model, lambda: load_engine(settings.model, _log.info)
        )
        self._outputs = Outputs(self, settings, self.metrics)
        self._scale_inputs = ScaleInputs(self, settings, self.health, self._listen)
        facts = {name: text for name, text in self._facts().items() if name not in _NOT_LOGGED}
        _log.info("configured: %s", "; ".join(f"{name} {text}" for name, text in facts.items()))

    def _activate(self) -> None:
        if self._engine is None:
            raise EngineError(
                "the engine had not returned from its last frame when the node was deactivated, or "
                "cleaning up failed; clean up and configure the node"
            )
        assert self._source is not None
        assert self._outputs is not None
        assert self._scale_inputs is not None
        self._pipeline = Pipeline(
            engine=self._engine,
            estimator=self._make_estimator(self.settings),
            sink=self._outputs,
            settings=self.settings,
            metrics=self.metrics,
            health=self.health,
            now_ns=lambda: int(self.get_clock().now().nanoseconds),
            place=self._engine.join_line(),
        )
        self._pipeline.start()
        self._scale_inputs.start()
        self._source.start(self._pipeline.submit)

    def _halt(self, *, hurry: bool = False) -> None:
        """Stop frames, and with them all that tells what is wrong and that it is well again."""
        steps: list[Callable[[], None]] = []
        if self._source is not None:
            steps.append(self._source.stop)
        steps.append(lambda: self._stop_pipeline(hurry=hurry))
        if self._scale_inputs is not None:  # after the pipeline, whose last frame still asks them
            steps.append(self._scale_inputs.stop)
        run_all(*steps, lambda: self.health.forget(but=_PROBLEMS_OF_THE_NODE))

    def _stop_pipeline(self, *, hurry: bool) -> None:
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is None or pipeline.stop(hurry=hurry):
            return
        _log.warning("the engine is still busy with a frame; it is left to finish by itself")
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.abandon()  # closing it under the running call would crash the process

    def _release(self, *, hurry: bool = False) -> None:
        run_all(lambda: self._halt(hurry=hurry), self._close)

    def _close(self) -> None:
        """Close what is held; what fails at it is not kept: half of it may be gone."""
        held = [part for part in (self._outputs, self._engine) if part is not None]
        self._outputs = self._engine = self._source = self._scale_inputs = None
        run_all(*(part.close for part in held))

    def _apply(self, settings: Settings) -> None:
        """Let changed dynamic parameters take effect with the next frame."""
        if self._outputs is not None:
            self._outputs.settings = settings
        if self._scale_inputs is not None:
            self._scale_inputs.settings = settings
        if self._pipeline is not None:
            if not same_estimator(settings, self._pipeline.settings):
                self._pipeline.estimator = self._make_estimator(settings)
            self._pipeline.settings = settings

    def _make_estimator(self, settings: Settings) -> ScaleEstimator:
        network = self._engine.model if self._engine is not None else ""
        estimator = make_estimator(settings, network)
        if isinstance(estimator, MetricScaleEstimator):
            assert self._scale_inputs is not None
            return MeasuredScale(self._scale_inputs, estimator)
        return estimator

    def _listen(self) -> Transforms:
        """Listen to TF from the first need on, as long as the node lives."""
        if self._transforms is None:
            self._transforms = listen(self)
        return self._transforms

    def _facts(self) -> dict[str, str]:
        """What the node runs on, in words."""
        facts = {"state": self.state_label}
        if self._source is not None:
            facts["camera"] = self._source.describe()
            facts |= self._source.topics
        if self._engine is not None:
            facts["network"] = self._engine.model
            facts["engine"] = f"{self._engine.name}, {self._engine.precision}"
            facts["device"] = self._engine.device
            facts |= self._engine.facts()
        if self._pipeline is not None and self._pipeline.last_estimate is not None:
            estimate = self._pipeline.last_estimate
            facts["scale"] = f"{estimate.state.value} ({estimate.source})"
            if estimate.reason:
                facts["scale_reason"] = estimate.reason
        if self._pipeline is not None and isinstance(self._pipeline.estimator, MeasuredScale):
            facts |= self._pipeline.estimator.facts()
        return facts

    def _check_name(self) -> None:
        """Services and parameters of two nodes of one name answer at random."""
        mine = (self.get_name(), self.get_namespace())
        if self.get_node_names_and_namespaces().count(mine) > 1:
            self.health.report(
                "name",
                Level.WARN,
                f"another node is called {self.get_fully_qualified_name()} too: either may answer "
                "a service or parameter call",
                "stop one, or rename it: --ros-args -r __node:=name",
            )
        else:
            self.health.clear("name")

    def _diagnose(self) -> None:
        self._check_name()
        if self._pipeline is not None:
            self._pipeline.look()
        header = Header(stamp=self.get_clock().now().to_msg())
        name = self.get_fully_qualified_name().lstrip("/")
        report = diagnostics(
            name, self._facts(), self.metrics.snapshot(), self.health.problems(), header
        )
        self._diagnostics.publish(report)
