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
        """The measurement of each source whose stamp is nearest, whatever its distance."""
        with self._lock:
            return [
                min(kept, key=lambda points: abs(points.stamp_ns - stamp_ns))
                for kept in self._sources.values()
            ]
