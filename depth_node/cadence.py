"""When a camera's next frame is due."""

from __future__ import annotations

import math
import statistics
from collections import deque
from itertools import pairwise

_ARRIVALS = 9


class Cadence:
    """A camera's period, from the arrivals of its last frames.

    The median of their intervals: one frame that is late or lost, or a pause, does not move it.
    """

    def __init__(self) -> None:
        self._arrivals: deque[float] = deque(maxlen=_ARRIVALS)

    def arrived(self, at_s: float) -> None:
        """Note a frame that arrived at this monotonic time, seconds."""
        self._arrivals.append(at_s)

    @property
    def period_s(self) -> float:
        """Seconds between frames; infinite before there are enough to tell."""
        arrivals = tuple(self._arrivals)  # one step: frames arrive on another thread
        if len(arrivals) < 4:
            return math.inf
        return statistics.median(later - earlier for earlier, later in pairwise(arrivals))
