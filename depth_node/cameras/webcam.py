"""USB webcams and other V4L2 cameras."""

from __future__ import annotations

import cv2

from depth_node.cameras.base import CameraError
from depth_node.cameras.live import Connection, LiveCamera
from depth_node.cameras.timing import Clock
from depth_node.cameras.v4l2 import Device, find_device
from depth_node.parameters import CameraSettings

# One buffer is with the driver while the other is decoded. With a single one, whatever arrives
# during decoding is lost and the rate may halve; more only age, as every image is taken at once.
_BUFFERS = 2


def open_webcam(settings: CameraSettings, clock: Clock | None = None) -> LiveCamera:
    """Open the V4L2 camera that `settings.device` names.

    The name is looked up again at every reconnection, so a camera that comes back with another
    number is found if it was named by name (or by a /dev/v4l/by-id path).

    Args:
        settings: device, and what is requested of it: `fourcc`, `width`, `height`, `fps`.
        clock: where time comes from.

    Raises:
        CameraError: there is no such camera (those that exist are listed), it cannot be opened or
            delivers nothing.
        CalibrationError: the calibration cannot be read.
    """
    return LiveCamera(lambda: _connect(settings), settings, clock)


def _connect(settings: CameraSettings) -> Connection:
    device = find_device(settings.device)
    capture = cv2.VideoCapture(str(device.path), cv2.CAP_V4L2)
    if not capture.isOpened():
        capture.release()
        raise CameraError(
            f"{device} cannot be opened; another program may be using it (`fuser {device.path}` "
            "shows which), or it is no capture device"
        )
    _request(capture, settings)
    notices = _shortfalls(capture, settings, device)
    width, height, fps, fourcc = _actual(capture)
    description = f"webcam {device}: {width}x{height} {fourcc} at {fps:g} Hz"
    return Connection(capture, description, notices)


def _request(capture: cv2.VideoCapture, settings: CameraSettings) -> None:
    """Ask for the format before the size before the rate: each decides which of the next exist."""
    capture.set(cv2.CAP_PROP_BUFFERSIZE, _BUFFERS)
    if settings.fourcc:
        code = int.from_bytes(settings.fourcc.encode("ascii", "replace"), "little")
        capture.set(cv2.CAP_PROP_FOURCC, code)
    if settings.width or settings.height:
        # The V4L2 backend changes nothing until both have been set.
        width = settings.width or capture.get(cv2.CAP_PROP_FRAME_WIDTH)
        height = settings.height or capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
    if settings.fps:
        capture.set(cv2.CAP_PROP_FPS, settings.fps)


def _actual(capture: cv2.VideoCapture) -> tuple[int, int, float, str]:
    code = int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF  # -1 where it is unknown
    fourcc = code.to_bytes(4, "little").decode("latin-1")
    return (
        int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
        int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        float(capture.get(cv2.CAP_PROP_FPS)),
        fourcc if fourcc.isprintable() else "unknown format",
    )


def _shortfalls(
    capture: cv2.VideoCapture, settings: CameraSettings, device: Device
) -> tuple[str, ...]:
    """What the driver did not grant, in words."""
    width, height, fps, fourcc = _actual(capture)
    wishes = (
        ("width", settings.width, width, "px"),
        ("height", settings.height, height, "px"),
        ("fps", settings.fps, fps, "Hz"),
        ("fourcc", settings.fourcc, fourcc, ""),
    )
    return tuple(
        f"{device} does not offer camera.{name} {wish} {unit}".rstrip()
        + f" with the rest of the request and delivers {got} {unit}".rstrip()
        + f"; `v4l2-ctl -d {device.path} --list-formats-ext` lists what it offers"
        for name, wish, got, unit in wishes
        if wish and _differs(wish, got)
    )


def _differs(wish: float | str, got: float | str) -> bool:
    if isinstance(wish, str) or isinstance(got, str):
        return wish != got
    return abs(wish - got) > 0.5  # drivers report 30 for 29.97
