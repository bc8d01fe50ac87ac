"""What one frame alone cannot tell: a network that does not return, metres that stay away."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from depth_node.health import Health, Level
from depth_node.types import ScaleEstimate, ScaleState

STALL_S, STALL_RATIO = 2.0, 10.0
"""A frame stalls when it takes longer than this, and than this many times the usual."""
FIRST_STALL_S = 10.0
"""The same before any frame has come back: runtimes finish their set-up in the first."""
SETTLE_S = 2.0
"""How long no frame may be metric before that is a problem: a few without a measurement, and those
before the first measurement, are usual."""
_SCALE_CURE = (
    "mend what is named or add a source of metric scale (docs/scale_sources.md), or set "
    "scale.source to none if relative depth is what you want"
)
_STALL_CURE = (
    "if it does not return, restart the node, and choose another model.engine should it happen "
    "again"
)
_RECENT = 30


class NetworkWatch:
    """Knows how long a frame usually takes in the network, and when one takes far too long.

    A context manager that the network's thread enters with each frame; a wait for others who share
    the engine is part of it. Everything else may be asked from any thread.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Begin outside a frame; `clock_s` gives seconds that only grow."""
        self._clock_s = clock_s
        self._entered_s: float | None = None
        self._recent_s: deque[float] = deque(maxlen=_RECENT)

    def __enter__(self) -> None:
        self._entered_s = self._clock_s()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._entered_s = None

    def answered(self) -> None:
        """The network has returned from the frame that was entered with."""
        assert self._entered_s is not None
        self._recent_s.append(self._clock_s() - self._entered_s)

    @property
    def usual_s(self) -> float:
        """Seconds, median of the last frames that the network returned from; 0 before the first."""
        recent = tuple(self._recent_s)  # one step: frames run on another thread
        return statistics.median(recent) if recent else 0.0

    def report_stall(self, health: Health) -> None:
        """Report a frame that takes far too long, under the topic `network`."""
        stall = self.stall()
        if stall:
            health.report("network", Level.ERROR, stall, _STALL_CURE)
        else:
            health.clear("network")

    def stall(self) -> str:
        """What is wrong while a frame takes far too long, else empty."""
        entered_s, usual_s = self._entered_s, self.usual_s
        limit_s = max(STALL_S, STALL_RATIO * usual_s) if usual_s else FIRST_STALL_S
        if entered_s is None or self._clock_s() - entered_s <= limit_s:
            return ""
        usual = f"usually it takes {usual_s:.2g} s" if usual_s else "it is the first"
        return (
            f"the network has been busy with one frame for more than {limit_s:.2g} s ({usual}), "
            "and nothing is published meanwhile"
        )


class ScaleWatch:
    """Reports a scale that has not been metric for a while, under the topic `scale`.

    `saw` belongs to the pipeline's thread, `forget` to any.
    """

    def __init__(self, health: Health) -> None:
        self._health = health
        self._missing_since_s: float | None = None

    def saw(self, estimate: ScaleEstimate, now_s: float, *, metres: bool) -> None:
        """Take the estimate of the newest frame.

        Args:
            estimate: the scale.
            now_s: monotonic time, seconds.
            metres: whether it makes metres that are published.
        """
        if estimate.state is ScaleState.METRIC:
            self.forget()
            return
        since_s = self._missing_since_s
        if since_s is None:
            since_s = self._missing_since_s = now_s
        if now_s - since_s < SETTLE_S:
            return
        level = Level.WARN if metres else Level.ERROR
        seen = "metres rest on an older scale" if metres else "no metres are published"
        seen = f"{seen}, the scale is {estimate.state.value}: {estimate.reason}"
        self._health.report("scale", level, seen, _SCALE_CURE)

    def forget(self) -> None:
        """Metres are not missing, or nobody asked for them."""
        self._missing_since_s = None
        self._health.clear("scale")
