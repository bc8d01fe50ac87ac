"""Calibration files: camera_calibration's yaml, or a `sensor_msgs/CameraInfo` written as yaml.

The first is what ROS's camera_calibration saves and camera_info_manager loads (`image_width`,
`camera_matrix: {rows, cols, data}`, ...); the second is what `ros2 topic echo --once` prints of a
CameraInfo (`width`, `k`, `d`, ...; upper case in ROS 1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from depth_node.cameras.base import CameraError
from depth_node.geometry import calibration as geometry
from depth_node.types import ArrayF64, CameraModel

_SIZE_TOLERANCE_PX = 2.0  # video encoders round scaled sizes to even numbers
_SIZE_TOLERANCE = 0.01  # of the shorter side, so that small images are held to their proportions
_MATRIX_NAMES = {  # ours -> (camera_calibration, CameraInfo, CameraInfo of ROS 1)
    "K": ("camera_matrix", "k", "K"),
    "D": ("distortion_coefficients", "d", "D"),
    "R": ("rectification_matrix", "r", "R"),
    "P": ("projection_matrix", "p", "P"),
}


class CalibrationError(CameraError, geometry.CalibrationError):
    """A calibration cannot be read or does not belong to the image."""


def read_calibration(path: str | Path) -> CameraModel:
    """Read a camera's calibration from a yaml file.

    `rectification_matrix` and `projection_matrix` may be missing: they default to the identity
    and to K.

    Args:
        path: the file; `~` is expanded and the `file://` of camera_info_manager's URLs is dropped.

    Returns:
        The camera at the size that it was calibrated at.

    Raises:
        CalibrationError: the file cannot be read, is no such yaml, lacks a key, or holds numbers
            that no calibrated camera has. The message names the file and what is wrong in it.
    """
    file = Path(str(path).removeprefix("file://")).expanduser()
    try:
        return _parse(_load(file))
    except geometry.CalibrationError as error:
        raise CalibrationError(f"calibration {file}: {error}") from error


def fit_to_size(camera: CameraModel, width: int, height: int) -> CameraModel:
    """Scale a calibration to the size of the images that it is used for, in pixels.

    Raises:
        CalibrationError: the proportions differ, so the image was cropped, which no scaling undoes.
    """
    expected_height = camera.height * width / camera.width
    expected_width = camera.width * height / camera.height
    off_px = min(abs(height - expected_height), abs(width - expected_width))
    if off_px > min(_SIZE_TOLERANCE_PX, _SIZE_TOLERANCE * min(width, height)):
        raise CalibrationError(
            f"the calibration is for {camera.width}x{camera.height} images and the image is "
            f"{width}x{height}, which has other proportions; calibrate at {width}x{height} or set "
            f"the camera to {camera.width}x{camera.height}"
        )
    return camera.resized(width, height)


def _load(file: Path) -> Mapping[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(
            f"the file cannot be read ({error}); camera.calibration must name a yaml file in "
            "camera_calibration's format"
        ) from error
    if text.startswith("%YAML:"):  # OpenCV's FileStorage header, which is not YAML's own directive
        text = text.partition("\n")[2]
    try:
        # `ros2 topic echo` ends every message with `---`, so the first document is taken.
        content = next(iter(yaml.safe_load_all(text)), None)
    except yaml.YAMLError as error:
        raise CalibrationError(f"it is not yaml: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping):
        raise CalibrationError(
            f"it holds {type(content).__name__} and not the keys of a calibration "
            "(image_width, image_height, camera_matrix, ...)"
        )
    return content


def _parse(content: Mapping[str, Any]) -> CameraModel:
    width = _dimension(content, "image_width", "width")
    height = _dimension(content, "image_height", "height")
    _refuse_part_of_sensor(content, width, height)
    model = content.get("distortion_model")
    if model is None:
        raise CalibrationError(
            "the key `distortion_model` is missing; it must be one of "
            f"{list(geometry.COEFFICIENTS)}"
        )
    K = _matrix(content, "K", (3, 3))
    return geometry.checked_camera(
        width,
        height,
        K=K,
        D=_matrix(content, "D"),
        R=_matrix(content, "R", (3, 3), default=np.eye(3)),
        P=_matrix(content, "P", (3, 4), default=np.hstack([K, np.zeros((3, 1))])),
        model=str(model),
    )


def _dimension(content: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = content.get(name)
        if value is None:
            continue
        if type(value) is not int or value <= 0:
            raise CalibrationError(f"`{name}` is {value!r}; it must be a positive integer")
        return value
    raise CalibrationError(f"the key `{names[0]}` is missing")


def _refuse_part_of_sensor(content: Mapping[str, Any], width: int, height: int) -> None:
    """Binning and a region of interest make K that of the full sensor, not of the image."""
    binning = [content.get(name) or 1 for name in ("binning_x", "binning_y")]
    if any(value != 1 for value in binning):
        raise CalibrationError(
            f"binning_x and binning_y are {binning[0]} and {binning[1]}; write the calibration of "
            "the binned image instead"
        )
    roi = content.get("roi") or {}
    if not isinstance(roi, Mapping):
        raise CalibrationError(f"`roi` is {roi!r}; it must have x_offset, y_offset, width, height")
    corner = (roi.get("x_offset") or 0, roi.get("y_offset") or 0)
    size = (roi.get("width") or width, roi.get("height") or height)
    if corner != (0, 0) or size != (width, height):
        raise CalibrationError(
            "its region of interest is a part of the image; write the calibration of that part "
            "instead"
        )


def _matrix(
    content: Mapping[str, Any],
    name: str,
    shape: tuple[int, int] | None = None,
    default: ArrayF64 | None = None,
) -> ArrayF64:
    """The float64 matrix of one of the three spellings, in `shape`, or flat without one."""
    key = next((k for k in _MATRIX_NAMES[name] if content.get(k) is not None), None)
    if key is None:
        if default is not None:
            return default
        raise CalibrationError(f"the key `{_MATRIX_NAMES[name][0]}` is missing")
    data = content[key]
    if isinstance(data, Mapping):
        data = data.get("data")
    if not isinstance(data, list):
        raise CalibrationError(f"`{key}` must be a list of numbers, or have one in `data`")
    values = np.array([_number(key, value) for value in data], dtype=np.float64)
    if shape is None:
        return values
    if values.size != shape[0] * shape[1]:
        raise CalibrationError(
            f"`{key}` has {values.size} numbers; it must have {shape[0]} x {shape[1]}"
        )
    return values.reshape(shape)


def _number(key: str, value: object) -> float:
    # PyYAML follows YAML 1.1, in which 1e-05 (as Python writes it) is a string.
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except ValueError:
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise CalibrationError(f"`{key}` holds {value!r}; every entry must be a finite number")
    return number
