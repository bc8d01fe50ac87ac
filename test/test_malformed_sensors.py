"""Malformed messages of the sensors that give scale, sent to the running node."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("rclpy")

import scale_scene as scene
from diagnostic_msgs.msg import DiagnosticArray
from faults import DEPTH, settle
from malformed_checks import SUBSCRIPTIONS
from ros_graph import CameraDriver, Graph, Process, stamped
from sensor_msgs.msg import Image
from test_malformed_graph import spoilt_bytes
from test_scale_node import IDENTITY, SENSORS, assert_right, depth_while_metric, enable, publish

pytestmark = pytest.mark.ros
GROWTH_MB = 60.0
COUNT = 300
TOPICS = {
    "lidar": ("point cloud", "/lidar/points"),
    "scan": ("scan", "/scan"),
    "range": ("range", "/range"),
    "landmarks": ("depth image", "/landmarks"),
    "ground": ("IMU", "/imu/data"),
}
GOOD: dict[str, Callable[[int], Any]] = {
    "lidar": scene.lidar,
    "scan": scene.scan,
    "range": lambda stamp_ns: scene.range_reading(stamp_ns, 3.0),
    "landmarks": scene.lidar,
    "ground": lambda stamp_ns: scene.imu(stamp_ns, 0.15),
}


@pytest.fixture(scope="module")
def node(graph: Graph) -> Process:
    """The node with metric scale, and without sensors until a test enables one."""
    return graph.depth_node(
        "-r", "image:=/camera/image_raw",
        program="node_with_engine.py",
        env={"DIAGNOSTICS_PERIOD_S": "0.2"},
        depth__remove_edges=False,
    )  # fmt: skip


def refused_messages(subscription: str) -> Callable[[int], Any]:
    """Makes messages that nothing can be read from, by the checks of the conversions."""
    make, checks = SUBSCRIPTIONS[subscription]
    check, rng = checks(), random.Random(3)

    def refused(stamp_ns: int) -> Any:
        while check(msg := make(rng)):
            pass
        return stamped(msg, stamp_ns)

    return refused


def send(graph: Graph, sensor: str, make: Callable[[int], Any]) -> list[Any]:
    """Send messages of one sensor, with images to use them for; the depth that came of it."""
    graph.set_parameters(**{f"{other}__enabled": False for other in SENSORS})
    CameraDriver(graph, scene.frame, rate_hz=20.0)
    where = {"height_m": 1.2, "direction": "imu"} if sensor == "ground" else {}
    where |= {"imu_extrinsics" if sensor == "ground" else "extrinsics": IDENTITY}
    if sensor == "landmarks":
        where.pop("extrinsics")
    sent = publish(graph, TOPICS[sensor][1], make, 200.0)
    enable(graph, sensor, **where)
    with (
        graph.collect(DiagnosticArray, "/depth_node/scale_status") as statuses,
        graph.collect(Image, DEPTH) as depths,
    ):
        graph.wait_until(lambda: len(sent.sent) > COUNT and len(statuses.messages) > 20)
        received = list(depths.messages)
    settle(graph)
    return received


def send_good_lidar(graph: Graph) -> None:
    """The next good messages make right metres."""
    graph.set_parameters(**{f"{sensor}__enabled": False for sensor in SENSORS})
    CameraDriver(graph, scene.frame, rate_hz=20.0)
    publish(graph, "/lidar/points", scene.lidar)
    enable(graph, "lidar", extrinsics=scene.LIDAR_POSE)
    assert_right(depth_while_metric(graph), scene.depth(), 0.02)
    settle(graph)


@pytest.mark.parametrize("sensor", TOPICS)
def test_malformed_messages_never_make_metres_and_cost_nothing_else(
    graph: Graph, node: Process, sensor: str
) -> None:
    subscription, _ = TOPICS[sensor]
    rng = random.Random(4)
    first = [GOOD[sensor](0)]  # this one only tells the driver the type

    def no_message(stamp_ns: int) -> Any:
        return first.pop() if first else spoilt_bytes(GOOD[sensor](stamp_ns), rng)

    graph.wait_for_problem("nobody publishes", 30.0)
    before_mb = node.memory_mb("VmHWM")
    assert send(graph, sensor, refused_messages(subscription)) == []
    send(graph, sensor, no_message)  # changed bytes may be a possible message all the same
    assert node.memory_mb("VmHWM") - before_mb < GROWTH_MB
    assert "dropped: internal error" not in graph.diagnostics().values
    assert "Traceback" not in node.output
    send_good_lidar(graph)
