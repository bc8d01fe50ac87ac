"""A robot that drives: what its own motion does to the scale, with sensors and after they stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from scale_room import (
    HEIGHT,
    RATE_HZ,
    UNIT,
    WIDTH,
    Pixels,
    frame,
    measured,
    one_range,
    rings,
    room,
    scan,
    scattered,
    smooth,
)

from depth_node.scale.apply import inverse_depth
from depth_node.scale.measure import ScaleConfig
from depth_node.scale.metric import MetricScaleEstimator
from depth_node.types import Disparity, ScaleEstimate, ScaleState


@dataclass(frozen=True)
class Seen:
    """One frame of a drive: the truth in 1/m, what was estimated, and what is published of it."""

    true: np.ndarray
    estimate: ScaleEstimate
    published: np.ndarray | None

    @property
    def worst_ratio(self) -> float:
        """Of published to true depth at the wall ahead, over or under."""
        assert self.published is not None
        wall = (HEIGHT // 2, WIDTH // 2)
        ratio = float(self.true[wall] / self.published[wall])
        return max(ratio, 1 / ratio)

    @property
    def error(self) -> float:
        assert self.published is not None
        return float(np.abs(self.true / np.maximum(self.published, 1e-3) - 1).mean())


def drive(
    speed: float,
    pixels: Callable[[np.random.Generator], Pixels],
    *,
    seed: int = 0,
    error: float = 0.08,
    flicker: float = 0.01,
    seconds: float = 2.0,
    stop_s: float = np.inf,
    filtered: bool = True,
) -> Iterator[Seen]:
    """Towards a wall that is 3.5 m away, with a sensor of 10 Hz that may stop."""
    rng = np.random.default_rng(seed)
    network = smooth(rng, error)
    estimator = MetricScaleEstimator(ScaleConfig(max_skew_s=0.15, filtered=filtered))
    for i in range(int(seconds * RATE_HZ)):
        stamp_ns = 1_000_000_000 + i * 1_000_000_000 // RATE_HZ
        true = room(3.5 - speed * i / RATE_HZ)
        values = (true * np.exp(network + smooth(rng, flicker)) / UNIT).astype(np.float32)
        if i % 3 == 0 and i / RATE_HZ < stop_s:
            estimator.add(measured(true, pixels(rng), rng, stamp_ns))
        disparity = Disparity(values)
        estimate = estimator.estimate(frame(stamp_ns), disparity)
        published = None
        if estimate.state is not ScaleState.RELATIVE:
            published = inverse_depth(disparity, estimate, WIDTH, HEIGHT)
        yield Seen(true, estimate, published)


@pytest.mark.parametrize("pixels", [rings, scattered])
@pytest.mark.parametrize("speed", [0.0, 0.3, 0.8])
def test_a_driving_robot_with_a_lidar_stays_metric_and_right(speed, pixels):
    states: Counter[ScaleState] = Counter()
    for seed in range(3):
        for seen in drive(speed, pixels, seed=seed):
            states[seen.estimate.state] += 1
            assert seen.published is not None
            assert seen.error < 0.15
    assert states[ScaleState.METRIC] >= 0.85 * states.total()


@pytest.mark.parametrize(("speed", "error"), [(1.0, 0.05), (0.7, 0.08), (0.4, 0.08)])
def test_a_wall_that_comes_nearer_while_the_lidar_is_silent_is_not_left_where_it_was(speed, error):
    frames = drive(speed, rings, error=error, seconds=2.9, stop_s=0.3)
    published = [seen for seen in frames if seen.published is not None]
    assert published[-1].estimate.state is ScaleState.HELD
    assert max(seen.worst_ratio for seen in published) < 1.35
    late = published[-1]
    assert np.log(late.worst_ratio) < 2 * float(late.estimate.log_sigma.max())
    assert len(published) < 2.5 * RATE_HZ


def test_a_robot_that_stands_still_holds_its_scale_for_two_seconds():
    *_, last = drive(0.0, rings, seconds=2.3, stop_s=0.3)
    assert last.estimate.state is ScaleState.HELD
    assert last.error < 0.15


def test_a_scan_of_a_wall_alone_does_not_make_the_wall_of_everything():
    for seed in range(4):
        (seen,) = drive(0.0, scan, seed=seed, seconds=1 / RATE_HZ)
        if seen.published is not None:
            relative_sigma = np.sqrt(seen.estimate.covariance[0, 0]) / seen.estimate.scale
            assert relative_sigma < 1.0
            assert seen.error < 0.2


def test_one_range_reading_in_a_closed_room_is_not_called_metric():
    # Nothing in the picture is far enough to say where the network's disparity has its zero.
    frames = list(drive(0.0, one_range, error=0.05))
    assert not any(seen.estimate.state is ScaleState.METRIC for seen in frames)
    assert "max_sigma" in frames[-1].estimate.reason


def test_a_range_finder_on_a_driving_robot_does_not_run_away():
    for seen in drive(1.0, one_range, error=0.05):
        if seen.published is not None:
            assert seen.worst_ratio < 1.4
            assert seen.error < 0.4


def test_without_the_filter_every_frame_is_taken_anew():
    states = {seen.estimate.state for seen in drive(0.8, rings, filtered=False)}
    assert states == {ScaleState.METRIC}
