"""Measurements on their way to the frame that they belong to."""

from __future__ import annotations

import threading
from collections import deque

from depth_node.scale.points import SparseDepth

_KEPT = 16
_OTHER_CLOCK_S = 5.0


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
    return max(abs(points.stamp_ns - stamp_ns), abs(measured_ns(points) - stamp_ns))


def measured_ns(points: SparseDepth) -> int:
    """When points were measured, wherever odometry has moved them since."""
    return points.stamp_ns if points.measured_ns is None else points.measured_ns


def lateness(skew: dict[str, float]) -> str:
    """Why nothing that was measured belongs to an image, from each source's seconds to it."""
    if not skew:
        return "no measurement has arrived"
    least, source = min((age, name) for name, age in skew.items())
    if least > _OTHER_CLOCK_S:
        return (
            f"the stamps of {source} are {least:.0f} s from the image's: another clock, or its "
            "driver stopped"
        )
    return f"the newest measurement of {source} is {least:.2f} s from the image"
