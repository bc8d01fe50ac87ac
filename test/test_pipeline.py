"""The one way through, without ROS: newest frame wins, nothing is lost uncounted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from depth_node.engines.base import EngineError
from depth_node.handover import Slot
from depth_node.health import Health, Level
from depth_node.metrics import Metrics
from depth_node.parameters import Settings
from depth_node.pipeline import Pipeline, Result
from depth_node.scale.fixed import FixedScale, NoScale
from depth_node.types import CameraModel, Disparity, Frame, ImageU8, ScaleState

CAMERA = CameraModel.pinhole(64, 48, 50.0, 50.0, 31.5, 23.5)
TIMEOUT_S = 5.0
STAMP_NS = 1_000_000_000


class GatedEngine:
    """Answers when the test lets it, with the image's red channel."""

    name, model, device, precision = "gated", "red channel", "test", "fp32"

    def __init__(self) -> None:
        self.entered: list[int] = []
        self.gate = threading.Semaphore(0)
        self.fault: Exception | None = None
        self.changed = threading.Condition()

    def infer(self, image: ImageU8) -> Disparity:
        with self.changed:
            self.entered.append(int(image[0, 0, 0]))
            self.changed.notify_all()
        assert self.gate.acquire(timeout=TIMEOUT_S)
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        return Disparity(image[..., 0].astype(np.float32))

    def wait_entered(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.entered) >= count, TIMEOUT_S)

    def close(self) -> None:
        pass


