"""The world on a ROS graph: what its process publishes, at which rate, and how it ends."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

pytest.importorskip("embreex")
pytest.importorskip("rclpy")

from nav_msgs.msg import Odometry
from ros_graph import private_graph
from sensor_msgs.msg import CameraInfo, Image, Imu, LaserScan, PointCloud2, Range

from depth_node.world.cache import render_drive
from depth_node.world.drive import DriveSettings
from depth_node.world.messages import quaternion
from depth_node.world.sampling import camera_rotation

pytestmark = pytest.mark.ros
SETTINGS = DriveSettings(seed=0, width=640, height=480, fps=30.0, seconds=0.2)


# a name of its own, should another graph have drawn the same domain
NAMESPACE = f"/world_test_{os.getpid()}"


def start(graph):
    code = (
        "import argparse, sys; from depth_node.world import command\n"
        "p = argparse.ArgumentParser(); command.add_arguments(p)\n"
        "sys.exit(command.run(p.parse_args()))"
    )
    return graph.run("-c", code, "--publish", "--seconds", "0.2", "--namespace", NAMESPACE)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A graph with the world's process on it, and the drive that it replays."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPTH_NODE_CACHE", str(tmp_path_factory.mktemp("cache")))
        drive = render_drive(SETTINGS)
        with private_graph() as graph:
            start(graph)
            yield graph, drive


def stamp_ns(msg) -> int:
    return int(msg.header.stamp.sec) * 10**9 + int(msg.header.stamp.nanosec)


def frame_of(drive, image) -> int:
    pixels = np.frombuffer(image.data, np.uint8).reshape(480, 640, 3)[::4, ::4].astype(int)
    return int(np.argmin([np.abs(pixels - rgb[::4, ::4]).sum() for rgb in drive.rgb]))


def pace(drive, images, rate_hz) -> float:
    """1 where the frames follow their stamps at this rate, near 0 where they run ahead or behind.

    It holds on a busy machine too: that skips frames, and those that it shows are in time.
    """
    seconds = 1e-9 * np.array([stamp_ns(image) - stamp_ns(images[0]) for image in images])
    frames = np.array([frame_of(drive, image) for image in images])
    return abs(np.exp(2j * np.pi * (frames - rate_hz * seconds) / len(drive.rgb)).mean())


def test_image_info_and_true_depth_belong_together_at_30_hz(world):
    graph, drive = world
    with (
        graph.collect(Image, f"{NAMESPACE}/camera/image_raw") as images,
        graph.collect(CameraInfo, f"{NAMESPACE}/camera/camera_info") as infos,
        graph.collect(Image, f"{NAMESPACE}/camera/depth_gt") as depths,
    ):

        def complete(messages):
            """Those whose CameraInfo and true depth came too: a busy machine loses some."""
            whole = {stamp_ns(msg) for msg in infos.messages}
            whole &= {stamp_ns(msg) for msg in depths.messages}
            return [msg for msg in messages if stamp_ns(msg) in whole]

        depths.wait(1)
        images.clear()
        got = images.wait_until(lambda messages: len(messages) >= 60 and bool(complete(messages)))
        image = complete(got)[0]
        truth = {stamp_ns(depth): depth for depth in depths.messages}
    assert abs(time.time_ns() - stamp_ns(got[-1])) < 5e9
    assert pace(drive, got, 30.0) > 0.7
    assert min(np.diff([stamp_ns(msg) for msg in got])) < 60e6  # it leaves no frame out by itself
    assert (image.encoding, image.width, image.height, image.step) == ("rgb8", 640, 480, 1920)
    assert image.header.frame_id == "camera_optical_frame"
    frame = frame_of(drive, image)
    assert np.array_equal(np.frombuffer(image.data, np.uint8), drive.rgb[frame].ravel())
    depth = truth[stamp_ns(image)]
    assert (depth.encoding, depth.step) == ("32FC1", 2560)
    assert np.array_equal(np.frombuffer(depth.data, np.float32), drive.depth[frame].ravel())


def test_camera_info_is_the_drives_calibration(world):
    graph, drive = world
    with graph.collect(CameraInfo, f"{NAMESPACE}/camera/camera_info") as infos:
        info = infos.wait(1)[-1]
    np.testing.assert_allclose(np.reshape(info.k, (3, 3)), drive.camera.K)
    np.testing.assert_allclose(np.reshape(info.p, (3, 4)), drive.camera.P)
    assert (info.width, info.height, set(info.d)) == (640, 480, {0.0})


def test_the_other_sensors_are_there_with_their_frames(world):
    graph, drive = world
    with (
        graph.collect(PointCloud2, f"{NAMESPACE}/lidar/points") as clouds,
        graph.collect(LaserScan, f"{NAMESPACE}/scan") as scans,
        graph.collect(Range, f"{NAMESPACE}/range") as ranges,
        graph.collect(Imu, f"{NAMESPACE}/imu/data") as imus,
        graph.collect(Odometry, f"{NAMESPACE}/odom") as odometry,
    ):
        cloud, scan = clouds.wait(1)[-1], scans.wait(1)[-1]
        reading, imu, odom = ranges.wait(1)[-1], imus.wait(1)[-1], odometry.wait(1)[-1]
    assert [field.name for field in cloud.fields] == ["x", "y", "z", "intensity", "ring", "time"]
    assert cloud.header.frame_id == "lidar_link"
    sweep = [drive.lidar_sweep(0).tobytes(), drive.lidar_sweep(3).tobytes()]
    assert bytes(cloud.data) in sweep
    assert cloud.point_step * cloud.width == len(cloud.data) == cloud.row_step
    assert len(scan.ranges) == drive.scans.shape[1]
    assert scan.angle_increment > 0
    assert min(abs(reading.range - drive.ranges)) < 1e-5
    assert imu.linear_acceleration.z > 9
    assert imu.orientation_covariance[0] == -1
    assert (odom.header.frame_id, odom.child_frame_id) == ("odom", "base_link")
    position = odom.pose.pose.position
    known = drive.poses[:, :3, 3]
    assert np.abs(known - [position.x, position.y, position.z]).sum(1).min() < 1e-9


def test_tf_connects_odom_to_the_robot(world):
    tf2 = pytest.importorskip("tf2_msgs.msg")
    graph, _ = world
    with graph.collect(tf2.TFMessage, "/tf") as moving:
        transform = moving.wait(1)[-1].transforms[0]
    assert (transform.header.frame_id, transform.child_frame_id) == ("odom", "base_link")


def test_quaternions_turn_as_their_matrices_do():
    for seed in range(30):
        angles = np.random.default_rng(seed).uniform(-3, 3, 3)
        rotation = camera_rotation(*angles)
        x, y, z, w = quaternion(rotation)
        vector = np.array([0.3, -1.2, 0.7])
        axis = np.array([x, y, z])
        turned = vector + 2 * np.cross(axis, np.cross(axis, vector) + w * vector)
        np.testing.assert_allclose(turned, rotation @ vector, atol=1e-9)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(world, number):
    graph, _ = world
    program = start(graph)
    program.wait_for_line("publishing")
    code, seconds = program.interrupt(number)
    assert code == 0, program.output
    assert seconds < 15.0  # soon on a quiet machine; by itself it would never end
    assert "Traceback" not in program.output
