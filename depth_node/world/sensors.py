"""Simulated ranging sensors and IMU of the robot, measured on the scene's true geometry.

Every sensor frame has x forward, y left, z up (REP 103).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from depth_node.types import ArrayF32, ArrayF64
from depth_node.world.drive import SensorNoise
from depth_node.world.render import cast
from depth_node.world.scene import Scene

RINGS = 16
COLUMNS = 720
LIDAR_ELEVATION = np.radians(np.linspace(-15.0, 15.0, RINGS))
"""Elevation of every ring, radians, from the lowest to the highest."""
LIDAR_MIN_M, LIDAR_MAX_M = 0.3, 100.0
LIDAR_PERIOD_S = 0.1
SCAN_BEAMS = 720
SCAN_MIN_M, SCAN_MAX_M = 0.05, 25.0
RANGE_FOV_RAD = 0.35
RANGE_MIN_M, RANGE_MAX_M = 0.05, 8.0
GRAVITY = 9.80665
"""m/s^2, the standard acceleration of free fall."""


class LidarCloud(NamedTuple):
    """One revolution of the LiDAR.

    Attributes:
        points: (n, 3) float32 x, y, z in the LiDAR's frame, metres.
        intensity: (n,) float32, 0 to 255.
        ring: (n,) uint16, 0 is the lowest.
        time: (n,) float32 seconds after the stamp: 0, all beams are cast at once.
    """

    points: ArrayF32
    intensity: ArrayF32
    ring: NDArray[np.uint16]
    time: ArrayF32


def _cast_from(scene: Scene, pose: ArrayF64, directions: ArrayF32) -> tuple[ArrayF32, ArrayF32]:
    """Ranges of unit directions in a sensor's frame, and the cosine at which surfaces were met."""
    rays = np.ascontiguousarray(directions @ pose[:3, :3].T.astype(np.float32), np.float32)
    origins = np.empty_like(rays)
    origins[:] = pose[:3, 3]
    hits = cast(scene, origins, rays)
    length = np.sqrt(np.einsum("ij,ij->i", hits.normal, hits.normal)) + np.float32(1e-30)
    cosine = np.abs(np.einsum("ij,ij->i", hits.normal, rays)) / length
    return hits.distance, cosine


def lidar_cloud(
    scene: Scene, pose: ArrayF64, noise: SensorNoise, rng: np.random.Generator
) -> LidarCloud:
    """Spin a 16-beam LiDAR once.

    Args:
        scene: what it sees.
        pose: 4x4 T_odom_lidar.
        noise: errors, drop-outs and outliers.
        rng: draws them.
    """
    azimuth = np.linspace(np.pi, -np.pi, COLUMNS, endpoint=False)
    beams = np.empty((COLUMNS, RINGS, 3), np.float32)
    beams[..., 0] = np.cos(azimuth)[:, None] * np.cos(LIDAR_ELEVATION)
    beams[..., 1] = np.sin(azimuth)[:, None] * np.cos(LIDAR_ELEVATION)
    beams[..., 2] = np.sin(LIDAR_ELEVATION)
    directions = beams.reshape(-1, 3)
    ranges, cosine = _cast_from(scene, pose, directions)
    ranges = ranges + np.float32(noise.lidar_offset_m)
    ranges += rng.normal(0, noise.lidar_sigma_m, len(ranges)).astype(np.float32)
    stray = rng.random(len(ranges)) < noise.lidar_outliers
    ranges[stray] *= rng.random(int(stray.sum()), np.float32)
    kept = (ranges > LIDAR_MIN_M) & (ranges < LIDAR_MAX_M)
    kept &= rng.random(len(ranges)) >= noise.lidar_dropout
    ring = np.flatnonzero(kept) % RINGS
    return LidarCloud(
        points=directions[kept] * ranges[kept, None],
        intensity=(255 * cosine[kept] / (1 + 0.02 * ranges[kept] ** 2)).astype(np.float32),
        ring=ring.astype(np.uint16),
        time=np.zeros(len(ring), np.float32),
    )


def scan_angles() -> ArrayF64:
    """Angles of the planar scan's beams, radians, counter-clockwise from -pi."""
    return np.linspace(-np.pi, np.pi, SCAN_BEAMS, endpoint=False)


def planar_scan(
    scene: Scene, pose: ArrayF64, noise: SensorNoise, rng: np.random.Generator
) -> ArrayF32:
    """Ranges of a 2D scanner, (SCAN_BEAMS,) float32 metres; +inf is no return (REP 117).

    `pose` is T_odom_scan.
    """
    angles = scan_angles()
    directions = np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], axis=1)
    ranges, _ = _cast_from(scene, pose, directions.astype(np.float32))
    ranges = ranges + rng.normal(0, noise.scan_sigma_m, len(ranges)).astype(np.float32)
    ranges[ranges > SCAN_MAX_M] = np.inf
    ranges[ranges < SCAN_MIN_M] = -np.inf
    return ranges


def range_reading(
    scene: Scene, pose: ArrayF64, noise: SensorNoise, rng: np.random.Generator
) -> float:
    """What a cone-shaped range finder along x reads: the nearest surface in its cone, metres.

    +inf is no return (REP 117); `pose` is T_odom_range.
    """
    radius = np.linspace(0, 1, 8)
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    lateral = np.tan(RANGE_FOV_RAD / 2) * radius[:, None]
    directions = np.stack(
        [np.ones((8, 16)), lateral * np.cos(angle), lateral * np.sin(angle)], axis=-1
    ).reshape(-1, 3)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    ranges, _ = _cast_from(scene, pose, directions.astype(np.float32))
    nearest = float(ranges.min()) + float(rng.normal(0, noise.range_sigma_m))
    return nearest if nearest <= RANGE_MAX_M else float("inf")


def accelerometer(pose: ArrayF64, noise: SensorNoise, rng: np.random.Generator) -> ArrayF64:
    """Specific force of a robot at rest: gravity's reaction, upwards, (3,) m/s^2 (REP 145).

    `pose` is T_odom_imu.
    """
    up = pose[:3, :3].T @ np.array([0.0, 0.0, GRAVITY])
    return np.asarray(up + rng.normal(0, noise.imu_sigma, 3))
