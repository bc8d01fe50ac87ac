"""Sparse measured depth in the camera's picture: what LiDARs, scanners and SLAM points become."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.types import ArrayF32, ArrayF64, CameraModel

_REMAP_COLUMNS = 256  # cv2.remap takes no side longer than 32767 and dislikes thin ones


@dataclass(frozen=True)
class RangeNoise:
    """Standard deviation of a range measurement: hypot(constant_m, relative * depth).

    Attributes:
        constant_m: the part that does not depend on distance, metres.
        relative: the part that grows with distance, metres per metre.
    """

    constant_m: float = 0.02
    relative: float = 0.005

    def sigma(self, depth: ArrayF32) -> ArrayF32:
        """(n,) float32 standard deviations in metres for depths in metres."""
        relative = np.float32(self.relative) * depth
        return np.asarray(np.hypot(np.float32(self.constant_m), relative))


@dataclass(frozen=True, eq=False)
class SparseDepth:
    """Measured depths at some pixels of the rectified image.

    Attributes:
        u: (n,) float32 column in pixels; pixel centres are integers.
        v: (n,) float32 row in pixels.
        depth: (n,) float32 metres along the optical axis, positive and finite.
        sigma: (n,) float32 standard deviation of `depth` in metres.
        source: name of the source (`lidar`, `scan`, `range`, `landmarks`).
        stamp_ns: when the points were there, on the camera's clock.
        size: (width, height) in pixels of the rectified image that `u` and `v` refer to.
        footprint_px: radius of the cone that a range finder sees; it reads the nearest surface
            inside. 0 is a ray.
        measured_ns: when they were measured, where odometry has moved them to `stamp_ns` since;
            None where that is the same.
        mounting: another number once the sensor sits elsewhere on the robot, or is said to: what
            was found of its extrinsics holds for one.
    """

    u: ArrayF32
    v: ArrayF32
    depth: ArrayF32
    sigma: ArrayF32
    source: str
    stamp_ns: int
    size: tuple[int, int]
    footprint_px: float = 0.0
    measured_ns: int | None = None
    mounting: int = 0

    def __len__(self) -> int:
        """How many points there are."""
        return len(self.u)

    def at_most(self, count: int) -> SparseDepth:
        """These points, evenly thinned in their order to at most `count`."""
        if len(self) <= count:
            return self
        keep = np.linspace(0, len(self) - 1, count).astype(np.intp)
        return replace(
            self,
            u=self.u[keep],
            v=self.v[keep],
            depth=self.depth[keep],
            sigma=self.sigma[keep],
        )


def project(
    points_xyz: NDArray[np.floating],
    T_cam_sensor: ArrayF64,
    camera: CameraModel,
    *,
    source: str,
    stamp_ns: int,
    noise: RangeNoise = RangeNoise(),
    min_m: float = 0.1,
    max_m: float = 120.0,
) -> SparseDepth:
    """Project a sensor's points into the rectified image.

    Points that are not finite, behind the camera, nearer than `min_m`, beyond `max_m` or outside
    the image are dropped.

    Args:
        points_xyz: (n, 3) metres, sensor frame.
        T_cam_sensor: 4x4, takes sensor points to the camera's optical frame at the image's stamp.
        camera: the camera; its P describes the rectified image.
        source: name of the source.
        stamp_ns: when the points were measured, camera's clock.
        noise: noise of the sensor's range.
        min_m: nearest accepted depth, metres.
        max_m: farthest accepted depth, metres.

    Returns:
        The points inside the image.

    Raises:
        ValueError: a shape is wrong or the transform is not finite.
    """
    T = np.asarray(T_cam_sensor, dtype=np.float32)
    if points_xyz.ndim != 2 or points_xyz.shape[1] != 3:
        raise ValueError(f"points have the shape {points_xyz.shape}; it must be (n, 3)")
    if T.shape != (4, 4) or not np.isfinite(T).all():
        raise ValueError(f"T_cam_sensor must be a finite 4x4 matrix, not {T_cam_sensor!r}")
    rotation, translation = T[:3, :3], T[:3, 3:]
    fx, fy, cx, cy = camera.intrinsics
    # Depth first: half of a spinning scanner's points lie behind the camera. Comparisons with NaN
    # are false, so points that are not finite fall out by themselves.
    columns = np.ascontiguousarray(points_xyz.T, dtype=np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        depth = rotation[2] @ columns + translation[2]
        seen = np.flatnonzero((depth >= min_m) & (depth <= max_m))
        columns, depth = columns[:, seen], depth[seen]
        x, y = rotation[:2] @ columns + translation[:2]
        u = x * np.float32(fx) / depth + np.float32(cx)
        v = y * np.float32(fy) / depth + np.float32(cy)
        inside = np.flatnonzero(
            (u >= -0.5) & (u < camera.width - 0.5) & (v >= -0.5) & (v < camera.height - 0.5)
        )
    u, v, depth = u[inside], v[inside], depth[inside]
    return SparseDepth(
        u, v, depth, noise.sigma(depth), source, stamp_ns, (camera.width, camera.height)
    )


def from_depth_image(
    depth: NDArray[np.floating],
    camera: CameraModel,
    *,
    source: str,
    stamp_ns: int,
    noise: RangeNoise = RangeNoise(),
    min_m: float = 0.1,
    max_m: float = 120.0,
) -> SparseDepth:
    """Take the valid pixels of a sparse or low-resolution depth image that covers the same view.

    Args:
        depth: hxw metres; 0, NaN and Inf are invalid. Any size: pixel centres are mapped to the
            camera's by x' + 0.5 = (x + 0.5) * width' / width.
        camera: the rectified camera whose view the image covers.
        source: name of the source.
        stamp_ns: when it was measured, camera's clock.
        noise: noise of its depth.
        min_m: nearest accepted depth, metres.
        max_m: farthest accepted depth, metres.

    Returns:
        One point a valid pixel.
    """
    height, width = depth.shape
    with np.errstate(invalid="ignore"):
        v, u = np.nonzero((depth >= min_m) & (depth <= max_m))
    z = depth[v, u].astype(np.float32)
    sx, sy = camera.width / width, camera.height / height
    return SparseDepth(
        ((u + 0.5) * sx - 0.5).astype(np.float32),
        ((v + 0.5) * sy - 0.5).astype(np.float32),
        z,
        noise.sigma(z),
        source,
        stamp_ns,
        (camera.width, camera.height),
    )


def grid_coordinates(points: SparseDepth, shape: tuple[int, int]) -> tuple[ArrayF32, ArrayF32]:
    """(x, y), each (n,) float32, of the points on a grid of another size over the same view."""
    height, width = shape
    sx, sy = np.float32(width / points.size[0]), np.float32(height / points.size[1])
    half = np.float32(0.5)
    return (points.u + half) * sx - half, (points.v + half) * sy - half


def sample(values: NDArray[Any], x: ArrayF32, y: ArrayF32) -> NDArray[Any]:
    """Bilinear samples (n,) of an image at pixel coordinates, in its dtype; borders repeat."""
    count = len(x)
    columns = min(count, _REMAP_COLUMNS) or 1
    rows = -(-count // columns)
    maps = np.zeros((2, rows * columns), np.float32)
    maps[0, :count] = x
    maps[1, :count] = y
    sampled = cv2.remap(
        values,
        maps[0].reshape(rows, columns),
        maps[1].reshape(rows, columns),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(sampled).ravel()[:count]


def sample_disparity(values: ArrayF32, points: SparseDepth) -> ArrayF32:
    """The disparity that belongs to each measured point, 0 where it is saturated.

    A ray takes the bilinear sample, unless one of its four neighbours is saturated (it would mix
    a surface with the sky). A cone takes the 95th percentile inside its footprint, because a range
    finder reads the nearest surface there.

    Args:
        values: hxw float32 disparity.
        points: points over the same view, at any image size.

    Returns:
        (n,) float32 disparity.
    """
    if len(points) == 0:
        return np.zeros(0, np.float32)
    if points.footprint_px > 0.0:
        return sample_cones(values, points)[0]
    x, y = grid_coordinates(points, (values.shape[0], values.shape[1]))
    d: ArrayF32 = sample(values, x, y)
    saturated = np.asarray(values <= 0.0).view(np.uint8) * np.uint8(255)
    d[sample(saturated, x, y) > 0] = 0.0
    return d


def sample_cones(values: ArrayF32, points: SparseDepth) -> tuple[ArrayF32, ArrayF32]:
    """The disparity of the nearest surface in each cone, and how far others in it differ.

    A floor that a sonar grazes sends no echo back, however near it is in the picture: the reading
    may be of any surface in the cone.

    Args:
        values: hxw float32 disparity.
        points: points with a footprint, over the same view.

    Returns:
        (n,) float32 95th percentile of the disparity inside, 0 where it is saturated; and
        (n,) float32 log of it over the median of what is not saturated.
    """
    height, width = values.shape
    x, y = grid_coordinates(points, (height, width))
    radius = max(points.footprint_px * width / points.size[0], 1.0)
    rows, columns = np.mgrid[:height, :width]
    d, spread = np.zeros((2, len(x)), np.float32)
    for i, (cx, cy) in enumerate(zip(x, y, strict=True)):
        inside = values[(columns - cx) ** 2 + (rows - cy) ** 2 <= radius**2]
        inside = inside[np.isfinite(inside)]  # what the camera does not see tells nothing
        d[i] = np.percentile(inside, 95) if inside.size else 0.0
        if d[i] > 0.0:
            spread[i] = np.log(d[i] / np.median(inside[inside > 0.0]))
    return d, spread
