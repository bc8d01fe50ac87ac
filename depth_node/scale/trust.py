"""How well a scale is known in the picture that it is used in."""

from __future__ import annotations

import math

import numpy as np

from depth_node.scale.filter import Scale
from depth_node.scale.fit import AffineFit
from depth_node.scale.gauge import carry
from depth_node.scale.samples import Samples
from depth_node.types import ArrayF32, ArrayF64

_BANDS = 12  # of the thumbnail's rows
_CHANGED = 0.5  # relative error, per part of the picture that shows another surface than before


def sigma_of_points(
    fit: AffineFit, samples: Samples, view: ArrayF32, network_error: float
) -> float:
    """Relative uncertainty of a scale that was measured by points of this frame.

    The fit tells how well they determine the scale where they lie and in the nearer half of the
    picture, where a robot drives; above and below them the network's own error comes on top.

    Args:
        fit: accepted.
        samples: the points behind it.
        view: 36x48 float32 thumbnail of the frame's disparity.
        network_error: relative error of the network's depth where nothing was measured.
    """
    levels = (samples.level(), *_levels(view))
    there = max(_relative_sigma(fit, level) for level in levels)
    seen = np.asarray((view > 0.0).reshape(_BANDS, -1).any(axis=1))
    return math.hypot(there, network_error * samples.uncovered(seen))


def sigma_of_held(scale: Scale, measured: ArrayF32 | None, view: ArrayF32) -> float:
    """Relative uncertainty of a scale that was carried from an earlier frame.

    What the filter says of it, and how much of the picture has become another since the last
    measurement: a wall that a robot drives up to changes by less than the gauge's own uncertainty
    from one frame to the next, but not over a second.

    Args:
        scale: as carried.
        measured: 36x48 float32 thumbnail of the frame that was measured last, or None.
        view: 36x48 float32 thumbnail of this frame's disparity.
    """
    sigma = _relative_sigma(scale, _levels(view)[0])
    if measured is None or measured is view:
        return sigma
    since = carry(measured, view)
    if since is None:
        return math.inf
    return math.hypot(sigma, since.sigma, _CHANGED * (1.0 - since.share))


def _levels(view: ArrayF32) -> tuple[float, float]:
    """Median and last decile of the unsaturated disparity, 0 where there is none."""
    seen = np.sort(view[view > 0.0])
    if not len(seen):
        return 0.0, 0.0
    return float(seen[len(seen) // 2]), float(seen[9 * len(seen) // 10])


def _relative_sigma(scale: Scale | AffineFit, level: float) -> float:
    q = scale.scale * level + scale.shift
    if q <= 0.0:
        return math.inf
    row: ArrayF64 = np.array([level, 1.0])
    return math.sqrt(max(float(row @ scale.covariance @ row), 0.0)) / q
