"""Metric scale in the running node: every kind of sensor, and what goes wrong with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

import scale_scene as scene
from diagnostic_msgs.msg import DiagnosticArray
from ros_graph import (
    PATIENCE_S,
    PROGRAMS,
    CameraDriver,
    Graph,
    image_array,
    private_graph,
    stamp_of,
    stamped,
    taken_after,
)
from scale_scene import HEIGHT, SKY_ROWS, WIDTH
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header
from tf2_messages import tf2_messages

from depth_node.ros.images import image_message

pytestmark = pytest.mark.ros
IDENTITY = "0 0 0 0 0 0"
SENSORS = ("lidar", "scan", "range", "landmarks", "ground")
HOLD_S = 2.0


@pytest.fixture(scope="module")
def graph() -> Iterator[Graph]:
    with private_graph() as made:
        made.depth_node(
            "-r", "image:=/camera/image_raw",
            program="node_with_engine.py",
            env={"DIAGNOSTICS_PERIOD_S": "0.2"},
            depth__remove_edges=False,
        )  # fmt: skip
        made.camera = CameraDriver(made, scene.frame, rate_hz=20.0)
        yield made


@pytest.fixture
def node(graph: Graph) -> Iterator[Graph]:
    """The graph with a node that has forgotten every sensor and scale of the test before."""
    with graph.collect(DiagnosticArray, "/depth_node/scale_status"):  # so that frames are wanted
        yield graph
    report = graph.diagnostics()
    report.assert_accounts_balance()
    assert "dropped: internal error" not in report.values
    for driver in list(graph.drivers):
        if driver is not graph.camera:
            driver.close()
    graph.camera.make = scene.frame
    off = {f"{sensor}__enabled": False for sensor in SENSORS}
    graph.set_parameters(
        **off, scale__publish_when_not_metric="held", scale__hold_s=3.0, scale__max_age_s=0.15
    )


def enable(graph: Graph, sensor: str, **parameters: object) -> None:
    """Use one sensor, with parameters of its own group."""
    values = {f"{sensor}__{name}": value for name, value in parameters.items()}
    results = graph.set_parameters(**values, **{f"{sensor}__enabled": True})
    assert all(result.successful for result in results), results


def publish(graph: Graph, topic: str, make: Callable[[int], Any], rate_hz: float = 10.0) -> Any:
    return CameraDriver(graph, lambda stamp: (make(stamp), None), rate_hz=rate_hz, topic=topic)


def status(message: Any) -> dict[str, str]:
    said = message.status[0]
    return {"message": said.message} | {item.key: item.value for item in said.values}


def wait_for_state(graph: Graph, state: str, timeout: float = PATIENCE_S) -> dict[str, str]:
    """Wait until the scale has a state; the status that says so."""
    with graph.collect(DiagnosticArray, "/depth_node/scale_status") as statuses:
        seen = statuses.wait_until(lambda m: bool(m) and status(m[-1])["state"] == state, timeout)
        return status(seen[-1])


def depth_while_metric(graph: Graph) -> Any:
    """A depth image that was published while the scale was measured."""
    with graph.collect(Image, "/depth/image_rect") as images:
        wait_for_state(graph, "metric")
        images.clear()
        return image_array(images.wait(3)[-1])


def assert_right(depth: Any, truth: Any, tolerance: float) -> None:
    """Metres within the tolerance at the median and for 95% of the pixels twice that."""
    below = np.s_[SKY_ROWS + 8 :]
    error = np.abs(depth[below] / truth[below] - 1.0)
    assert np.isfinite(error).mean() > 0.99
    assert np.nanmedian(error) < tolerance
    assert np.nanpercentile(error, 95) < 2.0 * tolerance


def wait_until_right(graph: Graph, truth: Any, tolerance: float) -> None:
    """Wait for a depth image that is right: with a message too late one is not, here or there.

    Where the geometry is wrong, none ever is.
    """

    def is_right(messages: list[Any]) -> bool:
        try:
            assert_right(image_array(messages[-1]), truth, tolerance)
        except (AssertionError, IndexError):
            return False
        return True

    with graph.collect(Image, "/depth/image_rect") as images:
        wait_for_state(graph, "metric")
        images.wait_until(is_right)


def test_lidar_points_make_depth_metric_with_sigma_and_accounts(node: Graph) -> None:
    publish(node, "/lidar/points", scene.lidar)
    enable(node, "lidar", extrinsics=scene.LIDAR_POSE)
    depth = depth_while_metric(node)
    assert_right(depth, scene.depth(), 0.02)
    assert np.all(np.isposinf(depth[: SKY_ROWS - 4]))
    with (
        node.collect(Image, "/depth/sigma") as sigmas,
        node.collect(Image, "/depth/image_rect") as images,
    ):
        sigmas.wait(3)

        def of_both() -> set[int]:
            return {*map(stamp_of, images.messages)} & {*map(stamp_of, sigmas.messages)}

        images.wait_until(lambda _: bool(of_both()))
        common = max(of_both())
        sigma, depth = (
            image_array(next(msg for msg in of.messages if stamp_of(msg) == common))
            for of in (sigmas, images)
        )
    np.testing.assert_array_equal(np.isnan(sigma), np.isnan(depth))
    finite = np.isfinite(depth)
    assert np.all((sigma[finite] > 0.0) & (sigma[finite] < 0.3 * depth[finite]))
    said = wait_for_state(node, "metric")
    assert said["source"] == "lidar"
    assert int(said["inliers"]) > 500  # of the 768 that are fitted at most
    assert said["lidar points"].endswith("of 2000 used, 0 refused, 0 on sky")
    assert float(said["age_s"]) < 0.15
    report = node.diagnostics()
    assert "2000 of 2000 points in the picture" in report.values["lidar"]
    report.assert_accounts_balance()


def test_without_lidar_the_scale_is_held_less_and_less_certain_and_then_given_up(
    node: Graph,
) -> None:
    lidar = publish(node, "/lidar/points", scene.lidar)
    node.set_parameters(scale__hold_s=HOLD_S)
    enable(node, "lidar", extrinsics=scene.LIDAR_POSE)
    wait_for_state(node, "metric")
    with (
        node.collect(DiagnosticArray, "/depth_node/scale_status") as statuses,
        node.collect(Image, "/depth/image_rect") as images,
    ):
        images.wait(1)
        lidar.close()
        closed_ns = time.time_ns()
        seen = statuses.wait_until(
            lambda m: (
                bool(late := taken_after(m, closed_ns)) and status(late[-1])["state"] == "relative"
            )
        )
        said = [(stamp_of(msg), status(msg)) for msg in seen]
        metric = [i for i, (_, item) in enumerate(said) if item["state"] == "metric"]
        after = said[max(metric, default=-1) + 1 :]
        held = {stamp_ns: item for stamp_ns, item in after if item["state"] == "held"}
        gone_ns = after[len(held)][0]
        images.wait_until(lambda m: any(stamp_of(msg) in held for msg in m))
        last = [msg for msg in images.messages if stamp_of(msg) in held][-1]
        assert_right(image_array(last), scene.depth(), 0.03)
        statuses.wait_until(lambda m: len(taken_after(m, gone_ns)) >= 8)
        assert not [msg for msg in images.messages if stamp_of(msg) >= gone_ns]  # no metres since
    ages = [float(item["age_s"]) for item in held.values()]
    assert ages == sorted(ages)
    # However far apart the last two frames are, the limit lies between them.
    assert ages[-1] <= HOLD_S + 0.01 < ages[-1] + 1e-9 * (gone_ns - max(held)) + 0.1
    sigmas = [float(item["sigma_scale"]) for item in held.values()]
    assert len(sigmas) < 2 or sigmas[-1] > sigmas[0]
    assert "lidar" in node.wait_for_problem("scale.max_age_s").text


@pytest.mark.parametrize(
    ("choice", "metres", "relative"),
    [("held", True, True), ("relative", False, True), ("nothing", False, False)],
)
def test_what_a_held_scale_publishes_is_the_users_choice(
    node: Graph, choice: str, metres: bool, relative: bool
) -> None:
    lidar = publish(node, "/lidar/points", scene.lidar)
    node.set_parameters(scale__hold_s=60.0, scale__publish_when_not_metric=choice)
    enable(node, "lidar", extrinsics=scene.LIDAR_POSE)
    wait_for_state(node, "metric")
    lidar.close()
    wait_for_state(node, "held")
    with (
        node.collect(DiagnosticArray, "/depth_node/scale_status") as statuses,
        node.collect(Image, "/depth/image_rect") as images,
        node.collect(Image, "/depth/relative") as relatives,
    ):
        statuses.wait(5)  # the others are listened to by now
        begun_ns = time.time_ns()
        statuses.wait_from_now(8)
        for collector, wanted in ((images, metres), (relatives, relative)):
            if wanted:
                collector.wait_from_now(1)
            else:
                assert not taken_after(collector.messages, begun_ns)


def test_clouds_of_nan_are_refused_with_a_reason_and_cost_nothing_else(node: Graph) -> None:
    nothing = np.full((500, 3), np.nan)
    publish(node, "/lidar/points", lambda stamp: scene.lidar(stamp, nothing))
    enable(node, "lidar", extrinsics=scene.LIDAR_POSE)
    report = node.wait_for_problem("lies in the picture")
    assert "internal" not in report.text
    assert wait_for_state(node, "relative")["source"] == "none"


def test_a_million_points_are_as_good_as_a_thousand(node: Graph) -> None:
    points = scene.points_in_camera(1_000_000)
    million = scene.lidar(0, points)
    publish(node, "/lidar/points", lambda stamp: stamped(million, stamp, "lidar_link"), 3.0)
    node.set_parameters(scale__max_age_s=2.0)  # 12 MB each
    enable(node, "lidar", extrinsics=scene.LIDAR_POSE)
    assert_right(depth_while_metric(node), scene.depth(), 0.02)


def test_stamps_of_another_clock_are_refused_and_named(node: Graph) -> None:
    publish(node, "/lidar/points", lambda stamp: scene.lidar(stamp - 40_000_000_000))
    enable(node, "lidar", extrinsics=scene.LIDAR_POSE)
    node.wait_for_problem("another clock")
    assert "another clock" in wait_for_state(node, "relative")["message"]


def test_a_frame_that_tf_does_not_know_is_named_with_its_cure(node: Graph) -> None:
    publish(node, "/lidar/points", scene.lidar)
    enable(node, "lidar", extrinsics="tf")
    report = node.wait_for_problem("lidar_link")
    assert "extrinsics" in report.text or "frame_id" in report.text
    wait_for_state(node, "relative")


def test_a_topic_of_another_type_or_without_publisher_is_named(node: Graph) -> None:
    enable(node, "scan", extrinsics=IDENTITY)
    node.wait_for_problem("nobody publishes /scan")
    publish(node, "/scan", scene.lidar)
    node.wait_for_problem("published as sensor_msgs/msg/PointCloud2")


def test_a_planar_scan_makes_depth_metric(node: Graph) -> None:
    publish(node, "/scan", scene.scan)
    enable(node, "scan", extrinsics=f"0 0 0 {scene.FORWARD}")
    depth = depth_while_metric(node)
    middle = np.s_[HEIGHT // 2 - 20 : HEIGHT // 2 + 20]
    np.testing.assert_allclose(depth[middle], scene.depth()[middle], rtol=0.06)


def test_a_range_finder_gives_the_scale_of_a_scene_without_shift(node: Graph) -> None:
    truth = scene.depth(shift=0.0)
    metres = float(truth[HEIGHT // 2, WIDTH // 2])
    publish(node, "/range", lambda stamp: scene.range_reading(stamp, metres))
    enable(node, "range", extrinsics=f"0 0 0 {scene.FORWARD}")
    assert_right(depth_while_metric(node), truth, 0.03)
    assert wait_for_state(node, "metric")["source"] == "range"


@pytest.mark.parametrize("encoding", ["32FC1", "16UC1"])
def test_a_sparse_depth_image_makes_depth_metric(node: Graph, encoding: str) -> None:
    sparse = np.full((HEIGHT // 4, WIDTH // 4), np.nan, np.float32)
    sparse[12::3, ::3] = scene.depth()[2::4, 2::4][12::3, ::3]
    if encoding == "16UC1":
        sparse = np.nan_to_num(1000.0 * sparse).astype(np.uint16)
    image = image_message(sparse, encoding, Header())
    publish(node, "/landmarks", lambda stamp: stamped(image, stamp))
    enable(node, "landmarks")
    assert_right(depth_while_metric(node), scene.depth(), 0.03)


def test_landmarks_of_another_scale_are_left_out_and_named(node: Graph) -> None:
    doubled = np.full((HEIGHT // 4, WIDTH // 4), np.nan, np.float32)
    doubled[12::3, ::3] = 2.0 * scene.depth()[2::4, 2::4][12::3, ::3]
    image = image_message(doubled, "32FC1", Header())
    publish(node, "/landmarks", lambda stamp: stamped(image, stamp), 20.0)
    publish(node, "/lidar/points", scene.lidar, 20.0)
    enable(node, "lidar", extrinsics=scene.LIDAR_POSE)
    wait_for_state(node, "metric")
    enable(node, "landmarks")
    report = node.wait_for_problem("landmarks: its depths contradict those of the other sensors")
    assert report.level == 1
    wait_until_right(node, scene.depth(), 0.03)
    node.set_parameters(landmarks__enabled=False)
    node.wait_until(lambda: "contradict" not in node.diagnostics().text)


def test_the_cameras_height_over_level_ground_makes_depth_metric(node: Graph) -> None:
    values, truth = scene.ground(height=1.2, pitch=0.15)
    node.camera.make = lambda stamp: scene.frame(stamp, values)
    publish(node, "/imu/data", lambda stamp: scene.imu(stamp, 0.15), 100.0)
    enable(node, "ground", height_m=1.2, direction="imu", imu_extrinsics=IDENTITY)
    depth = depth_while_metric(node)
    near = (truth < 8.0) & np.isfinite(depth)
    assert near.sum() > 0.2 * depth.size
    assert np.mean(np.abs(depth[near] / truth[near] - 1.0)) < 0.04
    assert wait_for_state(node, "metric")["source"] == "ground"


def test_ground_without_imu_messages_is_not_used_and_says_so(node: Graph) -> None:
    values, _ = scene.ground(height=1.2, pitch=0.15)
    node.camera.make = lambda stamp: scene.frame(stamp, values)
    enable(node, "ground", height_m=1.2, direction="imu", imu_extrinsics=IDENTITY)
    node.wait_for_problem("no IMU message on /imu/data")
    wait_for_state(node, "relative")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"lidar__extrinsics": "1 2 3"}, "six numbers"),
        ({"lidar__extrinsics": "1 2 3 nan 0 0"}, "six numbers"),
        ({"scan__min_m": 50.0}, "minimum must be smaller"),
        ({"ground__height_m": 0.0, "ground__enabled": True, "ground__frame": ""}, "frame is empty"),
        ({"scale__publish_when_not_metric": "always"}, "choose one of"),
    ],
)
def test_parameters_that_contradict_are_refused(
    node: Graph, change: dict[str, object], reason: str
) -> None:
    results = node.set_parameters(**change)
    assert any(reason in result.reason for result in results if not result.successful)
    node.set_parameters(ground__enabled=False)
    node.set_parameters(ground__frame="base_footprint")


def test_tf_locates_the_lidar_and_odometry_moves_late_points(tmp_path: Path) -> None:
    late_s = 0.3
    points = scene.points_in_camera()
    points += (0.0, 0.25, late_s)  # the LiDAR is 0.25 m above, and the robot drives at 1 m/s

    in_lidar = points[:, [2, 0, 1]] * (1.0, -1.0, -1.0)

    def frame_after_late_cloud(stamp_ns: int) -> Any:
        clouds.publish(scene.cloud(stamp_ns - int(late_s * 1e9), in_lidar, "lidar_link"))
        return scene.frame(stamp_ns)

    with private_graph() as graph:
        env = tf2_messages(tmp_path, graph.environment())
        graph.run(str(PROGRAMS / "tf_publisher.py"), env=env)
        graph.depth_node(
            "-r", "image:=/camera/image_raw",
            program="node_with_engine.py",
            env={**env, "DIAGNOSTICS_PERIOD_S": "0.2"},
            depth__remove_edges=False, lidar__enabled=True, scale__max_age_s=0.5,
        )  # fmt: skip
        clouds = graph.node.create_publisher(PointCloud2, "/lidar/points", 2)
        CameraDriver(graph, frame_after_late_cloud, rate_hz=20.0)
        with graph.collect(DiagnosticArray, "/depth_node/scale_status"):
            graph.wait_until(
                lambda: "picture, moved" in graph.diagnostics().values.get("lidar", "")
            )
            wait_until_right(graph, scene.depth(), 0.02)
        graph.diagnostics().assert_accounts_balance()
