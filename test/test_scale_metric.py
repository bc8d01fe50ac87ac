"""The estimator as a whole: status, fallbacks, time."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from scale_picture import (
    CAMERA,
    CAMERA_HEIGHT_M,
    HEIGHT,
    STAMP_NS,
    WIDTH,
    bent_disparity,
    disparity,
    frame,
    inverse_depth,
    only,
    points,
    relative,
)

from depth_node.scale.apply import inverse_depth as applied
from depth_node.scale.apply import log_sigma
from depth_node.scale.ground import GroundReference
from depth_node.scale.measure import ScaleConfig
from depth_node.scale.metric import MetricScaleEstimator
from depth_node.scale.points import SparseDepth
from depth_node.types import ScaleEstimate, ScaleState

FRAME_NS = 100_000_000


def error(estimate: ScaleEstimate, values: np.ndarray) -> float:
    q = applied(relative(values), estimate, WIDTH, HEIGHT)
    true = inverse_depth()
    seen = (true > 0) & (q > 0)
    return float(np.mean(np.abs(true[seen] / q[seen] - 1)))


def test_points_make_the_depth_metric():
    estimator = MetricScaleEstimator()
    estimator.add(points(800))
    estimate = estimator.estimate(frame(), relative(bent_disparity()))
    assert estimate.state is ScaleState.METRIC
    assert estimate.source == "lidar"
    assert error(estimate, bent_disparity()) < 0.04
    assert estimate.counts["lidar"].given == 800
    assert estimate.counts["lidar"].used > 700


def test_sky_is_never_finite():
    estimator = MetricScaleEstimator()
    estimator.add(points(800))
    values = relative(disparity())
    estimate = estimator.estimate(frame(), values)
    assert (applied(values, estimate, WIDTH, HEIGHT)[:58] == 0).all()
    assert (applied(values, estimate, 640, 480)[:116] == 0).all()
    broken = disparity()
    broken[200, 100] = np.nan
    assert applied(relative(broken), estimate, WIDTH, HEIGHT)[200, 100] == 0


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_points_in_front_of_what_the_network_sees_are_named(share: float):
    estimator = MetricScaleEstimator()
    estimator.add(points(800))
    values = bent_disparity()
    values[150:200, 100:160] *= share
    estimate = estimator.estimate(frame(), relative(values))
    assert estimate.state is ScaleState.METRIC
    inside = np.abs(estimate.in_front[:, :2] - [129.5, 174.5]) <= [30.5, 25.5]
    assert inside.all(axis=1).sum() > 5
    assert inside.all(axis=1).mean() > 0.9
    column, row = np.rint(estimate.in_front[:, :2]).astype(int).T
    assert np.median(np.abs(estimate.in_front[:, 2] / inverse_depth()[row, column] - 1)) < 0.1


def test_a_clean_scene_has_no_points_in_front():
    estimator = MetricScaleEstimator()
    estimator.add(points(800))
    assert len(estimator.estimate(frame(), relative(bent_disparity())).in_front) < 3


def test_a_held_scale_names_them_too_and_goes_on_when_the_sensor_stops():
    estimator = MetricScaleEstimator()
    estimator.add(points(800))
    estimator.estimate(frame(), relative(bent_disparity()))
    blinded = bent_disparity()
    blinded[100:] = 0.0
    given = points(800, stamp_ns=STAMP_NS + FRAME_NS)
    low = given.v > 102
    estimator.add(only(given, low))
    for frames in (1, 2, 10):  # from the second on there are no points
        estimate = estimator.estimate(frame(STAMP_NS + frames * FRAME_NS), relative(blinded))
        assert estimate.state is ScaleState.HELD
        assert len(estimate.in_front) == low.sum()
    estimator.reset()
    assert estimator.estimate(frame(), relative(blinded)).in_front is None


def test_points_in_front_end_where_the_ground_takes_over_from_a_sensor_that_stopped():
    estimator = MetricScaleEstimator()
    estimator.set_ground(GroundReference(CAMERA_HEIGHT_M, (0.0, 1.0, 0.0)))
    estimator.add(points(800))
    values = disparity()
    values[150:180, 100:160] = 0.0
    assert len(estimator.estimate(frame(), relative(values)).in_front) > 5
    later = estimator.estimate(frame(STAMP_NS + FRAME_NS), relative(values))
    assert (later.state, later.source) == (ScaleState.METRIC, "ground")
    assert later.in_front is None


def test_nothing_measured_is_relative_and_says_so():
    estimate = MetricScaleEstimator().estimate(frame(), relative(disparity()))
    assert estimate.state is ScaleState.RELATIVE
    assert "no measurement has arrived" in estimate.reason


@pytest.mark.parametrize(
    ("late_ns", "words"), [(int(60e9), "another clock"), (FRAME_NS * 3, "from the image")]
)
def test_stamps_that_do_not_match_are_named(late_ns: int, words: str):
    estimator = MetricScaleEstimator()
    estimator.add(points(500, stamp_ns=STAMP_NS - late_ns))
    estimate = estimator.estimate(frame(), relative(disparity()))
    assert estimate.state is ScaleState.RELATIVE
    assert words in estimate.reason


@pytest.mark.parametrize("count", [0, 1, 2, 5, 11])
def test_few_points_have_a_stated_outcome(count: int):
    estimator = MetricScaleEstimator()
    estimator.add(points(count))
    estimate = estimator.estimate(frame(), relative(disparity()))
    assert (estimate.state is ScaleState.METRIC) == (count > 0)
    assert bool(estimate.reason) == (count == 0)
    assert estimate.log_field is None


def test_points_that_are_all_wrong_are_not_metric():
    given = points(500)
    rng = np.random.default_rng(0)
    noise = np.exp(rng.uniform(np.log(0.3), np.log(80), 500)).astype(np.float32)
    estimator = MetricScaleEstimator()
    estimator.add(replace(given, depth=noise))
    estimate = estimator.estimate(frame(), relative(disparity()))
    assert estimate.state is ScaleState.RELATIVE
    assert estimate.reason


def test_constant_and_saturated_disparity_raise_nothing():
    for value in (0.0, 30.0):
        estimator = MetricScaleEstimator()
        estimator.add(points(300))
        flat = np.full((HEIGHT, WIDTH), value, np.float32)
        estimate = estimator.estimate(frame(), relative(flat))
        assert estimate.state is not ScaleState.HELD
        assert estimate.reason or estimate.state is ScaleState.METRIC


def drive(estimator: MetricScaleEstimator, first: int, count: int, *, measured: bool):
    """Show frames whose gauge differs from one to the next; yields (values, estimate)."""
    rng = np.random.default_rng(first)
    for index in range(first, first + count):
        stamp = STAMP_NS + index * FRAME_NS
        gauge = rng.uniform(0.7, 1.4)
        values = (bent_disparity() * gauge).astype(np.float32)
        if measured:
            estimator.add(points(600, seed=index, stamp_ns=stamp))
        yield values, estimator.estimate(frame(stamp), relative(values))


def test_a_still_scene_does_not_jitter():
    estimator = MetricScaleEstimator()
    level = [
        np.log(np.median(applied(relative(values), estimate, WIDTH, HEIGHT)[60:]))
        for values, estimate in drive(estimator, 0, 20, measured=True)
    ]
    assert np.sqrt(np.mean(np.diff(level[5:]) ** 2)) < 0.005


def test_two_seconds_without_lidar_are_held_and_hardly_worse():
    estimator = MetricScaleEstimator()
    *_, (values, estimate) = drive(estimator, 0, 5, measured=True)
    fresh, sure = error(estimate, values), estimate.log_sigma.mean()
    *_, (values, estimate) = drive(estimator, 5, 20, measured=False)
    assert estimate.state is ScaleState.HELD
    assert estimate.age_s == pytest.approx(2.0, abs=0.01)
    assert estimate.reason
    assert error(estimate, values) < fresh + 0.03
    assert estimate.log_sigma.mean() > sure


def test_a_scale_held_for_too_long_is_given_up():
    estimator = MetricScaleEstimator(ScaleConfig(hold_s=1.0))
    list(drive(estimator, 0, 3, measured=True))
    *_, (_, estimate) = drive(estimator, 3, 15, measured=False)
    assert estimate.state is ScaleState.RELATIVE
    assert "nothing was measured" in estimate.reason


def test_a_slow_lidar_alternates_with_held_frames_of_the_same_depth():
    estimator = MetricScaleEstimator()
    list(drive(estimator, 0, 3, measured=True))
    values, held = next(drive(estimator, 3, 1, measured=False))
    assert held.state is ScaleState.HELD
    assert error(held, values) < 0.05


def test_stamps_that_jump_back_start_afresh():
    estimator = MetricScaleEstimator()
    list(drive(estimator, 10, 3, measured=True))
    estimate = estimator.estimate(frame(STAMP_NS - int(9e9)), relative(disparity()))
    assert estimate.state is ScaleState.RELATIVE


def test_the_ground_stands_in_for_points():
    estimator = MetricScaleEstimator()
    estimator.set_ground(GroundReference(CAMERA_HEIGHT_M, (0.0, 1.0, 0.0)))
    _, fy, _, cy = CAMERA.intrinsics
    q = np.maximum((np.arange(HEIGHT)[:, None] - cy) / fy / CAMERA_HEIGHT_M, 1 / 40)
    values = np.repeat(q / 0.004, WIDTH, axis=1)
    estimate = estimator.estimate(frame(), relative(values))
    assert estimate.state is ScaleState.METRIC
    assert estimate.source == "ground"
    blind = replace(frame(STAMP_NS + FRAME_NS), camera=None)
    assert "calibration" in estimator.estimate(blind, relative(values)).reason


def test_sources_are_used_together():
    estimator = MetricScaleEstimator()
    estimator.add(points(300, source="lidar"))
    estimator.add(points(100, seed=1, source="landmarks"))
    assert estimator.estimate(frame(), relative(disparity())).source == "landmarks+lidar"


def test_points_may_be_added_while_frames_are_estimated():
    estimator = MetricScaleEstimator()
    stop = threading.Event()
    given = points(300)

    def feed() -> None:
        while not stop.is_set():
            estimator.add(given)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        for index in range(5):
            stamp = STAMP_NS + index * 1_000_000
            estimate = estimator.estimate(frame(stamp), relative(disparity()))
            assert estimate.state is not ScaleState.HELD
    finally:
        stop.set()
        thread.join()
    assert estimator.counts["lidar"].given == 300


def one_row(row: int, source: str) -> SparseDepth:
    """A planar scan's points: all in one row."""
    u = np.arange(0, WIDTH, 2)
    z = (1.0 / inverse_depth()[row, u]).astype(np.float32)
    v = np.full(len(u), row, np.float32)
    size = (WIDTH, HEIGHT)
    return SparseDepth(u.astype(np.float32), v, z, 0.01 * z, source, STAMP_NS, size)


