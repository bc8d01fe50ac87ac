"""Scale from the camera height over the ground, and what must be refused."""

from __future__ import annotations

import numpy as np
import pytest
from scale_picture import (
    CAMERA,
    CAMERA_HEIGHT_M,
    HEIGHT,
    SCALE,
    SHIFT,
    STAMP_NS,
    WIDTH,
    frame,
    relative,
)

from depth_node.scale.apply import log_sigma
from depth_node.scale.ground import GroundReference, fit_ground
from depth_node.scale.metric import MetricScaleEstimator

LEVEL = GroundReference(CAMERA_HEIGHT_M, (0.0, 1.0, 0.0))


def picture(pitch_deg: float = 0.0, roll_deg: float = 0.0, shift: float = SHIFT) -> np.ndarray:
    """Disparity of ground whose normal is pitched and rolled against the camera's down."""
    fx, fy, cx, cy = CAMERA.intrinsics
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    p, r = np.radians([pitch_deg, roll_deg])
    normal = np.array([np.sin(r), np.cos(r) * np.cos(p), np.sin(p)])
    q = (normal[0] * (u - cx) / fx + normal[1] * (v - cy) / fy + normal[2]) / CAMERA_HEIGHT_M
    q = np.maximum(q, 1 / 40.0)
    return ((q - shift) / SCALE).astype(np.float32)


def depth_error(disparity: np.ndarray, fit) -> float:
    rows = slice(150, None)
    q = fit.scale * disparity[rows] + fit.shift
    return float(np.mean(np.abs((SCALE * disparity[rows] + SHIFT) / q - 1)))


def test_level_ground_gives_scale_and_shift():
    found = fit_ground(picture(), CAMERA, LEVEL)
    assert found.fit.accepted, found.fit.reason
    assert depth_error(picture(), found.fit) < 0.02
    assert abs(np.degrees(found.roll_rad)) < 0.5


def test_a_pitched_camera_is_no_slope_when_gravity_is_known():
    down = (0.0, float(np.cos(np.radians(8))), float(np.sin(np.radians(8))))
    found = fit_ground(picture(pitch_deg=8), CAMERA, GroundReference(CAMERA_HEIGHT_M, down))
    assert found.fit.accepted, found.fit.reason
    assert depth_error(picture(), found.fit) < 0.03


def test_without_a_direction_only_the_scale_is_claimed():
    found = fit_ground(picture(shift=0.0), CAMERA, GroundReference(CAMERA_HEIGHT_M, None))
    assert found.fit.accepted, found.fit.reason
    assert found.fit.scale_only
    assert found.fit.scale == pytest.approx(SCALE, rel=0.02)


@pytest.mark.parametrize("slope_deg", [-8.0, 8.0])
def test_a_slope_is_refused(slope_deg: float):
    found = fit_ground(picture(pitch_deg=slope_deg), CAMERA, LEVEL)
    assert not found.fit.accepted
    assert found.fit.scale == 0.0


def test_a_rolled_plane_is_refused():
    found = fit_ground(picture(roll_deg=8), CAMERA, LEVEL)
    assert "rolls" in found.fit.reason


def test_a_wall_is_refused():
    wall = np.full((HEIGHT, WIDTH), 60.0, np.float32)
    assert not fit_ground(wall, CAMERA, LEVEL).fit.accepted


def test_clutter_is_refused():
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.uniform(20, 200, (HEIGHT // 20, WIDTH // 20)), np.ones((20, 20)))
    assert not fit_ground(blocks.astype(np.float32), CAMERA, LEVEL).fit.accepted


def test_little_ground_is_refused():
    up = (0.0, float(np.cos(np.radians(-22))), float(np.sin(np.radians(-22))))
    found = fit_ground(picture(pitch_deg=-22), CAMERA, GroundReference(CAMERA_HEIGHT_M, up))
    assert not found.fit.accepted


def test_a_saturated_picture_is_refused():
    nothing = np.zeros((HEIGHT, WIDTH), np.float32)
    assert not fit_ground(nothing, CAMERA, LEVEL).fit.accepted


def test_an_uncertain_height_and_direction_widen_the_covariance():
    sure = GroundReference(CAMERA_HEIGHT_M, (0.0, 1.0, 0.0), 0.001, 0.001)
    unsure = GroundReference(CAMERA_HEIGHT_M, (0.0, 1.0, 0.0), 0.1, 0.02)
    one, other = (fit_ground(picture(), CAMERA, r).fit.covariance for r in (sure, unsure))
    assert other[0, 0] > one[0, 0]
    assert other[1, 1] > one[1, 1]


@pytest.mark.parametrize("tilt_deg", [-2.0, -1.0, 1.0, 2.0, 3.0])
def test_what_a_tilt_does_to_depth_lies_within_three_published_sigmas(tilt_deg: float):
    """The IMU of a robot that brakes is off for a second; the filter must not make it certain."""
    estimator = MetricScaleEstimator()
    tilt = np.radians(tilt_deg)
    estimator.set_ground(GroundReference(CAMERA_HEIGHT_M, (0.0, np.cos(tilt), np.sin(tilt))))
    values = picture()
    for i in range(30):
        stamp_ns = STAMP_NS + i * 33_333_333
        estimate = estimator.estimate(frame(stamp_ns), relative(values))
    assert estimate.state.value == "metric"
    for row in (220, 160):  # 3.3 m and 8 m ahead
        d = float(values[row, WIDTH // 2])
        error = np.log((estimate.scale * d + estimate.shift) / (SCALE * d + SHIFT))
        sigma = log_sigma(relative(values), estimate, WIDTH, HEIGHT)[row, WIDTH // 2]
        assert abs(error) < 3.0 * sigma
