"""Nearby points of every grid cell, from image operations instead of a search tree.

The points are dealt into a few random subsets. The nearest point of each subset, which one
distance transform with labels gives for all cells at once, is among them the nearest point of all
and most of the next ones: close to the k nearest neighbours, at any density and pattern, in a
fraction of a tree's time. The transform runs on blocks of cells; where the points are dense,
dilations on the grid itself then find the ones within a few cells exactly.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.types import ArrayF32

MAX_POINTS = 65_535
_DEALT = np.random.default_rng(0).integers(0, 840, MAX_POINTS).astype(np.int16)
_RINGS = 3
_BLOCK, _BLOCK_DENSE = 2, 4  # cells on each side
_CROSS = np.asarray(cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
_SQUARE = np.ones((3, 3), np.uint8)


def nearest_points(
    x: ArrayF32, y: ArrayF32, shape: tuple[int, int], subsets: int, *, dense: bool = False
) -> NDArray[np.int32]:
    """For every cell, a nearest point of each of `subsets` random subsets of the points.

    Args:
        x: (n,) column in cells; cell centres are integers. n is 1 to 65535.
        y: (n,) row in cells.
        shape: (rows, columns) of the grid, both multiples of 4.
        subsets: how many neighbours to find; no more than there are points.
        dense: whether to look at single cells near the points, and at blocks of 4x4 elsewhere,
            instead of at blocks of 2x2.

    Returns:
        (k, rows * columns) int32 indices into the points, k = min(subsets, n).
    """
    count, (rows, columns) = len(x), shape
    k = min(subsets, count)
    column = np.clip((x + 0.5).astype(np.int32), 0, columns - 1)
    row = np.clip((y + 0.5).astype(np.int32), 0, rows - 1)
    # Few points are dealt in turn, so that no subset stays empty.
    many = count > 8 * k
    subset = _DEALT[:count] % np.int16(k) if many else (np.arange(count) % k).astype(np.int16)
    size = _BLOCK_DENSE if dense else _BLOCK
    shape = rows // size, columns // size
    blocks = _nearest_blocks(subset, row // size * shape[1] + column // size, k, shape)
    spread = np.broadcast_to(blocks[:, :, None, :, None], (k, shape[0], size, shape[1], size))
    near = spread.reshape(k, rows, columns)
    if dense:
        _refine(near, subset, row, column)
    return near.reshape(k, -1)


def _nearest_blocks(
    subset: NDArray[np.int16], block: NDArray[np.int32], k: int, shape: tuple[int, int]
) -> NDArray[np.int32]:
    """(k, rows, columns) nearest point of each subset to each block."""
    rows, columns = shape
    order = np.argsort(subset, kind="stable")  # a radix sort on 16 bits
    ends = np.searchsorted(subset[order], np.arange(1, k + 1))
    out = np.empty((k, rows, columns), np.int32)
    free = np.empty(rows * columns, np.uint8)
    owner = np.empty(rows * columns, np.int32)
    start = 0
    for j, end in enumerate(ends):
        members = order[start:end]
        start = end
        if len(members) == 0:
            out[j] = out[j - 1] if j else order[0]
            continue
        blocks = block[members]
        free.fill(1)
        free[blocks] = 0
        owner[blocks] = members  # the last point of a block stands for its subset there
        _, label = cv2.distanceTransformWithLabels(
            free.reshape(rows, columns),
            cv2.DIST_L2,
            cv2.DIST_MASK_3,
            labelType=cv2.DIST_LABEL_PIXEL,
        )
        labels = np.asarray(label, np.int32)
        point_of_label = np.empty(len(blocks) + 1, np.int32)
        point_of_label[labels.ravel()[blocks]] = owner[blocks]
        np.take(point_of_label, labels, out=out[j], mode="clip")
    return out


def _refine(
    near: NDArray[np.int32],
    subset: NDArray[np.int16],
    row: NDArray[np.int32],
    column: NDArray[np.int32],
) -> None:
    """Replace the neighbours of cells that have a point of the subset within three cells.

    All subsets lie in one tall image, an empty row between them; each dilation brings a point one
    cell further (by turns to four and to eight neighbours), where no nearer one has been.
    """
    k, rows, columns = near.shape
    tall = np.zeros((k, rows + 1, columns), np.uint16)
    tall[subset, row, column] = np.arange(1, len(row) + 1, dtype=np.uint16)
    image = tall.reshape(k * (rows + 1), columns)
    for ring in range(_RINGS):
        grown = np.asarray(cv2.dilate(image, _SQUARE if ring % 2 else _CROSS))
        grown *= image == 0
        image |= grown
        tall[:, rows] = 0
    found = tall[:, :rows]
    np.copyto(near, found.astype(np.int32) - 1, where=found > 0)
