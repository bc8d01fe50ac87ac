"""Several sensors at once: which of them the scale of a frame rests on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from depth_node.scale.fit import AffineFit
from depth_node.scale.samples import Samples

TRUST = ("lidar", "scan", "range", "landmarks")
"""Who is believed where sensors contradict each other: what measures metres comes before a map,
whose scale drifts."""
_POORER = 0.25  # of the best sensor's typical weight: its error is twice as large as the network's
MIN_POINTS = 8
"""With fewer, a sensor does not contradict: single points may be wrong."""
MAX_APART = 0.35
"""In log: a factor of 1.4 between the medians is no error of the network."""
_MIN_SHARE = 0.5


def choose(
    samples: Samples,
    fit: Callable[[Samples], AffineFit],
    suffices: Callable[[AffineFit, Samples], bool],
) -> tuple[Samples, AffineFit, str]:
    """Fit the sources that belong together.

    Sensors that are far poorer than the best are left out where it tells enough alone: their
    points would only add their errors. Of sensors that contradict each other, the less trusted is.

    Args:
        samples: the points of one or more sources.
        fit: fits some of them.
        suffices: whether an accepted fit needs no further points.

    Returns:
        The points that count, their fit, and the names of sources that were contradicted, joined
        by `+`, or empty.
    """
    poor = _poorer(samples)
    if poor:
        better, found, out = _consistent(samples.without(poor), fit)
        if found.accepted and suffices(found, better):
            return better, found, out
    return _consistent(samples, fit)


def _consistent(
    samples: Samples, fit: Callable[[Samples], AffineFit]
) -> tuple[Samples, AffineFit, str]:
    found = fit(samples)
    out: list[str] = []
    while name := _contradicted(samples, found):
        out.append(name)
        samples = samples.without({name})
        found = fit(samples)
    return samples, found, "+".join(sorted(out))


def _poorer(samples: Samples) -> set[str]:
    if len(samples.sources) < 2:
        return set()
    typical = {
        name: float(np.median(samples.weight[part])) if part.stop > part.start else 0.0
        for name, part in samples.parts()
    }
    best = max(typical.values())
    return {name for name, weight in typical.items() if weight < _POORER * best}


def _contradicted(samples: Samples, found: AffineFit) -> str:
    """The least trusted of some sources that one fit does not hold together, or empty."""
    parts = [(name, part) for name, part in samples.parts() if part.stop - part.start >= MIN_POINTS]
    if len(parts) < 2:
        return ""
    if found.accepted:
        agreeing, apart = samples.agreeing(found), samples.apart(found)
        level = [float(np.median(apart[part])) for _, part in parts]
        believed = [float(agreeing[part].mean()) >= _MIN_SHARE for _, part in parts]
        if all(believed) and max(level) - min(level) <= MAX_APART:
            return ""
    return max((name for name, _ in parts), key=_rank)


def _rank(name: str) -> int:
    return TRUST.index(name) if name in TRUST else len(TRUST)