@pytest.mark.parametrize(("network_error", "state"), [(0.08, "metric"), (0.28, "held")])
def test_a_thin_scan_makes_a_good_networks_depth_metric_but_not_a_poor_ones(network_error, state):
    estimator = MetricScaleEstimator(ScaleConfig(network_error=network_error))
    estimator.add(one_row(130, "scan"))
    estimate = estimator.estimate(frame(), relative(disparity()))
    assert estimate.state.value == state
    assert ("scale.max_sigma" in estimate.reason) == (state == "held")


@pytest.mark.parametrize(("network_error", "state"), [(0.08, "metric"), (0.28, "relative")])
def test_one_range_reading_makes_no_metres_of_a_poor_network(network_error, state):
    estimator = MetricScaleEstimator(ScaleConfig(network_error=network_error))
    reading = one_row(200, "range").at_most(1)
    estimator.add(reading)
    estimate = estimator.estimate(frame(), relative(disparity()))
    assert estimate.state.value == state
    assert ("scale.max_sigma" in estimate.reason) == (state == "relative")


def test_a_limit_that_the_points_meet_is_theirs_to_meet():
    strict = MetricScaleEstimator(ScaleConfig(max_sigma=0.001))
    strict.add(points(800))
    estimate = strict.estimate(frame(), relative(bent_disparity()))
    assert estimate.state is ScaleState.HELD
    assert "lidar is known to" in estimate.reason


