"""Chooses the estimator that the parameters ask for."""

from __future__ import annotations

from dataclasses import replace

from depth_node.parameters import Settings
from depth_node.scale.base import ScaleEstimator
from depth_node.scale.fit import TYPICAL_ERROR
from depth_node.scale.fixed import FixedScale, MetricNetwork, NoScale
from depth_node.scale.measure import ScaleConfig
from depth_node.scale.metric import MetricScaleEstimator

_RANGING = ("lidar", "scan", "range", "landmarks")
MEASURING = (*_RANGING, "ground")
"""The parameter groups of what measures scale; each has a field `enabled`."""
TRUSTED = "depth-anything-"
"""How the names of networks begin whose depth is off by `TYPICAL_ERROR` after the best global fit,
as that of Depth Anything V2 is on KITTI."""
COARSE_ERROR = 0.25
"""What is taken of every other network. The shipped student leaves 0.05 to 0.15 in the synthetic
world, which it was trained in, and 0.26 on `kitti_sequence` (bench/scale_avx2.json)."""


def measuring(settings: Settings) -> tuple[str, ...]:
    """Which of the measuring sources are to be used."""
    if settings.scale.source != "auto":
        return ()
    return tuple(name for name in MEASURING if getattr(settings, name).enabled)


def make_estimator(settings: Settings, network: str = "") -> ScaleEstimator:
    """The estimator for `scale.source` and the enabled sources.

    Args:
        settings: the parameters in force.
        network: the engine's `model`, for how far it is to be trusted where nothing is measured.

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
    config = _config(settings)
    if not config.network_error:
        error = TYPICAL_ERROR if network.startswith(TRUSTED) else COARSE_ERROR
        config = replace(config, network_error=error)
    return MetricScaleEstimator(config)


def same_estimator(one: Settings, other: Settings) -> bool:
    """Whether an estimator made for one also serves the other; a new one has lost all history.

    Other extrinsics take a new one: what was learned through the old ones, above all by how much
    they were off, does not hold for them. A sensor that is switched off and on keeps its history.
    """
    return _identity(one) == _identity(other)


def _identity(settings: Settings) -> tuple[object, ...]:
    scale = settings.scale
    fixed = (scale.source, scale.fixed_scale, scale.fixed_shift)
    extrinsics = tuple(getattr(settings, name).extrinsics for name in _RANGING)
    return (*fixed, bool(measuring(settings)), extrinsics, _config(settings))


def _config(settings: Settings) -> ScaleConfig:
    scale = settings.scale
    return ScaleConfig(
        max_skew_s=scale.max_age_s,
        hold_s=scale.hold_s,
        local_correction=scale.local_correction,
        filtered=scale.filtered,
        align=scale.align,
        max_sigma=scale.max_sigma,
        network_error=scale.network_error,
    )