class ListSink:
    """Keeps results and wakes the test."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.listening = self.sends = True
        self.changed = threading.Condition()

    def wanted(self) -> bool:
        return self.listening

    def publish(self, result: Result) -> bool:
        with self.changed:
            self.results.append(result)
            self.changed.notify_all()
        return self.sends

    def wait(self, count: int) -> list[Result]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.results) >= count, TIMEOUT_S)
        return self.results


class Bench:
    """One pipeline with all its surroundings."""

    def __init__(self, estimator: object = None, **parameters: object) -> None:
        self.engine, self.sink = GatedEngine(), ListSink()
        self.metrics, self.health = Metrics(), Health()
        self.pipeline = Pipeline(
            engine=self.engine,
            estimator=estimator or FixedScale(0.01, 0.0),
            sink=self.sink,
            settings=Settings().with_values(
                {name.replace("__", "."): value for name, value in parameters.items()}
            ),
            metrics=self.metrics,
            health=self.health,
            now_ns=lambda: STAMP_NS,
        )
        self.pipeline.start()

    def submit(self, value: int, camera: CameraModel | None = CAMERA, late_ns: int = 0) -> None:
        image = np.full((48, 64, 3), value, np.uint8)
        stamp = STAMP_NS + value - late_ns
        frame = Frame(image, stamp, "camera_optical_frame", camera, time.monotonic_ns())
        self.pipeline.submit(lambda: frame)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, self.metrics.snapshot()
            time.sleep(0.001)

    def assert_balanced(self) -> None:
        counted = self.metrics.snapshot()
        ended = counted.published + sum(counted.dropped.values())
        assert counted.received == ended + counted.in_flight
        assert counted.in_flight >= 0


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    yield made
    made.engine.gate.release(100)
    made.pipeline.stop()


def test_newest_frame_wins_while_the_network_is_busy(bench: Bench) -> None:
    bench.submit(1)
    bench.engine.wait_entered(1)
    for value in range(2, 8):
        bench.submit(value)
    bench.engine.gate.release()
    bench.sink.wait(1)
    bench.engine.gate.release()
    results = bench.sink.wait(2)

    assert bench.engine.entered == [1, 7]
    assert [r.frame.stamp_ns % 1000 for r in results] == [1, 7]
    assert bench.metrics.snapshot().dropped == {"newer frame arrived": 5}


def test_displaced_frames_are_never_decoded(bench: Bench) -> None:
    bench.submit(1)
    bench.engine.wait_entered(1)
    decoded: list[str] = []

    def decode() -> Frame:
        decoded.append("stale")
        raise AssertionError

    bench.pipeline.submit(decode)
    bench.submit(2)
    bench.engine.gate.release()
    bench.sink.wait(1)
    bench.engine.gate.release()
    bench.sink.wait(2)
    assert decoded == []


def test_metres_follow_scale_and_disparity(bench: Bench) -> None:
    bench.engine.gate.release()
    bench.submit(20)  # 1 / (0.01 * 20) = 5 m
    depth = bench.sink.wait(1)[0].depth
    assert depth is not None
    np.testing.assert_allclose(depth.depth[5:-5, 5:-5], 5.0, rtol=1e-5)
    assert depth.frame_id == "camera_optical_frame"
    assert depth.stamp_ns == 1_000_000_020


def test_without_scale_there_are_no_metres() -> None:
    bench = Bench(NoScale())
    bench.engine.gate.release()
    bench.submit(20)
    result = bench.sink.wait(1)[0]
    bench.pipeline.stop()
    assert result.depth is None
    assert result.estimate.state is ScaleState.RELATIVE
    assert result.disparity.values[0, 0] == 20.0


def test_without_calibration_there_are_no_metres(bench: Bench) -> None:
    bench.engine.gate.release()
    bench.submit(20, camera=None)
    assert bench.sink.wait(1)[0].depth is None


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (EngineError("device lost; restart"), "engine failed"),
        (RuntimeError("surprise"), "internal error"),
        (MemoryError("no memory"), "internal error"),
    ],
)
def test_a_failing_frame_costs_itself_only(bench: Bench, fault: Exception, reason: str) -> None:
    bench.engine.fault = fault
    bench.engine.gate.release(2)
    bench.submit(1)
    bench.wait_for(lambda: bench.metrics.snapshot().dropped == {reason: 1})
    assert bench.health.problems()[0].level is Level.ERROR

    bench.submit(2)
    bench.sink.wait(1)
    bench.wait_for(lambda: not bench.health.problems())
    bench.assert_balanced()


def test_an_undecodable_image_is_dropped_and_reported(bench: Bench) -> None:
    def decode() -> Frame:
        raise ValueError("the image has no pixels")

    bench.pipeline.submit(decode)
    bench.wait_for(lambda: bench.metrics.snapshot().dropped == {"bad image": 1})
    assert bench.health.problems()[0].text.startswith(
        "the image has no pixels; correct the camera's"
    )


def test_nothing_is_computed_without_subscribers(bench: Bench) -> None:
    bench.sink.listening = False
    bench.submit(1)
    bench.wait_for(lambda: bench.metrics.snapshot().dropped == {"no subscriber": 1})
    assert bench.engine.entered == []


def test_stamps_that_jump_back_reset_the_scale_filter_and_a_late_frame_is_dropped() -> None:
    class Recorder(NoScale):
        resets = 0

        def reset(self) -> None:
            self.resets += 1

    estimator = Recorder()
    bench = Bench(estimator)
    for count, late_ns in enumerate((0, 3_000_000_000), start=1):
        bench.engine.gate.release()
        bench.submit(50, late_ns=late_ns)
        bench.sink.wait(count)
    assert estimator.resets == 1
    bench.engine.gate.release()
    bench.submit(50, late_ns=3_001_000_000)
    bench.wait_for(lambda: bench.metrics.snapshot().dropped == {"stamp out of order": 1})
    bench.pipeline.stop()
    assert estimator.resets == 1


def test_changed_settings_take_effect_with_the_next_frame(bench: Bench) -> None:
    bench.engine.gate.release(2)
    bench.submit(20)
    bench.sink.wait(1)
    bench.pipeline.settings = Settings().with_values({"depth.max_m": 4.0})
    bench.submit(20)
    depth = bench.sink.wait(2)[1].depth
    assert depth is not None
    assert np.all(np.isposinf(depth.depth))


def test_what_nobody_could_be_sent_is_not_counted_as_published(bench: Bench) -> None:
    bench.sink.sends = False
    bench.engine.gate.release()
    bench.submit(20)
    bench.wait_for(lambda: bench.metrics.snapshot().dropped == {"nothing to publish": 1})
    assert bench.metrics.snapshot().published == 0
    bench.assert_balanced()


def test_slot_hands_over_only_the_newest_and_wakes_waiters_on_close() -> None:
    slot: Slot[int] = Slot()
    assert slot.put(1) is None
    assert slot.put(2) == 1
    assert slot.take() == 2
    assert slot.take(timeout=0.0) is None
    taken: list[int | None] = []
    waiter = threading.Thread(target=lambda: taken.append(slot.take()))
    waiter.start()
    slot.close()
    waiter.join(TIMEOUT_S)
    assert taken == [None]
    assert slot.put(3) == 3
