"""What ranging sensors have for a frame, and when what they lack is said."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
import scale_scene as scene
from rclpy.context import Context
from rclpy.node import Node
from ros_graph import stamped
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import Image, LaserScan, PointCloud2, Range

from depth_node.domain import private_domain
from depth_node.geometry.transforms import TransformBuffer, TransformError, from_xyz_rpy
from depth_node.health import Health
from depth_node.parameters import Settings
from depth_node.ros import history
from depth_node.ros.ranging import RangingSensor, SensorError
from depth_node.ros.scale_inputs import ScaleInputs
from depth_node.ros.wire import ConversionError
from depth_node.scale.alignment import Offset
from depth_node.scale.metric import MetricScaleEstimator
from depth_node.scale_parameters import ScaleSettings
from depth_node.types import CameraModel, Frame

pytestmark = pytest.mark.ros
S = 1_000_000_000
LATER_NS = 3 * S
AHEAD = f"0 0 0 {scene.FORWARD}"
CAMERA = CameraModel.pinhole(64, 48, 60.0, 60.0, 31.5, 23.5)
TURNED = Offset(du=0.1, gain=0.9)


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """A node that nobody spins: what it hears, a test hands over."""
    with private_domain() as domain:
        context = Context()
        rclpy.init(context=context, domain_id=domain, args=[])
        made = rclpy.create_node("ranging", context=context)
        yield made
        made.destroy_node()
        context.try_shutdown()


def frame_at(stamp_ns: int, received_ns: int = 0) -> Frame:
    return Frame(np.zeros((48, 64, 3), np.uint8), stamp_ns, "camera", CAMERA, received_ns, True)


def frame_now(after_ns: int = 0) -> Frame:
    """A frame that arrives now, or in a while."""
    return frame_at(10 * S, time.monotonic_ns() + after_ns)


def depths(sensor: RangingSensor, frame: Frame, **scale: Any) -> Any:
    group = replace(getattr(Settings(), sensor.name), extrinsics=AHEAD)
    settings = ScaleSettings(**scale)
    return sensor.depths(frame, CAMERA, group, settings, TransformBuffer())


@pytest.mark.parametrize("network_s", [0.05, 0.33, 3.0])
@pytest.mark.parametrize("rate_hz", [1.0, 10.0, 50.0, 100.0, 1000.0])
def test_a_sensor_of_any_rate_serves_a_network_of_any_speed(
    node: Node, rate_hz: float, network_s: float
) -> None:
    sensor = RangingSensor(node, "range", "range")
    period_ns = round(S / rate_hz)
    heard = 0
    for taken_ns in range(20 * S, 30 * S, S // 2):
        while heard * period_ns <= taken_ns + network_s * S:
            sensor._history.add(scene.range_reading(heard * period_ns, 2.0))
            heard += 1
        points = depths(sensor, frame_at(taken_ns), max_age_s=0.5)
        if points is not None:  # else it was handed out before
            assert abs(points.stamp_ns - taken_ns) <= max(period_ns // 2, S // 100)
    assert not sensor.refused
    assert sensor.used >= min(20, 10 * rate_hz)


def test_another_clock_is_named_also_after_a_slow_network(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor = RangingSensor(node, "range", "range")
    sensor.topic.look()
    frame = replace(frame_now(LATER_NS), stamp_ns=500 * S)
    for i in range(-20, 30):  # it took the frame 3 s to get here
        arrived_ns = frame.received_ns + i * S // 10
        monkeypatch.setattr(history.time, "monotonic_ns", lambda at=arrived_ns: at)
        sensor._history.add(scene.range_reading((i + 20) * S // 10, 2.0))
    with pytest.raises(SensorError, match="another clock"):
        depths(sensor, frame)
    with pytest.raises(SensorError, match=r"more than scale\.max_age_s"):
        depths(sensor, replace(frame, received_ns=frame.received_ns + 10 * S))


@pytest.mark.parametrize(
    ("name", "msg", "problem"),
    [
        ("landmarks", Image(encoding="32FC1"), "0x0"),
        ("landmarks", PointCloud2(), "none of the 0 points"),
        ("lidar", PointCloud2(height=1), "none of the 0 points"),
        ("scan", LaserScan(range_max=9.0), "none of the 0 points"),
        ("scan", LaserScan(range_max=9.0, ranges=[1.0, 2.0]), "increment"),
    ],
)
def test_an_empty_message_is_refused_in_words(
    node: Node, name: str, msg: Any, problem: str
) -> None:
    sensor = RangingSensor(node, name, name)
    sensor._history.add(stamped(msg, 10 * S, "camera"))
    with pytest.raises((SensorError, ConversionError), match=problem):
        depths(sensor, frame_at(10 * S))


def at(buffer: TransformBuffer, parent: str, child: str, T: Any, at_ns: int | None = None) -> None:
    """Put a frame; without a time, once and for all."""
    quaternion = Rotation.from_matrix(T[:3, :3]).as_quat()
    buffer.add(parent, child, at_ns or 0, T[:3, 3], quaternion, static=at_ns is None)


def test_a_correction_in_tf_is_another_mounting_and_driving_is_not(node: Node) -> None:
    sensor, transforms = RangingSensor(node, "range", "range"), TransformBuffer()
    group = replace(Settings().range, extrinsics="tf")
    at(transforms, "base", "camera", np.eye(4))
    mountings = []
    for i in range(6):
        stamp_ns = (10 + i) * S
        pitch = -0.5 * math.pi + (0.02 if i >= 3 else 0.0)
        at(transforms, "odom", "base", from_xyz_rpy(0.5 * i, 0, 0, 0, 0.1 * i, 0), stamp_ns)
        at(transforms, "base", "sonar", from_xyz_rpy(0, 0, 0, 0, pitch, 0))  # x along the axis
        sensor._history.add(stamped(scene.range_reading(stamp_ns, 2.0), stamp_ns, "sonar"))
        frame, scale = frame_at(stamp_ns), ScaleSettings(odometry_frame="odom")
        points = sensor.depths(frame, CAMERA, group, scale, transforms)
        assert sensor.moved
        mountings.append(points.mounting)
    assert len(set(mountings[:3])) == len(set(mountings[3:])) == 1
    assert mountings[2] != mountings[3]


def test_joints_that_are_heard_late_are_followed_all_the_same(node: Node) -> None:
    sensor, transforms = RangingSensor(node, "range", "range"), TransformBuffer()
    group = replace(Settings().range, extrinsics="tf")
    at(transforms, "base", "sonar", from_xyz_rpy(0, 0, 0, 0, -0.5 * math.pi, 0))
    late_ns, mountings = 30_000_000, []
    for i in range(8):
        stamp_ns = 10 * S + i * S // 10
        turned = 0.1 if i >= 4 else 0.0
        at(transforms, "base", "camera", from_xyz_rpy(0, 0, 0, 0, turned, 0), stamp_ns - late_ns)
        at(transforms, "odom", "base", np.eye(4), stamp_ns)
        measured_ns = stamp_ns - 50_000_000
        at(transforms, "odom", "base", np.eye(4), measured_ns)
        sensor._history.add(stamped(scene.range_reading(measured_ns, 2.0), measured_ns, "sonar"))
        scale = ScaleSettings(odometry_frame="odom")
        with contextlib.suppress(TransformError):  # the first frames know nothing yet
            points = sensor.depths(frame_at(stamp_ns), CAMERA, group, scale, transforms)
            mountings.append(points.mounting)
    assert mountings[:3] == [0, 0, 0], "that a transform is known at last is no other mounting"
    assert mountings[-1] > 0


@pytest.mark.parametrize(
    "msg",
    [
        Range(max_range=4.0, field_of_view=0.3, range=math.inf),
        LaserScan(range_max=9.0, angle_increment=0.1, angle_max=0.1, ranges=[math.inf] * 2),
    ],
    ids=["range", "scan"],
)
def test_nothing_in_reach_is_no_fault_of_the_sensor(node: Node, msg: Any) -> None:
    name = type(msg).__name__.lower().removeprefix("laser")
    sensor = RangingSensor(node, name, name)
    sensor._history.add(stamped(msg, 10 * S, "camera"))
    assert depths(sensor, frame_at(10 * S)) is None
    assert sensor.refused == {"nothing in reach": 1}


@pytest.fixture
def inputs(node: Node) -> Iterator[ScaleInputs]:
    """The sensors of a node, none of them enabled and none published."""
    made = ScaleInputs(node, Settings(), Health(), TransformBuffer)
    made.start()
    yield made
    made.stop()


def give(inputs: ScaleInputs, frame: Frame) -> str:
    """Ask the sensors for a frame; what they say to that."""
    inputs.give(frame, MetricScaleEstimator())
    said, reported = inputs.problems(), [problem.text for problem in inputs._health.problems()]
    assert len(said) == len("; ".join(reported))
    assert all(text in said for text in reported)
    return said


def settings_with(**values: Any) -> Settings:
    return Settings().with_values({name.replace("__", "."): v for name, v in values.items()})


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"lidar__enabled": True, "lidar__extrinsics": AHEAD}, "nobody publishes /lidar/points"),
        ({"ground__enabled": True, "ground__height_m": 1.0}, "no IMU message on /imu/data"),
        ({"ground__enabled": True, "ground__direction": "tf"}, "TF knows no frame"),
    ],
)
def test_what_a_source_lacks_is_said_once_it_had_time_to_come(
    inputs: ScaleInputs, values: dict[str, Any], problem: str
) -> None:
    inputs.settings = settings_with(**values)
    assert give(inputs, frame_now()) == ""
    assert problem in give(inputs, frame_now(LATER_NS))
    inputs.settings = Settings()
    assert give(inputs, frame_now(LATER_NS)) == ""


def test_a_source_that_is_enabled_is_listened_to_at_once(inputs: ScaleInputs) -> None:
    inputs.settings = settings_with(lidar__enabled=True)
    lidar = next(sensor for sensor in inputs._sensors if sensor.name == "lidar")
    lidar._history.add(scene.lidar(10 * S))
    assert give(inputs, frame_now()) == ""
    problem = give(inputs, frame_now(LATER_NS))
    assert "TF knows no frame" in problem  # and not that TF is not installed


def test_a_frame_that_outlives_the_sensors_reports_nothing(node: Node) -> None:
    inputs = ScaleInputs(
        node, settings_with(lidar__enabled=True, ground__enabled=True), Health(), TransformBuffer
    )
    inputs.start()
    assert "nobody publishes" in give(inputs, frame_now(LATER_NS))
    inputs.stop()
    assert give(inputs, frame_now(LATER_NS)) == ""
    assert TURNED.described(1.0)
    inputs.compare_extrinsics(CAMERA, {"lidar": TURNED})
    assert inputs._health.problems() == []


def told(inputs: ScaleInputs) -> list[str]:
    return [problem.text for problem in inputs._health.problems()]


def test_extrinsics_are_judged_only_of_sensors_that_measure_and_while_that_is_wanted(
    inputs: ScaleInputs,
) -> None:
    inputs.settings = settings_with(lidar__enabled=True, scan__enabled=True)
    inputs.compare_extrinsics(CAMERA, {"lidar": TURNED, "scan": TURNED})
    assert len(told(inputs)) == 2
    inputs.compare_extrinsics(CAMERA, {"scan": TURNED})  # the LiDAR has stopped
    (problem,) = told(inputs)
    assert problem.startswith("scan: its points fit the picture better")
    assert "set scale.align to false" in problem
    inputs.settings = settings_with(lidar__enabled=True, scan__enabled=True, scale__align=False)
    assert told(inputs) == []


@pytest.mark.parametrize(
    "values",
    [
        {"scale__source": "none", "lidar__enabled": True},
        {"scale__source": "fixed", "scale__fixed_scale": 1.0, "lidar__enabled": True},
        {"ground__enabled": True, "ground__direction": "fixed", "ground__height_m": 1.0},
        {},
    ],
)
def test_a_contradiction_ends_where_nothing_is_left_to_contradict(
    inputs: ScaleInputs, values: dict[str, Any]
) -> None:
    inputs.settings = settings_with(lidar__enabled=True, landmarks__enabled=True)
    inputs.tell_contradiction("landmarks")
    assert "contradict" in told(inputs)[0]
    inputs.look()
    assert "contradict" in told(inputs)[0]
    inputs.settings = settings_with(**values)
    assert told(inputs) == []


class Endless:
    """TF that puts every frame where float32 has no number."""

    def lookup(self, target: str, source: str, stamp_ns: int, timeout_s: float = 0.0) -> Any:
        return from_xyz_rpy(1e39, 0, 0, 0, 0, 0)


def test_a_sensor_that_is_nowhere_is_named_and_costs_no_frame(node: Node) -> None:
    inputs = ScaleInputs(node, settings_with(lidar__enabled=True), Health(), Endless)
    inputs.start()
    lidar = next(sensor for sensor in inputs._sensors if sensor.name == "lidar")
    lidar._history.add(scene.lidar(10 * S))
    problem = give(inputs, frame_now())  # at once: what is heard already does not get better
    assert problem.startswith("lidar: /lidar/points is said to come from [")
    assert "e+39, 0.0, 0.0]" in problem
    assert "correct lidar.extrinsics" in problem
    assert lidar.refused == {"transform invalid": 1}
    inputs.stop()
