"""A camera or stream that runs by itself: newest frame only, reconnecting when it is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from depth_node.cameras.base import CameraError, EndOfStream
from depth_node.cameras.images import to_rgb
from depth_node.cameras.intrinsics import Intrinsics
from depth_node.cameras.timing import Backoff, Clock, SystemClock
from depth_node.handover import Slot, worker
from depth_node.parameters import CameraSettings
from depth_node.types import Frame

STALL_S = 5.0
_BAD_FRAMES_LIMIT = 10  # a cable that shakes spoils a frame or two; more in a row are a lost camera
_CLOSE_TIMEOUT_S = 0.5


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that is used once it is open."""

    def grab(self) -> bool:
        """Wait for the next image; false when the device is gone."""
        ...

    def retrieve(self) -> tuple[bool, NDArray[Any]]:
        """Decode the image that was grabbed."""
        ...

    def release(self) -> None:
        """Close the device."""
        ...


@dataclass(frozen=True)
class Connection:
    """An open capture.

    Attributes:
        capture: what delivers images.
        description: the device and what it was really set to, in one line.
        notices: what differs from what was asked for.
    """

    capture: Capture
    description: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Grabbed:
    image: NDArray[Any]
    stamp_ns: int
    received_ns: int


class LiveCamera:
    """Keeps the newest image of a device that delivers at its own rate.

    A thread takes every image from the device as soon as it is there, so that no driver or network
    buffer grows old, and stamps it at that moment. When the device is lost the thread reconnects,
    0.5 s after the first failure and up to 8 s after further ones; each failure raises one
    `CameraError` from `read()`, unless a newer failure or frame has overtaken it.

    Args:
        connect: opens the device; raises `CameraError`. It is called again after a loss.
        settings: `frame_id` and calibration.
        clock: where time comes from.
        stall_s: seconds without frame and failure after which `read()` raises `CameraError`.

    Raises:
        CameraError: the device cannot be opened now, or the calibration not be read.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        settings: CameraSettings,
        clock: Clock | None = None,
        stall_s: float = STALL_S,
    ) -> None:
        self._connect = connect
        self._clock = clock or SystemClock()
        self._frame_id = settings.frame_id
        self._stall_s = stall_s
        self._intrinsics = Intrinsics.from_settings(settings)
        self._closed = threading.Event()
        self._slot: Slot[_Grabbed | CameraError] = Slot()
        self._failure: CameraError | None = None  # why there are no images now
        self._notices: dict[str, None] = {}  # a set that keeps its order
        first = self._open()
        self._thread = worker("camera", self._run, first)
        self._thread.start()

    def describe(self) -> str:
        """See `Camera`."""
        return self._description

    @property
    def notices(self) -> tuple[str, ...]:
        """See `Camera`."""
        return tuple(self._notices) + self._intrinsics.notices

    def read(self) -> Frame:
        """See `Camera`; every image is returned at most once."""
        item = self._slot.take(self._stall_s)
        if item is None:
            if self._closed.is_set():
                raise EndOfStream(f"{self._description} was closed")
            raise self._failure or CameraError(
                f"{self._description}: no image for {self._stall_s:g} s"
            )
        if isinstance(item, CameraError):
            raise item
        image = to_rgb(item.image)
        height, width = image.shape[:2]
        return Frame(
            image=image,
            stamp_ns=item.stamp_ns,
            frame_id=self._frame_id,
            camera=self._intrinsics.fitting(width, height),
            received_ns=item.received_ns,
        )

    def close(self) -> None:
        """See `Camera`; a device that hangs is released by its thread when its driver returns."""
        self._closed.set()
        self._slot.close()
        self._thread.join(_CLOSE_TIMEOUT_S)

    def _open(self) -> Capture:
        connection = self._connect()
        self._description = connection.description
        self._notices.update(dict.fromkeys(connection.notices))
        return connection.capture

    def _run(self, first: Capture) -> None:
        """Body of the thread, which alone touches the capture: cv2's are not thread-safe."""
        capture: Capture | None = first
        backoff = Backoff()
        try:
            while not self._closed.is_set():
                try:
                    if capture is None:
                        capture = self._open()
                    grabbed = self._grab(capture)
                except Exception as error:  # OpenCV and drivers may raise anything: it is a loss
                    if capture is not None:
                        capture.release()
                        capture = None
                    self._fail(error, backoff.failed())
                    continue
                backoff.succeeded()
                self._failure = None
                self._slot.put(grabbed)
        finally:
            if capture is not None:
                capture.release()

    def _fail(self, error: Exception, delay_s: float) -> None:
        """Tell the reader of a failure, and wait until the next attempt is due."""
        text = str(error)
        if not isinstance(error, CameraError):
            text = f"{self._description} failed, {type(error).__name__}: {error}"
        self._failure = CameraError(f"{text}; next attempt in {delay_s:g} s")
        self._slot.put(self._failure)
        self._clock.wait(self._closed, delay_s)

    def _grab(self, capture: Capture) -> _Grabbed:
        for _ in range(_BAD_FRAMES_LIMIT):
            alive = capture.grab()
            stamp_ns, received_ns = self._clock.time_ns(), self._clock.monotonic_ns()
            ok, image = capture.retrieve() if alive else (False, None)
            if not alive:
                raise CameraError(f"{self._description} delivers no more images; is it unplugged?")
            if ok and image is not None:
                return _Grabbed(image, stamp_ns, received_ns)
        raise CameraError(
            f"{self._description}: {_BAD_FRAMES_LIMIT} images in a row could not be decoded"
        )
