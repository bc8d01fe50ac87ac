"""Live cameras: loss, reconnection, newest frame, closing."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from camera_fakes import PATIENCE_S, FakeCapture, GatedClock, picture

from depth_node.cameras.base import CameraError, EndOfStream
from depth_node.cameras.live import Connection, LiveCamera
from depth_node.parameters import CameraSettings

DEFAULTS = CameraSettings(source="webcam")


class Bench:
    """A live camera on captures that the test controls."""

    def __init__(self, outcomes: list[FakeCapture | Exception], **settings: object) -> None:
        self.clock = GatedClock()
        self.outcomes = iter(outcomes)
        self.camera = LiveCamera(
            self.connect, dataclasses.replace(DEFAULTS, **settings), self.clock, stall_s=PATIENCE_S
        )

    def connect(self) -> Connection:
        outcome = next(self.outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return Connection(outcome, "fake camera")

    def end_back_off(self) -> float:
        delay_s = self.clock.delays.get(timeout=PATIENCE_S)
        self.clock.gate.release()
        return delay_s


def test_frames_carry_stamp_frame_and_intrinsics() -> None:
    capture = FakeCapture()
    bench = Bench([capture], frame_id="front_optical_frame")
    bench.clock.now_ns = 123
    capture.images.put(picture(7))
    frame = bench.camera.read()
    assert frame.stamp_ns == 10**18 + 123
    assert frame.received_ns == 123
    assert frame.frame_id == "front_optical_frame"
    assert frame.camera is not None
    assert frame.camera.assumed
    assert frame.image.shape == (48, 64, 3)
    capture.images.put(False)
    bench.camera.close()


def test_an_unplugged_camera_is_an_error_and_comes_back_after_growing_delays() -> None:
    first, second = FakeCapture(), FakeCapture()
    gone = CameraError("there is no camera with index 0")
    bench = Bench([first, gone, gone, second])
    first.images.put(picture(1))
    assert bench.camera.read().image[0, 0, 0] == 1
    first.images.put(False)
    with pytest.raises(CameraError, match=r"fake camera .*unplugged\?; next attempt in 0\.5 s"):
        bench.camera.read()
    assert first.released.is_set()
    assert bench.end_back_off() == 0.5
    with pytest.raises(CameraError, match=r"no camera with index 0; next attempt in 1 s"):
        bench.camera.read()
    assert bench.end_back_off() == 1.0
    with pytest.raises(CameraError, match="next attempt in 2 s"):
        bench.camera.read()
    assert bench.end_back_off() == 2.0
    second.images.put(picture(2))
    assert bench.camera.read().image[0, 0, 0] == 2
    second.images.put(False)  # a frame was had, so the delays begin anew
    with pytest.raises(CameraError, match=r"next attempt in 0\.5 s"):
        bench.camera.read()
    bench.camera.close()
    assert second.released.is_set()


def test_a_camera_that_opens_without_frames_does_not_shorten_the_delays() -> None:
    captures = [FakeCapture() for _ in range(6)]
    for capture in captures:
        capture.images.put(False)
    bench = Bench(list(captures))
    assert [bench.end_back_off() for _ in range(5)] == [0.5, 1.0, 2.0, 4.0, 8.0]
    bench.camera.close()
    assert all(capture.released.is_set() for capture in captures[:5])


def test_the_newest_frame_wins() -> None:
    capture = FakeCapture()
    bench = Bench([capture])
    for level in (1, 2, 3):
        capture.images.put(picture(level))
    for _ in range(3):
        assert capture.grabbed.acquire(timeout=PATIENCE_S)
    capture.images.put(None)  # when this one is grabbed, the third picture lies in the slot
    assert capture.grabbed.acquire(timeout=PATIENCE_S)
    assert bench.camera.read().image[0, 0, 0] == 3
    capture.images.put(picture(4))
    assert bench.camera.read().image[0, 0, 0] == 4
    capture.images.put(False)
    bench.camera.close()


def test_a_spoilt_frame_is_passed_over_and_many_are_a_loss() -> None:
    capture = FakeCapture()
    bench = Bench([capture])
    for item in (None, None, picture(5)):
        capture.images.put(item)
    assert bench.camera.read().image[0, 0, 0] == 5
    for _ in range(10):
        capture.images.put(None)
    with pytest.raises(CameraError, match="10 images in a row could not be decoded"):
        bench.camera.read()
    bench.camera.close()


def test_a_stalled_camera_is_an_error() -> None:
    capture = FakeCapture()
    camera = LiveCamera(lambda: Connection(capture, "fake camera"), DEFAULTS, stall_s=0.01)
    with pytest.raises(CameraError, match=r"fake camera: no image for 0\.01 s"):
        camera.read()
    capture.images.put(False)
    camera.close()


@pytest.mark.parametrize("error", [cv2.error("ioctl failed"), MemoryError("ioctl failed")])
def test_whatever_a_driver_raises_is_a_loss(error: Exception) -> None:
    class Broken(FakeCapture):
        def grab(self) -> bool:
            raise error

    broken, sound = Broken(), FakeCapture()
    bench = Bench([broken, PermissionError("video0"), sound])
    name = type(error).__name__
    with pytest.raises(CameraError, match=f"{name}: ioctl failed; next attempt in 0.5 s"):
        bench.camera.read()
    assert broken.released.is_set()
    bench.end_back_off()
    with pytest.raises(CameraError, match="PermissionError: video0; next attempt in 1 s"):
        bench.camera.read()
    bench.end_back_off()
    sound.images.put(picture(3))
    assert bench.camera.read().image[0, 0, 0] == 3
    sound.images.put(False)
    bench.camera.close()


def test_a_calibration_of_other_proportions_costs_the_intrinsics_and_not_the_frame(
    tmp_path: Path,
) -> None:
    file = tmp_path / "square.yaml"
    file.write_text(
        "width: 64\nheight: 64\ndistortion_model: plumb_bob\nd: [0, 0, 0, 0, 0]\n"
        "k: [60, 0, 32, 0, 60, 32, 0, 0, 1]\n"
    )
    capture = FakeCapture()
    bench = Bench([capture], calibration=str(file))
    for _ in range(2):
        capture.images.put(picture(1))
        frame = bench.camera.read()
        assert frame.camera is None
        assert frame.image.shape == (48, 64, 3)
        (notice,) = bench.camera.notices
        assert "64x64 images and the image is 64x48" in notice
        assert notice.endswith("; calibrate at 64x48 or set the camera to 64x64")
    capture.images.put(np.zeros((64, 64, 3), np.uint8))
    assert bench.camera.read().camera is not None
    assert bench.camera.notices == ()
    capture.images.put(False)
    bench.camera.close()


@pytest.mark.parametrize("state", ["waiting for a frame", "backing off"])
def test_closing_ends_a_read_that_waits(state: str) -> None:
    capture = FakeCapture()
    bench = Bench([capture])
    if state == "backing off":
        capture.images.put(False)
        with pytest.raises(CameraError):
            bench.camera.read()
    ended = threading.Event()

    def wait_for_next() -> None:
        with pytest.raises(EndOfStream):
            bench.camera.read()
        ended.set()

    reader = threading.Thread(target=wait_for_next)
    reader.start()
    closer = threading.Thread(target=bench.camera.close)
    closer.start()
    assert ended.wait(PATIENCE_S)  # though the driver may still hang in grab()
    capture.images.put(False)
    closer.join(PATIENCE_S)
    reader.join(PATIENCE_S)
    assert capture.released.wait(PATIENCE_S)
    bench.camera.close()
    with pytest.raises(EndOfStream):
        bench.camera.read()
