"""Upsampling that follows a guide image."""

from __future__ import annotations

import cv2
import numpy as np

from depth_node.types import ArrayF32

_FAR, _NEAR = 0.25, 0.75  # bilinear weights of the two taps on one axis, pixel centres at integers


def joint_bilateral_double(
    values: ArrayF32,
    guide: ArrayF32,
    fine_guide: ArrayF32,
    edge: float,
    slope: ArrayF32 | None = None,
) -> ArrayF32:
    """Double an image's size with the four bilinear taps weighted by how alike their guides are.

    After Kopf et al., Joint Bilateral Upsampling, SIGGRAPH 2007, with the kernel
    1 / (1 + (difference / edge)^2).

    Args:
        values: hxw float32.
        guide: hxw float32, the guide at the size of `values`.
        fine_guide: 2h x 2w float32, the guide at the size of the result.
        edge: difference of the guide at which a tap's weight is halved.
        slope: hxw float32 derivative of `values` by the guide, which carries a tap to the guide's
            value at the result's pixel, or None for 0.

    Returns:
        2h x 2w float32.
    """
    height, width = values.shape
    padded = np.pad(values, 1, "edge")
    padded_guide = np.pad(guide, 1, "edge")
    padded_slope = None if slope is None else np.pad(slope, 1, "edge")
    out = np.empty((2 * height, 2 * width), np.float32)
    precision = np.float32(1.0 / edge**2)
    difference, weight, total, result = np.empty((4, height, width), np.float32)
    # Pixels of the same parity see their taps at the same offsets: four parities, four taps each.
    for row in (0, 1):
        for column in (0, 1):
            here = np.ascontiguousarray(fine_guide[row::2, column::2])
            total.fill(0.0)
            result.fill(0.0)
            for dy, wy in ((1, _NEAR), (2 * row, _FAR)):
                for dx, wx in ((1, _NEAR), (2 * column, _FAR)):
                    tap = (slice(dy, dy + height), slice(dx, dx + width))
                    np.subtract(here, padded_guide[tap], out=difference)
                    np.multiply(difference, difference, out=weight)
                    weight *= precision
                    weight += np.float32(1.0)
                    np.divide(np.float32(wy * wx), weight, out=weight)
                    total += weight
                    if padded_slope is None:
                        weight *= padded[tap]
                    else:
                        difference *= padded_slope[tap]
                        difference += padded[tap]
                        weight *= difference
                    result += weight
            result /= total
            out[row::2, column::2] = result
    return out


def guided(values: ArrayF32, slope: ArrayF32, guide: ArrayF32, fine_guide: ArrayF32) -> ArrayF32:
    """Enlarge an image that is locally a linear function of its guide.

    After He & Sun, Fast Guided Filter, 2015: the coefficients are interpolated, not the values, so
    that the guide's detail stays.

    Args:
        values: hxw float32.
        slope: hxw float32 derivative of `values` by the guide.
        guide: hxw float32, the guide at the size of `values`.
        fine_guide: HxW float32, the guide at the size of the result.

    Returns:
        HxW float32.
    """
    size = fine_guide.shape[::-1]
    fine = np.asarray(cv2.resize(slope, size, interpolation=cv2.INTER_LINEAR), np.float32)
    fine *= fine_guide
    fine += cv2.resize(values - slope * guide, size, interpolation=cv2.INTER_LINEAR)
    return fine
