"""A video file as a recording."""

from __future__ import annotations

import math
from pathlib import Path

import cv2

from depth_node.cameras.base import CameraError
from depth_node.cameras.images import to_rgb
from depth_node.types import ImageU8

SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg"}
"""Of files that are taken for videos where a folder of images could be meant too."""

DEFAULT_RATE_HZ = 30.0
_LONGEST_RATE_HZ = 1000.0  # a container without a rate reports its time base, such as 90000


class VideoFile:
    """The frames of a video file, in any format that this OpenCV decodes; a `Recording`.

    Args:
        path: the file.

    Raises:
        CameraError: there is no such file, or it is no video that OpenCV can decode.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).expanduser()
        self._notices: tuple[str, ...] = ()
        if self._path.is_dir():
            raise CameraError(f"{self._path} is a folder; set camera.source to folder for it")
        if not self._path.is_file():
            raise CameraError(f"there is no video file {self._path}; see camera.path")
        self._capture = self._open()
        rate_hz = self._capture.get(cv2.CAP_PROP_FPS)
        if not (math.isfinite(rate_hz) and 0.0 < rate_hz <= _LONGEST_RATE_HZ):
            self._notices += (
                f"{self._path.name} names no frame rate; {DEFAULT_RATE_HZ:g} Hz is taken "
                "(camera.fps sets another)",
            )
            rate_hz = DEFAULT_RATE_HZ
        self._rate_hz = rate_hz
        self._announced = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._given = 0

    @property
    def name(self) -> str:
        """See `Recording`."""
        return f"video {self._path}"

    @property
    def rate_hz(self) -> float:
        """See `Recording`."""
        return self._rate_hz

    @property
    def notices(self) -> tuple[str, ...]:
        """See `Recording`."""
        return self._notices

    def next_image(self) -> ImageU8 | None:
        """See `Recording`; a frame that cannot be decoded ends the video."""
        try:
            ok, image = self._capture.read()
        except cv2.error as error:
            raise CameraError(f"{self._path} cannot be decoded: {error}") from error
        if not ok:
            self._note_early_end()
            return None
        self._given += 1
        return to_rgb(image)

    def rewind(self) -> None:
        """See `Recording`; the file is opened anew, because seeking is not exact in every codec."""
        self._capture.release()
        self._capture = self._open()
        self._given = 0

    def close(self) -> None:
        """See `Recording`."""
        self._capture.release()

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self._path))
        if not capture.isOpened():
            raise CameraError(
                f"OpenCV cannot decode {self._path}; is it a video? Convert it with "
                "`ffmpeg -i IN -c:v libx264 OUT.mp4`, or extract its frames into a folder"
            )
        return capture

    def _note_early_end(self) -> None:
        # Containers often announce a frame or two too many; less than 90% means a damaged file.
        if 0 < self._given < 0.9 * self._announced and not any(
            "damaged" in n for n in self._notices
        ):
            self._notices += (
                f"{self._path.name} announces {self._announced:.0f} frames and ends after "
                f"{self._given}; the file may be damaged",
            )
