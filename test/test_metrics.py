"""What the node counts: rates and percentiles are those of the last seconds, and none older."""

from __future__ import annotations

import math
import types

import pytest

from depth_node import metrics
from depth_node.metrics import Metrics


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def monotonic_ns(self) -> int:
        return round(1e9 * self.now_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    module = types.SimpleNamespace(monotonic=fake.monotonic, monotonic_ns=fake.monotonic_ns)
    monkeypatch.setattr(metrics, "time", module)
    return fake


def run(counted: Metrics, clock: Clock, rate_hz: float, seconds: float) -> None:
    """Let frames arrive and go out, the last of them now; each took 20 ms here."""
    for _ in range(round(rate_hz * seconds)):
        clock.now_s += 1.0 / rate_hz
        counted.received()
        counted.took("network", 0.015)
        counted.published(clock.monotonic_ns() - 20_000_000, 0.025)


@pytest.mark.parametrize("rate_hz", [2.0, 30.0, 120.0])
def test_the_rate_of_a_running_node_is_its_frames_a_second(clock, rate_hz):
    counted = Metrics()
    run(counted, clock, rate_hz, 8.0)
    assert counted.snapshot().rate_out_hz == pytest.approx(rate_hz, rel=0.01)
    clock.now_s += 0.9 / rate_hz  # the next is not overdue
    snapshot = counted.snapshot()
    assert snapshot.rate_in_hz == pytest.approx(rate_hz, rel=0.01)
    assert snapshot.rate_out_hz == pytest.approx(rate_hz, rel=0.01)


@pytest.mark.parametrize(("stopped_s", "highest_hz"), [(1.0, 24.5), (3.5, 9.5), (5.1, 0.0)])
def test_the_rate_falls_as_soon_as_frames_stop(clock, stopped_s, highest_hz):
    counted = Metrics()
    run(counted, clock, 30.0, 8.0)
    clock.now_s += stopped_s
    snapshot = counted.snapshot()
    assert snapshot.rate_in_hz <= highest_hz
    assert snapshot.rate_out_hz <= highest_hz


def test_percentiles_are_those_of_the_last_ten_seconds(clock):
    counted = Metrics()
    run(counted, clock, 30.0, 8.0)
    clock.now_s += 9.9
    snapshot = counted.snapshot()
    assert snapshot.latency_ms.p50 == pytest.approx(25.0)
    assert snapshot.turnaround_ms.p99 == pytest.approx(20.0, abs=0.01)
    assert snapshot.stages_ms["network"].p95 == pytest.approx(15.0)
    clock.now_s += 0.2
    snapshot = counted.snapshot()
    aged = (snapshot.latency_ms, snapshot.turnaround_ms, *snapshot.stages_ms.values())
    assert len(aged) == 3
    assert all(math.isnan(value) for p in aged for value in (p.p50, p.p95, p.p99))
    assert snapshot.published == 240


def test_old_samples_do_not_count_beside_new_ones(clock):
    counted = Metrics()
    counted.took("network", 9.0)  # as a first frame does, for which an engine compiles
    clock.now_s += 11.0
    counted.took("network", 0.015)
    assert counted.snapshot().stages_ms["network"].p99 == pytest.approx(15.0)
