"""Which measurements count for a frame, and what is said of their points and extrinsics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scale_picture import HEIGHT, STAMP_NS, WIDTH, disparity, frame, points, relative

from depth_node.scale.alignment import Offset
from depth_node.scale.inbox import Inbox, apart_ns
from depth_node.scale.measure import ScaleConfig
from depth_node.scale.metric import MetricScaleEstimator
from depth_node.scale.points import SparseDepth
from depth_node.types import PointCounts, ScaleState

MAX_SKEW_S = 0.15
MS = 1_000_000


def moved(measured_ms: int, to_ms: int, count: int = 300) -> SparseDepth:
    """Points that odometry moved, with both times after STAMP_NS."""
    measured_ns = STAMP_NS + measured_ms * MS
    return replace(points(count, stamp_ns=STAMP_NS + to_ms * MS), measured_ns=measured_ns)


def test_points_that_odometry_moved_count_no_longer_than_others() -> None:
    estimator = MetricScaleEstimator(ScaleConfig(max_skew_s=MAX_SKEW_S))
    states = {}
    for now in range(0, 301, 50):
        if now <= 150:
            estimator.add(moved(0, now))
        at = frame(STAMP_NS + now * MS)
        states[now] = estimator.estimate(at, relative(disparity())).state.value
    assert states == dict.fromkeys((0, 50, 100, 150), "metric") | dict.fromkeys(
        (200, 250, 300), "held"
    )


def test_points_that_were_moved_away_do_not_count_however_new_they_are() -> None:
    estimator = MetricScaleEstimator(ScaleConfig(max_skew_s=MAX_SKEW_S))
    estimator.add(moved(measured_ms=160, to_ms=0))
    estimate = estimator.estimate(frame(STAMP_NS + 160 * MS), relative(disparity()))
    assert estimate.state is ScaleState.RELATIVE
    assert "0.16 s from the image" in estimate.reason


def test_of_one_measurement_the_points_moved_to_the_frame_are_taken() -> None:
    inbox = Inbox()
    for to_ms in (10, 43, 76, 109):
        inbox.add(moved(0, to_ms))
    (found,) = inbox.nearest(STAMP_NS + 109 * MS)
    assert found.stamp_ns == STAMP_NS + 109 * MS
    assert apart_ns(found, STAMP_NS + 109 * MS) == 109 * MS


def test_a_newer_measurement_is_taken_before_an_older_one_that_was_moved_nearer() -> None:
    inbox = Inbox()
    inbox.add(moved(0, 150))
    inbox.add(points(5, stamp_ns=STAMP_NS + 90 * MS))
    (found,) = inbox.nearest(STAMP_NS + 160 * MS)
    assert found.measured_ns is None


def one_reading(metres: float) -> SparseDepth:
    """A range finder's, on the nearer box."""
    u, v, depth, sigma = (np.float32([value]) for value in (75.0, 110.0, metres, 0.02))
    return SparseDepth(u, v, depth, sigma, "range", STAMP_NS, (WIDTH, HEIGHT), 5.0)


def test_the_one_reading_that_is_the_scale_is_used() -> None:
    estimator = MetricScaleEstimator()
    estimator.add(one_reading(4.0))
    counts = estimator.estimate(frame(), relative(disparity())).counts
    assert counts["range"] == PointCounts(given=1, saturated=0, refused=0, used=1)


@pytest.mark.parametrize(("metres", "used"), [(4.0, 1), (1.0, 0)])
def test_a_reading_among_rays_is_used_where_the_fit_agrees(metres: float, used: int) -> None:
    estimator = MetricScaleEstimator()
    estimator.add(points(400))
    estimator.add(one_reading(metres))
    counts = estimator.estimate(frame(), relative(disparity())).counts
    assert counts["range"] == PointCounts(1, 0, 1 - used, used)
    assert counts["lidar"].used > 380


def test_of_a_fit_that_is_refused_no_point_is_used() -> None:
    given = points(500)
    noise = np.random.default_rng(0).uniform(np.log(0.3), np.log(80), 500)
    estimator = MetricScaleEstimator()
    estimator.add(replace(given, depth=np.exp(noise).astype(np.float32)))
    estimate = estimator.estimate(frame(), relative(disparity()))
    assert "lidar" in estimate.reason
    assert estimate.counts["lidar"] == PointCounts(500, 0, 500, 0)


def test_of_a_fit_that_the_filter_refuses_no_point_is_used() -> None:
    estimator = MetricScaleEstimator()
    for index in range(10):
        at = STAMP_NS + 33 * MS * index
        estimator.add(points(500, stamp_ns=at))
        estimator.estimate(frame(at), relative(disparity()))
    at += 33 * MS
    given = points(500, stamp_ns=at)
    estimator.add(replace(given, depth=np.float32(3.0) * given.depth))
    estimate = estimator.estimate(frame(at), relative(disparity()))
    assert "contradicts the filter" in estimate.reason
    assert estimate.counts["lidar"] == PointCounts(500, 0, 500, 0)


@pytest.mark.parametrize("local_correction", [True, False])
@pytest.mark.parametrize("count", [500, 2000])
def test_points_that_the_fit_refuses_are_counted(count: int, local_correction: bool) -> None:
    given = points(count)
    wrong = int(0.3 * count)
    depth = given.depth.copy()
    depth[np.random.default_rng(0).permutation(count)[:wrong]] *= np.float32(6.0)
    estimator = MetricScaleEstimator(ScaleConfig(local_correction=local_correction))
    estimator.add(replace(given, depth=depth))
    found = estimator.estimate(frame(), relative(disparity())).counts["lidar"]
    assert found.refused == pytest.approx(wrong, rel=0.15)
    assert found.used + found.refused == count


def test_extrinsics_are_judged_of_the_sensors_that_measure() -> None:
    estimator = MetricScaleEstimator()
    estimator.add(Offset(dv=-4.5 / WIDTH, gain=1.0).applied(points(2000)))
    estimator.estimate(frame(), relative(disparity()))
    assert set(estimator.extrinsic_errors) == set(estimator.extrinsics_known()) == {"lidar"}
    later = STAMP_NS + 1_000 * MS
    estimator.add(points(500, stamp_ns=later, source="scan"))
    estimator.estimate(frame(later), relative(disparity()))
    assert set(estimator.extrinsic_errors) == set(estimator.extrinsics_known()) == {"scan"}
