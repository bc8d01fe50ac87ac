"""The parameters of metric scale: what it may rest on, and each sensor that measures it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from depth_node.parameter import ParameterError, param

FROM_TF = "tf"
"""Extrinsics that are looked up instead of given."""
FARTHEST_M = 1e6
"""Longest way from the camera to a sensor along an axis; a slip of the keys may be no float32."""


@dataclass(frozen=True)
class ScaleSettings:
    """Where metres come from."""

    source: str = param(
        "auto",
        "auto takes every source that is enabled (lidar, scan, range, landmarks, ground) and a "
        "metric network's own metres, fixed takes the two numbers below, none publishes relative "
        "disparity only.",
        choices=("auto", "fixed", "none"),
        dynamic=True,
    )
    fixed_scale: float = param(
        0.0,
        "Source `fixed`: inverse depth per unit of disparity; 0 means not set.",
        unit="1/m",
        minimum=0.0,
        dynamic=True,
    )
    fixed_shift: float = param(
        0.0, "Source `fixed`: inverse depth at disparity 0.", unit="1/m", dynamic=True
    )
    max_age_s: float = param(
        0.15,
        "A measurement counts for images whose stamps lie within this time of its own; it should "
        "exceed the sensor's period.",
        unit="s",
        minimum=0.001,
        maximum=10.0,
        dynamic=True,
    )
    hold_s: float = param(
        3.0,
        "How long the scale is held at most (state `held`, with growing sigma) after the last "
        "accepted measurement, before it is given up (state `relative`). It is given up earlier "
        "when its sigma exceeds 20%, which a robot that drives towards a wall reaches in about a "
        "second.",
        unit="s",
        minimum=0.0,
        maximum=3600.0,
        dynamic=True,
    )
    local_correction: bool = param(
        True,
        "Let points also correct the depth around them, not only scale and shift of the whole "
        "image.",
        dynamic=True,
    )
    filtered: bool = param(
        True, "Filter scale and shift over time instead of fitting every frame anew.", dynamic=True
    )
    align: bool = param(
        True,
        "Look for a rotation or a height of a cloud that is off by a little (its extrinsics; up to "
        "about 1.5 degrees, 0.4 m) and undo it. Right extrinsics may be moved where the network "
        "errs alike, as in bare rooms: false where they are calibrated.",
        dynamic=True,
    )
    max_sigma: float = param(
        0.15,
        "Depth is called metric only while points tell the scale better than this, relative to "
        "depth (one sigma), where they lie and in the nearer half of the picture; else it is held "
        "or relative, or the ground's. A planar scan or a range reading does with Depth Anything "
        "V2 where sky or far walls are in view, and does not with the shipped student "
        "(scale.network_error). Ground has checks of its own; the standard deviation of its depth "
        "grows with distance.",
        minimum=0.01,
        maximum=1.0,
        dynamic=True,
    )
    network_error: float = param(
        0.0,
        "How far the network's depth is off where nothing is measured, relative to depth, after "
        "the best fit to the whole image; 0 takes 0.08 for Depth Anything and 0.25 for every other "
        "network. `depth-node eval scale` measures it.",
        minimum=0.0,
        maximum=1.0,
        dynamic=True,
    )
    publish_when_not_metric: str = param(
        "held",
        "What frames publish whose scale is not measured now: held publishes metres while the "
        "scale is held; relative no metres, only depth/relative and the preview; nothing "
        "no depth of any kind. Without any scale there are never metres.",
        choices=("nothing", "held", "relative"),
        dynamic=True,
    )
    odometry_frame: str = param(
        "odom",
        "Fixed frame of TF through which points are moved from the time they were measured at to "
        "the image's; where TF does not have it, or when empty, the robot is taken to stand still "
        "in between.",
        dynamic=True,
    )


def _enabled(what: str) -> Any:
    return param(False, f"Take metric scale from {what}.", dynamic=True)


def _topic(default: str, kind: str) -> Any:
    return param(
        default, f"Topic ({kind}); remappable. The reliability is the one that is offered."
    )


def _extrinsics(sensor: str) -> Any:
    return param(
        FROM_TF,
        f"Where {sensor} is: tf, or its pose in the camera's optical frame as \"x y z roll pitch "
        'yaw" in metres and radians, in the order of static_transform_publisher.',
        dynamic=True,
    )


def _sigma_m(default: float) -> Any:
    return param(
        default,
        "Standard deviation of a measured depth, the part that does not depend on it.",
        unit="m",
        minimum=0.0,
        maximum=10.0,
        dynamic=True,
    )


def _sigma_ratio(default: float) -> Any:
    return param(
        default,
        "Standard deviation of a measured depth, the part that grows with it, metres per metre.",
        minimum=0.0,
        maximum=1.0,
        dynamic=True,
    )


def _min_m(default: float) -> Any:
    return param(
        default,
        "Measured depth nearer than this is not used.",
        unit="m",
        minimum=0.01,
        maximum=100.0,
        dynamic=True,
    )


def _max_m(default: float) -> Any:
    return param(
        default,
        "Measured depth farther than this is not used.",
        unit="m",
        minimum=0.1,
        maximum=1000.0,
        dynamic=True,
    )


@dataclass(frozen=True)
class LidarSettings:
    """A LiDAR, or anything else that publishes a measured point cloud."""

    enabled: bool = _enabled("a LiDAR")
    topic: str = _topic("lidar/points", "PointCloud2")
    extrinsics: str = _extrinsics("the cloud's frame")
    sigma_m: float = _sigma_m(0.02)
    sigma_ratio: float = _sigma_ratio(0.005)
    min_m: float = _min_m(0.3)
    max_m: float = _max_m(120.0)


@dataclass(frozen=True)
class ScanSettings:
    """A planar laser scanner."""

    enabled: bool = _enabled("a planar scanner")
    topic: str = _topic("scan", "LaserScan")
    extrinsics: str = _extrinsics("the scan's frame")
    sigma_m: float = _sigma_m(0.02)
    sigma_ratio: float = _sigma_ratio(0.01)
    min_m: float = _min_m(0.1)
    max_m: float = _max_m(30.0)
    min_intensity: float = param(
        0.0,
        "Beams that returned less are not used, in the device's units; 0 uses all.",
        minimum=0.0,
        dynamic=True,
    )


@dataclass(frozen=True)
class RangeSettings:
    """A sonar, infrared or single-beam laser range finder."""

    enabled: bool = _enabled("a range finder (scale only: one point shows no shift)")
    topic: str = _topic("range", "Range")
    extrinsics: str = _extrinsics("the range finder's frame (it looks along x)")
    sigma_m: float = _sigma_m(0.03)
    sigma_ratio: float = _sigma_ratio(0.02)
    min_m: float = _min_m(0.05)
    max_m: float = _max_m(30.0)


@dataclass(frozen=True)
class LandmarksSettings:
    """Sparse points of SLAM or visual odometry, or a sparse depth image."""

    enabled: bool = _enabled("landmarks")
    topic: str = _topic(
        "landmarks", "PointCloud2, or an Image, 32FC1 in metres or 16UC1 in millimetres"
    )
    extrinsics: str = _extrinsics("the cloud's frame (an image is in the camera's own)")
    sigma_m: float = _sigma_m(0.05)
    sigma_ratio: float = _sigma_ratio(0.03)
    min_m: float = _min_m(0.1)
    max_m: float = _max_m(50.0)


@dataclass(frozen=True)
class GroundSettings:
    """The camera's known height over level ground."""

    enabled: bool = _enabled("the camera's height over the ground")
    height_m: float = param(
        0.0,
        "Height of the camera over the ground; 0 takes it from TF (height over ground.frame).",
        unit="m",
        minimum=0.0,
        maximum=100.0,
        dynamic=True,
    )
    height_sigma_m: float = param(
        0.02,
        "Standard deviation of the height.",
        unit="m",
        minimum=0.001,
        maximum=10.0,
        dynamic=True,
    )
    direction: str = param(
        "imu",
        "What tells down from forward: imu (gravity by its accelerometer), tf (z of ground.frame "
        "is up), fixed (pitch and roll below), or unknown, which gives scale without shift.",
        choices=("imu", "tf", "fixed", "unknown"),
        dynamic=True,
    )
    direction_sigma_deg: float = param(
        0.5,
        "Standard deviation of that direction.",
        unit="deg",
        minimum=0.01,
        maximum=45.0,
        dynamic=True,
    )
    frame: str = param(
        "base_footprint", "Frame on the ground whose z axis points up.", dynamic=True
    )
    pitch_deg: float = param(
        0.0,
        "Direction `fixed`: by how much the camera looks down.",
        unit="deg",
        minimum=-90.0,
        maximum=90.0,
        dynamic=True,
    )
    roll_deg: float = param(
        0.0,
        "Direction `fixed`: by how much the camera's right side hangs lower than its left.",
        unit="deg",
        minimum=-90.0,
        maximum=90.0,
        dynamic=True,
    )
    imu_topic: str = _topic("imu/data", "Imu")
    imu_extrinsics: str = _extrinsics("the IMU's frame")


