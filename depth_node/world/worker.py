"""Renders a share of a drive's frames: `python -m depth_node.world.worker FOLDER INDEX COUNT`.

Started by `cache.render_drive`. Writes every COUNT-th frame from INDEX on into the folder's arrays,
and one byte to standard output a frame; the worker with index 0 writes the other sensors too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.types import ArrayF32, ImageU8
from depth_node.world import photometry, sensors
from depth_node.world.cache import SETTINGS_FILE
from depth_node.world.drive import Drive, DriveSettings, plan_drive
from depth_node.world.render import render

_LIDAR_TYPE = np.dtype(
    [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("intensity", "<f4"),
        ("ring", "<u2"),
        ("time", "<f4"),
    ]
)


def render_frame(drive: Drive, frame: int) -> tuple[ImageU8, ArrayF32]:
    """One frame of a drive: HxWx3 uint8 RGB and HxW float32 Z depth in metres."""
    settings = drive.settings
    pose = drive.sensor_pose(frame, "camera")
    radiance, depth = render(drive.place.scene, settings.camera, pose, smooth=True)
    rng = np.random.default_rng([settings.seed, 41, frame])
    return photometry.develop(radiance, photometry.MILD, rng), depth


def measure(drive: Drive) -> dict[str, NDArray[Any]]:
    """Poses and the readings of all sensors but the camera, as `CachedDrive` describes them."""
    settings, scene, noise = drive.settings, drive.place.scene, drive.settings.noise
    rng = np.random.default_rng([settings.seed, 42])
    scans, clouds, ranges, accelerations = [], [], [], []
    for frame in range(settings.frames):
        at = {name: drive.sensor_pose(frame, name) for name in ("lidar", "scan", "range", "imu")}
        ranges.append(sensors.range_reading(scene, at["range"], noise, rng))
        accelerations.append(sensors.accelerometer(at["imu"], noise, rng))
        if frame % settings.lidar_every == 0:
            scans.append(sensors.planar_scan(scene, at["scan"], noise, rng))
            clouds.append(_records(sensors.lidar_cloud(scene, at["lidar"], noise, rng)))
    return {
        "poses": drive.poses,
        "scans": np.array(scans, np.float32),
        "ranges": np.array(ranges, np.float32),
        "accelerations": np.array(accelerations),
        "lidar": np.concatenate(clouds),
        "lidar_start": np.cumsum([0, *(len(cloud) for cloud in clouds)], dtype=np.int64),
    }


def _records(cloud: sensors.LidarCloud) -> NDArray[Any]:
    records = np.empty(len(cloud.points), _LIDAR_TYPE)
    records["x"], records["y"], records["z"] = cloud.points.T
    records["intensity"], records["ring"], records["time"] = cloud.intensity, cloud.ring, cloud.time
    return records


def main(folder: Path, index: int, count: int) -> None:
    """Render every `count`-th frame from `index` on."""
    cv2.setNumThreads(1)  # one process a core already
    settings = DriveSettings.from_dict(json.loads((folder / SETTINGS_FILE).read_text()))
    drive = plan_drive(settings)
    rgb = np.load(folder / "rgb.npy", mmap_mode="r+")
    depth = np.load(folder / "depth.npy", mmap_mode="r+")
    for frame in range(index, settings.frames, count):
        rgb[frame], depth[frame] = render_frame(drive, frame)
        sys.stdout.buffer.write(b".")
        sys.stdout.buffer.flush()
    if index == 0:
        for name, array in measure(drive).items():
            np.save(folder / f"{name}.npy", array)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
