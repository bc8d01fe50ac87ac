"""Find flying pixels: those that a soft network edge leaves between a near and a far surface.

A surface that is seen at grazing angle has a large relative gradient of depth as well, but a plane
n . X = h is affine in inverse depth over the image, 1/Z = n . ((u - cx)/fx, (v - cy)/fy, 1) / h. So
all is done in inverse depth q at network resolution, where an edge is a ramp of a few pixels:

1. The slope of the surface itself is the morphological opening of |dq/du| and |dq/dv| along their
   own axis: it keeps slopes that last longer than `SLOPE_WINDOW` and drops the short ramp.
2. Near and far are the largest and smallest q in the 3x3 neighbourhood, each brought towards the
   pixel by what the surface's slope explains. On a plane both then equal q.
3. A pixel is flying when it is nearer than the far one and farther than the near one, both by more
   than a tolerance relative to its own depth. The crest of a thin object equals its own near
   value, so a pole loses its ramps but never vanishes.

The bounds of step 3 are interpolated to the published size and compared there, so that also the
sub-pixel ramp which interpolation puts into a perfectly sharp edge is found.
"""

from __future__ import annotations

import cv2
import numpy as np

from depth_node.types import ArrayF32, ImageU8

SLOPE_WINDOW = 9
"""Pixels at network resolution: wider than the ramp of an edge (a blur of 1.5 pixels standard
deviation makes one of about five), so narrower strips of a slanted surface count as edges."""

_NEIGHBOURS = np.ones((3, 3), np.uint8)
_ALONG_U = np.ones((1, SLOPE_WINDOW), np.uint8)
_ALONG_V = np.ones((SLOPE_WINDOW, 1), np.uint8)
_THREE_ALONG_U, _THREE_ALONG_V = np.ones((1, 3), np.uint8), np.ones((3, 1), np.uint8)


class EdgeDetector:
    """Marks flying pixels; keeps its buffers from frame to frame, so it serves one thread."""

    def __init__(self) -> None:
        self._far = np.empty((0, 0), np.float32)
        self._near = np.empty((0, 0), np.float32)
        self._mask = np.empty((0, 0), np.uint8)

    def detect(
        self, inverse_depth: ArrayF32, upsampled: ArrayF32, edge_ratio: float, farthest: float
    ) -> ImageU8:
        """Mark the pixels that belong to neither of the surfaces beside them.

        Args:
            inverse_depth: hxw float32 at network resolution, 1/m, finite, not negative.
            upsampled: HxW float32, the same interpolated bilinearly to the published size.
            edge_ratio: relative jump of depth from which on there is an edge. A pixel within half
                of it of either surface is taken to lie on that surface.
            farthest: inverse depth of the range's end, 1/m; what lies beyond is no surface.

        Returns:
            HxW uint8, 255 at flying pixels and else 0; valid until the next call.
        """
        if self._mask.shape != upsampled.shape:
            self._far, self._near = np.empty_like(upsampled), np.empty_like(upsampled)
            self._mask = np.empty(upsampled.shape, np.uint8)
        far, near = surface_bounds(inverse_depth, 0.5 * edge_ratio, farthest)
        size = upsampled.shape[::-1]
        cv2.resize(far, size, dst=self._far)
        cv2.resize(near, size, dst=self._near)
        cv2.inRange(upsampled, self._far, self._near, dst=self._mask)
        return self._mask


def surface_bounds(
    inverse_depth: ArrayF32, tolerance: float, farthest: float
) -> tuple[ArrayF32, ArrayF32]:
    """Inverse depths between which a pixel is on no surface.

    Args:
        inverse_depth: hxw float32, 1/m, finite, not negative.
        tolerance: relative difference of depth that still counts as the same surface.
        farthest: least inverse depth of a surface, 1/m.

    Returns:
        Two hxw float32 arrays, 1/m: a pixel is flying when its inverse depth lies between them.
        Where there is no edge the first is larger than the second.
    """
    u_slope, v_slope = (_surface_slope(inverse_depth, along_u) for along_u in (True, False))
    slope = cv2.add(u_slope, v_slope)
    far = np.asarray(cv2.add(cv2.erode(inverse_depth, _NEIGHBOURS), slope), np.float32)
    np.maximum(far, np.float32(farthest), out=far)
    far *= np.float32(1.0 + tolerance)
    near = np.asarray(cv2.subtract(cv2.dilate(inverse_depth, _NEIGHBOURS), slope), np.float32)
    near *= np.float32(1.0 - tolerance)
    # The crest of an object as thin as one pixel could fall through between published pixels.
    thinner = np.float32(1.0 - tolerance) * inverse_depth
    for window in (_THREE_ALONG_U, _THREE_ALONG_V):
        without_crests = cv2.morphologyEx(inverse_depth, cv2.MORPH_OPEN, window)
        near[without_crests < thinner] = 0.0
    return far, near


def _surface_slope(inverse_depth: ArrayF32, along_u: bool) -> ArrayF32:
    """Absolute change of inverse depth per pixel along one axis, without that of edges."""
    slope = cv2.Sobel(inverse_depth, cv2.CV_32F, int(along_u), int(not along_u), ksize=1, scale=0.5)
    lines = slope.T if along_u else slope
    # At the image's border only half of the change is seen.
    lines[0], lines[-1] = lines[min(1, len(lines) - 1)], lines[max(len(lines) - 2, 0)]
    window = _ALONG_U if along_u else _ALONG_V
    return np.asarray(cv2.morphologyEx(np.abs(slope), cv2.MORPH_OPEN, window), np.float32)
