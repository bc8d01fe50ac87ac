"""`sensor_msgs/CameraInfo` to a camera model and back."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from depth_node.types import ArrayF64, CameraModel

# Coefficient counts that OpenCV takes for each of ROS's models (sensor_msgs/distortion_models.hpp).
_COEFFICIENTS: dict[str, tuple[int, ...]] = {
    "plumb_bob": (4, 5),
    "rational_polynomial": (8, 12, 14),
    "equidistant": (4,),
}
_ROTATION_TOLERANCE = 1e-3  # calibration files are often written with few digits

# Defaults of camera drivers, and the names that REP 105 gives to frames of the robot and the world.
_NOT_OPTICAL = re.compile(
    r"(^|.*/)(camera|cam|default_cam|usb_cam|webcam|head_camera|map|odom|earth|world|base)$"
    r"|.*(_link|_frame|_footprint)$"
)


class CalibrationError(ValueError):
    """A CameraInfo cannot be used; the message says what was seen, expected and to be done."""


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
        The camera of the image as it arrives. Its distortion model is empty, and D with it, when no
        coefficient differs from zero.

    Raises:
        CalibrationError: uncalibrated (K[0] is 0), numbers that are not finite or no camera, an
            unknown distortion model, or another size than the image's.
    """
    if msg.width == 0 or msg.height == 0:
        raise CalibrationError(
            f"CameraInfo has the size {msg.width}x{msg.height}; expected the size at which the "
            "camera was calibrated: correct the calibration file or the driver"
        )
    K = _matrix("K", msg.k, (3, 3))
    if K[0, 0] == 0.0:
        raise CalibrationError(
            "CameraInfo is uncalibrated (K[0] is 0); calibrate the camera with camera_calibration "
            "or give the node a calibration file"
        )
    _check_intrinsics("K", K)
    R = _rotation(_matrix("R", msg.r, (3, 3)))
    P = _matrix("P", msg.p, (3, 4))
    if not P.any():
        P = np.hstack([K, np.zeros((3, 1))])
    _check_intrinsics("P", P)
    model, D = _distortion(msg.distortion_model, msg.d)
    shift_scale, width, height = _window(msg)
    if image_size is not None and image_size != (width, height):
        raise CalibrationError(
            f"CameraInfo describes images of {width}x{height}, but the image is "
            f"{image_size[0]}x{image_size[1]}; publish the two at the same size (image_proc's "
            "resize node scales both) or calibrate at this resolution"
        )
    return CameraModel(
        width=width,
        height=height,
        K=shift_scale @ K,
        D=D,
        R=R,
        P=shift_scale @ P,
        distortion_model=model,
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
        raise CalibrationError(
            f"CameraInfo's {name} has {matrix.size} numbers; expected {shape[0]}x{shape[1]}"
        )
    if not np.isfinite(matrix).all():
        raise CalibrationError(
            f"CameraInfo's {name} is {matrix.tolist()}; expected finite numbers: recalibrate, or "
            "correct the calibration file"
        )
    return matrix.reshape(shape)


def _check_intrinsics(name: str, matrix: ArrayF64) -> None:
    """Positive focal lengths and a projective last row, in pixels."""
    last_row = [0.0, 0.0, 1.0, 0.0][: matrix.shape[1]]
    if matrix[0, 0] <= 0.0 or matrix[1, 1] <= 0.0 or matrix[2].tolist() != last_row:
        raise CalibrationError(
            f"CameraInfo's {name} is {matrix.tolist()}; expected focal lengths above 0 and the "
            f"last row {last_row}: recalibrate, or correct the calibration file"
        )


def _rotation(R: ArrayF64) -> ArrayF64:
    if not R.any():
        return np.eye(3)
    unit = np.abs(R).max() <= 2.0 and np.allclose(R @ R.T, np.eye(3), atol=_ROTATION_TOLERANCE)
    if not unit or np.linalg.det(R) < 0.0:
        raise CalibrationError(
            f"CameraInfo's R is {R.tolist()}, not a rotation; expected the identity for a single "
            "camera: correct the calibration file"
        )
    return R


def _distortion(model: str, coefficients: Sequence[float]) -> tuple[str, ArrayF64]:
    D = np.asarray(coefficients, dtype=np.float64)
    if not np.isfinite(D).all():
        raise CalibrationError(
            f"CameraInfo's D is {D.tolist()}; expected finite numbers: recalibrate the camera"
        )
    if not D.any():
        return "", np.zeros(0)
    counts = _COEFFICIENTS.get(model)
    if counts is None:
        raise CalibrationError(
            f"CameraInfo's distortion model is {model!r}; expected one of {list(_COEFFICIENTS)}: "
            "recalibrate with one of these, or rectify the image before this node"
        )
    if D.size not in counts:
        raise CalibrationError(
            f"CameraInfo's D has {D.size} coefficients; {model} takes "
            f"{' or '.join(map(str, counts))}: correct the calibration file or the model's name"
        )
    return model, D


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
