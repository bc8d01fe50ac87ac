"""What the shipped student may call metric in the world: with a LiDAR, and without one."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("embreex")

from depth_node.engines.base import EngineError
from depth_node.engines.select import load_engine
from depth_node.parameters import ModelSettings, Settings
from depth_node.scale.points import SparseDepth, project
from depth_node.scale.select import make_estimator
from depth_node.types import CameraModel, Disparity, Frame, ImageU8, ScaleEstimate
from depth_node.world import photometry
from depth_node.world.drive import DriveSettings, plan_drive
from depth_node.world.render import render
from depth_node.world.sensors import (
    RANGE_FOV_RAD,
    lidar_cloud,
    planar_scan,
    range_reading,
    scan_angles,
)


class View(NamedTuple):
    """One view of the world: what the student sees, and each sensor's points in the picture."""

    disparity: Disparity
    camera: CameraModel
    image: ImageU8
    points: dict[str, SparseDepth]
    model: str


@pytest.fixture(scope="module")
def views() -> list[View]:
    try:
        engine = load_engine(ModelSettings(name="student"), lambda _: None)
    except EngineError as error:
        pytest.skip(f"no engine runs the student here: {error}")
    views = []
    for kind in ("room", "corridor", "street"):
        settings = DriveSettings(kind, seed=1, fps=2.0)
        drive, noise = plan_drive(settings), settings.noise
        rng = np.random.default_rng(0)
        for index in (0, 8):
            scene, camera = drive.place.scene, settings.camera
            radiance, _ = render(scene, camera, drive.sensor_pose(index, "camera"), smooth=True)
            image = photometry.develop(radiance, photometry.MILD, rng)
            angles = scan_angles()
            ranges = planar_scan(scene, drive.sensor_pose(index, "scan"), noise, rng)
            hit = np.isfinite(ranges)
            beams = np.stack([np.cos(angles), np.sin(angles), np.zeros(len(angles))], axis=1)
            distance = range_reading(scene, drive.sensor_pose(index, "range"), noise, rng)
            measured = {
                "lidar": lidar_cloud(scene, drive.sensor_pose(index, "lidar"), noise, rng).points,
                "scan": (beams[hit] * ranges[hit, None]).astype(np.float32),
                "range": np.array([[distance, 0.0, 0.0]], np.float32),
            }
            points = {
                name: project(xyz, settings.mounts.camera_to(name), camera, source=name, stamp_ns=1)
                for name, xyz in measured.items()
            }
            cone = camera.intrinsics[0] * np.tan(0.5 * RANGE_FOV_RAD)
            points["range"] = replace(points["range"], footprint_px=cone)
            views.append(View(engine.infer(image), camera, image, points, engine.model))
    engine.close()
    return views


def estimated(view: View, source: str, network: str, error: float = 0.0) -> ScaleEstimate:
    given = {"lidar.enabled": True, "scale.network_error": error}
    estimator = make_estimator(Settings().with_values(given), network)
    estimator.add(view.points[source])
    frame = Frame(view.image, 1, "camera", view.camera, 0, rectified=True)
    return estimator.estimate(frame, view.disparity)


def test_with_a_lidar_the_students_depth_is_metric(views: list[View]):
    states = [estimated(view, "lidar", view.model).state.value for view in views]
    assert states == ["metric"] * len(views)


@pytest.mark.parametrize("source", ["scan", "range"])
def test_a_scan_or_a_range_finder_alone_never_makes_it_metric(views: list[View], source: str):
    for view in views:
        if len(view.points[source]):
            estimate = estimated(view, source, view.model)
            assert estimate.state.value != "metric"
            assert estimate.reason


@pytest.mark.parametrize(
    ("network", "error", "metric"),
    [
        ("depth-anything-v2-small", 0.0, True),
        ("depth-anything-v2-small", 0.3, False),
        ("a network of the user's own", 0.0, False),
        ("a network of the user's own", 0.08, True),
        ("depth_node_student", 0.0, False),
    ],
)
def test_how_far_a_network_is_trusted_is_known_or_said(
    views: list[View], network: str, error: float, metric: bool
):
    states = [estimated(view, "scan", network, error).state.value for view in views]
    assert ("metric" in states) == metric