def parse_extrinsics(name: str, text: str) -> tuple[float, ...] | None:
    """(x, y, z, roll, pitch, yaw) in metres and radians, or None for `tf`.

    Args:
        name: the parameter's name, for the message.
        text: its value.

    Raises:
        ParameterError: neither `tf` nor six finite numbers, of metres at most `FARTHEST_M`.
    """
    if text.strip() == FROM_TF:
        return None
    try:
        numbers = tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError:
        numbers = ()
    if len(numbers) != 6 or not all(map(math.isfinite, numbers)):
        raise ParameterError(
            f'{name} is {text!r}; it must be tf, or six numbers "x y z roll pitch yaw" in metres '
            "and radians"
        )
    if max(map(abs, numbers[:3])) > FARTHEST_M:
        raise ParameterError(
            f"{name} is {text!r}; x, y and z are metres, at most {FARTHEST_M:g} from the camera"
        )
    return numbers


def check_scale(scale: ScaleSettings, ground: GroundSettings) -> None:
    """Check that no two values of the scale contradict each other.

    Raises:
        ParameterError: they do.
    """
    if scale.source == "fixed" and scale.fixed_scale <= 0.0:
        raise ParameterError(
            "scale.source is fixed but scale.fixed_scale is not set; give the inverse depth in "
            "1/m per unit of disparity, greater than 0"
        )
    needs_frame = ground.height_m == 0.0 or ground.direction == "tf"
    if ground.enabled and needs_frame and not ground.frame:
        raise ParameterError(
            "ground.frame is empty but the height or the direction is to come from TF; name a "
            "frame on the ground, or set ground.height_m and another ground.direction"
        )
