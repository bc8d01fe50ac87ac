"""Pack metric depth and colour into the bytes of a point cloud."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.parameters import PointsSettings
from depth_node.types import ArrayF32, ImageU8, MetricDepth


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points in the camera's optical frame, laid out as `sensor_msgs/PointCloud2` wants them.

    Attributes:
        data: float32, contiguous, metres: HxWxC organised like the image, NaN where there is no
            point, or NxC without invalid points. C is 3 (x, y, z), one more with the packed
            colour of rviz and PCL (the bits of the integer 0x00RRGGBB), and one more with sigma.
        has_sigma: whether the last value of each point is the standard deviation of its depth,
            metres.
    """

    data: ArrayF32
    has_sigma: bool = False

    @property
    def organised(self) -> bool:
        """Whether the points keep the image's rows and columns."""
        return bool(self.data.ndim == 3)

    @property
    def width(self) -> int:
        """Points in a row."""
        return int(self.data.shape[-2])

    @property
    def height(self) -> int:
        """Rows; 1 for a cloud that is not organised."""
        return int(self.data.shape[0]) if self.organised else 1

    @property
    def has_rgb(self) -> bool:
        """Whether each point has a colour."""
        return bool(self.data.shape[-1] - self.has_sigma == 4)

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of each point's values, in their order."""
        return ("x", "y", "z", *("rgb",) * self.has_rgb, *("sigma",) * self.has_sigma)


class CloudPacker:
    """Packs clouds; keeps rays and buffers from frame to frame, so it serves one thread."""

    def __init__(self) -> None:
        self._rays_key: tuple[object, ...] = ()
        self._ray_x: ArrayF32 = np.empty((0, 0), np.float32)
        self._ray_y: ArrayF32 = self._ray_x
        self._x: ArrayF32 = self._ray_x
        self._y: ArrayF32 = self._ray_x
        self._z: ArrayF32 = self._ray_x
        self._bgra: ImageU8 = np.empty((0, 0, 4), np.uint8)

    def pack(
        self,
        depth: MetricDepth,
        image: ImageU8 | None,
        settings: PointsSettings,
        max_m: float,
        sigma: ArrayF32 | None = None,
    ) -> Cloud:
        """Back-project depth: X = Z (u - cx) / fx, Y = Z (v - cy) / fy.

        Args:
            depth: HxW metres with its rectified camera.
            image: HxWx3 uint8 RGB of the same view, or a multiple of that size (its colours are
                then averaged), or None for a cloud without colour.
            settings: colour, stride, voxel size, and what becomes of far points.
            max_m: where `far_points: clamp` puts +Inf: on the pixel's ray at Z = `max_m`.
            sigma: HxW float32 standard deviation of the depth, metres, or None for a cloud without.

        Returns:
            A cloud whose array is new; organised unless `voxel_m` is set.
        """
        step = settings.stride
        z = np.ascontiguousarray(depth.depth[::step, ::step])
        self._prepare(depth, step, z.shape)
        if settings.far_points == "clamp":
            np.minimum(z, np.float32(max_m), out=self._z)
        else:
            with np.errstate(invalid="ignore"):
                np.subtract(z, z, out=self._z)  # 0, and NaN where z is infinite
            self._z += z
        np.multiply(self._z, self._ray_x, out=self._x)
        np.multiply(self._z, self._ray_y, out=self._y)
        planes = [self._x, self._y, self._z]
        if settings.color and image is not None:
            planes.append(self._packed_colour(image, depth.depth.shape, step))
        if sigma is not None:
            planes.append(np.ascontiguousarray(sigma[::step, ::step]))
        data = np.asarray(cv2.merge(planes), np.float32)
        if settings.voxel_m > 0.0:
            valid = np.flatnonzero(np.isfinite(self._z))
            xyz = np.stack([plane.ravel().take(valid) for plane in planes[:3]])
            kept = valid[first_of_each_voxel(xyz, settings.voxel_m)]
            data = data.reshape(-1, data.shape[-1])[kept]
        return Cloud(data, has_sigma=sigma is not None)

    def _prepare(self, depth: MetricDepth, step: int, shape: tuple[int, ...]) -> None:
        key = (depth.camera.intrinsics, step, shape)
        if key == self._rays_key:
            return
        fx, fy, cx, cy = depth.camera.intrinsics
        rows, columns = (np.arange(n, dtype=np.float64) * step for n in shape)
        self._ray_x = ((columns[None, :] - cx) / fx).astype(np.float32)
        self._ray_y = ((rows[:, None] - cy) / fy).astype(np.float32)
        self._x, self._y, self._z = (np.empty(shape, np.float32) for _ in range(3))
        self._bgra = np.empty((*shape, 4), np.uint8)
        self._rays_key = key

    def _packed_colour(self, image: ImageU8, shape: tuple[int, ...], step: int) -> ArrayF32:
        """HxW float32 whose bits are 0x00RRGGBB: in memory B, G, R, 0 (little-endian)."""
        if image.shape[:2] != shape:
            smaller = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA)
            image = np.asarray(smaller, np.uint8)
        if step > 1:
            image = np.ascontiguousarray(image[::step, ::step])
        cv2.cvtColor(image, cv2.COLOR_RGB2BGRA, dst=self._bgra)
        bits = self._bgra.view("<u4")
        bits &= np.uint32(0x00FFFFFF)
        return bits.view("<f4")[..., 0]


def first_of_each_voxel(xyz: ArrayF32, voxel_m: float) -> NDArray[np.intp]:
    """Indices of the first point in each voxel of a grid through the origin, in ascending order.

    Args:
        xyz: 3xN float32, finite, metres.
        voxel_m: edge of a voxel in metres.
    """
    count = xyz.shape[1]
    if count == 0:
        return np.zeros(0, np.intp)
    cells = np.floor(np.divide(xyz, voxel_m, dtype=np.float64)).astype(np.int64)
    low = cells.min(axis=1, keepdims=True)
    cells -= low
    nx, ny, nz = (int(n) + 1 for n in cells.max(axis=1))
    index_bits = count.bit_length()
    if (nx * ny * nz).bit_length() + index_bits > 63:  # too many small voxels for one integer
        return np.sort(np.unique(cells, axis=1, return_index=True)[1])
    key = (cells[2] * ny + cells[1]) * nx + cells[0]
    # Neighbours in the image mostly share a voxel: without them there is much less to sort. The
    # index rides in the low bits, because sorting numbers is far faster than sorting indices.
    runs = np.flatnonzero(np.diff(key, prepend=-1))
    order = np.sort((key[runs] << index_bits) | runs)
    first = np.diff(order >> index_bits, prepend=-1) != 0
    return np.sort(order[first] & ((1 << index_bits) - 1))
