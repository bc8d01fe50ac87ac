"""When a network counts as stalled, and metres as missing, by a clock that the test holds."""

from __future__ import annotations

import logging

import pytest

from depth_node.doctor.findings import Finding
from depth_node.health import Health, Level
from depth_node.types import ScaleEstimate, ScaleState
from depth_node.watch import FIRST_STALL_S, SETTLE_S, STALL_RATIO, STALL_S, NetworkWatch, ScaleWatch

METRIC = ScaleEstimate(ScaleState.METRIC, "lidar")
HELD = ScaleEstimate(ScaleState.HELD, "lidar", reason="the newest is 0.50 s old; lidar: too old")
RELATIVE = ScaleEstimate(ScaleState.RELATIVE, reason="nothing has arrived; lidar: start it")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def watch_of(clock: Clock, *frames_s: float) -> NetworkWatch:
    """A watch that has seen frames of these durations."""
    watch = NetworkWatch(clock)
    for seconds in frames_s:
        with watch:
            clock.now_s += seconds
            watch.answered()
    return watch


@pytest.mark.parametrize(
    ("frames_s", "limit_s"),
    [
        ((), FIRST_STALL_S),
        ((0.03,) * 5, STALL_S),
        ((1.5,) * 5, STALL_RATIO * 1.5),
        ((0.03, 0.03, 9.0, 0.03), STALL_S),  # one slow frame changes nothing
    ],
)
def test_a_frame_stalls_when_it_takes_far_longer_than_usual(
    frames_s: tuple[float, ...], limit_s: float
) -> None:
    clock = Clock()
    watch = watch_of(clock, *frames_s)
    assert watch.stall() == ""
    with watch:
        clock.now_s += limit_s - 0.01
        assert watch.stall() == ""
        clock.now_s += 0.02
        said = watch.stall()
        assert f"more than {limit_s:.2g} s" in said
        clock.now_s += 60.0
        assert watch.stall() == said, "it is logged once"
    assert watch.stall() == ""


def test_frames_that_never_reach_the_network_do_not_make_it_seem_fast() -> None:
    clock = Clock()
    watch = watch_of(clock, 3.0)
    for _ in range(100):
        with watch:
            pass
    assert watch.usual_s == 3.0


def test_frames_before_the_first_measurement_and_single_ones_without_are_no_problem() -> None:
    health = Health()
    watch = ScaleWatch(health)
    at_s = 0.0
    for estimate in (RELATIVE, RELATIVE, METRIC, HELD, METRIC, HELD, RELATIVE, METRIC):
        watch.saw(estimate, at_s, metres=estimate is not RELATIVE)
        assert health.problems() == []
        at_s += 0.45 * SETTLE_S


@pytest.mark.parametrize(
    ("estimate", "level", "seen"),
    [
        (RELATIVE, Level.ERROR, "no metres are published, the scale is relative: nothing has"),
        (HELD, Level.WARN, "metres rest on an older scale, the scale is held: the newest is"),
    ],
)
def test_a_scale_that_stays_away_is_a_problem_with_its_reason_and_a_cure_until_it_is_back(
    estimate: ScaleEstimate, level: Level, seen: str, caplog: pytest.LogCaptureFixture
) -> None:
    health = Health()
    watch = ScaleWatch(health)
    with caplog.at_level(logging.WARNING):
        for frame in range(10):
            watch.saw(estimate, SETTLE_S * frame, metres=estimate is HELD)
    assert len(caplog.records) == 1
    (problem,) = health.problems()
    assert problem.level is level
    finding = Finding.from_text(problem.level, "node", problem.text)
    assert finding.seen.startswith(seen)
    assert "lidar: " in finding.seen
    assert "scale.source" in finding.cure
    watch.saw(METRIC, 0.0, metres=True)
    assert health.problems() == []
