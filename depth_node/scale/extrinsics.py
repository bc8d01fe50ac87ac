"""Where each source's points belong, followed over time, and what that says of its extrinsics."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import replace

import cv2
import numpy as np

from depth_node.scale.alignment import Offset, Search, Trial, find_offset, search, tells
from depth_node.scale.points import SparseDepth
from depth_node.types import ArrayF32

MIN_VIEWS = 8
"""From this many views on, they decide together."""
_PERIOD_S = 5.0
_NEW_SHARE = 0.3  # of a later search in the offset that is followed
_TURN = 0.0125  # of the image's width: a degree at a focal length of 0.7 widths
_LIFT = 0.14  # of the image's width times metres: 0.2 m there
_SUSPICIONS = (
    Offset(dv=-_TURN),
    Offset(dv=_TURN),
    Offset(du=-_TURN),
    Offset(du=_TURN),
    Offset(lift=-_LIFT),
    Offset(lift=_LIFT),
)
_VIEWS = 60
_MIN_MEAN = 0.03
_MIN_SIGMAS = 3.0
_POOR = 0.13  # median truncated residual from which on the prediction is no reference
_VIEW = (16, 12)
_NEW_VIEW = 0.1  # relative change of the disparity that makes another view


class Evidence:
    """What many views say of one source's extrinsics.

    In one view a degree of yaw is lost in the prediction's own error. That error differs from view
    to view, the extrinsics do not: over a drive the gain of the true offset stands out.
    """

    def __init__(self) -> None:
        self._gains: deque[list[float]] = deque(maxlen=_VIEWS)
        self._stills: deque[float] = deque(maxlen=_VIEWS)

    def add(self, trial: Trial) -> Generator[None, None, None]:
        """Try every suspicion on one view; yields after each."""
        gains = []
        for offset in _SUSPICIONS:
            gains.append(trial.of(du=offset.du, dv=offset.dv, lift=offset.lift).gain)
            yield
        self._gains.append(gains)
        self._stills.append(trial.still)

    def __len__(self) -> int:
        """How many views there are."""
        return len(self._gains)

    def verdict(self) -> Offset:
        """The suspicion that most views share, or none.

        It must gain 3% in the mean, and three standard errors, over at least eight views that the
        prediction fits to 13%.
        """
        count = len(self)
        if count < MIN_VIEWS or float(np.median(self._stills)) > _POOR:
            return Offset()
        gains = np.asarray(self._gains)
        mean = gains.mean(axis=0)
        significance = mean * np.sqrt(count) / np.maximum(gains.std(axis=0, ddof=1), 1e-3)
        clear = (mean >= _MIN_MEAN) & (significance >= _MIN_SIGMAS)
        if not clear.any():
            return Offset()
        best = int(np.argmax(np.where(clear, mean, 0.0)))
        return replace(_SUSPICIONS[best], gain=float(mean[best]))

    def summary(self) -> str:
        """What these views say, in words."""
        count = len(self)
        if count < MIN_VIEWS:
            return f"not known yet: {count} of {MIN_VIEWS} different views"
        if float(np.median(self._stills)) > _POOR:
            return "the network's depth is too poor to tell"
        if self.verdict().gain > 0.0:
            return f"off, as {count} views tell"
        return f"no sign of an error in {count} views"


class _Source:
    """What is known of one source."""

    def __init__(self, offset: Offset, stamp_ns: int, mounting: int) -> None:
        self.offset = offset
        self.mounting = mounting
        self.evidence = Evidence()
        self.verdict = Offset()
        self.summary = self.evidence.summary()
        self.begun_ns = stamp_ns
        self.task: Search | None = None
        self.view: ArrayF32 | None = None


class ExtrinsicMonitor:
    """Follows the offset of each source, slowly: extrinsics do not change from frame to frame.

    The first search of a source runs at once. Later, every view that differs from the one before
    is searched and weighed, one fit a frame, on the frame that this began with. A sensor that sits
    elsewhere than before is a new source, but for the search at once: on a moving link it would
    run for every frame.
    """

    def __init__(self) -> None:
        self._sources: dict[str, _Source] = {}

    def reset(self) -> None:
        """Forget every offset."""
        self._sources.clear()

    @property
    def offsets(self) -> dict[str, Offset]:
        """Where the points of each source belong; they are moved there."""
        return {name: source.offset for name, source in self._sources.items()}

    @property
    def verdicts(self) -> dict[str, Offset]:
        """What each source's extrinsics seem to be off by; with gain 0 there is no sign of it.

        Until there are enough views, it is the offset that was found in one.
        """
        return {
            name: source.verdict if len(source.evidence) >= MIN_VIEWS else source.offset
            for name, source in self._sources.items()
        }

    def summaries(self) -> dict[str, str]:
        """What is known of each source's extrinsics, in words; may be asked from any thread."""
        return {name: source.summary for name, source in dict(self._sources).items()}

    def align(self, values: ArrayF32, points: SparseDepth, lowest: float) -> SparseDepth:
        """The points where they belong.

        Args:
            values: hxw float32 disparity.
            points: of one source.
            lowest: smallest disparity of the frame, 0 where some is saturated.
        """
        source = self._sources.get(points.source)
        if source is None:
            offset = find_offset(values, points, lowest)
            source = _Source(offset, points.stamp_ns, points.mounting)
            self._sources[points.source] = source
        elif source.mounting != points.mounting:
            source = _Source(Offset(), points.stamp_ns, points.mounting)
            self._sources[points.source] = source
        elif source.task is not None:
            _continue(source)
        elif points.stamp_ns - source.begun_ns >= _PERIOD_S * 1e9:
            source.begun_ns = points.stamp_ns
            view = _seen(values)
            if tells(points) and _differs(view, source.view):
                source.view = view
                source.task = _examine(source.evidence, values, points, lowest)
        return source.offset.applied(points)


def _examine(evidence: Evidence, values: ArrayF32, points: SparseDepth, lowest: float) -> Search:
    yield from evidence.add(Trial(values, points, lowest))
    return (yield from search(values, points, lowest))


def _continue(source: _Source) -> None:
    assert source.task is not None
    try:
        next(source.task)
    except StopIteration as end:
        source.task = None
        source.verdict = source.evidence.verdict()
        source.summary = source.evidence.summary()
        source.offset = source.offset.blended(end.value, _NEW_SHARE)


def _seen(values: ArrayF32) -> ArrayF32:
    """A thumbnail of the disparity, in units of its mean; 0 where the camera saw nothing."""
    small = np.asarray(cv2.resize(values, _VIEW, interpolation=cv2.INTER_AREA), np.float32)
    small[np.isnan(small)] = 0.0
    return np.asarray(small / max(float(small.mean()), 1e-9), np.float32)


def _differs(view: ArrayF32, before: ArrayF32 | None) -> bool:
    return before is None or float(np.mean(np.abs(view - before))) > _NEW_VIEW
