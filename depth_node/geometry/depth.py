"""Disparity at network resolution to metric depth at the published size."""

from __future__ import annotations

import cv2
import numpy as np

from depth_node.geometry.edges import EdgeDetector
from depth_node.geometry.occlusion import measured_in_front
from depth_node.parameters import DepthSettings
from depth_node.scale.apply import inverse_depth_at_network_size
from depth_node.types import (
    CameraModel,
    Disparity,
    Frame,
    ImageU8,
    MetricDepth,
    ScaleEstimate,
    ScaleState,
)


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
        the disparity, unseen, or far behind a surface that was measured beside it. What is nearer
        than `min_m` is NaN too, where REP 117 has -Inf: readers of depth images test for NaN
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
        if estimate.in_front is not None:
            nearer = measured_in_front(coarse, estimate.in_front, farthest)
            if nearer is not None:
                behind = cv2.resize(nearer, size, interpolation=cv2.INTER_NEAREST) > inverse
                np.copyto(depth, np.nan, where=behind)
        if unseen is not None:
            cv2.copyTo(self._nan, cv2.resize(unseen, size, interpolation=cv2.INTER_NEAREST), depth)
        return MetricDepth(depth, camera, frame.stamp_ns, frame.frame_id, estimate)

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
