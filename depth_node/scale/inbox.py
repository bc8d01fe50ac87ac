"""Measurements on their way to the frame that they belong to."""

from __future__ import annotations

import threading
from collections import deque

from depth_node.scale.points import SparseDepth

_KEPT = 16


class Inbox:
    """The newest measurements of every source; filled by any thread, read by the pipeline's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sources: dict[str, deque[SparseDepth]] = {}

    def add(self, points: SparseDepth) -> None:
        """Take a measurement; late and out of order ones are welcome."""
        with self._lock:
            self._sources.setdefault(points.source, deque(maxlen=_KEPT)).append(points)

    def clear(self) -> None:
        """Forget every measurement."""
        with self._lock:
            self._sources.clear()

    def nearest(self, stamp_ns: int) -> list[SparseDepth]:
        """The nearest measurement of each source, whatever its distance.

        Of those that were measured equally near, it is the one that was moved to the nearest time.
        """
        with self._lock:
            return [
                min(kept, key=lambda p: (apart_ns(p, stamp_ns), abs(p.stamp_ns - stamp_ns)))
                for kept in self._sources.values()
            ]


def apart_ns(points: SparseDepth, stamp_ns: int) -> int:
    """How far points are from a time: the time that they are for, or that of their measurement.

    The farther of the two counts. Odometry moves old points to an image's time, which makes them
    no newer; and once moved they show where things were at that time, however new they are.
    """
    moved = abs(points.stamp_ns - stamp_ns)
    if points.measured_ns is None:
        return moved
    return max(moved, abs(points.measured_ns - stamp_ns))
