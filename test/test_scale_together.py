"""Sources of scale that stand in for one another, and what none of them tells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scale_room import (
    CAMERA_HEIGHT_M,
    HEIGHT,
    UNIT,
    WIDTH,
    X,
    Y,
    frame,
    measured,
    one_range,
    rings,
    room,
    scan,
    scattered,
    smooth,
)

from depth_node.scale.alignment import Offset, find_offset
from depth_node.scale.apply import inverse_depth, log_sigma
from depth_node.scale.ground import GroundReference
from depth_node.scale.measure import ScaleConfig
from depth_node.scale.metric import MetricScaleEstimator
from depth_node.types import Disparity, ScaleEstimate, ScaleState

PERIOD_NS = 33_333_333
LEVEL = GroundReference(CAMERA_HEIGHT_M, (0.0, 1.0, 0.0), 0.02, 0.0087)
UNKNOWN = GroundReference(CAMERA_HEIGHT_M, None, 0.02, 0.0087)
ABOVE = 1 / (1 + np.exp((Y - 0.02) * 40))
"""1 above the horizon, 0 on the ground."""


def disparity(true: np.ndarray, log_error: np.ndarray | float = 0.0) -> Disparity:
    return Disparity((true * np.exp(log_error) / UNIT).astype(np.float32))


def covered(true: np.ndarray, values: Disparity, estimate: ScaleEstimate) -> np.ndarray:
    """Where the error stays within the 90% interval."""
    error = np.abs(np.log(true / inverse_depth(values, estimate, WIDTH, HEIGHT)))
    return np.asarray(error <= 1.645 * log_sigma(values, estimate, WIDTH, HEIGHT))


@pytest.mark.parametrize("seed", range(3))
def test_ground_that_stands_in_for_a_lidar_brings_its_own_uncertainty(seed):
    rng = np.random.default_rng(seed)
    network = smooth(rng, 0.1) * ABOVE
    estimator = MetricScaleEstimator()
    estimator.set_ground(LEVEL)
    for i in range(60):
        true = room(4.0 - 0.5 * max(i - 30, 0) / 30)
        values = disparity(true, network + smooth(rng, 0.004))
        if i < 30:
            estimator.add(measured(true, rings(rng), rng, i * PERIOD_NS + 1))
        estimate = estimator.estimate(frame(i * PERIOD_NS + 1), values)
        if i > 33:
            assert estimate.state is ScaleState.METRIC
            assert estimate.source == "ground"
            assert covered(true, values, estimate).mean() > 0.65


@pytest.mark.parametrize(("yaw", "distance_m"), [(30, 1.0), (30, 1.3), (-35, 1.3), (20, 1.6)])
def test_an_oblique_wall_is_no_ground_where_gravity_is_not_known(yaw, distance_m):
    angle = np.radians(yaw)
    wall = (np.cos(angle) + np.sin(angle) * X) / distance_m
    floor = np.clip(Y / CAMERA_HEIGHT_M, 0, None)
    true = np.maximum(np.clip(wall, 0.05, None), floor).astype(np.float32)
    estimator = MetricScaleEstimator()
    estimator.set_ground(UNKNOWN)
    estimate = estimator.estimate(frame(1), disparity(true))
    if estimate.state is not ScaleState.RELATIVE:
        assert covered(true, disparity(true), estimate).mean() > 0.8


@pytest.mark.parametrize(
    ("name", "pixels", "footprint"), [("range", one_range, 5.0), ("scan", scan, 0.0)]
)
def test_a_coarse_sensor_beside_the_ground_takes_no_metres_away(name, pixels, footprint):
    rng = np.random.default_rng(1)
    estimator = MetricScaleEstimator(ScaleConfig(max_skew_s=0.06, network_error=0.28))
    estimator.set_ground(LEVEL)
    network = smooth(rng, 0.02)
    for i in range(12):
        true = room(4.0 - 0.4 * i / 30)
        stamp_ns = i * PERIOD_NS + 1
        if i % 3 == 0:
            at = pixels(rng)
            estimator.add(measured(true, at, rng, stamp_ns, name, footprint))
        values = disparity(true, network + smooth(rng, 0.005))
        estimate = estimator.estimate(frame(stamp_ns), values)
        assert estimate.state is ScaleState.METRIC
        assert estimate.source == "ground"
        if i % 3 == 0:
            assert estimate.counts[name].used == 0
            assert estimate.counts[name].refused > 0


@pytest.mark.parametrize("network_error", [0.08, 0.25])
@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_a_height_that_the_scan_contradicts_makes_no_metres(factor, network_error):
    rng = np.random.default_rng(1)
    true = room(4.0)
    estimator = MetricScaleEstimator(ScaleConfig(max_sigma=0.01, network_error=network_error))
    estimator.set_ground(replace(LEVEL, height_m=factor * CAMERA_HEIGHT_M))
    for i in range(6):
        stamp_ns = i * PERIOD_NS + 1
        estimator.add(measured(true, scan(rng), rng, stamp_ns, "scan"))
        estimate = estimator.estimate(frame(stamp_ns), disparity(true, smooth(rng, 0.02)))
        assert estimate.state is not ScaleState.METRIC
        assert "ground.height_m" in estimate.reason
        assert estimator.contradicted == "ground"


@pytest.mark.parametrize(
    ("name", "pixels", "footprint"), [("range", one_range, 5.0), ("scan", scan, 0.0)]
)
def test_metres_held_from_a_lidar_are_not_worse_for_a_coarse_sensor_beside_it(
    name, pixels, footprint
):
    rng = np.random.default_rng(3)
    true, network = room(4.0), smooth(rng, 0.15)
    config = ScaleConfig(max_skew_s=0.02, network_error=0.25)
    alone, both = MetricScaleEstimator(config), MetricScaleEstimator(config)
    for i in range(30):
        stamp_ns = i * PERIOD_NS + 1
        values = disparity(true, network + smooth(rng, 0.003))
        if i < 15:
            points = measured(true, rings(rng), rng, stamp_ns)
            alone.add(points)
            both.add(points)
        both.add(measured(true, pixels(rng), rng, stamp_ns, name, footprint))
        held, beside = (one.estimate(frame(stamp_ns), values) for one in (alone, both))
    assert (held.state, beside.state) == (ScaleState.HELD, ScaleState.HELD)
    q, q_beside = (inverse_depth(values, one, WIDTH, HEIGHT) for one in (held, beside))
    assert np.abs(q_beside / true - 1).mean() < np.abs(q / true - 1).mean() + 0.005
    assert "lidar" in beside.reason
    assert name in beside.reason


def test_a_coarse_sensor_alone_goes_on_being_followed():
    rng = np.random.default_rng(4)
    estimator = MetricScaleEstimator(ScaleConfig(network_error=0.25))
    for i in range(60):
        true = room(4.0 - 0.03 * i)
        stamp_ns = i * PERIOD_NS + 1
        estimator.add(measured(true, scan(rng), rng, stamp_ns, "scan"))
        estimate = estimator.estimate(frame(stamp_ns), disparity(true, smooth(rng, 0.01)))
        assert estimate.state is ScaleState.HELD
        assert estimate.age_s == 0.0


def test_the_ground_of_successive_frames_is_one_measurement_against_a_held_lidar():
    rng = np.random.default_rng(5)
    true = room(4.0)
    estimator = MetricScaleEstimator(ScaleConfig(max_skew_s=0.02))
    estimator.set_ground(replace(LEVEL, height_m=2.0 * CAMERA_HEIGHT_M))
    for i in range(45):  # a second and a half, the last one without the LiDAR
        stamp_ns = i * PERIOD_NS + 1
        if i < 15:
            estimator.add(measured(true, rings(rng), rng, stamp_ns))
        estimate = estimator.estimate(frame(stamp_ns), disparity(true, smooth(rng, 0.02)))
        assert estimate.source == "lidar"


def test_the_ground_does_not_vouch_for_what_a_poor_network_sees_above_it():
    rng = np.random.default_rng(2)
    true = room(4.0)
    values = disparity(true, smooth(rng, 0.28) * ABOVE)
    estimator = MetricScaleEstimator(ScaleConfig(network_error=0.28))
    estimator.set_ground(LEVEL)
    estimate = estimator.estimate(frame(1), values)
    assert estimate.source == "ground"
    assert covered(true, values, estimate)[ABOVE > 0.9].mean() > 0.8


@pytest.mark.parametrize(("max_hold_sigma", "taken"), [(0.2, False), (1e-3, True)])
def test_only_a_scale_that_could_be_held_refuses_a_measurement(max_hold_sigma, taken):
    rng = np.random.default_rng(0)
    true, values = room(4.0), disparity(room(4.0), smooth(rng, 0.03))
    config = ScaleConfig(max_hold_sigma=max_hold_sigma, align=False)
    estimator = MetricScaleEstimator(config)
    for i in range(10):
        factor = 1.0 if i < 9 else 2.0
        estimator.add(measured(factor * true, scattered(rng), rng, i * PERIOD_NS + 1))
        estimate = estimator.estimate(frame(i * PERIOD_NS + 1), values)
    assert (estimate.state is ScaleState.METRIC) == taken
    assert ("contradicts" in estimate.reason) != taken


def test_right_extrinsics_are_seldom_moved_in_a_bare_room_that_the_network_sees_well():
    moved = 0
    for error in (0.03, 0.05):
        for wall_m in (3.0, 4.0, 5.0):
            for seed in range(4):
                rng = np.random.default_rng(seed)
                true = room(wall_m)
                values = disparity(true, smooth(rng, error)).values
                points = measured(true, scattered(rng), rng, 0)
                moved += find_offset(values, points, float(values.min())) != Offset()
    assert moved <= 3
