"""Finds the calibration that belongs to an image, and says what is wrong with it."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from depth_node.geometry.calibration import CalibrationError
from depth_node.health import Health, Level, apart
from depth_node.ros.camera_info import camera_from_info
from depth_node.ros.wire import stamp_ns
from depth_node.types import CameraModel

KEPT = 16
"""CameraInfo messages kept for matching by stamp: half a second at 30 Hz."""
STALE_S = 15.0
"""How long after the last CameraInfo it is said that it may be another camera's."""
LONGEST = 255
"""Coefficients of distortion, and characters of a name, that a kept CameraInfo may have."""
_CURE = "correct the driver's CameraInfo, or set camera.calibration to a calibration file"


class CameraInfoCache:
    """Pairs images with CameraInfo: the one of the same stamp, else the latest.

    A pairing that cannot be used costs the metres, not the frame: the image goes on without a
    calibration and `health` says why. Drivers that repeat it seldom are served; that it has ended
    is said.
    """

    def __init__(self, topic: str, health: Health) -> None:
        self._topic = topic
        self._health = health
        self._infos: deque[tuple[int, Any]] = deque(maxlen=KEPT)
        self._arrived_s = 0.0
        self._converted: tuple[Any, CameraModel] | None = None

    def add(self, msg: Any) -> None:
        """Keep a `sensor_msgs/CameraInfo`; of one too large to be kept, what is wrong with it."""
        lengths = len(msg.d), len(msg.distortion_model), len(msg.header.frame_id)
        kept: Any = msg
        if max(lengths) > LONGEST:
            kept = (
                "CameraInfo has {} distortion coefficients and names of {} and {} characters; "
                f"expected at most {LONGEST} of each: correct the driver"
            ).format(*lengths)
        self._arrived_s = time.monotonic()
        self._infos.append((stamp_ns(msg.header), kept))

    def clear(self) -> None:
        """Forget what was heard: the next images may be another camera's."""
        self._infos.clear()

    def camera_for(self, header: Any, width: int, height: int) -> CameraModel | None:
        """The calibration for an image of this header and size, or None when there is none."""
        infos = list(self._infos)
        if not infos:
            self._health.report(
                "camera_info",
                Level.ERROR,
                f"images arrive but no CameraInfo on {self._topic}: only relative depth is "
                "published",
                "start the driver's calibration, remap camera_info, or set camera.calibration",
            )
            return None
        stamp = stamp_ns(header)
        msg = next((info for at, info in reversed(infos) if at == stamp), infos[-1][1])
        try:
            if isinstance(msg, str):
                raise CalibrationError(msg)
            camera = self._convert(msg, width, height)
        except CalibrationError as error:
            seen, cure = apart(str(error), _CURE)
            cure += "; until then only relative depth is published"
            self._health.report("camera_info", Level.ERROR, f"{self._topic}: {seen}", cure)
            return None
        if msg.header.frame_id != header.frame_id:
            self._health.report(
                "camera_info",
                Level.WARN,
                f"the image is in frame {header.frame_id!r} but its CameraInfo in "
                f"{msg.header.frame_id!r}, and the image's frame is used",
                "check that both come from one camera",
            )
        elif time.monotonic() - self._arrived_s > STALE_S:
            self._health.report(
                "camera_info",
                Level.WARN,
                f"images arrive, but no CameraInfo on {self._topic} for {STALE_S:g} s or more, and "
                "the last one is used",
                "check that the driver still publishes it",
            )
        else:
            self._health.clear("camera_info")
        return camera

    def _convert(self, msg: Any, width: int, height: int) -> CameraModel:
        """Convert a message, or reuse the last conversion when only its header differs."""
        key = (
            *(msg.width, msg.height, msg.distortion_model),
            *(tuple(msg.k), tuple(msg.d), tuple(msg.r), tuple(msg.p)),
            *(msg.binning_x, msg.binning_y),
            (msg.roi.x_offset, msg.roi.y_offset, msg.roi.width, msg.roi.height),
            (width, height),
        )
        if self._converted is None or self._converted[0] != key:
            self._converted = (key, camera_from_info(msg, (width, height)))
        return self._converted[1]
