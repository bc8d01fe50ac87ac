"""`sensor_msgs/CameraInfo` to a camera model and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from depth_node.geometry.calibration import CalibrationError, checked_camera
from depth_node.types import ArrayF64, CameraModel

# Defaults of camera drivers, and the names that REP 105 gives to frames of the robot and the world.
_NOT_OPTICAL = re.compile(
    r"(^|.*/)(camera|cam|default_cam|usb_cam|webcam|head_camera|map|odom|earth|world|base)$"
    r"|.*(_link|_frame|_footprint)$"
)


def camera_from_info(msg: CameraInfo, image_size: tuple[int, int] | None = None) -> CameraModel:
    """Read a camera model, with binning and region of interest applied.

    The rules are image_geometry's (PinholeCameraModel::fromCameraInfo): a binning of 0 means 1, a
    region of zeros means the whole sensor; the principal point moves by the region's offset in
    full-resolution pixels, then the x row of K and P is divided by binning_x and the y row by
    binning_y. R of zeros means the identity, P of zeros means K (drivers of raw monocular cameras).

    Args:
        msg: the calibration.
        image_size: (width, height) in pixels of the image that it belongs to, or None if unknown.

    Returns:
        The camera of the image as it arrives. Its distortion model is empty, and D with it, when
        there is no distortion.

    Raises:
        CalibrationError: uncalibrated (K[0] is 0), numbers that are not finite or no camera, an
            unknown distortion model, or another size than the image's.
    """
    if msg.width == 0 or msg.height == 0:
        raise CalibrationError(
            f"CameraInfo has the size {msg.width}x{msg.height}; expected the size at which the "
            "camera was calibrated: correct the calibration file or the driver"
        )
    try:
        camera = checked_camera(
            msg.width,
            msg.height,
            K=_matrix("K", msg.k, (3, 3)),
            D=np.asarray(msg.d, np.float64),
            R=_matrix("R", msg.r, (3, 3)),
            P=_matrix("P", msg.p, (3, 4)),
            model=msg.distortion_model,
        )
    except CalibrationError as error:
        raise CalibrationError(f"CameraInfo: {error}") from error
    shift_scale, width, height = _window(msg)
    if image_size is not None and image_size != (width, height):
        raise CalibrationError(
            f"CameraInfo describes images of {width}x{height}, but the image is "
            f"{image_size[0]}x{image_size[1]}; publish the two at the same size (image_proc's "
            "resize node scales both) or calibrate at this resolution"
        )
    return replace(
        camera, width=width, height=height, K=shift_scale @ camera.K, P=shift_scale @ camera.P
    )


def info_from_camera(camera: CameraModel, header: Header) -> CameraInfo:
    """The CameraInfo of an image taken by `camera`; for a rectified one D is zero.

    Args:
        camera: the camera at exactly the published size.
        header: used as it is, not copied; it must be the image's.
    """
    return CameraInfo(
        header=header,
        width=camera.width,
        height=camera.height,
        distortion_model=camera.distortion_model or "plumb_bob",
        d=[float(c) for c in camera.D] or [0.0] * 5,
        k=camera.K.ravel(),
        r=camera.R.ravel(),
        p=camera.P.ravel(),
    )


def optical_frame_warning(frame_id: str) -> str | None:
    """Say why a camera's frame is probably not an optical one (z forward, x right; REP 103).

    Only names are looked at: drivers' defaults and frames that by name belong to a body.

    Returns:
        What was seen and what to do, or None when nothing speaks against the frame.
    """
    cure = (
        "set the driver's frame_id to an optical frame (x right, y down, z forward), by REP 103 "
        "named ..._optical_frame"
    )
    if not frame_id:
        return f"the image has no frame_id; {cure}"
    name = frame_id.lower()
    if "optical" in name or not _NOT_OPTICAL.fullmatch(name):
        return None
    return f"frame_id {frame_id!r} does not look like an optical frame: depth would lie in the " + (
        f"wrong direction in TF; {cure}"
    )


def _matrix(name: str, values: Sequence[float], shape: tuple[int, int]) -> ArrayF64:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.size != shape[0] * shape[1]:
        raise CalibrationError(f"{name} has {matrix.size} numbers; expected {shape[0]}x{shape[1]}")
    return matrix.reshape(shape)


def _window(msg: CameraInfo) -> tuple[ArrayF64, int, int]:
    """What binning and region do: the 3x3 map of pixel coordinates, and the image's size."""
    bin_x, bin_y = msg.binning_x or 1, msg.binning_y or 1
    x, y, width, height = msg.roi.x_offset, msg.roi.y_offset, msg.roi.width, msg.roi.height
    if (x, y, width, height) == (0, 0, 0, 0):
        width, height = msg.width, msg.height
    size = (width // bin_x, height // bin_y)
    if 0 in size or x + width > msg.width or y + height > msg.height:
        raise CalibrationError(
            f"CameraInfo's region {width}x{height} at ({x}, {y}) with binning {bin_x}x{bin_y} does "
            f"not fit its size {msg.width}x{msg.height}; width and height are the calibrated "
            "(full) size, the region is given in its pixels: correct the driver"
        )
    shift_scale = np.array(
        [[1.0 / bin_x, 0.0, -x / bin_x], [0.0, 1.0 / bin_y, -y / bin_y], [0.0, 0.0, 1.0]]
    )
    return shift_scale, *size
