"""PointCloud2 messages, out and in."""

from __future__ import annotations

import struct
from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sensor_msgs.msg", reason="the message packages are not installed")

from builtin_interfaces.msg import Time
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from depth_node.geometry.cloud import Cloud
from depth_node.ros.clouds import cloud_message, points_from_cloud
from depth_node.ros.wire import ConversionError

STRUCT = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 8: "d"}
STAMP = Time(sec=1_700_000_000, nanosec=250_000_000)


def cloud(points, layout, *, height=1, padding=0, big_endian=False, point_step=None):
    """A message whose points (dicts by field) are packed one by one with `struct`.

    `layout` is a list of (name, offset, datatype).
    """
    order = ">" if big_endian else "<"
    ends = [offset + struct.calcsize(STRUCT[kind]) for _, offset, kind in layout]
    step = point_step or max(ends)
    width = len(points) // height
    data = bytearray()
    for i, point in enumerate(points):
        record = bytearray(b"\x5a" * step)
        for name, offset, kind in layout:
            struct.pack_into(order + STRUCT[kind], record, offset, point[name])
        data += record
        if (i + 1) % width == 0:
            data += b"\xff" * padding
    return PointCloud2(
        header=Header(stamp=STAMP),
        width=width,
        height=height,
        fields=[PointField(name=n, offset=o, datatype=k, count=1) for n, o, k in layout],
        is_bigendian=big_endian,
        point_step=step,
        row_step=step * width + padding,
        data=array("B", bytes(data)),
    )


XYZ = [("x", 0, 7), ("y", 4, 7), ("z", 8, 7)]


@st.composite
def layouts(draw):
    """x, y, z and an intensity of any type, in any order, with gaps."""
    fields, offset = [], 0
    for name in draw(st.permutations(["x", "y", "z", "intensity"])):
        offset += draw(st.integers(0, 5))
        kind = draw(st.integers(1, 8))
        fields.append((name, offset, kind))
        offset += struct.calcsize(STRUCT[kind])
    return fields, offset + draw(st.integers(0, 5))


@given(
    layouts(),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(0, 7),
    st.booleans(),
    st.lists(st.integers(0, 127), min_size=80, max_size=80),
)
@settings(max_examples=200)
def test_any_layout_type_byte_order_and_padding_gives_the_points(
    layout, height, width, padding, big_endian, numbers
):
    fields, step = layout
    values = np.array(numbers).reshape(20, 4)[: width * height]
    points = [dict(zip(("x", "y", "z", "intensity"), row, strict=True)) for row in values.tolist()]
    msg = cloud(
        points, fields, height=height, padding=padding, big_endian=big_endian, point_step=step
    )
    result, times = points_from_cloud(msg)
    expected = values[values[:, :3].any(axis=1), :3]
    np.testing.assert_array_equal(result, expected.astype(np.float32))
    assert result.dtype == np.float32
    assert times is None


def test_points_that_are_no_measurement_are_dropped_with_their_times():
    rows = [
        (1.0, 2.0, 3.0, 0),
        (np.nan, 2.0, 3.0, 1),
        (1.0, np.inf, 3.0, 2),
        (1.0, 2.0, -np.inf, 3),
        (0.0, 0.0, 0.0, 4),
        (0.0, 0.0, 5.0, 5),
    ]
    points = [dict(zip(("x", "y", "z", "t"), row, strict=True)) for row in rows]
    result, times = points_from_cloud(cloud(points, [*XYZ, ("t", 12, 6)]))
    np.testing.assert_array_equal(result, [[1, 2, 3], [0, 0, 5]])
    np.testing.assert_allclose(times, [0.0, 5e-9])


def test_doubles_beyond_float32_are_dropped():
    layout = [("x", 0, 8), ("y", 8, 8), ("z", 16, 8)]
    points = [{"x": 1e300, "y": 0.0, "z": 1.0}, {"x": 1e-300, "y": 0.5, "z": 1.0}]
    np.testing.assert_array_equal(points_from_cloud(cloud(points, layout))[0], [[0, 0.5, 1]])


@pytest.mark.parametrize(
    ("name", "kind", "values", "expected"),
    [
        ("t", 6, [0, 50_000_000], [0.0, 0.05]),  # Ouster: nanoseconds
        ("offset_time", 6, [1000, 99_000_000], [1e-6, 0.099]),  # Livox
        ("time", 7, [-0.1, 0.0], [-0.1, 0.0]),  # Velodyne: seconds
        ("timestamp", 8, [1_700_000_000.25, 1_700_000_000.35], [0.0, 0.1]),  # Hesai, RoboSense
        ("timestamp", 8, [1_700_000_000.25e9, 1_700_000_000.35e9], [0.0, 0.1]),  # Livox
        ("timestamp", 8, [1_600_000_000.0, 1_600_000_000.1], None),  # another clock
        ("time", 7, [0.0, 77.0], None),
        ("time", 7, [0.0, np.nan], None),
        ("reflectivity", 7, [0.0, 0.1], None),
    ],
)
def test_times_are_seconds_after_the_stamp_or_nothing(name, kind, values, expected):
    points = [{"x": 1.0, "y": 2.0, "z": 3.0, name: value} for value in values]
    _, times = points_from_cloud(cloud(points, [*XYZ, (name, 16, kind)]))
    if expected is None:
        assert times is None
    else:
        assert times is not None
        np.testing.assert_allclose(times, expected, atol=1e-6)