def test_the_age_is_that_of_the_newest_measurement():
    estimator = MetricScaleEstimator(ScaleConfig(max_skew_s=0.2))
    estimator.add(points(300, stamp_ns=STAMP_NS - 150_000_000))
    estimate = estimator.estimate(frame(), relative(disparity()))
    assert estimate.state is ScaleState.METRIC
    assert estimate.age_s == pytest.approx(0.15)
    estimator.add(points(300, source="landmarks", stamp_ns=STAMP_NS - 50_000_000))
    assert estimator.estimate(frame(), relative(disparity())).age_s == pytest.approx(0.05)
    later = estimator.estimate(frame(STAMP_NS + 1_000_000_000), relative(disparity()))
    assert later.state is ScaleState.HELD
    assert later.age_s == pytest.approx(1.05)


def test_points_that_odometry_moved_are_as_old_as_their_measurement():
    estimator = MetricScaleEstimator(ScaleConfig(max_skew_s=0.15))
    estimator.add(replace(points(300), measured_ns=STAMP_NS - 120_000_000))
    assert estimator.estimate(frame(), relative(disparity())).age_s == pytest.approx(0.12)


def test_a_measurement_after_the_image_has_no_age():
    estimator = MetricScaleEstimator()
    estimator.add(points(300, stamp_ns=STAMP_NS + 50_000_000))
    assert estimator.estimate(frame(), relative(disparity())).age_s == 0.0


