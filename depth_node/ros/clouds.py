"""Point clouds to `sensor_msgs/PointCloud2`, and PointCloud2 of any layout to points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from depth_node.ros.wire import ConversionError, fill, stamp_ns
from depth_node.types import ArrayF32, ArrayF64

if TYPE_CHECKING:
    from depth_node.geometry.cloud import Cloud

_DTYPES = {
    PointField.INT8: "i1",
    PointField.UINT8: "u1",
    PointField.INT16: "i2",
    PointField.UINT16: "u2",
    PointField.INT32: "i4",
    PointField.UINT32: "u4",
    PointField.FLOAT32: "f4",
    PointField.FLOAT64: "f8",
}
_TIME_FIELDS = ("t", "time", "timestamp", "time_stamp", "offset_time", "time_offset")
_LONGEST_SWEEP_S = 1.0  # the slowest LiDARs turn at 1 Hz


def cloud_message(cloud: Cloud, header: Header) -> PointCloud2:
    """Pack a cloud: float32 x, y, z, at offset 12 the packed rgb that rviz expects, and sigma.

    Args:
        cloud: float32 points, organised (invalid points are NaN) or a list without invalid points.
        header: used as it is, not copied.
    """
    point_step = 4 * len(cloud.fields)
    msg = PointCloud2(
        header=header,
        height=cloud.height,
        width=cloud.width,
        fields=[
            PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
            for i, name in enumerate(cloud.fields)
        ],
        is_bigendian=False,
        point_step=point_step,
        row_step=point_step * cloud.width,
        is_dense=not cloud.organised,
    )
    fill(msg.data, np.asarray(cloud.data, dtype="<f4"))
    return msg


def points_from_cloud(msg: PointCloud2) -> tuple[ArrayF32, ArrayF64 | None]:
    """Read the points of a cloud of any layout, byte order and numeric type.

    Points with a coordinate that is not finite are dropped, and so are points at exactly (0, 0, 0),
    which is how many LiDARs mark beams without a return.

    Time fields have no standard: integers are nanoseconds after the header's stamp (Ouster,
    Livox), floats seconds after it (Velodyne), and values of the size of a date are absolute, in
    seconds (Hesai, RoboSense) or nanoseconds (Livox).

    Args:
        msg: organised or not; rows may be padded.

    Returns:
        (N, 3) float32 coordinates in the message's frame, and (N,) float64 seconds after the
        header's stamp at which each was measured: None without such a field or where its values
        lie more than a second off the stamp.

    Raises:
        ConversionError: no x, y or z, an impossible layout, or too little data.
    """
    count = msg.width * msg.height
    if count == 0:
        return np.zeros((0, 3), np.float32), None
    what = f"cloud of {msg.width}x{msg.height} points"
    fields = {field.name: field for field in reversed(msg.fields)}  # the first of a name counts
    missing = [name for name in "xyz" if name not in fields]
    if missing:
        raise ConversionError(
            f"{what} has the fields {[f.name for f in msg.fields]}; expected x, y and z, "
            f"{missing} missing: choose another topic"
        )
    used = ["x", "y", "z", *[name for name in _TIME_FIELDS if name in fields][:1]]
    for name in used:
        _check_field(what, fields[name], msg.point_step)
    row_step = _check_rows(what, msg)

    order = ">" if msg.is_bigendian else "<"
    layout = np.dtype(
        {
            "names": used,
            "formats": [order + _DTYPES[fields[name].datatype] for name in used],
            "offsets": [fields[name].offset for name in used],
            "itemsize": msg.point_step,
        }
    )
    shape, strides = (msg.height, msg.width), (row_step, msg.point_step)
    records = np.ndarray(shape, layout, msg.data, 0, strides)
    points = np.empty((*shape, 3), np.float32)
    # A float64 beyond float32 becomes inf, and is dropped as NaN is.
    with np.errstate(over="ignore", invalid="ignore"):
        for axis, name in enumerate("xyz"):
            points[:, :, axis] = records[name]
    points = points.reshape(-1, 3)
    kept = _measured(points)
    times = None
    if len(used) == 4:
        ticks = records[used[3]].reshape(-1)
        times = _seconds_after(stamp_ns(msg.header), ticks if kept is None else ticks[kept])
    return points if kept is None else points[kept], times


def _check_field(what: str, field: PointField, point_step: int) -> None:
    if field.datatype not in _DTYPES:
        raise ConversionError(
            f"{what}: field {field.name!r} has the datatype {field.datatype}; expected 1 to 8 "
            "(sensor_msgs/PointField): correct the publisher"
        )
    end = field.offset + np.dtype(_DTYPES[field.datatype]).itemsize
    if end > point_step:
        raise ConversionError(
            f"{what}: field {field.name!r} ends at byte {end} of a point, but point_step is "
            f"{point_step}; correct the publisher"
        )


def _check_rows(what: str, msg: PointCloud2) -> int:
    """The distance between rows in bytes; that of a single row does not matter and is often 0."""
    row_bytes = msg.width * msg.point_step
    row_step = int(msg.row_step) if msg.height > 1 else row_bytes
    needed = row_step * (msg.height - 1) + row_bytes
    if row_step < row_bytes or len(msg.data) < needed:
        raise ConversionError(
            f"{what}: {len(msg.data)} bytes of data with row_step {msg.row_step}; expected rows of "
            f"at least {row_bytes} bytes and {needed} bytes in all: the message is truncated or "
            "its layout is wrong"
        )
    return row_step


def _measured(points: ArrayF32) -> NDArray[np.bool_] | None:
    """Which points are measurements, or None when all are, which saves a copy."""
    x, y, z = points[:, 0], points[:, 1], points[:, 2]
    kept: NDArray[np.bool_] = np.isfinite(x) & np.isfinite(y) & np.isfinite(z)
    kept &= (x != 0.0) | (y != 0.0) | (z != 0.0)
    return None if kept.all() else kept


def _seconds_after(stamp: int, ticks: NDArray[Any]) -> ArrayF64 | None:
    """Seconds after the stamp (ns) from a time field, or None where that gives no plausible times.

    Wrong times bend a cloud, so that none are better than wrong ones.
    """
    if ticks.size == 0:
        return np.zeros(0)
    with np.errstate(invalid="ignore"):
        values = ticks.astype(np.float64)
    if not np.isfinite(values).all():
        return None
    size = float(np.abs(values).max())
    if np.issubdtype(ticks.dtype, np.integer):
        seconds = values * 1e-9
    elif size > 1e15:  # nanoseconds since 1970
        seconds = (values - stamp) * 1e-9
    elif size > 1e8:  # seconds since 1970
        seconds = values - stamp * 1e-9
    else:
        seconds = values
    return seconds if float(np.abs(seconds).max()) <= _LONGEST_SWEEP_S else None
