"""What lies behind a measured surface: a camera's ray does not see past a point that lies on it."""

from __future__ import annotations

import cv2
import numpy as np

from depth_node.types import ArrayF32

FACTOR = 4.5
"""How many times farther than a measured point the prediction must be to contradict it: from about
there on the local correction does not follow the point either."""
REACH = 0.03
"""Share of the image's width around such a point that is as near as it, for all that is known."""


def measured_in_front(inverse_depth: ArrayF32, rays: ArrayF32, farthest: float) -> ArrayF32 | None:
    """Where the prediction lies far behind what was measured, and how far is far.

    A point that agrees with something within a pixel of it is that thing's outline.

    Args:
        inverse_depth: hxw float32 as it is to be published, 1/m, 0 where nothing is seen.
        rays: (n, 3) float32 column and row on it, pixels, and measured inverse depth, 1/m.
        farthest: inverse depth of the range's end, 1/m; what was measured beyond is left alone.

    Returns:
        hxw float32: inverse depth below which a pixel is behind a measured surface, 0 where none
        was measured; or None where nothing was.
    """
    rays = rays[rays[:, 2] > farthest]
    if len(rays) == 0:
        return None
    rows, columns = inverse_depth.shape
    column = np.clip(np.rint(rays[:, 0]).astype(np.intp), 0, columns - 1)
    row = np.clip(np.rint(rays[:, 1]).astype(np.intp), 0, rows - 1)
    limit = rays[:, 2] / np.float32(FACTOR)
    nearest = cv2.dilate(inverse_depth, np.ones((3, 3), np.uint8))
    hit = nearest[row, column] < limit
    if not hit.any():
        return None
    limits = np.zeros_like(inverse_depth)
    np.maximum.at(limits, (row[hit], column[hit]), limit[hit])
    side = 2 * max(1, round(REACH * columns)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.dilate(limits, disc), np.float32)