def test_an_empty_cloud_has_no_points_whatever_its_fields():
    points, times = points_from_cloud(PointCloud2())
    assert points.shape == (0, 3)
    assert times is None


def test_the_row_step_of_a_single_row_does_not_matter():
    msg = cloud([{"x": 1.0, "y": 2.0, "z": 3.0}], XYZ)
    msg.row_step = 0
    assert len(points_from_cloud(msg)[0]) == 1


def fields(*layout):
    return [PointField(name=n, offset=o, datatype=k, count=1) for n, o, k in layout]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fields": fields(*XYZ[:2])}, r"expected x, y and z, \['z'\] missing"),
        ({"fields": []}, "missing"),
        ({"fields": fields(("x", 0, 9), *XYZ[1:])}, "'x' has the datatype 9"),
        ({"fields": fields(("x", 0, 0), *XYZ[1:])}, "'x' has the datatype 0"),
        ({"fields": fields(*XYZ[:2], ("z", 9, 7))}, "'z' ends at byte 13"),
        ({"fields": fields(*XYZ[:2], ("z", 2**32 - 1, 7))}, "'z' ends at byte"),
        ({"point_step": 0}, "point_step is 0"),
        ({"row_step": 23}, "row_step 23; expected rows of at least 24 bytes"),
        ({"row_step": 2**32 - 1}, "truncated"),
        ({"width": 3}, "rows of at least 36"),
        ({"height": 3}, "truncated"),
        ({"width": 2**32 - 1, "height": 2**32 - 1}, "expected rows"),
        ({"data": array("B", bytes(47))}, "47 bytes of data.*48 bytes in all"),
        ({"data": array("B")}, "0 bytes of data"),
    ],
)
def test_layouts_that_cannot_be_right_are_refused(changes, words):
    msg = cloud([{"x": 1.0, "y": 2.0, "z": 3.0}] * 4, XYZ, height=2)
    for name, value in changes.items():
        setattr(msg, name, value)
    with pytest.raises(ConversionError, match=words):
        points_from_cloud(msg)


unsigned = st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1))
any_field = st.builds(
    PointField,
    name=st.one_of(st.sampled_from(["x", "y", "z", "t", "time"]), st.text(max_size=5)),
    offset=unsigned,
    datatype=st.integers(0, 255),
    count=unsigned,
)
good_fields = st.lists(st.integers(0, 30), min_size=4, max_size=4).map(
    lambda at: fields(("x", at[0], 7), ("y", at[1], 8), ("z", at[2], 3), ("t", at[3], 6))
)


@given(
    st.one_of(st.lists(any_field, max_size=8), good_fields),
    st.lists(unsigned, min_size=4, max_size=4),
    st.booleans(),
    st.binary(max_size=2000),
)
@settings(max_examples=500)
def test_malformed_clouds_raise_conversion_error_or_give_finite_points(some, n, big_endian, data):
    msg = PointCloud2(
        width=n[0],
        height=n[1],
        point_step=n[2],
        row_step=n[3],
        fields=some,
        is_bigendian=big_endian,
        data=array("B", data),
    )
    try:
        points, times = points_from_cloud(msg)
    except ConversionError:
        return
    assert points.shape == (len(points), 3)
    assert np.isfinite(points).all()
    assert times is None or times.shape == (len(points),)


@pytest.mark.parametrize("rgb", [False, True])
@pytest.mark.parametrize("organised", [False, True])
def test_a_published_cloud_is_what_rviz_and_nav2_expect(rgb, organised):
    width, height = (3, 2) if organised else (6, 1)
    channels = 4 if rgb else 3
    shape = (height, width, channels) if organised else (width, channels)
    data = np.random.default_rng(0).random(shape, np.float32) + 0.5
    points = data.reshape(-1, channels)
    if rgb:
        points[:, 3] = np.uint32([0x00FF8001]).view(np.float32)
    if organised:
        points[1] = np.nan
    header = Header(frame_id="optical")
    msg = cloud_message(Cloud(data), header)
    assert msg.header is header
    assert (msg.width, msg.height) == (width, height)
    step = 4 * channels
    assert (msg.point_step, msg.row_step, len(msg.data)) == (step, step * width, step * 6)
    assert (msg.is_dense, msg.is_bigendian) == (not organised, False)
    layout = [(field.name, field.offset, field.datatype, field.count) for field in msg.fields]
    assert layout == [
        (name, 4 * i, PointField.FLOAT32, 1)
        for i, name in enumerate(["x", "y", "z", "rgb"][:channels])
    ]
    assert msg.data.tobytes() == data.tobytes()
    back, _ = points_from_cloud(msg)
    np.testing.assert_array_equal(back, points[np.isfinite(points[:, 0]), :3])
    if rgb:
        assert msg.data[12:16].tobytes() == b"\x01\x80\xff\x00"  # b, g, r, unused


def test_sigma_is_a_field_of_its_own_after_the_colour():
    data = np.ones((6, 5), np.float32)
    msg = cloud_message(Cloud(data, has_sigma=True), Header())
    assert [(field.name, field.offset) for field in msg.fields][3:] == [("rgb", 12), ("sigma", 16)]
    assert msg.point_step == 20
