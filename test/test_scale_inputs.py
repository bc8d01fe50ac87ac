"""Messages of ranging sensors on their way to depths in the picture: time, motion, gravity."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from hypothesis import given
from hypothesis import strategies as st
from ros_graph import Graph, private_graph, stamped
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import Image, Imu, LaserScan, Range
from std_msgs.msg import Header

from depth_node.geometry.transforms import (
    TransformBuffer,
    TransformError,
    from_xyz_rpy,
    inverse,
    rigid,
)
from depth_node.ros.ground_input import GroundInput, level_down
from depth_node.ros.images import image_message
from depth_node.ros.sparse import Measured, depth_from_image, located, read, straightened
from depth_node.ros.wire import ConversionError
from depth_node.scale_parameters import GroundSettings
from depth_node.types import ArrayF64, CameraModel, Frame

S = 1_000_000_000
CAMERA = CameraModel.pinhole(64, 48, 60.0, 60.0, 31.5, 23.5)
STILL = Frame(np.zeros((48, 64, 3), np.uint8), 10 * S, "camera", CAMERA, 0, True)


def moving_robot(speed: float, turn: float, start_s: float = 9.0) -> TransformBuffer:
    """`base` drives and turns in `odom` from 9 s to 11 s; lidar and camera are fixed to it."""
    buffer = TransformBuffer()
    for i in range(201):
        t = start_s + 0.01 * i
        pose = robot_at(t, speed, turn)
        quaternion = Rotation.from_matrix(pose[:3, :3]).as_quat()
        buffer.add("odom", "base", round(t * S), pose[:3, 3], quaternion)
    for name, pose in (("lidar", LIDAR), ("camera", CAMERA_POSE)):
        quaternion = Rotation.from_matrix(pose[:3, :3]).as_quat()
        buffer.add("base", name, 0, pose[:3, 3], quaternion, static=True)
    return buffer


LIDAR = from_xyz_rpy(0.1, 0.0, 0.3, 0.0, 0.0, 0.2)
CAMERA_POSE = from_xyz_rpy(0.2, 0.0, 0.1, -0.5 * math.pi, 0.0, -0.5 * math.pi)


def robot_at(t: float, speed: float, turn: float) -> ArrayF64:
    return rigid(np.array([speed * t, 0.0, 0.0]), Rotation.from_rotvec([0.0, 0.0, turn * (t - 10)]))


@given(st.floats(-3.0, 3.0), st.floats(-1.0, 1.0), st.integers(0, 2**31))
def test_a_sweep_is_straightened_and_moved_to_the_images_time(
    speed: float, turn: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    world = np.column_stack([rng.uniform(-20, 20, (50, 3)), np.ones(50)])
    times = rng.uniform(0.0, 0.1, 50)
    stamp_s = 9.9
    seen = [
        (inverse(robot_at(stamp_s + t, speed, turn) @ LIDAR) @ p)[:3]
        for p, t in zip(world, times, strict=True)
    ]
    measured = Measured(np.array(seen, np.float32), times, "lidar", round(stamp_s * S))
    transforms = moving_robot(speed, turn)
    points, where, moved = located(measured, STILL, transforms, "odom")
    assert moved
    assert points.times_s is None
    in_camera = points.points @ where[:3, :3].T + where[:3, 3]
    truth = (inverse(robot_at(10.0, speed, turn) @ CAMERA_POSE) @ world.T).T[:, :3]
    reach = np.linalg.norm(truth, axis=1) + 1.0
    assert np.all(np.linalg.norm(in_camera - truth, axis=1) < 0.003 * reach)


def test_without_odometry_the_points_stay_and_only_the_mounting_counts() -> None:
    transforms = moving_robot(1.0, 0.0)
    measured = Measured(np.ones((3, 3), np.float32), np.zeros(3), "lidar", 8 * S)  # before all TF
    points, where, moved = located(measured, STILL, transforms, "odom")
    assert not moved
    assert points is measured
    np.testing.assert_allclose(where, inverse(CAMERA_POSE) @ LIDAR, atol=1e-9)
    for frame in ("", "nowhere"):
        assert not located(measured, STILL, transforms, frame)[2]


def test_odometry_that_is_a_little_late_is_used_as_far_as_it_goes() -> None:
    frame = Frame(STILL.image, round(11.08 * S), "camera", CAMERA, 0, True)  # odometry ends at 11 s
    measured = Measured(np.ones((3, 3), np.float32), np.full(3, 0.6), "lidar", round(10.5 * S))
    points, where, moved = located(measured, frame, moving_robot(1.0, 0.0), "odom")
    assert moved
    assert points is measured  # nothing is known of the sweep's end
    pose = robot_at(10.98, 1.0, 0.0) @ CAMERA_POSE
    np.testing.assert_allclose(where, inverse(pose) @ robot_at(10.5, 1.0, 0.0) @ LIDAR, atol=1e-6)
    later = Frame(STILL.image, round(11.2 * S), "camera", CAMERA, 0, True)
    assert not located(measured, later, moving_robot(1.0, 0.0), "odom")[2]


@pytest.mark.parametrize(("apart_ms", "moves"), [(15, False), (60, True)])
def test_odometry_that_is_later_than_the_points_are_apart_does_not_move_them(
    apart_ms: int, moves: bool
) -> None:
    frame = replace(STILL, stamp_ns=round(11.015 * S))  # odometry ends at 11 s
    stamp_ns = frame.stamp_ns - apart_ms * 1_000_000
    measured = Measured(np.ones((3, 3), np.float32), None, "lidar", stamp_ns)
    assert located(measured, frame, moving_robot(0.0, 1.0), "odom")[2] == moves


def test_a_sweep_at_one_moment_is_moved_to_the_stamp() -> None:
    measured = Measured(np.array([[5, 0, 0]], np.float32), np.array([0.1]), "lidar", 10 * S)
    moved = straightened(measured, moving_robot(2.0, 0.0), "odom")
    heading = LIDAR[:3, :3].T @ (0.2, 0.0, 0.0)  # what the robot drove, in the LiDAR's axes
    np.testing.assert_allclose(moved.points[0] - heading, [5.0, 0.0, 0.0], atol=1e-5)


def test_a_sensor_that_tf_does_not_know_is_an_error() -> None:
    measured = Measured(np.ones((3, 3), np.float32), None, "sonar", 10 * S)
    with pytest.raises(TransformError, match="sonar"):
        located(measured, STILL, moving_robot(0.0, 0.0), "odom")


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("encoding", "kind"), [("32FC1", "f4"), ("16UC1", "u2"), ("mono16", "u2")])
def test_depth_images_of_either_unit_byte_order_and_padding_are_metres(
    big: bool, encoding: str, kind: str
) -> None:
    metres = np.array([[0.5, 2.0, 0.0], [1.25, 3.0, 10.0]], np.float32)
    values = metres if kind == "f4" else np.round(1000 * metres)
    wire = np.zeros((2, 5), (">" if big else "<") + kind)
    wire[:, :3] = values
    msg = Image(height=2, width=3, encoding=encoding, is_bigendian=big)
    msg.step = wire.strides[0]
    msg.data.frombytes(wire.tobytes())
    np.testing.assert_allclose(depth_from_image(msg), metres, atol=1e-6)


def test_depth_images_that_cannot_be_right_are_refused() -> None:
    grey = image_message(np.zeros((4, 4), np.uint8), "mono8", Header())
    with pytest.raises(ConversionError, match="32FC1"):
        depth_from_image(grey)
    short = image_message(np.zeros((4, 4), np.float32), "32FC1", Header())
    short.height = 5
    with pytest.raises(ConversionError, match="truncated"):
        depth_from_image(short)


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 4), (4, 0)])
@pytest.mark.parametrize("encoding", ["32FC1", "16UC1"])
def test_a_depth_image_without_pixels_is_refused(width: int, height: int, encoding: str) -> None:
    empty = Image(width=width, height=height, encoding=encoding, step=4 * width)
    with pytest.raises(ConversionError, match=f"{width}x{height}"):
        depth_from_image(empty)


def test_a_range_reading_is_a_cone_along_x_and_no_return_is_no_point() -> None:
    msg = Range(field_of_view=0.4, min_range=0.1, max_range=5.0, range=2.0)
    measured = read(stamped(msg, 3 * S, "sonar"))
    np.testing.assert_array_equal(measured.points, [[2.0, 0.0, 0.0]])
    assert (measured.half_angle_rad, measured.frame_id) == (pytest.approx(0.2), "sonar")
    msg.range = math.inf
    assert len(read(msg).points) == 0


def test_weak_beams_of_a_scan_are_dropped_only_when_asked_for() -> None:
    msg = LaserScan(angle_min=-0.1, angle_max=0.1, angle_increment=0.1, range_max=9.0)
    msg.ranges, msg.intensities = [1.0, 2.0, 3.0], [0.0, 50.0, 100.0]
    assert len(read(msg).points) == 3
    assert len(read(msg, min_intensity=60.0).points) == 1


@given(st.floats(-0.5, 1.4), st.floats(-1.0, 1.0))
def test_down_follows_pitch_and_roll_of_the_camera(pitch: float, roll: float) -> None:
    down = level_down(pitch, roll)
    assert np.linalg.norm(down) == pytest.approx(1.0)
    about_x = Rotation.from_rotvec([-pitch, 0, 0])  # the camera's own turns, from level
    about_z = Rotation.from_rotvec([0, 0, roll])
    camera_in_level = about_x * about_z
    np.testing.assert_allclose(camera_in_level.inv().apply([0.0, 1.0, 0.0]), down, atol=1e-9)


@pytest.fixture(scope="module")
def graph() -> Iterator[Graph]:
    with private_graph() as made:
        yield made


def imu_in_motion(stamp_ns: int, pitch: float, push: float) -> Imu:
    """A robot that brakes: the force of a camera-aligned IMU with a push along the axis."""
    msg = Imu()
    force = msg.linear_acceleration
    force.y, force.z = -9.80665 * math.cos(pitch), -9.80665 * math.sin(pitch) + push
    return stamped(msg, stamp_ns, "camera")


@pytest.mark.ros
def test_gravity_is_the_mean_around_the_image_of_what_looks_like_gravity(graph: Graph) -> None:
    settings = GroundSettings(height_m=1.0, direction="imu", imu_extrinsics="0 0 0 0 0 0")
    source = GroundInput(graph.node, settings)
    for i, push in enumerate([0.4, -0.4, 30.0]):
        source._history.add(imu_in_motion(10 * S + 10_000_000 * i, 0.2, push))
    source._history.add(imu_in_motion(12 * S, 0.7, 0.0))  # too late for this image
    found = source.reference(STILL, settings, TransformBuffer(), 0.15)
    assert found is not None
    assert found.down is not None
    np.testing.assert_allclose(found.down, level_down(0.2, 0.0), atol=2e-3)


@pytest.mark.ros
@pytest.mark.parametrize("rate_hz", [50.0, 400.0, 1000.0])
def test_gravity_is_there_for_a_frame_of_a_slow_network_and_shakes_little(
    graph: Graph, rate_hz: float
) -> None:
    settings = GroundSettings(height_m=1.0, direction="imu", imu_extrinsics="0 0 0 0 0 0")
    source = GroundInput(graph.node, settings)
    rng = np.random.default_rng(0)
    for i in range(round(5.0 * rate_hz)):  # the frame's own time is 3 s ago
        msg = imu_in_motion(8 * S + round(i * S / rate_hz), 0.2, rng.normal(0.0, 0.5))
        source._history.add(msg)
    found = source.reference(STILL, settings, TransformBuffer(), 0.15)
    assert found is not None
    assert found.down is not None
    angle = math.acos(min(1.0, float(np.dot(found.down, level_down(0.2, 0.0)))))
    assert angle < 4.0 * 0.5 / 9.8 / math.sqrt(min(0.3 * rate_hz, 50.0))


@pytest.mark.ros
def test_an_imu_that_is_silent_is_said_to_be_once_it_had_time(graph: Graph) -> None:
    settings = GroundSettings(height_m=1.0, direction="imu", imu_extrinsics="0 0 0 0 0 0")
    source = GroundInput(graph.node, settings)
    source.imu.look()
    early, late = (replace(STILL, received_ns=time.monotonic_ns() + ns) for ns in (0, 3 * S))
    assert source.reference(early, settings, TransformBuffer(), 0.15) is None
    with pytest.raises(ConversionError, match="no IMU message"):
        source.reference(late, settings, TransformBuffer(), 0.15)


@pytest.mark.ros
def test_height_and_direction_come_from_tf_where_the_parameters_say_so(graph: Graph) -> None:
    transforms = TransformBuffer()
    tilted = from_xyz_rpy(0.3, 0.0, 1.1, -0.5 * math.pi - 0.25, 0.0, -0.5 * math.pi)
    quaternion = Rotation.from_matrix(tilted[:3, :3]).as_quat()
    transforms.add("base_footprint", "camera", 0, tilted[:3, 3], quaternion, static=True)
    settings = GroundSettings(direction="tf")
    source = GroundInput(graph.node, settings)
    found = source.reference(STILL, settings, transforms, 0.15)
    assert found is not None
    assert found.height_m == pytest.approx(1.1)
    np.testing.assert_allclose(found.down or (), level_down(0.25, 0.0), atol=1e-9)
    unknown = GroundSettings(direction="unknown")
    found = source.reference(STILL, unknown, transforms, 0.15)
    assert found is not None
    assert found.down is None
    fixed = GroundSettings(direction="fixed", pitch_deg=10.0, roll_deg=-2.0, height_m=0.4)
    found = source.reference(STILL, fixed, transforms, 0.15)
    assert found is not None
    assert found.height_m == 0.4
    np.testing.assert_allclose(
        found.down or (), level_down(math.radians(10.0), math.radians(-2.0)), atol=1e-9
    )
