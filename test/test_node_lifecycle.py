"""Lifecycle, parameters at start-up, and the end of the process."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import Transition
from ros_graph import CameraDriver, Graph, Process, private_graph, taken_after
from sensor_msgs.msg import Image
from test_node_outputs import SCALE, frame

pytestmark = pytest.mark.ros


@pytest.fixture
def graph() -> Iterator[Graph]:
    with private_graph() as made:
        yield made


def start(graph: Graph, *, autostart: bool = True, **parameters: object) -> Process:
    """Start the node with the test's engine and a fixed scale."""
    parameters = {"scale__source": "fixed", "scale__fixed_scale": SCALE, **parameters}
    return graph.depth_node(
        "-r", "image:=/camera/image_raw",
        program="node_with_engine.py", autostart=autostart, **parameters,
    )  # fmt: skip


def test_transitions_start_and_stop_the_depth(graph: Graph) -> None:
    start(graph, autostart=False)
    driver = CameraDriver(graph, frame)
    assert graph.state() == "unconfigured"
    assert graph.node.get_publishers_info_by_topic("/depth/image_rect") == []

    assert graph.change_state(Transition.TRANSITION_CONFIGURE)
    assert graph.state() == "inactive"
    with graph.collect(Image, "/depth/image_rect") as images:
        assert graph.change_state(Transition.TRANSITION_ACTIVATE)
        images.wait(5)

        assert graph.change_state(Transition.TRANSITION_DEACTIVATE)
        inactive_ns = time.time_ns()
        assert graph.state() == "inactive"
        graph.wait_until(lambda: graph.diagnostics().values["state"] == "inactive")
        assert not taken_after(images.messages, inactive_ns)

        assert graph.change_state(Transition.TRANSITION_ACTIVATE)
        images.wait_from_now(5)
        assert graph.change_state(Transition.TRANSITION_DEACTIVATE)
        assert graph.change_state(Transition.TRANSITION_CLEANUP)
        assert graph.state() == "unconfigured"

        assert graph.change_state(Transition.TRANSITION_CONFIGURE)
        assert graph.change_state(Transition.TRANSITION_ACTIVATE)
        images.wait_from_now(5)
    graph.diagnostics().assert_accounts_balance()
    driver.close()


def test_static_parameters_open_when_the_node_is_unconfigured(graph: Graph) -> None:
    start(graph)
    graph.wait_for_problem("nobody publishes /camera/image_raw")
    (refused,) = graph.set_parameters(camera__topic="/other/image")
    assert not refused.successful
    graph.change_state(Transition.TRANSITION_DEACTIVATE)
    graph.change_state(Transition.TRANSITION_CLEANUP)
    (accepted,) = graph.set_parameters(camera__topic="/other/image")
    assert accepted.successful
    graph.change_state(Transition.TRANSITION_CONFIGURE)
    graph.change_state(Transition.TRANSITION_ACTIVATE)
    driver = CameraDriver(graph, frame, topic="/other/image")
    with graph.collect(Image, "/depth/image_rect") as images:
        images.wait(3)
    driver.close()


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"depth__max_m": -3.0}, "depth.max_m is -3"),
        ({"depth__max_m": "far"}, "depth.max_m is 'far' (str); it must be a float"),
        ({"camera__rectify": "maybe"}, "choose one of"),
        ({"scale__source": "fixed", "scale__fixed_scale": 0.0}, "scale.fixed_scale is not set"),
        ({"camera__source": "video"}, "camera.path is empty"),
    ],
)
def test_a_refused_start_up_value_fails_configure_with_the_reason_and_can_be_mended(
    graph: Graph, parameters: dict[str, object], reason: str
) -> None:
    start(graph, **parameters)
    graph.wait_for_problem(reason)
    assert graph.state() == "unconfigured"
    assert not graph.change_state(Transition.TRANSITION_CONFIGURE)
    good = {
        "depth__max_m": 20.0,
        "camera__rectify": "auto",
        "scale__source": "none",
        "camera__source": "topic",
    }
    (name,) = (name for name in good if name in parameters)
    assert graph.set_parameters(**{name: good[name]})[0].successful
    assert graph.change_state(Transition.TRANSITION_CONFIGURE)
    assert graph.state() == "inactive"


def test_numbers_and_texts_are_what_the_parameter_means_by_them(graph: Graph) -> None:
    start(graph, depth__max_m=20, camera__rectify="off", camera__device=0)
    graph.wait_for_problem("nobody publishes")
    assert graph.state() == "active"


def test_a_parameter_that_nobody_knows_is_named_with_what_was_meant(graph: Graph) -> None:
    node = start(graph, lidar__enable=True, other_node__gain=3)
    node.wait_for_line("there is no parameter lidar.enable, and its value is ignored")
    node.wait_for_line("did you mean lidar.enabled?")
    graph.wait_for_problem("nobody publishes")
    assert "other_node" not in node.output


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"model__name": "/no/such/model.onnx"}, "/no/such/model.onnx"),
        ({"camera__source": "folder", "camera__path": "/"}, "image"),
        ({"camera__source": "folder", "camera__path": "/no/such/folder"}, "/no/such/folder"),
        ({"camera__source": "video", "camera__path": "/no/such/film.mp4"}, "/no/such/film.mp4"),
        ({"camera__source": "webcam", "camera__device": "'63'"}, "63"),
        ({"camera__calibration": "/no/such/camera.yaml"}, "/no/such/camera.yaml"),
    ],
)
def test_what_cannot_be_opened_fails_configure_with_the_reason(
    graph: Graph, parameters: dict[str, object], reason: str
) -> None:
    node = graph.depth_node(**parameters)
    report = graph.wait_for_problem("cannot configure")
    assert reason in report.text
    assert report.level == 2
    assert graph.state() == "unconfigured"
    assert "Traceback" not in node.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("state", ["unconfigured", "inactive", "active", "inferring", "finalized"])
def test_a_signal_ends_the_node_in_every_state(
    graph: Graph, state: str, number: signal.Signals
) -> None:
    env = graph.environment(ENGINE_DELAY_S="30" if state == "inferring" else "0")
    program = str(Path(__file__).parent / "programs" / "node_with_engine.py")
    autostart = "true" if state in ("active", "inferring") else "false"
    node = graph.run(
        program, "--ros-args", "-r", "image:=/camera/image_raw", "-p", f"autostart:={autostart}",
        env=env,
    )  # fmt: skip
    driver = CameraDriver(graph, frame)
    if state == "inactive":
        assert graph.change_state(Transition.TRANSITION_CONFIGURE)
    if state == "finalized":
        assert graph.change_state(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    if state in ("active", "inferring"):
        with graph.collect(Image, "/depth/relative") as images:
            if state == "active":
                images.wait(3)
            else:
                node.wait_for_line("camera: topic")
                graph.wait_until(lambda: graph.diagnostics().values["in_flight"] != "0")
    assert graph.state() == ("active" if state == "inferring" else state)

    code, seconds = node.interrupt(number)
    driver.close()
    assert code == 0, node.output
    # About one second on a quiet machine; an inference of thirty is not waited for on any.
    assert seconds < 15.0
    assert "Traceback" not in node.output, node.output
