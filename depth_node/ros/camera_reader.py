"""The thread that reads a camera which the node opened itself."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

from depth_node.cameras.base import Camera, CameraError, EndOfStream
from depth_node.cameras.open import open_camera
from depth_node.handover import worker
from depth_node.health import Health, Level, apart
from depth_node.parameters import CameraSettings
from depth_node.types import Frame

_CAMERA_CURE = (
    "check its cable, its power, and that no other program uses it; the node goes on trying"
)
_UNKNOWN_CURE = (
    "free memory if it is short; else see the traceback in the node's log, and report it if it "
    "happens again; the node goes on trying"
)
_PAUSE_S = 0.5
"""Between two reads that fail in a way that the camera does not know, and so does not pace."""
_END_CURE = "deactivate and activate the node to begin again, or set camera.loop"
_NOTICE_CURE = "correct the parameters of camera.*, or go on if that is right"


class CameraReader:
    """Reads frames as they come and submits each; lives through a camera that goes and returns."""

    def __init__(self, settings: CameraSettings, health: Health) -> None:
        """Open the camera.

        Raises:
            CameraError: it cannot be opened.
        """
        self._settings = settings
        self._health = health
        self._camera: Camera = open_camera(settings)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._told: set[str] = set()  # the notices of the last frame

    def describe(self) -> str:
        """The camera in words."""
        return self._camera.describe()

    @property
    def topics(self) -> dict[str, str]:
        """A camera of the node's own has no topics."""
        return {}

    def start(self, submit: Callable[[Callable[[], Frame]], None]) -> None:
        """Begin to read."""
        if self._stopped.is_set():  # the last stop closed the camera
            self._camera = open_camera(self._settings)
            self._stopped = threading.Event()
        self._thread = worker("camera", self._run, self._camera, self._stopped, submit)
        self._thread.start()

    def stop(self) -> None:
        """Close the camera and end the thread."""
        self._stopped.set()
        self._camera.close()
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def _run(
        self,
        camera: Camera,
        stopped: threading.Event,
        submit: Callable[[Callable[[], Frame]], None],
    ) -> None:
        """Read one opening of the camera to its end; one that outlives its stop says nothing."""
        while not stopped.is_set():
            try:
                frame = camera.read()
            except EndOfStream as end:
                if not stopped.is_set():
                    self._health.report("camera", Level.WARN, str(end), _END_CURE)
                return
            except CameraError as error:
                if not stopped.is_set():  # its own "; " is followed by when it is tried again
                    self._health.report("camera", Level.ERROR, str(error), _CAMERA_CURE)
                continue
            except Exception as error:  # as cv2.error or MemoryError where memory is short
                if not stopped.is_set():
                    self._report_unknown(error)
                stopped.wait(_PAUSE_S)
                continue
            if stopped.is_set():
                return
            self._health.clear("camera")
            self._report_notices(camera, frame)
            submit(functools.partial(_as_it_is, frame))

    def _report_unknown(self, error: Exception) -> None:
        seen = (
            "the camera failed in a way that the node does not know, "
            f"{type(error).__name__}: {error}"
        )
        self._health.report("camera", Level.ERROR, seen, _UNKNOWN_CURE, error=error)

    def _report_notices(self, camera: Camera, frame: Frame) -> None:
        """Say loudly what the metres rest on, and what the camera did not grant."""
        level = Level.ERROR if frame.camera is None else Level.WARN
        notices = camera.notices
        for gone in self._told - set(notices):
            self._health.clear(f"notice {gone}")
        self._told = set(notices)
        for notice in notices:
            self._health.report(f"notice {notice}", level, *apart(notice, _NOTICE_CURE))


def _as_it_is(frame: Frame) -> Frame:
    """The decoding of a frame that a camera of our own has decoded."""
    return frame
