"""What the node counts and times: every frame's fate, rates, and time per stage."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

WINDOW = 300
"""Most samples that a percentile is taken over."""
OLDEST_S = 10.0
"""Age at which a sample counts no longer: what has stopped has no latency."""


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of a time over the last `OLDEST_S`, milliseconds; NaN without samples."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Snapshot:
    """The state of all counters at one moment.

    `received == published + sum(dropped.values()) + in_flight`, always.

    Attributes:
        received: frames that reached the node since it was started.
        published: frames of which at least one output went out.
        dropped: frames that did not, by reason.
        in_flight: frames being worked on.
        rate_in_hz: frames received a second, over the last seconds.
        rate_out_hz: frames published a second, over the last seconds.
        latency_ms: image stamp to the last publish of that image, by the node's clock.
        turnaround_ms: arrival of the image in this process to the last publish.
        stages_ms: time per stage, by name, in the order of the pipeline.
    """

    received: int
    published: int
    dropped: dict[str, int]
    in_flight: int
    rate_in_hz: float
    rate_out_hz: float
    latency_ms: Percentiles
    turnaround_ms: Percentiles
    stages_ms: dict[str, Percentiles] = field(default_factory=dict)


class Metrics:
    """Thread-safe counters of one pipeline; every frame that is received ends exactly once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received = 0
        self._published = 0
        self._dropped: Counter[str] = Counter()
        self._arrivals: deque[float] = deque(maxlen=WINDOW)
        self._departures: deque[float] = deque(maxlen=WINDOW)
        self._latency_ms = _Samples()
        self._turnaround_ms = _Samples()
        self._stages_ms: dict[str, _Samples] = {}

    def received(self) -> None:
        """Count a frame that came in."""
        with self._lock:
            self._received += 1
            self._arrivals.append(time.monotonic())

    def published(self, received_ns: int, latency_s: float | None) -> None:
        """Count a frame that went out.

        Args:
            received_ns: `time.monotonic_ns()` when its image arrived.
            latency_s: seconds since its stamp, or None when it has no usable stamp.
        """
        now_ns = time.monotonic_ns()
        with self._lock:
            self._published += 1
            now = 1e-9 * now_ns
            self._departures.append(now)
            self._turnaround_ms.add(now, 1e-6 * (now_ns - received_ns))
            if latency_s is not None:
                self._latency_ms.add(now, 1e3 * latency_s)

    def dropped(self, reason: str) -> None:
        """Count a frame that will not be published, and why."""
        with self._lock:
            self._dropped[reason] += 1

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage of one frame."""
        start = time.perf_counter()
        yield
        self.took(name, time.perf_counter() - start)

    def took(self, name: str, seconds: float) -> None:
        """Note how long one stage of one frame took."""
        with self._lock:
            self._stages_ms.setdefault(name, _Samples()).add(time.monotonic(), 1e3 * seconds)

    def snapshot(self) -> Snapshot:
        """Everything counted so far, consistent with itself."""
        with self._lock:
            now = time.monotonic()
            return Snapshot(
                received=self._received,
                published=self._published,
                dropped=dict(self._dropped),
                in_flight=self._received - self._published - sum(self._dropped.values()),
                rate_in_hz=_rate(self._arrivals, now),
                rate_out_hz=_rate(self._departures, now),
                latency_ms=self._latency_ms.percentiles(now),
                turnaround_ms=self._turnaround_ms.percentiles(now),
                stages_ms={name: took.percentiles(now) for name, took in self._stages_ms.items()},
            )


class _Samples:
    """Durations in milliseconds, each with the moment (monotonic seconds) when it was noted."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=WINDOW)

    def add(self, now: float, milliseconds: float) -> None:
        self._samples.append((now, milliseconds))

    def percentiles(self, now: float) -> Percentiles:
        recent = [ms for at, ms in self._samples if now - at <= OLDEST_S]
        if not recent:
            return Percentiles(float("nan"), float("nan"), float("nan"))
        p50, p95, p99 = np.percentile(recent, (50, 95, 99))
        return Percentiles(float(p50), float(p95), float(p99))


def _rate(times: deque[float], now: float, window_s: float = 5.0) -> float:
    """Events a second, mean of the window; what is overdue by now lowers it."""
    recent = [t for t in times if now - t <= window_s]
    if len(recent) < 2:
        return 0.0
    intervals, spanned = len(recent) - 1, recent[-1] - recent[0]
    overdue = now - recent[-1] - spanned / intervals
    return intervals / max(spanned + max(overdue, 0.0), 1e-9)
