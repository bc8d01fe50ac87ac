"""A room without sky, of which every metre is known, and what sensors see of it."""

from __future__ import annotations

import cv2
import numpy as np

from depth_node.scale.points import SparseDepth
from depth_node.types import CameraModel, Frame

WIDTH, HEIGHT, FOCAL = 168, 126, 150.0
CAMERA = CameraModel.pinhole(WIDTH, HEIGHT, FOCAL, FOCAL, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
CAMERA_HEIGHT_M, CEILING_M, HALF_WIDTH_M = 0.6, 2.4, 2.0
RATE_HZ = 30
UNIT = 0.01  # 1/m per unit of the network's disparity
Y, X = np.mgrid[:HEIGHT, :WIDTH].astype(float)
X, Y = (X - CAMERA.K[0, 2]) / FOCAL, (Y - CAMERA.K[1, 2]) / FOCAL
Pixels = tuple[np.ndarray, np.ndarray]


def room(wall_m: float) -> np.ndarray:
    """Inverse depth of floor, ceiling, side walls and a wall ahead, 1/m."""
    planes = (
        np.clip(Y / CAMERA_HEIGHT_M, 0, None),
        np.clip(-Y / (CEILING_M - CAMERA_HEIGHT_M), 0, None),
        np.abs(X) / HALF_WIDTH_M,
        np.full_like(X, 1 / wall_m),
    )
    return np.maximum.reduce(planes).astype(np.float32)


def smooth(rng: np.random.Generator, amplitude: float) -> np.ndarray:
    """A smooth log error of the network."""
    coarse = rng.normal(size=(6, 8)).astype(np.float32)
    error = np.asarray(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))
    return error / error.std() * amplitude


def rings(_: np.random.Generator) -> Pixels:
    """What a LiDAR of 16 rings sees, rows and columns."""
    rows = np.clip(CAMERA.K[1, 2] - FOCAL * np.tan(np.radians(np.linspace(-15, 15, 16))), 0, 125)
    return np.repeat(rows.astype(int), WIDTH // 2), np.tile(np.arange(0, WIDTH, 2), 16)


def scattered(rng: np.random.Generator) -> Pixels:
    """A thousand pixels anywhere."""
    return rng.integers(0, HEIGHT, 1000), rng.integers(0, WIDTH, 1000)


def scan(_: np.random.Generator) -> Pixels:
    """What a level laser scanner sees."""
    return np.full(WIDTH // 2, HEIGHT // 2), np.arange(0, WIDTH, 2)


def one_range(_: np.random.Generator) -> Pixels:
    """What a range finder sees."""
    return np.array([HEIGHT // 2]), np.array([WIDTH // 2 + 10])


def frame(stamp_ns: int) -> Frame:
    """A frame of the camera; its picture shows nothing."""
    return Frame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), stamp_ns, "camera", CAMERA, 0, True)


def measured(
    true: np.ndarray,
    at: Pixels,
    rng: np.random.Generator,
    stamp_ns: int,
    source: str = "lidar",
    footprint_px: float = 0.0,
) -> SparseDepth:
    """What a sensor measures at some pixels, with half a percent of noise."""
    row, column = at
    depth = (1 + 0.005 * rng.normal(size=len(row))) / true[row, column]
    return SparseDepth(
        column.astype(np.float32),
        row.astype(np.float32),
        depth.astype(np.float32),
        np.full(len(row), 0.02, np.float32),
        source,
        stamp_ns,
        (WIDTH, HEIGHT),
        footprint_px,
    )
