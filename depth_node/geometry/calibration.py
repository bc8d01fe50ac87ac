"""What makes numbers a camera: the checks that every calibration passes, whatever it came in."""

from __future__ import annotations

import numpy as np

from depth_node.types import ArrayF64, CameraModel

COEFFICIENTS: dict[str, tuple[int, ...]] = {
    "plumb_bob": (4, 5),
    "rational_polynomial": (8, 12, 14),
    "equidistant": (4,),
}
"""Counts of coefficients by distortion model, ROS's names (sensor_msgs/distortion_models.hpp) and
what OpenCV takes for them."""

_ROTATION_TOLERANCE = 1e-3  # calibration files are often written with few digits


class CalibrationError(ValueError):
    """Numbers that describe no camera; the message says what was seen, expected and to be done."""


def checked_camera(
    width: int, height: int, K: ArrayF64, D: ArrayF64, R: ArrayF64, P: ArrayF64, model: str
) -> CameraModel:
    """Build a camera from calibration numbers.

    R of zeros means the identity, P of zeros means K (drivers of raw monocular cameras). What D of
    zeros means, `checked_distortion` says.

    Args:
        width: pixels.
        height: pixels.
        K: 3x3, pixels.
        D: (n,) coefficients in the model's order.
        R: 3x3 rotation.
        P: 3x4, pixels.
        model: name of the distortion model.

    Raises:
        CalibrationError: uncalibrated (K[0] is 0), numbers that are not finite or no camera, or an
            unknown distortion model.
    """
    for name, matrix in (("K", K), ("R", R), ("P", P)):
        if not np.isfinite(matrix).all():
            raise CalibrationError(
                f"{name} is {matrix.tolist()}; every entry must be a finite number: calibrate the "
                "camera again, or correct the calibration file"
            )
    if K[0, 0] == 0.0:
        raise CalibrationError(
            "the camera is uncalibrated (K[0] is 0); calibrate it with camera_calibration, or give "
            "the node a calibration file"
        )
    if not P.any():
        P = np.hstack([K, np.zeros((3, 1))])
    for name, matrix in (("K", K), ("P", P)):
        last_row = [0.0, 0.0, 1.0, 0.0][: matrix.shape[1]]
        if matrix[0, 0] <= 0.0 or matrix[1, 1] <= 0.0 or not np.allclose(matrix[2], last_row):
            raise CalibrationError(
                f"{name} is {matrix.tolist()}; it must have focal lengths above 0 and the last row "
                f"{last_row}: calibrate the camera again, or correct the calibration file"
            )
    D = checked_distortion(model, D)
    return CameraModel(
        width=width,
        height=height,
        K=K,
        D=D,
        R=_checked_rotation(R),
        P=P,
        distortion_model=model if D.size else "",
    )


def checked_distortion(model: str, D: ArrayF64) -> ArrayF64:
    """The coefficients as they are, or none when there is no distortion.

    D describes the raw image (sensor_msgs/CameraInfo). Zeros mean no distortion under any model's
    name but one: the four of `equidistant` are the ideal fisheye, r = f theta, where a pinhole has
    r = f tan theta. Another number of zeros cannot be its coefficients.

    Args:
        model: name of the distortion model.
        D: (n,) coefficients in the model's order.

    Raises:
        CalibrationError: they are not finite, the model is unknown, or it takes another number.
    """
    if not np.isfinite(D).all():
        raise CalibrationError(f"D is {D.tolist()}; every coefficient must be a finite number")
    ideal_fisheye = model == "equidistant" and D.size == 4
    if not D.any() and not ideal_fisheye:
        return np.zeros(0)
    counts = COEFFICIENTS.get(model)
    if counts is None:
        raise CalibrationError(
            f"the distortion model is {model!r}; it must be one of {list(COEFFICIENTS)}: calibrate "
            "with one of these, or rectify the image before this node"
        )
    if D.size not in counts:
        raise CalibrationError(
            f"D has {D.size} coefficients; {model} takes {' or '.join(map(str, counts))}: correct "
            "the calibration file or the model's name"
        )
    return D


def _checked_rotation(R: ArrayF64) -> ArrayF64:
    if not R.any():
        return np.eye(3)
    unit = np.abs(R).max() <= 2.0 and np.allclose(R @ R.T, np.eye(3), atol=_ROTATION_TOLERANCE)
    if not unit or np.linalg.det(R) < 0.0:
        raise CalibrationError(
            f"R is {R.tolist()}, which is no rotation; it is the identity for a single camera: "
            "correct the calibration file"
        )
    return R
