"""Bad readings, poor sensors and sensors that contradict each other: never metres from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scale_picture import (
    HEIGHT,
    STAMP_NS,
    WIDTH,
    bent_disparity,
    disparity,
    frame,
    inverse_depth,
    points,
    relative,
)

from depth_node.scale.apply import inverse_depth as published
from depth_node.scale.fit import fit_affine
from depth_node.scale.measure import ScaleConfig
from depth_node.scale.metric import MetricScaleEstimator
from depth_node.scale.points import SparseDepth
from depth_node.scale.samples import gather
from depth_node.types import Disparity, PointCounts, ScaleEstimate

FRAME_NS = 33_333_333
ROW, COLUMN = 180, 160
"""A place on the ground."""


def reading(metres: float, sigma: float, stamp_ns: int, radius: float = 4.0) -> SparseDepth:
    """Of a range finder that looks at the ground in front of the camera."""
    one = [np.array([value], np.float32) for value in (COLUMN, ROW, metres, sigma)]
    return SparseDepth(*one, "range", stamp_ns, (WIDTH, HEIGHT), footprint_px=radius)


def true_metres() -> float:
    return float(1.0 / inverse_depth()[ROW, COLUMN])


def scaled(factor: float, count: int, source: str, relative_sigma: float, noise: float = 0.0):
    """Points that are off by a factor, with noise, and a sensor's word for how good they are."""
    given = points(count, 3, STAMP_NS, source)
    error = np.exp(noise * np.random.default_rng(4).normal(size=count))
    z = (given.depth * factor * error).astype(np.float32)
    return replace(given, depth=z, sigma=np.float32(relative_sigma) * z)


def median_ratio(estimate: ScaleEstimate, values: np.ndarray) -> float:
    """Published over true depth."""
    q = published(Disparity(values), estimate, WIDTH, HEIGHT)
    true = inverse_depth()
    both = (q > 0) & (true > 0)
    return float(np.median(true[both] / q[both]))


@pytest.mark.parametrize("factor", [4.0, 2.0, 0.3])
def test_one_wrong_message_never_becomes_the_scale_however_many_frames_it_serves(factor: float):
    estimator, true = MetricScaleEstimator(ScaleConfig(max_skew_s=0.15)), true_metres()
    values = disparity()
    for i in range(45):
        stamp_ns = STAMP_NS + i * FRAME_NS
        if i % 3 == 0:  # 10 Hz beside a camera of 30 Hz
            estimator.add(reading(true * (factor if i == 30 else 1.0), 0.02 * true, stamp_ns))
        estimate = estimator.estimate(frame(stamp_ns), relative(values))
        q = published(Disparity(values), estimate, WIDTH, HEIGHT)[ROW, COLUMN]
        assert 1.0 / q == pytest.approx(true, rel=0.1)


def test_a_poor_reading_is_called_poor():
    values, true = disparity(), true_metres()
    states = []
    for sigma in (0.02, 5.0, 100.0, 1.8e19):
        estimator = MetricScaleEstimator()
        estimator.add(reading(true, sigma, STAMP_NS))
        states.append(estimator.estimate(frame(), relative(values)).state.value)
        estimator.add(reading(true, 0.02, STAMP_NS + FRAME_NS))
        after = estimator.estimate(frame(STAMP_NS + FRAME_NS), relative(values))
        assert after.state.value == "metric"
        assert np.isfinite(after.scale)
    assert states == ["metric", "relative", "relative", "relative"]


def test_the_covariance_grows_with_the_points_own_error():
    samples = gather(disparity(), [points(200)])
    good, poor = (
        fit_affine(samples.d, samples.q, np.full(200, weight, np.float32)) for weight in (1.0, 0.25)
    )
    np.testing.assert_allclose(poor.scale, good.scale, rtol=0.05)
    assert poor.covariance[0, 0] == pytest.approx(4.0 * good.covariance[0, 0], rel=0.3)


@pytest.mark.parametrize(
    "landmarks",
    [
        scaled(0.5, 2000, "landmarks", 0.3),
        scaled(1.0, 2000, "landmarks", 0.3, noise=0.3),
        scaled(1.3, 20_000, "landmarks", 1.0),
    ],
    ids=["half", "noisy", "many"],
)
def test_a_poor_sensor_does_not_spoil_a_good_one(landmarks: SparseDepth):
    values = bent_disparity()
    alone, both = MetricScaleEstimator(), MetricScaleEstimator()
    for estimator in (alone, both):
        estimator.add(points(500))
    both.add(landmarks)
    expected = alone.estimate(frame(), relative(values))
    estimate = both.estimate(frame(), relative(values))
    assert estimate.source == "lidar"
    assert median_ratio(estimate, values) == pytest.approx(
        median_ratio(expected, values), abs=0.002
    )
    count = len(landmarks)
    assert estimate.counts["landmarks"] == PointCounts(count, 0, count, 0)


