"""Recorded images played like a live camera: at a steady rate, stamped now, in a loop or once."""

from __future__ import annotations

import threading
from typing import Protocol

from depth_node.cameras.base import CameraError, EndOfStream
from depth_node.cameras.intrinsics import Intrinsics
from depth_node.cameras.timing import Clock, Pacer, SystemClock
from depth_node.parameters import CameraSettings
from depth_node.types import Frame, ImageU8


class Recording(Protocol):
    """Images in their order."""

    @property
    def name(self) -> str:
        """What it is and how much, in one line."""
        ...

    @property
    def rate_hz(self) -> float:
        """The recording's own images a second."""
        ...

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user must be told about the recording; may grow while it is read."""
        ...

    def next_image(self) -> ImageU8 | None:
        """Decode the next image, HxWx3 uint8 RGB, or None at the end.

        Raises:
            CameraError: there is an image but it cannot be had.
        """
        ...

    def rewind(self) -> None:
        """Begin with the first image again.

        Raises:
            CameraError: the recording is not there any more.
        """
        ...

    def close(self) -> None:
        """Release the file; safe to call twice."""
        ...


class Playback:
    """A recording as a camera.

    An image is decoded before it is due and stamped when it is due, so the rate is steady. Every
    image is delivered: a reader that is too slow slows the recording down. Stamps are the system's
    time and always increase, over the end of a loop too.

    Args:
        recording: where images come from; the playback closes it.
        settings: rate (`fps`, 0 takes the recording's), `loop`, `frame_id` and calibration.
        clock: where time comes from.

    Raises:
        CameraError: there is no image in it.
        CalibrationError: the calibration cannot be used for its first image.
    """

    def __init__(
        self, recording: Recording, settings: CameraSettings, clock: Clock | None = None
    ) -> None:
        self._recording = recording
        self._clock = clock or SystemClock()
        self._loop = settings.loop
        self._frame_id = settings.frame_id
        self._rate_hz = settings.fps or recording.rate_hz
        self._closed = threading.Event()
        self._reading = threading.Lock()  # held while the recording is in use
        self._pacer = Pacer(self._rate_hz, self._closed, self._clock)
        self._last_stamp_ns = 0
        self._pending: ImageU8 | None = None
        try:
            self._intrinsics = Intrinsics.from_settings(settings)
            self._pending = recording.next_image()
            if self._pending is None:
                raise CameraError(f"{recording.name} holds no image that can be decoded")
            self._size = (self._pending.shape[1], self._pending.shape[0])
            self._intrinsics.for_size(*self._size)
        except CameraError:
            recording.close()
            raise

    def describe(self) -> str:
        """See `Camera`."""
        end = "in a loop" if self._loop else "once"
        width, height = self._size
        return f"{self._recording.name}, {width}x{height}, played {end} at {self._rate_hz:g} Hz"

    @property
    def notices(self) -> tuple[str, ...]:
        """See `Camera`."""
        return self._recording.notices + self._intrinsics.notices

    def read(self) -> Frame:
        """See `Camera`; a `CameraError` comes at the recording's rate too."""
        try:
            image = self._take()
        except CameraError:
            self._pacer.wait()
            raise
        if not self._pacer.wait():
            raise EndOfStream(f"{self._recording.name} was closed")
        stamp_ns = max(self._clock.time_ns(), self._last_stamp_ns + 1)
        self._last_stamp_ns = stamp_ns
        height, width = image.shape[:2]
        return Frame(
            image=image,
            stamp_ns=stamp_ns,
            frame_id=self._frame_id,
            camera=self._intrinsics.fitting(width, height),
            received_ns=self._clock.monotonic_ns(),
        )

    def close(self) -> None:
        """See `Camera`."""
        self._closed.set()
        with self._reading:
            self._recording.close()

    def _take(self) -> ImageU8:
        with self._reading:
            if self._closed.is_set():
                raise EndOfStream(f"{self._recording.name} was closed")
            image, self._pending = self._pending, None
            if image is None:
                image = self._recording.next_image()
            if image is None and self._loop:
                self._recording.rewind()
                image = self._recording.next_image()
                if image is None:
                    raise CameraError(f"{self._recording.name} holds no image any more")
            if image is None:
                raise EndOfStream(f"{self._recording.name} has come to its end")
            return image
