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

_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")
"""User and password of a URL: up to the last @ before the path, for passwords contain some too."""
_SECRET = re.compile(
    r"(\b[\w-]*(?:pw|pas|pass|passwd|password|passphrase|pwd|token|key|secret)\s*=\s*)"
    r"(?:\([^)]*\)\s*)?"  # GStreamer's (string) before a value
    r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?:\\.|[^\s&]|&(?![\w.-]+=))+)""",
    re.IGNORECASE,
)
"""A query's or a GStreamer element's secret: its name with `=`, and its value, quoted or not."""
_APPSINK = re.compile(r"!\s*(?=appsink\b[^!]*$)")


def open_stream(
    settings: CameraSettings, clock: Clock | None = None, timeout_ms: int = TIMEOUT_MS
) -> LiveCamera:
    """Open the stream that `settings.path` names.

    A URL (`rtsp://`, `http://`, `udp://`, ...) is read by FFmpeg, RTSP over TCP unless the
    environment variable OPENCV_FFMPEG_CAPTURE_OPTIONS says otherwise. What has ` ! ` in it is a
    GStreamer pipeline; see `to_bgr`.

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
    """The URL or pipeline without the credentials in it, for logs."""
    return _SECRET.sub(r"\1***", _CREDENTIALS.sub("***@", url))


def to_bgr(pipeline: str) -> str:
    """Let a GStreamer pipeline convert what reaches its appsink to BGR.

    OpenCV hands NV12 and I420 over as grey images of one and a half times the height and RGBA in
    the order of its bytes, and nothing in the image tells. What is BGR already passes as it is.

    Args:
        pipeline: elements of raw video in the memory of the CPU, the last of them `appsink`.

    Raises:
        CameraError: its last element is no appsink.
    """
    converted, count = _APPSINK.subn("! videoconvert ! video/x-raw,format=BGR ! ", pipeline)
    if count == 0:
        raise CameraError(
            f"the pipeline {hide_password(pipeline)!r} of camera.path does not end in an appsink; "
            "its last element must be `! appsink`, where OpenCV takes the images"
        )
    return converted


def _connect(settings: CameraSettings, timeout_ms: int) -> Connection:
    source = settings.path.strip()
    shown = hide_password(source)
    if " ! " in source:
        capture = _open(to_bgr(source), cv2.CAP_GSTREAMER, "GStreamer", [])
        hint = (
            "try it with gst-launch-1.0 and `videoconvert ! fakesink` in place of its appsink: it "
            "must give raw video in the memory of the CPU"
        )
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