def test_a_good_reading_gives_poor_landmarks_their_scale():
    estimator, values = MetricScaleEstimator(ScaleConfig(network_error=0.25)), disparity()
    estimator.add(reading(true_metres(), 0.02, STAMP_NS))
    estimator.add(scaled(1.0, 300, "landmarks", 0.3, noise=0.1))
    estimate = estimator.estimate(frame(), relative(values))
    assert estimate.source == "landmarks+range"
    assert estimate.state.value == "metric"


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("count", [60, 500, 5000])
def test_of_two_sensors_that_contradict_each_other_the_one_that_measures_is_believed(
    factor: float, count: int
):
    estimator, values = MetricScaleEstimator(), disparity()
    estimator.add(points(500))
    estimator.add(scaled(factor, count, "landmarks", 0.02))
    estimate = estimator.estimate(frame(), relative(values))
    assert (estimate.source, estimator.contradicted) == ("lidar", "landmarks")
    assert median_ratio(estimate, values) == pytest.approx(1.0, abs=0.03)
    estimator.add(points(500, stamp_ns=STAMP_NS + FRAME_NS))
    estimator.add(points(count, 5, STAMP_NS + FRAME_NS, "landmarks"))
    again = estimator.estimate(frame(STAMP_NS + FRAME_NS), relative(values))
    assert (again.source, estimator.contradicted) == ("landmarks+lidar", "")


@pytest.mark.parametrize(
    "landmarks",
    [scaled(0.1, 300, "landmarks", 0.02), scaled(0.1, 300, "landmarks", 0.5)],
    ids=["contradicted", "poor"],
)
def test_a_sensor_that_is_left_out_hides_nothing(landmarks: SparseDepth):
    """Its rays, ten times nearer than everything, would be obstacles in front of all depth."""
    alone, both = MetricScaleEstimator(), MetricScaleEstimator()
    for estimator in (alone, both):
        estimator.add(points(500))
    both.add(replace(landmarks, v=landmarks.v - 40.0))  # some of them in the sky
    expected = alone.estimate(frame(), relative(disparity()))
    estimate = both.estimate(frame(), relative(disparity()))
    assert (estimate.state.value, estimate.source) == ("metric", "lidar")
    np.testing.assert_array_equal(estimate.in_front, expected.in_front)


def test_sensors_are_held_against_each_other_beside_a_poor_one_too():
    estimator = MetricScaleEstimator()
    estimator.add(points(500))
    estimator.add(scaled(0.5, 400, "scan", 0.01))
    estimator.add(scaled(1.0, 300, "landmarks", 0.5, noise=0.3))
    estimate = estimator.estimate(frame(), relative(disparity()))
    assert (estimate.source, estimator.contradicted) == ("lidar", "scan")
    assert median_ratio(estimate, disparity()) == pytest.approx(1.0, abs=0.02)


def test_what_is_left_out_makes_a_measurement_no_newer():
    estimator = MetricScaleEstimator(ScaleConfig(max_skew_s=0.2))
    estimator.add(points(500, stamp_ns=STAMP_NS - 150_000_000))
    estimator.add(scaled(0.5, 2000, "landmarks", 0.02))
    estimate = estimator.estimate(frame(), relative(disparity()))
    assert estimate.source == "lidar"
    assert estimate.age_s == pytest.approx(0.15)


def test_points_where_the_camera_sees_nothing_count_for_nothing():
    values = disparity()
    values[:, :80] = np.nan
    given = points(800)
    outside = given.u < 79.0
    samples = gather(values, [given])
    assert samples.counts(None)["lidar"].saturated >= outside.sum()
    assert not (samples.blind[:, 0] < 79.0).any()
    assert (samples.x > 78.0).all()
    cone = reading(true_metres(), 0.02, STAMP_NS, radius=12.0)
    beside = replace(cone, u=np.array([82.0], np.float32))
    assert len(gather(values, [beside]).d) == 1


def test_a_cone_with_a_floor_in_it_does_not_tell_what_it_measured():
    values, true = disparity(), true_metres()
    states = {}
    for radius in (4.0, 60.0):  # the larger one holds the ground from 2 m to the wall
        estimator = MetricScaleEstimator()
        estimator.add(reading(true, 0.02, STAMP_NS, radius))
        states[radius] = estimator.estimate(frame(), relative(values)).state.value
    assert states == {4.0: "metric", 60.0: "relative"}


def test_the_rings_of_a_spinning_lidar_count_in_whichever_order_they_come():
    rings, columns = 16, 540
    v, u = np.meshgrid(np.linspace(70, 230, rings), np.linspace(2, 317, columns), indexing="ij")
    told = []
    for order in ("C", "F"):
        x, y = (a.ravel(order).astype(np.float32) for a in (u, v))
        z = (1.0 / inverse_depth()[y.astype(int), x.astype(int)]).astype(np.float32)
        swept = SparseDepth(x, y, z, 0.01 * z, "lidar", STAMP_NS, (WIDTH, HEIGHT))
        samples = gather(disparity(), [swept])
        told.append((samples.patches(), samples.uncovered(np.ones(24, bool)), samples.level()))
    np.testing.assert_allclose(told[0], told[1], rtol=0.12)
