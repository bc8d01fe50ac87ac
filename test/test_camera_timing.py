"""Pacing without drift, and back-off, on a clock that tests move by hand."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_node.cameras.timing import Backoff, Pacer, SystemClock


class ManualClock:
    """Time passes only while somebody waits, and when a test says so; every wait is late."""

    def __init__(self, late_ns: int = 0) -> None:
        self.now_ns = 10**9
        self.late_ns = late_ns
        self.waits = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def time_ns(self) -> int:
        return self.now_ns

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits += 1
        self.now_ns += round(1e9 * seconds) + self.late_ns
        return event.is_set()


@given(rate_hz=st.floats(0.5, 240.0), late_us=st.integers(0, 900))
def test_late_wake_ups_do_not_add_up_to_a_drift(rate_hz: float, late_us: int) -> None:
    clock = ManualClock(late_ns=1000 * late_us)
    pacer = Pacer(rate_hz, threading.Event(), clock)
    start_ns = clock.now_ns
    for _ in range(1001):
        assert pacer.wait()
    elapsed_s = 1e-9 * (clock.now_ns - start_ns)
    assert elapsed_s == pytest.approx(1000 / rate_hz, abs=1e-3)
    assert clock.waits == 1000  # it waited for each due time once: it did not spin


def test_a_reader_that_is_a_little_late_catches_up() -> None:
    clock = ManualClock()
    pacer = Pacer(10.0, threading.Event(), clock)
    pacer.wait()
    clock.now_ns += 150_000_000
    pacer.wait()
    pacer.wait()
    assert clock.now_ns == 10**9 + 200_000_000


def test_a_reader_that_is_very_late_gets_no_burst() -> None:
    clock = ManualClock()
    pacer = Pacer(10.0, threading.Event(), clock)
    pacer.wait()
    clock.now_ns += 5_000_000_000
    late_ns = clock.now_ns
    pacer.wait()
    pacer.wait()
    assert clock.now_ns == late_ns + 100_000_000


def test_closing_ends_a_real_wait_at_once() -> None:
    closed = threading.Event()
    pacer = Pacer(0.01, closed, SystemClock())
    assert pacer.wait()
    results: list[bool] = []
    waiter = threading.Thread(target=lambda: results.append(pacer.wait()))
    waiter.start()
    closed.set()
    waiter.join(5.0)
    assert results == [False]


def test_back_off_doubles_up_to_eight_seconds_and_starts_again() -> None:
    backoff = Backoff()
    assert [backoff.failed() for _ in range(7)] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    backoff.succeeded()
    assert backoff.failed() == 0.5
