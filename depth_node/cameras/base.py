"""What every camera that the node opens itself offers to the pipeline."""

from __future__ import annotations

from typing import Protocol

from depth_node.types import Frame


class CameraError(RuntimeError):
    """A camera cannot be opened or read; the message says what was seen and what to do."""


class EndOfStream(Exception):  # noqa: N818 - it is an end, not an error
    """A video, folder or drive has come to its end and is not to be looped."""


class Camera(Protocol):
    """A source of frames, read by one thread."""

    def describe(self) -> str:
        """What was opened and what it delivers, in one line for the log."""
        ...

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user must be told: an assumed field of view, a size that was not granted.

        After each frame it is what holds for that one. Its texts are not errors, frames keep
        coming.
        """
        ...

    def read(self) -> Frame:
        """Wait for the next frame at the camera's own rate and return it.

        The frame carries its calibration (or None), its optical frame and the time at which it was
        taken, in nanoseconds of the system clock.

        Raises:
            CameraError: no frame can be had now; reading again later may work.
            EndOfStream: there will be no more frames, or `close()` was called.
        """
        ...

    def close(self) -> None:
        """Release the device and end a `read()` that waits; safe twice and from another thread."""
        ...
