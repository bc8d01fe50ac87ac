"""What the pipeline says is wrong, and which camera it publishes when nothing is rectified."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from test_pipeline import CAMERA, STAMP_NS, Bench

from depth_node import watch
from depth_node.geometry.cloud import CloudPacker
from depth_node.health import Level
from depth_node.parameters import PointsSettings, Settings
from depth_node.scale.fixed import FixedScale, NoScale
from depth_node.scale.points import SparseDepth, project
from depth_node.types import CameraModel, Disparity, Frame, ScaleEstimate, ScaleState


class Relative(NoScale):
    """Has no scale, as when no sensor is there."""

    def estimate(self, frame: Frame, disparity: Disparity) -> ScaleEstimate:
        return ScaleEstimate(ScaleState.RELATIVE, reason="no measurement has arrived")


def test_missing_metres_are_an_error_until_the_scale_is_metric(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "SETTLE_S", 0.0)
    bench = Bench(Relative())
    bench.engine.gate.release(2)
    bench.submit(20)
    bench.sink.wait(1)
    (problem,) = bench.health.problems()
    assert problem.level is Level.ERROR
    assert "no measurement has arrived" in problem.text
    bench.pipeline.estimator = FixedScale(0.01, 0.0)
    bench.submit(21)
    bench.sink.wait(2)
    bench.pipeline.stop()
    assert bench.health.problems() == []


@pytest.mark.parametrize(
    ("parameters", "camera"), [({"scale__source": "none"}, CAMERA), ({}, None)]
)
def test_a_scale_that_is_not_asked_for_or_that_no_calibration_could_use_is_no_problem(
    monkeypatch: pytest.MonkeyPatch, parameters: dict[str, str], camera: CameraModel | None
) -> None:
    monkeypatch.setattr(watch, "SETTLE_S", 0.0)
    bench = Bench(Relative(), **parameters)
    bench.engine.gate.release()
    bench.submit(20, camera)
    bench.sink.wait(1)
    bench.pipeline.stop()
    assert bench.health.problems() == []


@pytest.mark.parametrize(("when_held", "level"), [("held", Level.WARN), ("relative", Level.ERROR)])
def test_a_held_scale_is_a_warning_where_its_metres_are_published(
    monkeypatch: pytest.MonkeyPatch, when_held: str, level: Level
) -> None:
    class Held(NoScale):
        def estimate(self, frame: Frame, disparity: Disparity) -> ScaleEstimate:
            return ScaleEstimate(ScaleState.HELD, "lidar", 0.01, reason="nothing new of lidar")

    monkeypatch.setattr(watch, "SETTLE_S", 0.0)
    bench = Bench(Held(), scale__publish_when_not_metric=when_held)
    bench.engine.gate.release()
    bench.submit(20)
    depth = bench.sink.wait(1)[0].depth
    bench.pipeline.stop()
    (problem,) = bench.health.problems()
    assert (problem.level, depth is not None) == (level, level is Level.WARN)
    assert "nothing new of lidar" in problem.text


def test_missing_metres_are_no_problem_from_when_they_are_not_asked_for_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "SETTLE_S", 0.0)
    bench = Bench(Relative())
    bench.engine.gate.release()
    bench.submit(20)
    bench.sink.wait(1)
    bench.pipeline.look()
    assert len(bench.health.problems()) == 1
    bench.pipeline.settings = Settings().with_values({"scale.source": "none"})
    bench.pipeline.look()
    bench.pipeline.stop()
    assert bench.health.problems() == []


def test_a_network_that_does_not_return_is_an_error_until_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "FIRST_STALL_S", 0.0)
    bench = Bench()
    bench.pipeline.look()
    assert bench.health.problems() == []
    bench.submit(1)
    bench.engine.wait_entered(1)
    bench.pipeline.look()
    (problem,) = bench.health.problems()
    assert problem.level is Level.ERROR
    assert "busy with one frame" in problem.text
    bench.assert_balanced()
    bench.engine.gate.release()
    bench.sink.wait(1)
    bench.pipeline.look()
    bench.pipeline.stop()
    assert bench.health.problems() == []


RAW = CameraModel(
    64, 48,
    K=np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]]),
    D=np.array([-0.2, 0.05, 0.0, 0.0, 0.0]),
    R=cv2.Rodrigues(np.array([0.02, 0.0, 0.0]))[0],
    P=np.array([[40.0, 0, 30, 0], [0, 40, 20, 0], [0, 0, 1, 0]]),
    distortion_model="plumb_bob",
)  # fmt: skip
"""P is zoomed out, shifted and turned against K."""


def test_without_rectification_the_cloud_puts_a_lidar_point_where_the_lidar_saw_it() -> None:
    point = np.array([[0.7, -0.4, 2.0]], np.float32)  # metres, optical frame
    projected: list[SparseDepth] = []

    class Lidar(FixedScale):
        def estimate(self, frame: Frame, disparity: Disparity) -> ScaleEstimate:
            assert frame.camera is not None
            projected.append(project(point, np.eye(4), frame.camera, source="lidar", stamp_ns=0))
            return super().estimate(frame, disparity)

    bench = Bench(Lidar(0.01, 0.0), camera__rectify="off")
    bench.engine.gate.release()
    bench.submit(50, RAW)  # 2 m
    (result,) = bench.sink.wait(1)
    bench.pipeline.stop()
    (problem,) = bench.health.problems()
    assert (problem.level, "camera.rectify" in problem.text) == (Level.WARN, True)

    np.testing.assert_array_equal(result.frame.image, 50)
    u, v, _ = RAW.K @ point[0] / point[0, 2]
    assert (projected[0].u[0], projected[0].v[0]) == pytest.approx((u, v))
    depth = result.depth
    assert depth is not None
    for camera in (depth.camera, result.frame.camera):
        assert camera is not None
        np.testing.assert_array_equal(camera.P[:, :3], RAW.K)
        np.testing.assert_array_equal(camera.K, RAW.K)
        np.testing.assert_array_equal(camera.R, np.eye(3))
        assert not camera.distorted
    cloud = CloudPacker().pack(depth, None, PointsSettings(), 50.0)
    column, row = round(u), round(v)
    there = np.array([(column - u) / 50.0 * 2.0, (row - v) / 50.0 * 2.0, 0.0]) + point[0]
    np.testing.assert_allclose(cloud.data[row, column], there, atol=1e-5)


def test_a_topic_that_is_rectified_keeps_its_projection_without_rectification() -> None:
    bench = Bench(camera__rectify="off")
    bench.engine.gate.release()
    image = np.full((48, 64, 3), 50, np.uint8)
    frame = Frame(image, STAMP_NS, "optical", RAW, time.monotonic_ns(), rectified=True)
    bench.pipeline.submit(lambda: frame)
    depth = bench.sink.wait(1)[0].depth
    bench.pipeline.stop()
    assert depth is not None
    np.testing.assert_array_equal(depth.camera.K, RAW.P[:, :3])
    assert bench.health.problems() == []


FISHEYE = CameraModel(64, 48, RAW.K, D=np.zeros(4), distortion_model="equidistant")
"""Zeros, and yet no pinhole: r = f theta."""
TURNED = CameraModel(64, 48, RAW.K, R=RAW.R, P=RAW.P)


@pytest.mark.parametrize(("camera", "distorts"), [(FISHEYE, True), (TURNED, False)])
def test_without_rectification_what_is_no_pinhole_is_said(
    camera: CameraModel, distorts: bool
) -> None:
    bench = Bench(camera__rectify="off")
    bench.engine.gate.release()
    bench.submit(50, camera)
    bench.sink.wait(1)
    bench.pipeline.stop()
    problems = [problem.text for problem in bench.health.problems()]
    assert ["the lens distorts" in text for text in problems] == [True] * distorts
