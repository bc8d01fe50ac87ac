"""LaserScan, Range and Imu messages."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sensor_msgs.msg", reason="the message packages are not installed")

from geometry_msgs.msg import Vector3
from sensor_msgs.msg import Imu, LaserScan, Range

from depth_node.ros.sensors import gravity_direction, points_from_scan, reading_from_range
from depth_node.ros.wire import ConversionError

INF, NAN = math.inf, math.nan


def scan(ranges, **changes):
    count = len(ranges)
    msg = LaserScan(
        angle_min=-math.pi / 2,
        angle_max=math.pi / 2,
        angle_increment=math.pi / max(count - 1, 1),
        range_min=0.1,
        range_max=30.0,
        ranges=ranges,
    )
    for name, value in changes.items():
        setattr(msg, name, value)
    return msg


def test_beams_go_counterclockwise_from_the_right_in_the_plane():
    points, times = points_from_scan(scan([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(points, [[0, -1, 0], [2, 0, 0], [0, 3, 0]], atol=1e-6)
    assert points.dtype == np.float32
    assert times is None


def test_what_is_no_return_is_left_out_and_the_others_keep_their_angles_and_times():
    ranges = [NAN, 2.0, INF, -INF, 0.0, 0.05, 31.0, -1.0, 4.0]
    points, times = points_from_scan(scan(ranges, time_increment=0.001))
    angles = np.radians([-67.5, 90.0])
    expected = np.array([2.0, 4.0])[:, None] * np.c_[np.cos(angles), np.sin(angles), 0 * angles]
    np.testing.assert_allclose(points, expected, atol=1e-6)
    np.testing.assert_allclose(times, [0.001, 0.008])


def test_weak_returns_are_left_out_when_asked():
    msg = scan([1.0, 2.0, 3.0], intensities=[5.0, NAN, 20.0])
    assert len(points_from_scan(msg)[0]) == 3
    assert len(points_from_scan(msg, min_intensity=10.0)[0]) == 1
    assert len(points_from_scan(scan([1.0, 2.0, 3.0]), min_intensity=10.0)[0]) == 3


def test_scanners_that_turn_clockwise_or_count_one_gap_too_many_are_read():
    msg = scan([1.0, 1.0, 1.0], angle_min=math.pi / 2, angle_max=-math.pi / 2)
    msg.angle_increment = -math.pi / 2
    np.testing.assert_allclose(points_from_scan(msg)[0][0], [0, 1, 0], atol=1e-6)
    full = scan([1.0] * 360, angle_min=0.0, angle_max=2 * math.pi, angle_increment=math.pi / 180)
    assert len(points_from_scan(full)[0]) == 360


@pytest.mark.parametrize("ranges", [[], [2.0]])
def test_scans_without_an_arc_are_read(ranges):
    assert len(points_from_scan(scan(ranges, angle_min=0.0, angle_max=0.0))[0]) == len(ranges)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"angle_increment": 0.0}, "increment 0.0; expected about 1.5"),
        ({"angle_increment": NAN}, "increment nan"),
        ({"angle_increment": -math.pi / 2}, "wrong directions"),
        ({"angle_increment": 4.0}, "wrong directions"),
        ({"angle_min": INF}, "from inf"),
        ({"angle_max": NAN}, "to nan"),
        ({"angle_min": -20.0, "angle_max": 20.0, "angle_increment": 20.0}, "at most one turn"),
        ({"range_max": 0.1}, "range_max 0.1"),
        ({"range_min": NAN}, "range_min nan"),
        ({"range_min": -1.0}, "range_min -1.0"),
        ({"time_increment": INF}, "time_increment inf"),
        ({"intensities": [1.0]}, "3 ranges but 1 intensities"),
    ],
)
def test_scans_that_cannot_be_right_are_refused(changes, words):
    with pytest.raises(ConversionError, match=words):
        points_from_scan(scan([1.0, 2.0, 3.0], **changes))


# Up to half of float32's range: with ROS_PYTHON_CHECK_FIELDS=1 its last value is refused.
floats = st.one_of(st.floats(-(2.0**127), 2.0**127, width=32), st.sampled_from([NAN, INF, -INF]))


@given(
    st.lists(floats, max_size=12),
    st.lists(floats, max_size=12),
    st.lists(floats, min_size=6, max_size=6),
    st.booleans(),
)
@settings(max_examples=400)
def test_malformed_scans_raise_conversion_error_or_give_finite_points(ranges, levels, n, sane):
    msg = scan(ranges, intensities=levels[: len(ranges)] if sane else levels)
    if not sane:
        msg.angle_min, msg.angle_max, msg.angle_increment = n[:3]
        msg.range_min, msg.range_max, msg.time_increment = n[3:]
    try:
        points, times = points_from_scan(msg, min_intensity=0.0)
    except ConversionError:
        return
    assert points.shape == (len(points), 3)
    assert np.isfinite(points).all()
    assert times is None or times.shape == (len(points),)
    assert np.all(np.hypot(*points[:, :2].T.astype(float)) <= 1.001 * msg.range_max)


def test_a_recorded_scanner_gives_its_returns(shared_data):
    rosbag2 = pytest.importorskip("rosbags.rosbag2", reason="rosbags reads the recording")
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_FOXY)
    with rosbag2.Reader(shared_data / "laserscan_bag") as bag:
        scans = [
            store.deserialize_cdr(raw, connection.msgtype)
            for connection, _, raw in bag.messages()
            if connection.msgtype == "sensor_msgs/msg/LaserScan"
        ]
    assert len(scans) == 238
    for msg in scans:
        points, times = points_from_scan(msg)
        returns = np.flatnonzero(msg.ranges > 0.0)  # the others are 0.0 and NaN
        assert 0 < len(points) == len(returns) < 931
        np.testing.assert_allclose(
            np.hypot(points[:, 0], points[:, 1]), msg.ranges[returns], rtol=1e-6
        )
        assert times is not None
        assert 0.0 <= times[0] < times[-1] < msg.scan_time * 1.01


def ranger(**changes):
    msg = Range(field_of_view=0.5, min_range=0.2, max_range=4.0, range=1.5)
    for name, value in changes.items():
        setattr(msg, name, value)
    return msg


def test_a_range_is_read_with_its_cone_and_sigma():
    reading = reading_from_range(ranger())
    assert reading is not None
    assert (reading.distance, reading.field_of_view, reading.sigma) == (1.5, 0.5, None)
    if hasattr(Range(), "variance"):
        reading = reading_from_range(ranger(variance=0.0625))
        assert reading is not None
        assert reading.sigma == 0.25


@pytest.mark.parametrize("value", [NAN, INF, -INF, 0.0, 0.1, 4.1, -1.0])
def test_no_return_is_no_reading(value):
    assert reading_from_range(ranger(range=value)) is None


def test_a_fixed_distance_ranger_never_has_a_distance():
    assert reading_from_range(ranger(min_range=1.0, max_range=1.0, range=1.0)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"min_range": NAN},
        {"min_range": -1.0},
        {"min_range": 5.0},
        {"max_range": NAN},
        {"field_of_view": -0.1},
        {"field_of_view": NAN},
        {"field_of_view": 100.0},
    ],
)
def test_ranges_that_cannot_be_right_are_refused(changes):
    with pytest.raises(ConversionError, match="expected 0 <= min_range"):
        reading_from_range(ranger(**changes))


@given(st.lists(floats, min_size=5, max_size=5))
@settings(max_examples=300)
def test_malformed_ranges_raise_conversion_error_or_lie_within_their_limits(n):
    msg = ranger(range=n[0], min_range=n[1], max_range=n[2], field_of_view=n[3])
    if hasattr(msg, "variance"):
        msg.variance = n[4]
    try:
        reading = reading_from_range(msg)
    except ConversionError:
        return
    assert reading is None or max(msg.min_range, 1e-45) <= reading.distance <= msg.max_range


def imu(x, y, z, known=0.0):
    msg = Imu(linear_acceleration=Vector3(x=x, y=y, z=z))
    msg.linear_acceleration_covariance[0] = known
    return msg


@pytest.mark.parametrize(
    ("acceleration", "down"),
    [((0.0, 0.0, 9.81), (0, 0, -1)), ((-9.7, 0.0, 0.0), (1, 0, 0)), ((0.0, 9.9, 0.0), (0, -1, 0))],
)
def test_gravity_is_opposite_to_what_an_accelerometer_at_rest_measures(acceleration, down):
    np.testing.assert_allclose(gravity_direction(imu(*acceleration)), down, atol=1e-12)


@pytest.mark.parametrize(
    ("msg", "words"),
    [
        (imu(0.0, 0.0, 9.81, known=-1.0), "measures no acceleration"),
        (imu(NAN, 0.0, 9.81), "expected numbers"),
        (imu(0.0, 0.0, 1.0), "units of g"),
        (imu(0.0, 0.0, 0.0), "without gravity"),
        (imu(5.0, 0.0, 12.0), "accelerates"),
        (imu(1e300, 1e300, 1e300), "accelerates"),
    ],
)
def test_accelerations_that_are_not_gravity_are_refused(msg, words):
    with pytest.raises(ConversionError, match=words):
        gravity_direction(msg)


@given(st.floats(), st.floats(), st.floats())
def test_malformed_imus_raise_conversion_error_or_give_a_unit_vector(x, y, z):
    try:
        down = gravity_direction(imu(x, y, z))
    except ConversionError:
        return
    assert np.linalg.norm(down) == pytest.approx(1.0)
