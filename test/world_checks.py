"""What any view of the synthetic world must be."""

from __future__ import annotations

import numpy as np


def assert_plausible_view(rgb: np.ndarray, depth: np.ndarray, width: int, height: int) -> None:
    """Shapes, types, and depth that a camera can see."""
    assert rgb.shape == (height, width, 3)
    assert rgb.dtype == np.uint8
    assert depth.shape == (height, width)
    assert depth.dtype == np.float32
    assert not np.isnan(depth).any()
    assert depth.min() > 0.005
