"""A small picture with exact depth for the tests of the scale: ground, two boxes, a wall, a sky."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from depth_node.scale.points import RangeNoise, SparseDepth
from depth_node.types import CameraModel, Disparity, Frame

WIDTH, HEIGHT = 320, 240
CAMERA = CameraModel.pinhole(WIDTH, HEIGHT, 260.0, 260.0, 159.5, 119.5)
SCALE, SHIFT = 0.004, 0.002
CAMERA_HEIGHT_M = 1.2
STAMP_NS = 5_000_000_000


def inverse_depth() -> np.ndarray:
    """HxW float64 true inverse depth, 1/m; 0 in the sky."""
    _, fy, _, cy = CAMERA.intrinsics
    v = np.arange(HEIGHT)[:, None] * np.ones((1, WIDTH))
    ground = (v - cy) / fy / CAMERA_HEIGHT_M
    q = np.maximum(ground, 1 / 25.0)
    q[:60] = 0.0
    q[70:150, 40:110] = 1 / 4.0
    q[90:140, 200:260] = 1 / 8.0
    return q


def disparity(scale: float = SCALE, shift: float = SHIFT) -> np.ndarray:
    """HxW float32 disparity that belongs to the true inverse depth; 0 in the sky."""
    q = inverse_depth()
    return np.where(q > 0, (q - shift) / scale, 0.0).astype(np.float32)


def bent_disparity() -> np.ndarray:
    """Disparity of a network that errs smoothly, by +-20%, and by another 15% on one box."""
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    error = 0.2 * np.sin(u / 60.0) * np.cos(v / 50.0)
    error[70:150, 40:110] += 0.15
    return disparity() * np.exp(error).astype(np.float32)


def points(
    count: int, seed: int = 0, stamp_ns: int = STAMP_NS, source: str = "lidar"
) -> SparseDepth:
    """Exact depths at random pixels below the sky."""
    rng = np.random.default_rng(seed)
    u, v = rng.integers(0, WIDTH, count), rng.integers(60, HEIGHT, count)
    z = (1.0 / inverse_depth()[v, u]).astype(np.float32)
    return SparseDepth(
        u.astype(np.float32),
        v.astype(np.float32),
        z,
        RangeNoise().sigma(z),
        source,
        stamp_ns,
        (WIDTH, HEIGHT),
    )


def only(given: SparseDepth, kept: np.ndarray) -> SparseDepth:
    """Those of the points that a mask names."""
    columns = ("u", "v", "depth", "sigma")
    return replace(given, **{name: getattr(given, name)[kept] for name in columns})


def frame(stamp_ns: int = STAMP_NS) -> Frame:
    """A frame of the right size at a stamp."""
    return Frame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), stamp_ns, "camera", CAMERA, 0, True)


def relative(values: np.ndarray) -> Disparity:
    """The disparity of a relative network."""
    return Disparity(np.ascontiguousarray(values, np.float32))