def test_points_are_counted_by_source():
    estimator = MetricScaleEstimator()
    spoiled = points(400, source="lidar")
    depth = spoiled.depth.copy()
    depth[:60] *= np.float32(6.0)
    estimator.add(replace(spoiled, depth=depth))
    estimator.add(points(100, seed=1, source="landmarks"))
    counts = estimator.estimate(frame(), relative(disparity())).counts
    lidar, landmarks = counts["lidar"], counts["landmarks"]
    assert (lidar.given, landmarks.given) == (400, 100)
    assert lidar.refused >= 55
    assert landmarks.refused <= 5
    assert all(c.given == c.saturated + c.refused + c.used for c in counts.values())


def test_sigma_without_a_field_comes_from_the_covariance():
    estimate = ScaleEstimate(
        ScaleState.METRIC,
        scale=0.004,
        shift=0.002,
        covariance=np.diag([0.0, 1e-4]),
        inliers=1000,
    )
    sigma = log_sigma(relative(disparity()), estimate, WIDTH, HEIGHT)
    near, far = sigma[239, 0], sigma[65, 0]
    assert far > near > 0


def test_a_scale_is_given_up_by_time_also_where_stamps_stand_still():
    estimator, states = MetricScaleEstimator(), []
    estimator.add(points(800))
    for i in range(8):  # half a second apart; all but the first with one stamp
        stamp_ns = STAMP_NS + (1_000_000_000 if i else 0)
        seen = replace(frame(stamp_ns), received_ns=i * 500_000_000)
        states.append(estimator.estimate(seen, relative(disparity())).state)
    assert states[:5] == [ScaleState.METRIC, *[ScaleState.HELD] * 4]
    assert states[-1] is ScaleState.RELATIVE
