"""A network that knows metres itself, beside what is measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scale_picture import STAMP_NS, disparity, frame, inverse_depth, only, points

from depth_node.scale.measure import ScaleConfig
from depth_node.scale.metric import MetricScaleEstimator
from depth_node.types import Disparity, ScaleEstimate, ScaleState

FRAME_NS = 100_000_000


def test_a_metric_network_that_contradicts_the_points_is_not_metric():
    rng = np.random.default_rng(0)
    anywhere = np.exp(rng.uniform(np.log(0.3), np.log(80), 500)).astype(np.float32)
    estimator = MetricScaleEstimator()
    estimator.add(replace(points(500), depth=anywhere))
    estimate = estimator.estimate(frame(), Disparity(inverse_depth(), kind="metric"))
    assert estimate.state is ScaleState.RELATIVE
    assert estimate.reason


def test_a_metric_network_stays_refuted_when_the_sensor_that_refuted_it_stops():
    estimator = MetricScaleEstimator(ScaleConfig(hold_s=0.5))
    doubled = Disparity(inverse_depth().astype(np.float32) * 0.5, kind="metric")
    right = Disparity(inverse_depth().astype(np.float32), kind="metric")

    def shown(i: int, values: Disparity, *, measure: bool) -> ScaleEstimate:
        stamp_ns = STAMP_NS + i * FRAME_NS
        if measure:
            estimator.add(points(500, stamp_ns=stamp_ns))
        return estimator.estimate(frame(stamp_ns), values)

    assert shown(0, doubled, measure=True).state is ScaleState.METRIC
    *_, last = (shown(i, doubled, measure=False) for i in range(1, 30))
    assert last.state is ScaleState.RELATIVE
    assert "the network's own metres" in last.reason
    shown(30, right, measure=True)
    *_, last = (shown(i, right, measure=False) for i in range(31, 60))
    assert (last.state, last.source) == (ScaleState.METRIC, "network")


def test_a_metric_network_stands_in_and_nothing_behind_the_points_that_it_misses_is_free():
    given = points(500)
    values = inverse_depth()
    values[150:] = 0.0
    estimator = MetricScaleEstimator()
    estimator.add(only(given, given.v > 152))
    estimate = estimator.estimate(frame(), Disparity(values, kind="metric"))
    assert estimate.state is ScaleState.METRIC
    assert estimate.source == "network"
    assert len(estimate.in_front) == (given.v > 152).sum()
    later = estimator.estimate(frame(STAMP_NS + 10 * FRAME_NS), Disparity(values, kind="metric"))
    assert later.state is ScaleState.METRIC
    assert later.in_front is None, "points of long ago hide nothing where no scale is held"


def test_a_metric_network_stands_in_where_nothing_is_measured():
    values = Disparity(disparity(1.0, 0.0), kind="metric")
    estimate = MetricScaleEstimator().estimate(frame(), values)
    assert estimate.state is ScaleState.METRIC
    assert estimate.source == "network"
