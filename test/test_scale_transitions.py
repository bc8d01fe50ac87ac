"""Metric scale over time in the running node: slow networks, and sensors switched on and off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

import scale_scene as scene
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from ros_graph import PROGRAMS, CameraDriver, Graph, private_graph
from scale_scene import HEIGHT, WIDTH
from sensor_msgs.msg import PointCloud2
from test_scale_node import (
    IDENTITY,
    assert_right,
    depth_while_metric,
    enable,
    publish,
    wait_for_state,
    wait_until_right,
)
from tf2_messages import tf2_messages

pytestmark = pytest.mark.ros
SLOW_NETWORK_S = 0.7
LIES = ("nobody publishes", "nothing has arrived", "not installed", "TF knows no frame", "no IMU")


@pytest.fixture(scope="module")
def slow_graph() -> Iterator[Graph]:
    """A graph with a node whose frames are older than any sensor's last messages."""
    with private_graph() as made:
        made.depth_node(
            "-r", "image:=/camera/image_raw",
            program="node_with_engine.py",
            env={"DIAGNOSTICS_PERIOD_S": "0.2", "ENGINE_DELAY_S": str(SLOW_NETWORK_S)},
            depth__remove_edges=False,
        )  # fmt: skip
        yield made


@pytest.fixture
def slow(slow_graph: Graph) -> Iterator[Graph]:
    """The same without a sensor."""
    yield slow_graph
    for driver in list(slow_graph.drivers):
        driver.close()
    slow_graph.set_parameters(range__enabled=False, ground__enabled=False)


def test_a_fast_sensor_serves_a_slow_network(slow: Graph) -> None:
    truth = scene.depth(shift=0.0)
    metres = float(truth[HEIGHT // 2, WIDTH // 2])
    CameraDriver(slow, scene.frame, rate_hz=20.0)
    publish(slow, "/range", lambda stamp: scene.range_reading(stamp, metres), 100.0)
    enable(slow, "range", extrinsics=f"0 0 0 {scene.FORWARD}")
    assert_right(depth_while_metric(slow), truth, 0.03)


def test_a_fast_imu_serves_a_slow_network(slow: Graph) -> None:
    values, _ = scene.ground(height=1.2, pitch=0.15)
    CameraDriver(slow, lambda stamp: scene.frame(stamp, values), rate_hz=20.0)
    publish(slow, "/imu/data", lambda stamp: scene.imu(stamp, 0.15), 200.0)
    enable(slow, "ground", height_m=1.2, direction="imu", imu_extrinsics=IDENTITY)
    with slow.collect(DiagnosticArray, "/depth_node/scale_status"):
        assert wait_for_state(slow, "metric")["source"] == "ground"


def test_no_transition_makes_a_sensor_that_works_a_problem(tmp_path: Path) -> None:
    points = scene.points_in_camera()
    points[:, 1] += 0.25  # the LiDAR is 0.25 m above
    in_lidar = points[:, [2, 0, 1]] * (1.0, -1.0, -1.0)

    def cloud(stamp_ns: int) -> PointCloud2:
        return scene.cloud(stamp_ns, in_lidar, "lidar_link")

    def wait_until_metric(graph: Graph) -> None:
        with graph.collect(DiagnosticArray, "/depth_node/scale_status"):
            wait_for_state(graph, "metric")

    with private_graph() as graph:
        env = tf2_messages(tmp_path, graph.environment())
        graph.run(str(PROGRAMS / "tf_publisher.py"), env=env)
        node = graph.depth_node(
            "-r", "image:=/camera/image_raw",
            program="node_with_engine.py",
            env={**env, "DIAGNOSTICS_PERIOD_S": "0.2"},
            depth__remove_edges=False, scale__max_age_s=1.0,
        )  # fmt: skip
        CameraDriver(graph, scene.frame, rate_hz=20.0)
        publish(graph, "/lidar/points", cloud, 2.0)  # the first frames come before its first one
        graph.wait_until(lambda: graph.node.count_publishers("/tf") > 0)
        with graph.collect(DiagnosticArray, "/depth_node/scale_status") as statuses:
            statuses.wait(10)
            enable(graph, "lidar", extrinsics="tf")
        wait_until_metric(graph)
        for _ in range(3):
            with graph.collect(DiagnosticArray, "/depth_node/scale_status") as statuses:
                statuses.wait(5)
                assert graph.change_state(Transition.TRANSITION_DEACTIVATE)
                assert all("lidar" not in p.text for p in graph.diagnostics().problems)
                assert graph.change_state(Transition.TRANSITION_ACTIVATE)
            wait_until_metric(graph)
        assert not [lie for lie in LIES if lie in said(node)]
        wait_until_right(graph, scene.depth(), 0.02)


def said(node: Any) -> str:
    """What the node has logged of its sensors."""
    return "\n".join(line for line in node.output.splitlines() if "lidar" in line)
