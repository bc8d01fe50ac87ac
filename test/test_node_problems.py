"""What the running node says is wrong, how long it says so, and what the doctor makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from doctor_run import doctor, fill_cache
from faults import start_node
from lifecycle_msgs.msg import Transition
from rclpy.context import Context
from rclpy.lifecycle import LifecycleNode
from ros_graph import CameraDriver, Graph, private_graph, taken_after
from sensor_msgs.msg import Image, PointCloud2
from test_node_outputs import HEIGHT, WIDTH, camera_info, frame, scene

import depth_node.ros.node
from depth_node.domain import private_domain
from depth_node.metrics import Metrics
from depth_node.parameters import Settings
from depth_node.ros.node import FAILURE, SUCCESS, DepthNode
from depth_node.ros.outputs import TOPICS, Outputs
from depth_node.types import Disparity, ImageU8

pytestmark = pytest.mark.ros
CALIBRATION = f"""
image_width: {WIDTH}
image_height: {HEIGHT}
camera_matrix: {{rows: 3, cols: 3, data: {camera_info().k.tolist()}}}
distortion_model: plumb_bob
distortion_coefficients: {{rows: 1, cols: 5, data: [0.0, 0.0, 0.0, 0.0, 0.0]}}
rectification_matrix: {{rows: 3, cols: 3, data: {camera_info().r.tolist()}}}
projection_matrix: {{rows: 3, cols: 4, data: {camera_info().p.tolist()}}}
"""


@pytest.fixture
def graph() -> Iterator[Graph]:
    with private_graph() as made:
        yield made


def test_a_node_without_metres_is_an_error_that_the_doctor_explains(
    graph: Graph, tmp_path: Path
) -> None:
    start_node(graph, scale__source="auto")
    camera = CameraDriver(graph, frame)
    with graph.collect(PointCloud2, "/points") as clouds:
        report = graph.wait_for_problem("no metres are published")
        assert report.level == 2
        assert "no source of metric scale is set" in report.text
        env = graph.environment(DEPTH_NODE_CACHE=str(fill_cache(tmp_path)))
        seen = doctor(env=env)
        assert seen.code == 1
        found = seen.find("error", "/depth_node", "no metres are published")
        assert "scale.source" in found["cure"]
        # Nothing can be sent to whoever wants clouds alone, so nothing counts as published.
        report = graph.diagnostics()
        assert clouds.messages == []
        assert (report.values["published"], report.values["rate_out_hz"]) == ("0", "0.00")
        assert int(report.values["dropped: nothing to publish"]) > 0
        report.assert_accounts_balance()

        graph.set_parameters(scale__source="none")
        graph.wait_until(lambda: graph.diagnostics().level == 0)
        graph.set_parameters(scale__source="auto")
        graph.wait_for_problem("no metres are published")
        graph.set_parameters(scale__source="fixed")
        clouds.wait(3)
    graph.wait_until(lambda: graph.diagnostics().level == 0)
    camera.close()


def deactivate(graph: Graph) -> None:
    """Deactivate the node; what was wrong with its frames went with them."""
    assert graph.change_state(Transition.TRANSITION_DEACTIVATE)
    report = graph.diagnostics()
    while report.values["state"] != "inactive":  # it was on its way before
        report = graph.diagnostics()
    assert report.level == 0, report.text


def test_an_inactive_node_has_no_problem_of_its_frames_and_says_them_again_when_active(
    graph: Graph,
) -> None:
    start_node(graph, scale__source="auto", lidar__enabled=True)
    camera = CameraDriver(graph, frame)
    with graph.collect(Image, "/depth/relative"):
        for _ in range(2):
            graph.wait_for_problem("nobody publishes /lidar/points")
            deactivate(graph)
            assert graph.change_state(Transition.TRANSITION_ACTIVATE)
    camera.close()


def test_problems_of_a_camera_end_with_it(graph: Graph, tmp_path: Path) -> None:
    pictures, calibration = tmp_path / "pictures", tmp_path / "camera.yaml"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "1.png"), cv2.cvtColor(scene(), cv2.COLOR_RGB2BGR))
    calibration.write_text(CALIBRATION)
    node = start_node(graph)
    camera = CameraDriver(graph, lambda stamp: (frame(stamp)[0], None))
    with graph.collect(Image, "/depth/relative"), graph.collect(Image, "/depth/image_rect") as d:
        graph.wait_for_problem("no CameraInfo")
        node.wait_for_line("no CameraInfo on /camera/camera_info")
        assert node.output.count("no CameraInfo") == 1, "it is logged once"
        for own, problem in (
            ({"camera__assumed_fov_deg": 0.0}, "NOT CALIBRATED"),
            ({"camera__calibration": str(calibration)}, ""),
        ):
            deactivate(graph)
            assert graph.change_state(Transition.TRANSITION_CLEANUP)
            graph.set_parameters(camera__source="folder", camera__path=str(pictures), **own)
            assert graph.change_state(Transition.TRANSITION_CONFIGURE), graph.explain("configure")
            assert graph.change_state(Transition.TRANSITION_ACTIVATE)
            if problem:
                report = graph.wait_for_problem(problem)
                assert report.level == 2
                assert "no CameraInfo" not in report.text
        d.wait(3)
        graph.wait_until(lambda: graph.diagnostics().level == 0)
        assert graph.state() == "active"
    camera.close()


def test_another_camera_does_not_inherit_the_calibration_of_the_one_before(graph: Graph) -> None:
    start_node(graph)
    first = CameraDriver(graph, frame)
    with graph.collect(Image, "/depth/image_rect") as images:
        images.wait(2)
        first.close()
        graph.wait_for_problem("nobody publishes /camera/image_raw")
        second = CameraDriver(graph, lambda stamp: (frame(stamp)[0], None))
        graph.wait_for_problem("no CameraInfo")
        assert not taken_after(images.messages, second.sent[0] - 1)
    second.close()


def test_that_a_calibration_is_scaled_to_the_images_is_said(graph: Graph, tmp_path: Path) -> None:
    image, _ = frame(0)
    calibration = tmp_path / "camera.yaml"
    calibration.write_text(
        CALIBRATION.replace(
            f"image_width: {image.width}", f"image_width: {2 * image.width}"
        ).replace(f"image_height: {image.height}", f"image_height: {2 * image.height}")
    )
    start_node(graph, camera__calibration=str(calibration))
    camera = CameraDriver(graph, lambda stamp: (frame(stamp)[0], None))
    with graph.collect(Image, "/depth/image_rect") as images:
        report = graph.wait_for_problem(f"is scaled to {image.width}x{image.height}")
        assert report.level == 1
        images.wait(1)
    camera.close()


class Unclosable:
    """An engine that cannot be closed the first time."""

    name, model, device, precision = "unclosable", "none", "test", "fp32"
    closed = 0

    def infer(self, image: ImageU8) -> Disparity:
        return Disparity(np.zeros((2, 2), np.float32))

    def close(self) -> None:
        self.closed += 1
        raise RuntimeError("the device is gone")


@pytest.fixture
def own_node(monkeypatch: pytest.MonkeyPatch) -> Iterator[DepthNode]:
    """A node of this process, which a test configures."""
    monkeypatch.setattr(depth_node.ros.node, "load_engine", lambda *_: Unclosable())
    context = Context()
    with private_domain() as domain:
        rclpy.init(context=context, domain_id=domain, args=[])
        node = DepthNode(context=context)
        yield node
        node.destroy_node()
        context.try_shutdown()


@pytest.mark.parametrize(
    ("failing", "said"), [("_engine", "the device is gone"), ("_source", "it does not stop")]
)
def test_what_fails_to_close_keeps_nothing_else_open_and_is_not_used_again(
    own_node: DepthNode, monkeypatch: pytest.MonkeyPatch, failing: str, said: str
) -> None:
    def stop() -> None:
        raise OSError("it does not stop")

    entities = set(own_node._managed_entities)
    assert own_node.trigger_configure() is SUCCESS
    assert own_node._engine is not None
    engine = own_node._engine.shared.engine
    if failing == "_source":
        monkeypatch.setattr(own_node._source, "stop", stop)
    assert own_node.trigger_cleanup() is FAILURE
    assert engine.closed == 1
    assert own_node._managed_entities == entities
    (problem,) = own_node.health.problems()
    assert said in problem.text
    assert own_node.trigger_activate() is FAILURE
    (problem,) = own_node.health.problems()
    assert "clean up and configure the node" in problem.text
    assert own_node.trigger_cleanup() is SUCCESS
    assert own_node.health.problems() == []


def test_what_a_node_has_published_with_is_gone_when_it_is_cleaned_up() -> None:
    context = Context()
    rclpy.init(context=context, args=[])
    node = LifecycleNode("depth_node", context=context)
    try:
        before = set(node._managed_entities)
        for _ in range(3):
            outputs = Outputs(node, Settings(), Metrics())
            assert len(node._managed_entities) == len(before) + len(TOPICS)
            outputs.close()
            assert node._managed_entities == before
    finally:
        node.destroy_node()
        context.try_shutdown()
