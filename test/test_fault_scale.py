"""What metric scale rests on, when TF and time misbehave: seen from another process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

import scale_scene as scene
from diagnostic_msgs.msg import DiagnosticArray
from faults import DEPTH, settle
from ros_graph import PROGRAMS, CameraDriver, Graph, image_array, private_graph, stamp_of
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, PointCloud2
from test_scale_node import assert_right, wait_for_state, wait_until_right
from tf2_messages import tf2_messages

from depth_node.ros.wire import make_header

pytestmark = pytest.mark.ros
S = 1_000_000_000


def wait_for_fact(graph: Graph, text: str) -> None:
    """Wait until the diagnostics say this of the LiDAR."""
    graph.wait_until(lambda: text in graph.diagnostics().values.get("lidar", ""))


def test_tf_may_be_missing_come_late_go_in_circles_stop_and_return(tmp_path: Path) -> None:
    points = scene.points_in_camera()
    points[:, 1] += 0.25  # the LiDAR is 0.25 m above
    in_lidar = points[:, [2, 0, 1]] * (1.0, -1.0, -1.0)

    def frame_after_cloud(stamp_ns: int) -> Any:
        clouds.publish(scene.cloud(stamp_ns, in_lidar, "lidar_link"))
        return scene.frame(stamp_ns)

    with private_graph() as graph:
        env = tf2_messages(tmp_path, graph.environment())
        node = graph.depth_node(
            "-r", "image:=/camera/image_raw",
            program="node_with_engine.py",
            env={**env, "DIAGNOSTICS_PERIOD_S": "0.2"},
            depth__remove_edges=False, lidar__enabled=True,
        )  # fmt: skip
        clouds = graph.node.create_publisher(PointCloud2, "/lidar/points", 2)
        CameraDriver(graph, frame_after_cloud, rate_hz=20.0)
        with (
            graph.collect(DiagnosticArray, "/depth_node/scale_status"),
            graph.collect(Image, DEPTH) as depths,
        ):
            graph.wait_for_problem("TF knows no frame")
            wait_for_state(graph, "relative")
            assert depths.messages == []
            for _ in range(2):  # every message of this robot holds a loop as well
                robot = graph.run(str(PROGRAMS / "tf_publisher.py"), env=env)
                wait_for_fact(graph, "picture, moved by odometry")
                wait_until_right(graph, scene.depth(), 0.02)
                robot.end()
                wait_for_fact(graph, "not moved by odometry")  # what is static holds
                wait_until_right(graph, scene.depth(), 0.02)
        assert node.output.count("would close the loop") == 1
        settle(graph)


def test_a_bag_that_starts_again_costs_no_right_metres_and_makes_no_wrong_ones() -> None:
    with private_graph() as graph:
        graph.depth_node(
            "-r", "image:=/camera/image_raw",
            program="node_with_engine.py",
            env={"DIAGNOSTICS_PERIOD_S": "0.2"},
            use_sim_time=True, depth__remove_edges=False, lidar__enabled=True,
            lidar__extrinsics=scene.LIDAR_POSE,
        )  # fmt: skip
        clock = graph.node.create_publisher(Clock, "/clock", 10)
        clouds = graph.node.create_publisher(PointCloud2, "/lidar/points", 2)
        now_ns = [6_000 * S]

        def tick(_: int) -> Any:
            now_ns[0] += S // 20
            clock.publish(Clock(clock=make_header(now_ns[0], "").stamp))
            clouds.publish(scene.lidar(now_ns[0]))
            return scene.frame(now_ns[0])

        CameraDriver(graph, tick, rate_hz=20.0)
        with (
            graph.collect(DiagnosticArray, "/depth_node/scale_status"),
            graph.collect(Image, DEPTH) as depths,
        ):
            for start_ns in (6_000 * S, 1_000 * S, 1_000 * S):
                depths.wait(10)
                depths.clear()
                now_ns[0] = start_ns
                again = depths.wait_until(
                    lambda m, at=start_ns: sum(stamp_of(msg) < at + 60 * S for msg in m) >= 10
                )
                for msg in again:
                    assert_right(image_array(msg), scene.depth(), 0.02)
        settle(graph)
