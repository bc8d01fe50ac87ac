"""Network cameras and GStreamer pipelines."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import cv2

from depth_node.cameras.base import CameraError
from depth_node.cameras.live import Connection, LiveCamera
from depth_node.cameras.timing import Clock
from depth_node.parameters import CameraSettings

TIMEOUT_MS = 5000
# cv2.CAP_PROP_OPEN_TIMEOUT_MSEC and ..READ_..: obeyed since OpenCV 4.5.4, but not every Python
# module of 4.x has the names.
_OPEN_TIMEOUT, _READ_TIMEOUT = 53, 54


def open_stream(
    settings: CameraSettings, clock: Clock | None = None, timeout_ms: int = TIMEOUT_MS
) -> LiveCamera:
    """Open the stream that `settings.path` names.

    A URL (`rtsp://`, `http://`, `udp://`, ...) is read by FFmpeg, RTSP over TCP unless the
    environment variable OPENCV_FFMPEG_CAPTURE_OPTIONS says otherwise. What has ` ! ` in it is a
    GStreamer pipeline; it must end in an appsink.

    Args:
        settings: `path`; `width`, `height`, `fps` and `fourcc` are the sender's affair.
        clock: where time comes from.
        timeout_ms: milliseconds after which opening or reading a URL has failed.

    Raises:
        CameraError: this OpenCV lacks the backend, nothing answers, or it is no live stream.
        CalibrationError: the calibration cannot be read.
    """
    return LiveCamera(lambda: _connect(settings, timeout_ms), settings, clock)


def hide_password(url: str) -> str:
    """The URL without the credentials in it, for logs."""
    return re.sub(r"(?<=://)[^/@\s]+@", "***@", url)


def _connect(settings: CameraSettings, timeout_ms: int) -> Connection:
    source = settings.path.strip()
    shown = hide_password(source)
    if " ! " in source:
        capture = _open(source, cv2.CAP_GSTREAMER, "GStreamer", [])
        hint = "try the pipeline with gst-launch-1.0; it must end in `appsink`"
    elif urlsplit(source).scheme:
        limits = [_OPEN_TIMEOUT, timeout_ms, _READ_TIMEOUT, timeout_ms]
        capture = _open(source, cv2.CAP_FFMPEG, "FFmpeg", limits)
        hint = "try it with `ffplay URL`; check address, port, user and password"
    else:
        raise CameraError(
            f"camera.path is {shown!r}; source url needs a URL such as rtsp://host/path or a "
            "GStreamer pipeline with ` ! ` in it (a file has camera.source video)"
        )
    if not capture.isOpened():
        capture.release()
        raise CameraError(f"{shown} cannot be opened within {timeout_ms / 1000:g} s; {hint}")
    frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    if frames > 0:
        capture.release()
        raise CameraError(
            f"{shown} is a recording of {frames:.0f} frames and no live stream; download it and "
            "set camera.source to video"
        )
    return Connection(capture, f"stream {shown}", _unused(settings))


def _open(source: str, backend: int, name: str, parameters: list[int]) -> cv2.VideoCapture:
    if not cv2.videoio_registry.hasBackend(backend):
        raise CameraError(
            f"this OpenCV {cv2.__version__} is built without {name}; the distribution's "
            "python3-opencv usually has FFmpeg and GStreamer, the wheels from pip have FFmpeg only"
        )
    return cv2.VideoCapture(source, backend, parameters)


def _unused(settings: CameraSettings) -> tuple[str, ...]:
    asked = [n for n in ("width", "height", "fps", "fourcc") if getattr(settings, n)]
    if not asked:
        return ()
    names = ", ".join(f"camera.{name}" for name in asked)
    return (f"{names} cannot be requested of a stream; set them at the sender or in the pipeline",)
