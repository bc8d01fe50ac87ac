"""A robot that drives a closed path through one scene: where it and its sensors are, and when.

Frames follow REP 103 and REP 105: `odom` is fixed to the scene, `base_link` is the robot (x
forward, y left, z up, on the floor), `camera_optical_frame` has z forward, x right, y down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np

from depth_node.types import ArrayF64, CameraModel
from depth_node.world.place import Place
from depth_node.world.sampling import camera_rotation, make_place
from depth_node.world.scene import SceneKind

_CLEARANCE = 0.45
"""Metres that the path keeps from everything, where it can."""
_SPEED = {"street": 3.0}
_INDOOR_SPEED = 0.8
"""Greatest speed in m/s, by kind of place and for all others."""
_TURN = 1.6
"""Greatest rate of turn in rad/s."""


@dataclass(frozen=True)
class Mounts:
    """Where the sensors sit on the robot: x, y, z in metres in `base_link`.

    The scanner, range finder, IMU and LiDAR have the axes of `base_link`; the camera looks forward,
    tilted down by `camera_pitch` radians.
    """

    camera: tuple[float, float, float] = (0.15, 0.0, 0.6)
    camera_pitch: float = 0.12
    lidar: tuple[float, float, float] = (0.15, 0.0, 0.85)
    scan: tuple[float, float, float] = (0.2, 0.0, 0.25)
    range: tuple[float, float, float] = (0.25, 0.0, 0.4)
    imu: tuple[float, float, float] = (0.0, 0.0, 0.2)

    def base_to(self, sensor: str) -> ArrayF64:
        """4x4 T_base_sensor of `camera` (its optical frame), `lidar`, `scan`, `range` or `imu`."""
        pose = np.eye(4)
        pose[:3, 3] = getattr(self, sensor)
        if sensor == "camera":
            pose[:3, :3] = camera_rotation(0.0, -self.camera_pitch, 0.0)
        return pose

    def camera_to(self, sensor: str) -> ArrayF64:
        """4x4 T_camera_sensor: takes points from the sensor's frame to the optical frame."""
        return np.asarray(np.linalg.inv(self.base_to("camera")) @ self.base_to(sensor))


def _error(default: float, description: str) -> float:
    value: float = field(default=default, metadata={"description": description})
    return value


@dataclass(frozen=True)
class SensorNoise:
    """What the sensors get wrong; `depth-node world` has an option for each field."""

    lidar_sigma_m: float = _error(0.015, "standard deviation of LiDAR ranges")
    lidar_dropout: float = _error(0.03, "share of LiDAR returns that are missing")
    lidar_outliers: float = _error(
        0.0, "share of LiDAR returns anywhere between the sensor and the surface"
    )
    lidar_offset_m: float = _error(0.0, "constant error of LiDAR ranges, metres")
    scan_sigma_m: float = _error(0.01, "standard deviation of the planar scan's ranges")
    range_sigma_m: float = _error(0.01, "standard deviation of the range finder")
    imu_sigma: float = _error(0.02, "standard deviation of the accelerometer, m/s^2")

    def __post_init__(self) -> None:
        for name in ("lidar_dropout", "lidar_outliers"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; a share lies in [0, 1]")
        for name in ("lidar_sigma_m", "scan_sigma_m", "range_sigma_m", "imu_sigma"):
            if getattr(self, name) < 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; a deviation is 0 or more")


@dataclass(frozen=True)
class DriveSettings:
    """Everything that decides what a drive looks like; the cache is keyed by it.

    Attributes:
        kind: `room`, `corridor`, `street` or `clutter`.
        seed: of the scene, the path and all noise.
        width: image width in pixels.
        height: image height in pixels.
        fps: camera rate in Hz.
        seconds: duration of the loop.
        horizontal_fov_deg: of the camera.
        lidar_every: frames from one LiDAR cloud and planar scan to the next.
        mounts: where the sensors are.
        noise: what they get wrong.
    """

    kind: str = "room"
    seed: int = 0
    width: int = 640
    height: int = 480
    fps: float = 30.0
    seconds: float = 8.0
    horizontal_fov_deg: float = 75.0
    lidar_every: int = 3
    mounts: Mounts = field(default_factory=Mounts)
    noise: SensorNoise = field(default_factory=SensorNoise)

    def __post_init__(self) -> None:
        if self.kind not in get_args(SceneKind):
            raise ValueError(
                f"there is no world called {self.kind!r}; choose one of {list(get_args(SceneKind))}"
            )
        if self.width < 16 or self.height < 16:
            raise ValueError(
                f"a drive of {self.width}x{self.height} pixels is too small; 16 is least"
            )
        if not 0 < self.horizontal_fov_deg < 170:
            raise ValueError(
                f"a field of view of {self.horizontal_fov_deg} degrees is not in (0, 170)"
            )
        if self.fps <= 0 or self.seconds <= 0 or self.frames < 2:
            raise ValueError(
                f"{self.seconds} s at {self.fps} Hz make {self.frames} frames; two are the least"
            )
        if self.lidar_every < 1:
            raise ValueError(f"lidar_every is {self.lidar_every}; it must be 1 or more")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DriveSettings:
        """The settings that `dataclasses.asdict` and json turned into `values`."""
        mounts: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in values["mounts"].items()
        }
        nested = {"mounts": Mounts(**mounts), "noise": SensorNoise(**values["noise"])}
        return cls(**{**values, **nested})

    @property
    def frames(self) -> int:
        """Frames in one loop."""
        return max(0, round(self.fps * self.seconds))

    @property
    def camera(self) -> CameraModel:
        """The robot's camera, calibrated and free of distortion."""
        f = 0.5 * self.width / float(np.tan(0.5 * np.radians(self.horizontal_fov_deg)))
        return CameraModel.pinhole(
            self.width, self.height, f, f, 0.5 * (self.width - 1), 0.5 * (self.height - 1)
        )


