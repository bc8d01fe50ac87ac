"""Small scenes with exact depth, for measuring what happens at depth edges.

Each scene is a set of axis-aligned boxes (a floor and a wall are boxes too) seen by a pinhole
camera at the origin. A network's soft edges are imitated by blurring exact inverse depth at network
resolution. Nothing here is random: a scene is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.geometry.cloud import CloudPacker
from depth_node.geometry.depth import MetricConverter
from depth_node.parameters import DepthSettings, PointsSettings
from depth_node.types import CameraModel, Disparity, Frame, MetricDepth, ScaleEstimate, ScaleState

ArrayF64 = NDArray[np.float64]
SUPERSAMPLING = 4


@dataclass(frozen=True, eq=False)
class Scene:
    """Boxes in the camera's world frame (x right, y down, z forward, metres).

    Attributes:
        name: what the scene shows.
        boxes: n x 2 x 3 float64, the low and the high corner of each box.
        pitch_deg: how far the camera looks down.
        thin: indices of boxes that are thin enough to vanish when an edge is removed carelessly.
    """

    name: str
    boxes: ArrayF64
    pitch_deg: float = 0.0
    thin: tuple[int, ...] = ()

    @property
    def rotation(self) -> ArrayF64:
        """3x3, turns directions of the optical frame into the world's."""
        c, s = np.cos(np.radians(self.pitch_deg)), np.sin(np.radians(self.pitch_deg))
        return np.array([[1.0, 0.0, 0.0], [0.0, c, s], [0.0, -s, c]])

    def render(self, camera: CameraModel) -> tuple[ArrayF64, NDArray[np.int64]]:
        """Return HxW exact depth in metres (+Inf where nothing is hit) and the box hit (or -1)."""
        fx, fy, cx, cy = camera.intrinsics
        u, v = np.meshgrid(
            (np.arange(camera.width) - cx) / fx, (np.arange(camera.height) - cy) / fy
        )
        rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ self.rotation.T
        depth, hit = np.full(u.shape, np.inf), np.full(u.shape, -1)
        with np.errstate(divide="ignore", invalid="ignore"):
            for index, (low, high) in enumerate(self.boxes):
                slabs = np.stack([low / rays, high / rays])  # the origin is inside no box
                enter, leave = slabs.min(axis=0).max(axis=-1), slabs.max(axis=0).min(axis=-1)
                nearer = (enter > 0) & (enter <= leave) & (enter < depth)
                depth[nearer], hit[nearer] = enter[nearer], index
        return depth, hit

    def distance(self, points: ArrayF64) -> ArrayF64:
        """Distance in metres from each n x 3 point (optical frame) to the nearest surface."""
        world = points @ self.rotation.T
        best = np.full(len(points), np.inf)
        for low, high in self.boxes:
            outside = np.maximum(np.maximum(low - world, world - high), 0.0)
            inside = np.minimum(world - low, high - world).min(axis=-1)
            gap = np.linalg.norm(outside, axis=-1)
            best = np.minimum(best, np.where(gap > 0.0, gap, np.maximum(inside, 0.0)))
        return best

    def disparity(
        self, camera: CameraModel, width: int, height: int, blur_px: float
    ) -> NDArray[np.float32]:
        """Return height x width float32 inverse depth in 1/m as a soft network would see it.

        Args:
            camera: the camera whose field of view is covered.
            width: network width in pixels.
            height: network height in pixels.
            blur_px: standard deviation of the edge's softness in network pixels.
        """
        fine = camera.resized(width * SUPERSAMPLING, height * SUPERSAMPLING)
        exact = (1.0 / self.render(fine)[0]).astype(np.float32)
        if blur_px > 0.0:
            exact = cv2.GaussianBlur(exact, (0, 0), blur_px * SUPERSAMPLING)
        return cv2.resize(exact, (width, height), interpolation=cv2.INTER_AREA)


def _box(x: float, y: float, z: float, dx: float, dy: float, dz: float) -> list[list[float]]:
    return [[x, y, z], [x + dx, y + dy, z + dz]]


def scenes() -> Iterator[Scene]:
    """An indoor room, a street seen at grazing angle, and a rack of poles."""
    floor, wall = _box(-30, 1.2, -1, 60, 1, 80), _box(-30, -5, 6, 60, 6.2, 1)
    room = [
        floor,
        wall,
        _box(-1.0, 0.2, 1.5, 0.7, 1.0, 0.6),
        _box(0.3, -0.5, 2.5, 0.9, 1.7, 0.5),
        _box(-2.5, -0.2, 3.6, 0.6, 1.4, 0.5),
    ]
    yield Scene("room", np.array(room), pitch_deg=10.0)
    street = [
        _box(-30, 1.2, -1, 60, 1, 300),
        _box(-12, -8, 4, 6, 9.2, 40),
        _box(-2.5, -0.3, 8, 1.8, 1.5, 4),
        _box(1.5, -0.6, 5, 0.6, 1.8, 0.4),
        _box(5, -6, 14, 10, 7.2, 10),
    ]
    yield Scene("street", np.array(street))
    poles = [floor, wall]
    poles += [
        _box(-1.6 + 0.8 * i, -1.0, 2.0 + 0.4 * i, 0.03 + 0.02 * i, 2.2, 0.05) for i in range(5)
    ]
    yield Scene("poles", np.array(poles), pitch_deg=5.0, thin=(2, 3, 4, 5, 6))


def measure(scene: Scene, blur_px: float, width: int = 640, height: int = 480) -> dict[str, float]:
    """Share of cloud points more than 5% from any true surface, before and after edge removal.

    The distance is from the point to the nearest surface, relative to the point's depth.

    Args:
        scene: what is seen.
        blur_px: softness of the network's edges, standard deviation in network pixels (of 256).
        width: published width.
        height: published height.

    Returns:
        `flying_before` and `flying_after`, shares of the cloud's points; `surface_lost`, the share
        of points within 5% that were removed; `thin_rows_kept`, the share of rows of each thin
        box in which it has a point left (the worst box).
    """
    camera = CameraModel.from_field_of_view(width, height, 70.0)
    frame = Frame(np.zeros((height, width, 3), np.uint8), 0, "", camera, 0, rectified=True)
    disparity = Disparity(scene.disparity(camera, 256, 192, blur_px), "metric")
    estimate = ScaleEstimate(ScaleState.METRIC, "fixed")
    converter = MetricConverter()
    before, after = (
        converter.to_metric(disparity, estimate, frame, DepthSettings(remove_edges=remove)).depth
        for remove in (False, True)
    )
    points = (
        CloudPacker()
        .pack(MetricDepth(before, camera, 0, "", estimate), None, PointsSettings(), 50.0)
        .data
    )
    valid, kept = np.isfinite(before), np.isfinite(after)
    off = scene.distance(points[valid].astype(np.float64)) / before[valid]
    flying = np.zeros(valid.shape, bool)
    flying[valid] = off > 0.05
    surface = valid & ~flying
    hit = scene.render(camera)[1]
    rows = [(hit == box).any(axis=1) for box in scene.thin]
    left = [((hit == box) & kept).any(axis=1) for box in scene.thin]
    return {
        "flying_before": float(flying.sum() / valid.sum()),
        "flying_after": float((flying & kept).sum() / kept.sum()),
        "surface_lost": float((surface & ~kept).sum() / surface.sum()),
        "thin_rows_kept": min(
            (float(b[a].mean()) for a, b in zip(rows, left, strict=True) if a.any()), default=1.0
        ),
    }
