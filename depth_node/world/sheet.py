"""Contact sheets: many views of the world with their depth, to look at."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from depth_node.types import ArrayF32, ImageU8


def depth_picture(depth: ArrayF32) -> ImageU8:
    """Inverse depth in colours, near is red, the sky black; HxWx3 uint8 RGB."""
    inverse = 1.0 / np.maximum(depth, 1e-3)
    seen = inverse[inverse > 0]
    low, high = np.percentile(seen, [1, 99]) if seen.size else (0.0, 1.0)
    level = np.clip((inverse - low) / max(high - low, 1e-6), 0, 1) * 255
    colours = cv2.applyColorMap(level.astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    picture = np.array(colours, np.uint8)
    picture[np.isinf(depth)] = 0
    return picture


def contact_sheet(views: Iterable[tuple[ImageU8, ArrayF32]], columns: int = 8) -> ImageU8:
    """Tile views in rows, each RGB image over its depth; HxWx3 uint8 RGB.

    Raises:
        ValueError: no views were given.
    """
    tiles = [np.vstack([rgb, depth_picture(depth)]) for rgb, depth in views]
    if not tiles:
        raise ValueError("a contact sheet needs one view at least")
    columns = min(columns, len(tiles))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[k : k + columns]) for k in range(0, len(tiles), columns)]
    return np.vstack(rows)
