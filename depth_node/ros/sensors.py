"""LaserScan, Range and Imu messages to numbers that the scale sources can use."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import Imu, LaserScan, Range

from depth_node.ros.wire import ConversionError
from depth_node.types import ArrayF32, ArrayF64

STANDARD_GRAVITY = 9.80665
"""m/s^2 (ISO 80000-3)."""
_GRAVITY_TOLERANCE = 0.1  # an accelerometer's own error plus gentle driving, as a share of g


@dataclass(frozen=True)
class RangeReading:
    """One distance of a sonar or infrared ranger.

    Attributes:
        distance: metres from the sensor to the nearest surface in its cone around the x axis.
        field_of_view: opening angle of the cone, radians.
        sigma: standard deviation in metres, or None when the driver does not know it.
    """

    distance: float
    field_of_view: float
    sigma: float | None


def points_from_scan(
    msg: LaserScan, min_intensity: float | None = None
) -> tuple[ArrayF32, ArrayF64 | None]:
    """Turn a planar scan into points.

    NaN, +-Inf, 0 and everything outside [range_min, range_max] is no return (REP 117 and
    LaserScan.msg).

    Args:
        msg: the scan.
        min_intensity: beams that returned less are dropped, in the device's units; without
            intensities in the message nothing is.

    Returns:
        (N, 3) float32 metres in the scan's frame (x forward, z = 0), and (N,) float64 seconds after
        the header's stamp at which each was measured, or None when time_increment is 0.

    Raises:
        ConversionError: angles that cannot be right, impossible limits, or intensities that do not
            belong to the ranges.
    """
    ranges = np.asarray(msg.ranges, dtype=np.float32)
    count = ranges.size
    if not (0.0 <= msg.range_min < msg.range_max):  # false for NaN
        raise ConversionError(
            f"scan has range_min {msg.range_min} and range_max {msg.range_max}; expected "
            "0 <= range_min < range_max: correct the driver"
        )
    if not math.isfinite(msg.time_increment):
        raise ConversionError(f"scan has time_increment {msg.time_increment}; expected a number")
    _check_angles(msg, count)
    kept = np.isfinite(ranges) & (ranges > 0.0)
    kept &= (ranges >= np.float32(msg.range_min)) & (ranges <= np.float32(msg.range_max))
    if len(msg.intensities) not in (0, count):
        raise ConversionError(
            f"scan has {count} ranges but {len(msg.intensities)} intensities; expected as many, or "
            "none: correct the driver"
        )
    if min_intensity is not None and len(msg.intensities) > 0:
        kept &= np.asarray(msg.intensities, dtype=np.float32) >= min_intensity  # false for NaN
    beams = np.flatnonzero(kept)
    distances = ranges[beams]
    angles = msg.angle_min + beams * msg.angle_increment
    points = np.zeros((beams.size, 3), np.float32)
    points[:, 0] = distances * np.cos(angles)
    points[:, 1] = distances * np.sin(angles)
    if msg.time_increment == 0.0:
        return points, None
    return points, beams * np.float64(msg.time_increment)


def _check_angles(msg: LaserScan, count: int) -> None:
    """The increment must be a number other than 0 that leads from angle_min to angle_max.

    Two beams or two per cent of slack: some drivers count the beams and some the gaps.
    """
    if count < 2:
        expected, slack = 0.0, math.inf
    else:
        expected = (msg.angle_max - msg.angle_min) / (count - 1)
        slack = max(2.0 / (count - 1), 0.02) * abs(expected)
    numbers = (msg.angle_min, msg.angle_max, msg.angle_increment)
    wrong = abs(msg.angle_increment - expected) > slack
    sweep = abs(msg.angle_increment) * max(count - 1, 0)
    if (
        not all(map(math.isfinite, numbers))
        or wrong
        or (count > 1 and msg.angle_increment == 0.0)
        or sweep > 2.0 * math.pi * 1.02
    ):
        raise ConversionError(
            f"scan of {count} beams from {msg.angle_min} to {msg.angle_max} rad has the increment "
            f"{msg.angle_increment}; expected about {expected:.6g}, at most one turn: correct the "
            "driver, or the points would lie in wrong directions"
        )


def reading_from_range(msg: Range) -> RangeReading | None:
    """Read a single range.

    Returns:
        The reading, or None when there is no distance in it: NaN, -Inf (too near to tell), +Inf
        (nothing in reach), 0, or outside [min_range, max_range] (REP 117, Range.msg). A
        fixed-distance ranger (min_range equals max_range) never has one.

    Raises:
        ConversionError: limits, field of view or variance that cannot be right.
    """
    variance = float(getattr(msg, "variance", 0.0))  # Humble's message has none
    limits_good = 0.0 <= msg.min_range <= msg.max_range  # false for NaN
    if not limits_good or not 0.0 <= msg.field_of_view <= 2.0 * math.pi or not variance >= 0.0:
        raise ConversionError(
            f"range reading has min_range {msg.min_range}, max_range {msg.max_range}, "
            f"field_of_view {msg.field_of_view} rad, variance {variance}; expected "
            "0 <= min_range <= max_range, at most one turn, and no negative variance: correct the "
            "driver"
        )
    distance = float(msg.range)
    if not msg.min_range < msg.max_range or not math.isfinite(distance) or distance <= 0.0:
        return None
    if not msg.min_range <= distance <= msg.max_range:
        return None
    sigma = math.sqrt(variance) if 0.0 < variance < math.inf else None
    return RangeReading(distance, float(msg.field_of_view), sigma)


def gravity_direction(msg: Imu) -> ArrayF64:
    """The direction of gravity (down) from the accelerometer of an IMU.

    At rest an accelerometer measures the support, 1 g upwards (REP 145), so down is its opposite.
    `orientation` is not used: many drivers leave it at the identity without saying so.

    Returns:
        (3,) float64 unit vector in the IMU's frame.

    Raises:
        ConversionError: no acceleration in the message, numbers that are not finite, or a magnitude
            that is not gravity's (in motion, in units of g, or with gravity removed).
    """
    if msg.linear_acceleration_covariance[0] == -1.0:
        raise ConversionError(
            "the IMU says that it measures no acceleration (covariance[0] is -1); use another one"
        )
    acceleration = msg.linear_acceleration
    vector = np.array([acceleration.x, acceleration.y, acceleration.z], dtype=np.float64)
    if not np.isfinite(vector).all():
        raise ConversionError(f"the IMU's acceleration is {vector.tolist()}; expected numbers")
    magnitude = math.hypot(*vector)
    if not abs(magnitude / STANDARD_GRAVITY - 1.0) <= _GRAVITY_TOLERANCE:
        raise ConversionError(
            f"the IMU's acceleration is {magnitude:.3g} m/s^2; expected {STANDARD_GRAVITY} within "
            f"{_GRAVITY_TOLERANCE:.0%}: the robot accelerates, or the driver publishes in units of "
            "g or without gravity"
        )
    return np.asarray(-vector / magnitude)