@dataclass(frozen=True, eq=False)
class Drive:
    """A planned drive.

    Attributes:
        settings: what it was planned from.
        place: the scene driven through.
        poses: (frames, 4, 4) float64 T_odom_base; frame 0 follows the last one smoothly.
    """

    settings: DriveSettings
    place: Place
    poses: ArrayF64

    def sensor_pose(self, frame: int, sensor: str) -> ArrayF64:
        """4x4 T_odom_sensor at a frame; for `camera` of its optical frame."""
        return np.asarray(self.poses[frame] @ self.settings.mounts.base_to(sensor))


def plan_drive(settings: DriveSettings) -> Drive:
    """Generate the scene and plan the loop; the same settings give the same drive."""
    place = make_place(settings.seed, settings.kind, spacious=True)
    return Drive(settings, place, plan_loop(place, settings))


def plan_loop(place: Place, settings: DriveSettings) -> ArrayF64:
    """Find a smooth closed path that keeps clear of obstacles, driven at constant speed.

    Of random ellipse-like loops, the longest that is driven at no more than the robot's speed and
    keeps its distance. Where nothing fits the robot turns on the spot that is freest.

    Returns:
        (frames, 4, 4) float64 T_odom_base.
    """
    rng = np.random.default_rng([settings.seed, 31])
    longest = _SPEED.get(place.kind, _INDOOR_SPEED) * settings.seconds
    phase = np.linspace(0, 2 * np.pi, 241)
    best, best_length = None, 0.0
    x0, y0, x1, y1 = place.bounds
    for _ in range(900):
        centre = rng.uniform((x0, y0), (x1, y1))
        radii = np.exp(rng.uniform(np.log(0.25), np.log([0.5 * (x1 - x0), 0.5 * (y1 - y0)])))
        wobble = rng.uniform(0, 0.25) * np.cos(2 * phase + rng.uniform(0, 2 * np.pi))
        x = centre[0] + radii[0] * (1 + wobble) * np.cos(phase)
        y = centre[1] + radii[1] * (1 + wobble) * np.sin(phase)
        length = float(np.hypot(np.diff(x), np.diff(y)).sum())
        if not best_length < length <= longest or place.clearance(x, y).min() <= _CLEARANCE:
            continue
        path = _even(np.stack([x, y], axis=1), settings.frames)
        step = np.roll(path, -1, axis=0) - np.roll(path, 1, axis=0)
        turn = np.diff(np.unwrap(np.arctan2(step[:, 1], step[:, 0]))) * settings.fps
        if np.abs(turn).max() < _TURN:
            best, best_length = path, length
    if best is None:
        return _turn_on_the_spot(place, settings, rng)
    if rng.random() < 0.5:
        best = best[::-1]
    step = np.roll(best, -1, axis=0) - np.roll(best, 1, axis=0)
    return _poses(best, np.arctan2(step[:, 1], step[:, 0]), settings)


def _even(polyline: ArrayF64, count: int) -> ArrayF64:
    """`count` points at even distances along a closed polyline whose end repeats its start.

    Smoothed over the polyline's own segments, so that the heading has no steps at its corners.
    """
    travelled = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(polyline, axis=0).T))])
    at = np.linspace(0, travelled[-1], count, endpoint=False)
    offsets = np.linspace(-1, 1, 9) * travelled[-1] / len(polyline)
    return np.mean(
        [
            np.stack(
                [np.interp((at + o) % travelled[-1], travelled, axis) for axis in polyline.T], 1
            )
            for o in offsets
        ],
        axis=0,
    )


def _turn_on_the_spot(place: Place, settings: DriveSettings, rng: np.random.Generator) -> ArrayF64:
    x0, y0, x1, y1 = place.bounds
    x, y = rng.uniform(x0, x1, 500), rng.uniform(y0, y1, 500)
    k = int(np.argmax(place.clearance(x, y)))
    yaw = np.linspace(0, 2 * np.pi, settings.frames, endpoint=False)
    return _poses(np.tile([x[k], y[k]], (settings.frames, 1)), yaw, settings)


def _poses(position: ArrayF64, yaw: ArrayF64, settings: DriveSettings) -> ArrayF64:
    """Poses with a slight periodic sway, as wheels on a floor have."""
    phase = np.linspace(0, 2 * np.pi, settings.frames, endpoint=False)
    roll, pitch = 0.006 * np.sin(3 * phase), 0.006 * np.sin(5 * phase + 1)
    poses = np.tile(np.eye(4), (settings.frames, 1, 1))
    poses[:, :2, 3] = position
    for k in range(settings.frames):
        forward_right_down = camera_rotation(float(yaw[k]), float(pitch[k]), float(roll[k]))
        right, down, forward = forward_right_down.T
        poses[k, :3, :3] = np.stack([forward, -right, -down], axis=1)
    return poses
