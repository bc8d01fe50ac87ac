"""The world as a camera: replays a drive at its own rate."""

from __future__ import annotations

import threading
import time

from depth_node.cameras.base import EndOfStream
from depth_node.types import ArrayF32, Frame
from depth_node.world.cache import CachedDrive


class WorldCamera:
    """Replays a cached drive in real time; a reader that is late gets the newest frame.

    Implements `depth_node.cameras.base.Camera`.
    """

    def __init__(
        self, drive: CachedDrive, *, loop: bool = True, frame_id: str = "camera_optical_frame"
    ) -> None:
        self._drive = drive
        self._loop = loop
        self._frame_id = frame_id
        self._closed = threading.Event()
        self._start_ns = 0
        self._start_stamp_ns = 0
        self._next = 0

    def describe(self) -> str:
        """The drive in words."""
        drive = self._drive.settings
        end = "in a loop" if self._loop else "once"
        return (
            f"world drive {drive.kind}:{drive.seed}, {drive.width}x{drive.height}, played {end} at "
            f"{drive.fps:g} Hz"
        )

    @property
    def notices(self) -> tuple[str, ...]:
        """None: the world's camera is exactly known."""
        return ()

    def read(self) -> Frame:
        """Wait for the next frame of the drive.

        Raises:
            EndOfStream: the drive is over and is not looped, or the camera was closed.
        """
        period = 1e9 / self._drive.settings.fps
        now = time.monotonic_ns()
        if self._start_ns == 0:
            self._start_ns, self._start_stamp_ns = now, time.time_ns()
        number = max(self._next, int((now - self._start_ns) / period))
        due_ns = self._start_ns + round(number * period)
        if self._closed.wait(max(0, due_ns - now) * 1e-9):
            raise EndOfStream("the world's camera was closed")
        frames = len(self._drive.rgb)
        if not self._loop and number >= frames:
            raise EndOfStream(f"the drive ended after {frames} frames")
        self._next = number + 1
        return Frame(
            image=self._drive.rgb[number % frames],
            stamp_ns=self._start_stamp_ns + round(number * period),
            frame_id=self._frame_id,
            camera=self._drive.camera,
            received_ns=time.monotonic_ns(),
            rectified=True,
        )

    def true_depth(self, stamp_ns: int) -> ArrayF32:
        """Exact Z depth of the frame with this stamp, HxW float32 metres, +inf for the sky."""
        period = 1e9 / self._drive.settings.fps
        number = round((stamp_ns - self._start_stamp_ns) / period)
        depth: ArrayF32 = self._drive.depth[number % len(self._drive.depth)]
        return depth

    def close(self) -> None:
        """End a read that is waiting; further ones find the end of the stream."""
        self._closed.set()
