"""Extrinsics of a running node that are off, are found to be, and are corrected."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

import scale_scene as scene
from diagnostic_msgs.msg import DiagnosticArray
from ros_graph import CameraDriver, image_array, private_graph
from scale_scene import CX, CY, FOCAL, HEIGHT, SCALE, SHIFT, SKY_ROWS, WIDTH
from sensor_msgs.msg import Image, PointCloud2

from depth_node.geometry.transforms import from_xyz_rpy

pytestmark = pytest.mark.ros
TURN_RAD = math.radians(1.2)
FOUND = "fit the picture better when they are turned by about 1 deg"


def disparity() -> np.ndarray:
    """The scene's slope with boxes: at their edges, points that are turned are seen to be."""
    values = scene.disparity()
    for row in range(60, 220, 50):
        for column in range(20, 300, 70):
            values[row : row + 25, column : column + 40] += 60.0
    return values


def cloud(stamp_ns: int) -> PointCloud2:
    """Of a LiDAR with the camera's axes, turned by TURN_RAD about the x axis, with noise of 3%."""
    rng = np.random.default_rng(1)
    v, u = rng.integers(SKY_ROWS + 4, HEIGHT, 2000), rng.integers(0, WIDTH, 2000)
    z = 1.0 / (SCALE * disparity()[v, u].astype(np.float64) + SHIFT)
    z *= rng.normal(1.0, 0.03, len(z))
    in_camera = np.stack([(u - CX) / FOCAL * z, (v - CY) / FOCAL * z, z], axis=1)
    turned = from_xyz_rpy(0.0, 0.0, 0.0, TURN_RAD, 0.0, 0.0)[:3, :3]
    return scene.cloud(stamp_ns, in_camera @ turned, "lidar_link")


def frame_and_cloud(driver: Any, stamp_ns: int) -> Any:
    driver.publish(cloud(stamp_ns))
    return scene.frame(stamp_ns, disparity())


def test_what_was_found_through_wrong_extrinsics_is_forgotten_with_them() -> None:
    with private_graph() as graph:
        graph.depth_node(
            "-r", "image:=/camera/image_raw",
            program="node_with_engine.py",
            env={"DIAGNOSTICS_PERIOD_S": "0.2"},
            depth__remove_edges=False, lidar__enabled=True, lidar__extrinsics="0 0 0 0 0 0",
        )  # fmt: skip
        lidar = graph.node.create_publisher(PointCloud2, "/lidar/points", 2)
        CameraDriver(graph, lambda stamp: frame_and_cloud(lidar, stamp), rate_hz=10.0)
        with (
            graph.collect(DiagnosticArray, "/depth_node/scale_status"),
            graph.collect(Image, "/depth/image_rect") as images,
        ):
            graph.wait_for_problem(FOUND)
            graph.set_parameters(lidar__extrinsics=f"0 0 0 {TURN_RAD} 0 0")
            graph.wait_until(lambda: "fit the picture" not in graph.diagnostics().text)
            images.clear()
            depth = image_array(images.wait(3)[-1])
        truth = 1.0 / (SCALE * disparity() + SHIFT)
        below = np.s_[SKY_ROWS + 8 :]
        assert np.median(np.abs(depth[below] / truth[below] - 1.0)) < 0.02
        graph.diagnostics().assert_accounts_balance()
