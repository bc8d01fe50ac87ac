"""What every way of recovering metric scale offers to the pipeline."""

from __future__ import annotations

from typing import Protocol

from depth_node.types import Disparity, Frame, ScaleEstimate


class ScaleEstimator(Protocol):
    """Turns a frame's disparity, and whatever was measured around its stamp, into a scale."""

    def estimate(self, frame: Frame, disparity: Disparity) -> ScaleEstimate:
        """Estimate the scale of one frame; frames arrive in the order of their stamps.

        Never raises on bad measurements: it answers with the state `relative` and a reason.
        """
        ...

    def reset(self) -> None:
        """Forget everything carried from earlier frames (the clock jumped, the camera changed)."""
        ...
