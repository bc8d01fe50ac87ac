"""A clock and a capture that tests of live cameras control step by step."""

from __future__ import annotations

import queue
import threading

import numpy as np

PATIENCE_S = 10.0


class GatedClock:
    """Records every back-off and lets it end when the test says so."""

    def __init__(self) -> None:
        self.delays: queue.Queue[float] = queue.Queue()
        self.gate = threading.Semaphore(0)
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def time_ns(self) -> int:
        return 10**18 + self.now_ns

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.delays.put(seconds)
        while not event.is_set() and not self.gate.acquire(timeout=0.01):
            pass
        return event.is_set()


class FakeCapture:
    """Delivers what the test puts into `images`: an array, None (undecodable) or False (gone)."""

    def __init__(self) -> None:
        self.images: queue.Queue[np.ndarray | bool | None] = queue.Queue()
        self.released = threading.Event()
        self.current: np.ndarray | None = None
        self.grabbed = threading.Semaphore(0)

    def grab(self) -> bool:
        item = self.images.get(timeout=PATIENCE_S)
        self.current = item if isinstance(item, np.ndarray) else None
        self.grabbed.release()
        return item is not False

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        return self.current is not None, self.current

    def release(self) -> None:
        self.released.set()


def picture(level: int) -> np.ndarray:
    return np.full((48, 64, 3), level, np.uint8)
