"""The thread that reads the node's own camera: what it says at an end, and what it does not."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from depth_node.cameras.base import CameraError, EndOfStream
from depth_node.health import Health, Level
from depth_node.parameters import CameraSettings
from depth_node.ros import camera_reader
from depth_node.ros.camera_reader import CameraReader
from depth_node.types import Frame

TIMEOUT_S = 5.0


class Camera:
    """Gives what a test puts into it; `close` ends a read that waits, unless it hangs."""

    notices: tuple[str, ...] = ()

    def __init__(self, *, hangs: bool = False) -> None:
        self.next: queue.Queue[int | Exception] = queue.Queue()
        self.read_again = threading.Semaphore(0)
        self._hangs = hangs

    def describe(self) -> str:
        return "a camera"

    def read(self) -> Frame:
        self.read_again.release()
        item = self.next.get(timeout=TIMEOUT_S)
        if isinstance(item, Exception):
            raise item
        return Frame(np.zeros((2, 2, 3), np.uint8), item, "camera", None, 0)

    def close(self) -> None:
        if not self._hangs:
            self.next.put(EndOfStream("a camera was closed"))

    def wait_until_read(self, count: int) -> None:
        for _ in range(count):
            assert self.read_again.acquire(timeout=TIMEOUT_S)


class Bench:
    """A reader of cameras that the test made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *cameras: Camera) -> None:
        opened = iter(cameras)
        monkeypatch.setattr(camera_reader, "open_camera", lambda _: next(opened))
        self.health, self.stamps = Health(), queue.Queue[int]()
        self.reader = CameraReader(CameraSettings(), self.health)

    def submit(self, decode: Callable[[], Frame]) -> None:
        self.stamps.put(decode().stamp_ns)


def test_a_stop_is_no_problem_and_the_camera_is_opened_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = Camera(), Camera()
    bench = Bench(monkeypatch, first, second)
    bench.reader.start(bench.submit)
    first.next.put(1)
    assert bench.stamps.get(timeout=TIMEOUT_S) == 1
    bench.reader.stop()
    assert bench.health.problems() == []
    bench.reader.start(bench.submit)
    second.next.put(2)
    assert bench.stamps.get(timeout=TIMEOUT_S) == 2
    bench.reader.stop()


def test_a_notice_is_an_error_without_intrinsics_and_ends_with_its_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    camera = Camera()
    camera.notices = ("the calibration is for 64x64; calibrate at 64x48", "no 60 Hz")
    bench = Bench(monkeypatch, camera)
    bench.reader.start(bench.submit)
    camera.next.put(1)
    assert bench.stamps.get(timeout=TIMEOUT_S) == 1
    problems = {problem.text: problem.level for problem in bench.health.problems()}
    assert problems["the calibration is for 64x64; calibrate at 64x48"] is Level.ERROR
    assert len(problems) == 2
    camera.notices = ("no 60 Hz",)
    camera.next.put(2)
    assert bench.stamps.get(timeout=TIMEOUT_S) == 2
    (problem,) = bench.health.problems()
    assert problem.text.startswith("no 60 Hz; ")
    bench.reader.stop()


def test_an_end_that_nobody_asked_for_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Camera()
    bench = Bench(monkeypatch, camera)
    bench.reader.start(bench.submit)
    camera.next.put(CameraError("unplugged"))
    camera.wait_until_read(2)
    (problem,) = bench.health.problems()
    assert problem.level is Level.ERROR
    assert problem.text.startswith("unplugged; check its cable")
    camera.next.put(EndOfStream("the video has ended"))
    assert bench.reader._thread is not None
    bench.reader._thread.join(TIMEOUT_S)
    bench.reader.stop()
    (problem,) = bench.health.problems()
    assert problem.level is Level.WARN
    assert problem.text.startswith("the video has ended; ")
    assert "camera.loop" in problem.text


def test_what_no_camera_should_raise_is_reported_and_the_camera_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(camera_reader, "_PAUSE_S", 0.01, raising=False)
    camera = Camera()
    bench = Bench(monkeypatch, camera)
    bench.reader.start(bench.submit)
    camera.next.put(cv2.error("Insufficient memory"))
    camera.wait_until_read(2)
    (problem,) = bench.health.problems()
    assert problem.level == Level.ERROR
    assert "does not know, error: Insufficient memory; free memory" in problem.text
    camera.next.put(1)
    assert bench.stamps.get(timeout=TIMEOUT_S) == 1
    assert bench.health.problems() == []
    bench.reader.stop()


def test_a_stop_ends_the_pause_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_reader, "_PAUSE_S", 60.0, raising=False)
    camera = Camera()
    bench = Bench(monkeypatch, camera)
    bench.reader.start(bench.submit)
    camera.next.put(MemoryError())
    deadline = time.monotonic() + TIMEOUT_S
    while not bench.health.problems() and time.monotonic() < deadline:
        time.sleep(0.001)
    thread = bench.reader._thread
    assert thread is not None
    assert thread.is_alive()
    bench.reader.stop()
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()


@pytest.mark.parametrize("late", [7, CameraError("lost"), EndOfStream("closed")])
def test_a_camera_that_hung_when_it_was_stopped_is_neither_read_on_nor_heard(
    monkeypatch: pytest.MonkeyPatch, late: int | Exception
) -> None:
    hung, fresh = Camera(hangs=True), Camera()
    bench = Bench(monkeypatch, hung, fresh)
    bench.reader.start(bench.submit)
    old = bench.reader._thread
    assert old is not None
    hung.wait_until_read(1)
    bench.reader.stop()
    bench.reader.start(bench.submit)
    hung.next.put(late)
    old.join(TIMEOUT_S)
    assert not old.is_alive()
    fresh.next.put(2)
    assert bench.stamps.get(timeout=TIMEOUT_S) == 2
    assert bench.health.problems() == []
    bench.reader.stop()
