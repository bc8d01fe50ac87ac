"""Scales that nothing has to be measured for: given numbers, and a metric network's own metres."""

from __future__ import annotations

import math

from depth_node.types import Disparity, Frame, ScaleEstimate, ScaleState


class FixedScale:
    """The scale and shift that the user gave, the same for every frame.

    It fits networks whose gauge does not change from frame to frame; a relative network's does,
    and then these numbers are only as good as the moment they were taken at.
    """

    def __init__(self, scale: float, shift: float) -> None:
        """Take the affine map from disparity to inverse depth.

        Args:
            scale: inverse depth per unit of disparity, 1/m, positive.
            shift: inverse depth at disparity 0, 1/m.

        Raises:
            ValueError: a number is not finite, or the scale is not positive.
        """
        if not (math.isfinite(scale) and math.isfinite(shift)) or scale <= 0.0:
            raise ValueError(
                f"the fixed scale is {scale:g} and the shift {shift:g} 1/m; both must be finite "
                "and the scale greater than 0: set scale.fixed_scale and scale.fixed_shift"
            )
        self._estimate = ScaleEstimate(
            state=ScaleState.METRIC, source="fixed", scale=scale, shift=shift
        )

    def estimate(self, frame: Frame, disparity: Disparity) -> ScaleEstimate:
        """The given numbers, whatever the frame shows."""
        return self._estimate

    def reset(self) -> None:
        """Nothing is carried between frames."""


class MetricNetwork:
    """Takes a metric network at its word: its disparity is inverse depth in 1/m."""

    _METRIC = ScaleEstimate(state=ScaleState.METRIC, source="network")
    _RELATIVE = ScaleEstimate(
        state=ScaleState.RELATIVE,
        reason="the network gives relative disparity and no source of metric scale is set: "
        "give a LiDAR, a scan, a range finder, the camera's height or a fixed scale",
    )

    def estimate(self, frame: Frame, disparity: Disparity) -> ScaleEstimate:
        """Metres for a metric disparity, `relative` with the reason for any other."""
        return self._METRIC if disparity.kind == "metric" else self._RELATIVE

    def reset(self) -> None:
        """Nothing is carried between frames."""


class NoScale:
    """Never has a scale: the user asked for relative disparity only."""

    _RELATIVE = ScaleEstimate(state=ScaleState.RELATIVE, reason="scale.source is none")

    def estimate(self, frame: Frame, disparity: Disparity) -> ScaleEstimate:
        """Always `relative`."""
        return self._RELATIVE

    def reset(self) -> None:
        """Nothing is carried between frames."""
