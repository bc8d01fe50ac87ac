"""Waiting: at a camera's rate without drift, and longer and longer after failures."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """The time functions that cameras use, so that tests need not wait."""

    def monotonic_ns(self) -> int:
        """Nanoseconds that never jump, for durations."""
        ...

    def time_ns(self) -> int:
        """Nanoseconds since the epoch, for stamps."""
        ...

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for the event, at most so many seconds; true when it is set."""
        ...


class SystemClock:
    """The computer's own clocks."""

    def monotonic_ns(self) -> int:
        """See `Clock`."""
        return time.monotonic_ns()

    def time_ns(self) -> int:
        """See `Clock`."""
        return time.time_ns()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """See `Clock`."""
        return event.wait(seconds)


class Pacer:
    """Waits for due times that are counted from the first one, so that delays never add up.

    Args:
        rate_hz: due times a second.
        closed: ends a wait at once when it is set.
        clock: where time comes from.
    """

    def __init__(self, rate_hz: float, closed: threading.Event, clock: Clock) -> None:
        self._period_ns = 1e9 / rate_hz
        self._closed = closed
        self._clock = clock
        self._start_ns: int | None = None
        self._count = 0

    def wait(self) -> bool:
        """Wait for the next due time and return true, or false as soon as the event is set.

        Whoever comes late by less than a period catches up. Whoever comes later than that starts
        a new count: what was missed is not made up for by a burst.
        """
        now_ns = self._clock.monotonic_ns()
        due_ns = now_ns
        if self._start_ns is not None:
            due_ns = self._start_ns + round(self._count * self._period_ns)
        if self._start_ns is None or now_ns - due_ns > self._period_ns:
            self._start_ns, self._count, due_ns = now_ns, 0, now_ns
        self._count += 1
        if due_ns > now_ns:
            return not self._clock.wait(self._closed, 1e-9 * (due_ns - now_ns))
        return not self._closed.is_set()


class Backoff:
    """Delays that double from one failure to the next: 0.5, 1, 2, 4, 8, 8, ... seconds."""

    FIRST_S = 0.5
    LONGEST_S = 8.0

    def __init__(self) -> None:
        self._next_s = self.FIRST_S

    def failed(self) -> float:
        """Seconds to wait before the next attempt."""
        delay_s = self._next_s
        self._next_s = min(2.0 * delay_s, self.LONGEST_S)
        return delay_s

    def succeeded(self) -> None:
        """Begin with the shortest delay again."""
        self._next_s = self.FIRST_S
