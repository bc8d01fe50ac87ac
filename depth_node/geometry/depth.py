"""Disparity at network resolution to metric depth at the published size."""

from __future__ import annotations

import cv2
import numpy as np

from depth_node.geometry.edges import EdgeDetector
from depth_node.parameters import DepthSettings
from depth_node.scale.apply import inverse_depth_at_network_size
from depth_node.types import (
    ArrayF32,
    CameraModel,
    Disparity,
    Frame,
    ImageU8,
    MetricDepth,
    ScaleEstimate,
    ScaleState,
)

_MISSED_REACH = 0.03
"""Share of the image's width around a measured point that is not free if nothing is seen there."""


def published_size(frame: Frame, downscale: int) -> tuple[int, int]:
    """Width and height in pixels of the depth that is published for a frame.

    The ratio is the same integer on both axes, which rtabmap requires: the largest one up to
    `downscale` that divides both (1242x375 has 3, not 4; 641x480 has only 1).
    """
    height, width = frame.image.shape[:2]
    ratio = max(n for n in range(1, downscale + 1) if width % n == 0 and height % n == 0)
    return width // ratio, height // ratio


class MetricConverter:
    """Converts disparity to metres; it keeps its buffers from frame to frame: one thread each."""

    def __init__(self) -> None:
        self._edges = EdgeDetector()
        self._inverse = np.empty((0, 0), np.float32)
        self._nan = np.empty((0, 0), np.float32)
        self._source: CameraModel | None = None
        self._published: CameraModel | None = None

    def to_metric(
        self,
        disparity: Disparity,
        estimate: ScaleEstimate,
        frame: Frame,
        settings: DepthSettings,
        unseen: ImageU8 | None = None,
    ) -> MetricDepth:
        """Turn one frame's disparity d into depth, Z = exp(-field) / (scale * d + shift).

        Inverse depth is computed at network resolution and interpolated bilinearly to the
        published size, which is exact on planes. As REP 117 and 118 have it, +Inf is what is
        saturated (d = 0) or beyond `max_m`, and NaN is what is between two surfaces, not finite in
        the disparity, unseen, or beside a measured surface that the network does not see. What is
        nearer than `min_m` is NaN too, where REP 117 has -Inf: readers of depth images test for NaN
        or for a positive depth, and -Inf is neither.

        Args:
            disparity: of the frame's image, at any resolution.
            estimate: what the metres rest on.
            frame: the camera image that the disparity was predicted from; it obeys `camera.P`.
            settings: range, size and edges.
            unseen: uint8 of the image's size, not 0 where the camera saw nothing, or None.

        Returns:
            Depth whose array is new and belongs to the caller.

        Raises:
            ValueError: the estimate is relative or not usable, or the frame has no calibration of
                its own size.
        """
        _check(estimate)
        camera = self._published_camera(frame, settings.downscale)
        coarse = inverse_depth_at_network_size(disparity.values, estimate)
        finite = np.isfinite(disparity.values)
        size = (camera.width, camera.height)
        if self._inverse.shape != size[::-1]:
            self._inverse = np.empty(size[::-1], np.float32)
            self._nan = np.full(size[::-1], np.nan, np.float32)
        inverse = self._inverse
        cv2.resize(coarse, size, dst=inverse, interpolation=cv2.INTER_LINEAR)
        farthest, nearest = 1.0 / settings.max_m, 1.0 / settings.min_m

        flying = None
        if settings.remove_edges:
            flying = self._edges.detect(coarse, inverse, settings.edge_ratio, farthest)
        # What is beyond the range becomes 0, of which the reciprocal is +Inf.
        cv2.threshold(inverse, farthest, 0.0, cv2.THRESH_TOZERO, dst=inverse)
        depth = np.empty(size[::-1], np.float32)
        with np.errstate(divide="ignore"):
            np.divide(np.float32(1.0), inverse, out=depth)
        if flying is not None:
            cv2.copyTo(self._nan, flying, depth)
        if coarse.max() > nearest:
            np.copyto(depth, np.nan, where=inverse > nearest)
        if not finite.all():
            np.copyto(depth, np.nan, where=cv2.resize((~finite).astype(np.float32), size) > 0.0)
        if estimate.missed is not None:
            self._hide_missed(depth, coarse, estimate.missed[estimate.missed[:, 2] > farthest])
        if unseen is not None:
            cv2.copyTo(self._nan, cv2.resize(unseen, size, interpolation=cv2.INTER_NEAREST), depth)
        return MetricDepth(depth, camera, frame.stamp_ns, frame.frame_id, estimate)

    def _hide_missed(self, depth: ArrayF32, coarse: ArrayF32, missed: ArrayF32) -> None:
        """Make NaN of what would be +Inf around points that were measured within the range.

        A point within a pixel of something that is seen is that thing's outline, not a surface of
        its own that was missed.
        """
        rows, columns = coarse.shape
        nothing = cv2.erode((coarse == 0.0).view(np.uint8), np.ones((3, 3), np.uint8))
        column = np.clip(np.rint(missed[:, 0]).astype(np.intp), 0, columns - 1)
        row = np.clip(np.rint(missed[:, 1]).astype(np.intp), 0, rows - 1)
        hits = np.zeros_like(nothing)
        hits[row, column] = nothing[row, column]
        if not hits.any():
            return
        reach = 2 * max(1, round(_MISSED_REACH * columns)) + 1
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
        near = cv2.resize(
            cv2.dilate(hits, disc), depth.shape[::-1], interpolation=cv2.INTER_NEAREST
        )
        np.copyto(depth, np.nan, where=near.view(bool) & np.isposinf(depth))

    def _published_camera(self, frame: Frame, downscale: int) -> CameraModel:
        camera = frame.camera
        height, width = frame.image.shape[:2]
        if camera is None:
            raise ValueError("the frame has no calibration, so its depth has no camera")
        if (camera.width, camera.height) != (width, height):
            raise ValueError(
                f"the calibration is for {camera.width}x{camera.height} but the image is "
                f"{width}x{height}; both must come from the same camera mode"
            )
        size = published_size(frame, downscale)
        cached = self._published
        if cached is None or camera is not self._source or (cached.width, cached.height) != size:
            cached = camera.rectified().resized(*size)
            self._source, self._published = camera, cached
        return cached


def _check(estimate: ScaleEstimate) -> None:
    if estimate.state is ScaleState.RELATIVE:
        raise ValueError(
            f"the scale is relative ({estimate.reason or 'no reason given'}): relative disparity "
            "is never turned into metres"
        )
    if not (0.0 < estimate.scale < np.inf and np.isfinite(estimate.shift)):
        raise ValueError(
            f"the scale of source {estimate.source!r} is {estimate.scale} and its shift "
            f"{estimate.shift}; both must be finite and the scale positive"
        )
