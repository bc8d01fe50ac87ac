"""What every engine does with a network's raw output."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from depth_node.engines.base import EngineError
from depth_node.types import Disparity


def as_disparity(raw: Any, engine: str, kind: Literal["relative", "metric"]) -> Disparity:
    """Copy a network's output into a disparity of the caller's own.

    Args:
        raw: hxw floating-point array, possibly a buffer that the engine uses again.
        engine: the engine's name, for the message.
        kind: what the numbers mean.

    Raises:
        EngineError: the output is not a finite hxw array.
    """
    values = np.array(raw, dtype=np.float32, order="C")  # a copy, always
    if values.ndim != 2 or not values.size:
        raise EngineError(f"{engine} gave an output of shape {values.shape}; expected (h, w)")
    # The sum is not finite when any value is not: one pass without a mask. Finite values cannot
    # overflow it in float64.
    if not np.isfinite(values.sum(dtype=np.float64)):
        bad = values.size - int(np.isfinite(values).sum())
        raise EngineError(
            f"{engine} gave {bad} of {values.size} values that are not finite; the frame is "
            "dropped. If it happens again, set model.precision to fp32 or take another engine"
        )
    np.maximum(values, 0.0, out=values)  # networks without a last ReLU may go just below zero
    return Disparity(values, kind)
