"""Chooses the estimator that the parameters ask for."""

from __future__ import annotations

from depth_node.parameters import Settings
from depth_node.scale.base import ScaleEstimator
from depth_node.scale.fixed import FixedScale, MetricNetwork, NoScale
from depth_node.scale.metric import MetricScaleEstimator, ScaleConfig

MEASURING = ("lidar", "scan", "range", "landmarks", "ground")
"""The parameter groups of what measures scale; each has a field `enabled`."""


def measuring(settings: Settings) -> tuple[str, ...]:
    """Which of the measuring sources are to be used."""
    if settings.scale.source != "auto":
        return ()
    return tuple(name for name in MEASURING if getattr(settings, name).enabled)


def make_estimator(settings: Settings) -> ScaleEstimator:
    """The estimator for `scale.source` and the enabled sources.

    Raises:
        ValueError: the fixed scale is not usable.
    """
    scale = settings.scale
    if scale.source == "fixed":
        return FixedScale(scale.fixed_scale, scale.fixed_shift)
    if scale.source == "none":
        return NoScale()
    if not measuring(settings):
        return MetricNetwork()
    return MetricScaleEstimator(_config(settings))


def same_estimator(one: Settings, other: Settings) -> bool:
    """Whether an estimator made for one also serves the other; a new one has lost all history."""
    return _identity(one) == _identity(other)


def _identity(settings: Settings) -> tuple[object, ...]:
    scale = settings.scale
    fixed = (scale.source, scale.fixed_scale, scale.fixed_shift)
    return (*fixed, bool(measuring(settings)), _config(settings))


def _config(settings: Settings) -> ScaleConfig:
    scale = settings.scale
    return ScaleConfig(
        max_skew_s=scale.max_age_s,
        hold_s=scale.hold_s,
        local_correction=scale.local_correction,
        filtered=scale.filtered,
        align=scale.align,
    )
