"""Chooses the estimator that the parameters ask for."""

from __future__ import annotations

from depth_node.parameters import ScaleSettings
from depth_node.scale.base import ScaleEstimator
from depth_node.scale.fixed import FixedScale, MetricNetwork, NoScale


def make_estimator(settings: ScaleSettings) -> ScaleEstimator:
    """The estimator for `scale.source`.

    Raises:
        ValueError: the fixed scale is not usable.
    """
    if settings.source == "fixed":
        return FixedScale(settings.fixed_scale, settings.fixed_shift)
    if settings.source == "none":
        return NoScale()
    return MetricNetwork()
