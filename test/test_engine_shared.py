"""One engine for several cameras, without ROS: loaded once, fair, batched, each fault its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from test_pipeline import CAMERA, STAMP_NS, TIMEOUT_S, GatedEngine, ListSink

from depth_node.engines import shared as shared_engine
from depth_node.engines.base import EngineError
from depth_node.engines.selftest import check, golden_frames
from depth_node.engines.shared import EnginePool
from depth_node.health import Health
from depth_node.metrics import Metrics
from depth_node.parameters import Settings
from depth_node.pipeline import Pipeline
from depth_node.scale.fixed import FixedScale
from depth_node.types import Disparity, Frame, ImageU8

BAD = 255


class Batching:
    """Answers with the red channel, in batches, once the test opens the gate."""

    name, model, device, precision = "batching", "red channel", "test", "fp32"
    batch_limit = 4

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.runs: list[list[int]] = []
        self.closed = 0
        self.gate = threading.Event()
        self.batches_fail = False
        self.entered = threading.Semaphore(0)

    def infer(self, image: ImageU8) -> Disparity:
        return self._run([image])[0]

    def infer_batch(self, images: Sequence[ImageU8]) -> list[Disparity]:
        if self.batches_fail:
            raise RuntimeError("no memory for a batch")
        assert len({image.shape for image in images}) == 1
        return self._run(images)

    def close(self) -> None:
        self.closed += 1

    def _run(self, images: Sequence[ImageU8]) -> list[Disparity]:
        time.sleep(self.delay_s)
        self.runs.append([int(image[0, 0, 0]) for image in images])
        self.entered.release()
        assert self.gate.wait(TIMEOUT_S)
        if any(image[0, 0, 0] == BAD for image in images):
            raise EngineError("a bad frame")
        return [Disparity(image[..., 0].astype(np.float32)) for image in images]


def image(value: int, height: int = 6) -> ImageU8:
    return np.full((height, 8, 3), value, np.uint8)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Cameras:
    """Threads that bring frames to one engine while it is busy with a first one."""

    def __init__(self, engine: Batching) -> None:
        self.engine = engine
        self.share = EnginePool().share("key", lambda: engine)
        self._threads = ThreadPoolExecutor(16)
        self._first = self._infer(image(0))
        assert engine.entered.acquire(timeout=TIMEOUT_S)

    def _infer(self, frame: ImageU8) -> Future[Disparity]:
        return self._threads.submit(self.share.infer, frame)

    def bring(self, *frames: ImageU8) -> list[Future[Disparity]]:
        """Line frames up, in this order, and let the engine go on when all are waiting."""
        waiting = self.share.shared._waiting
        brought = []
        for count, frame in enumerate(frames, start=1):
            brought.append(self._infer(frame))
            wait_until(lambda count=count: len(waiting) == count)
        self.engine.gate.set()
        self._first.result(TIMEOUT_S)
        return brought


def values(brought: list[Future[Disparity]]) -> list[int]:
    return [int(future.result(TIMEOUT_S).values[0, 0]) for future in brought]


def test_an_engine_is_loaded_for_the_first_share_and_closed_with_the_last() -> None:
    pool, loaded = EnginePool(), []

    def load() -> Batching:
        loaded.append(Batching())
        return loaded[-1]

    front, rear = pool.share("student", load), pool.share("student", load)
    other = pool.share("other", load)
    assert len(loaded) == 2
    assert front.facts()["engine_cameras"] == "2"
    assert other.facts() == {}
    front.close()
    assert loaded[0].closed == 0
    rear.close()
    assert [engine.closed for engine in loaded] == [1, 0]
    pool.share("student", load)
    assert len(loaded) == 3


def test_cameras_that_configure_at_once_load_one_engine() -> None:
    pool, loads, begun = EnginePool(), [], threading.Barrier(4)

    def load() -> Batching:
        loads.append(None)
        time.sleep(0.05)  # as loading does, long enough for the others to come
        return Batching()

    def configure() -> object:
        begun.wait(TIMEOUT_S)
        return pool.share("student", load).shared

    with ThreadPoolExecutor(4) as threads:
        shared = {future.result() for future in [threads.submit(configure) for _ in range(4)]}
    assert len(loads) == len(shared) == 1


def test_what_cannot_be_loaded_is_tried_again_by_the_next() -> None:
    pool = EnginePool()

    def fail() -> Batching:
        raise EngineError("no such network")

    with pytest.raises(EngineError, match="no such network"):
        pool.share("key", fail)
    assert pool.share("key", Batching).model == "red channel"


def test_an_engine_that_does_not_return_is_not_handed_out_again_and_closed_when_it_does() -> None:
    pool, hung, fresh = EnginePool(), Batching(), Batching()
    front, rear = (pool.share("key", lambda: hung) for _ in range(2))
    with ThreadPoolExecutor(1) as threads:
        last = threads.submit(front.infer, image(1))
        assert hung.entered.acquire(timeout=TIMEOUT_S)
        front.abandon()
        assert pool.share("key", lambda: fresh).shared.engine is fresh
        rear.close()
        assert hung.closed == 0, "closed under a running call"
        hung.gate.set()
        last.result(TIMEOUT_S)
    assert (hung.closed, fresh.closed) == (1, 0)
    with pytest.raises(EngineError, match="has been closed"):
        front.infer(image(2))


def test_an_engine_that_one_camera_left_behind_stays_open_for_the_others() -> None:
    pool, engine = EnginePool(), Batching()
    front, rear = (pool.share("key", lambda: engine) for _ in range(2))
    with ThreadPoolExecutor(1) as threads:
        last = threads.submit(front.infer, image(1))
        assert engine.entered.acquire(timeout=TIMEOUT_S)
        front.abandon()
        engine.gate.set()
        last.result(TIMEOUT_S)
    assert engine.closed == 0
    assert rear.infer(image(7)).values[0, 0] == 7.0
    rear.close()
    assert engine.closed == 1


def test_frames_that_wait_run_as_one_batch_and_each_camera_gets_its_own_result() -> None:
    cameras = Cameras(Batching())
    assert values(cameras.bring(*map(image, (10, 20, 30)))) == [10, 20, 30]
    assert cameras.engine.runs == [[0], [10, 20, 30]]
    assert cameras.share.shared.mean_batch == 2.0


def test_cameras_that_come_by_turns_come_together_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    # The usual 5 ms are over where a busy machine lets the other thread wait.
    monkeypatch.setattr(shared_engine, "_GATHERING_SHARE", 100 * shared_engine._GATHERING_SHARE)
    engine = Batching(delay_s=0.02)
    engine.gate.set()
    share = EnginePool().share("key", lambda: engine)

    def bring_frames() -> None:
        for value in range(20):
            share.infer(image(value))

    with ThreadPoolExecutor(2) as threads:
        front = threads.submit(bring_frames)
        assert engine.entered.acquire(timeout=TIMEOUT_S)  # the rear comes while it runs
        rear = threads.submit(bring_frames)
        front.result(TIMEOUT_S)
        rear.result(TIMEOUT_S)
    assert share.shared.mean_batch > 1.5, engine.runs


def test_a_frame_that_finds_the_engine_free_does_not_wait_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_engine, "_GATHERING_SHARE", 1000.0)
    engine = Batching(delay_s=0.02)
    engine.gate.set()
    share = EnginePool().share("key", lambda: engine)
    share.infer(image(1))
    begun_s = time.monotonic()
    share.infer(image(2))
    assert time.monotonic() - begun_s < 10.0  # 20 s if it waited


def test_a_batch_holds_one_size_of_image_and_no_more_than_the_limit() -> None:
    cameras = Cameras(Batching())
    tall = image(90, height=10)
    brought = cameras.bring(image(1), tall, *map(image, (2, 3, 4, 5)))
    assert values(brought) == [1, 90, 2, 3, 4, 5]
    assert cameras.engine.runs == [[0], [1, 2, 3, 4], [90], [5]]


def test_a_frame_that_fails_costs_no_other_frame_of_its_batch() -> None:
    cameras = Cameras(Batching())
    good, bad, also_good = cameras.bring(image(1), image(BAD), image(2))
    with pytest.raises(EngineError, match="a bad frame"):
        bad.result(TIMEOUT_S)
    assert values([good, also_good]) == [1, 2]
    assert cameras.share.shared.batch_limit == 4


def test_an_engine_whose_batches_fail_is_given_frames_one_by_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = Batching()
    engine.batches_fail = True
    cameras = Cameras(engine)
    with caplog.at_level(logging.WARNING):
        assert values(cameras.bring(image(1), image(2))) == [1, 2]
    assert cameras.share.shared.batch_limit == 1
    assert "no memory for a batch" in caplog.text
    assert engine.runs == [[0], [1], [2]]


def test_an_engine_without_batches_runs_frames_in_the_order_of_their_coming() -> None:
    engine = Batching()
    engine.batch_limit = 1
    cameras = Cameras(engine)
    assert values(cameras.bring(*map(image, (1, 2, 3)))) == [1, 2, 3]
    assert engine.runs == [[0], [1], [2], [3]]


@pytest.mark.parametrize(("mixed", "passes"), [(False, True), (True, False)])
def test_an_engine_whose_batches_differ_fails_its_self_test(mixed: bool, passes: bool) -> None:
    class Mixing(Batching):
        def infer_batch(self, images: Sequence[ImageU8]) -> list[Disparity]:
            results = super().infer_batch(images)
            return results[::-1] if mixed else results

    engine = Mixing()
    engine.gate.set()
    expected = [frame[..., 0].astype(np.float32) for frame in golden_frames()]
    assert check(engine, expected).passed is passes


class Camera:
    """A pipeline on a share of the engine."""

    def __init__(self, pool: EnginePool, engine: GatedEngine) -> None:
        share = pool.share("key", lambda: engine)
        self.sink, self.metrics = ListSink(), Metrics()
        self.pipeline = Pipeline(
            engine=share,
            estimator=FixedScale(0.01, 0.0),
            sink=self.sink,
            settings=Settings(),
            metrics=self.metrics,
            health=Health(),
            now_ns=lambda: STAMP_NS,
            place=share.join_line(),
        )
        self.pipeline.start()

    def submit(self, value: int) -> None:
        pixels = np.full((48, 64, 3), value, np.uint8)
        stamp = STAMP_NS + value
        frame = Frame(pixels, stamp, "camera_optical_frame", CAMERA, time.monotonic_ns())
        self.pipeline.submit(lambda: frame)


@pytest.fixture
def engine() -> GatedEngine:
    return GatedEngine()


@pytest.fixture
def cameras(engine: GatedEngine) -> list[Camera]:
    pool = EnginePool()
    made = [Camera(pool, engine) for _ in range(2)]
    yield made
    engine.gate.release(100)
    for camera in made:
        camera.pipeline.stop()


def test_a_camera_whose_turn_comes_gives_its_newest_frame(
    engine: GatedEngine, cameras: list[Camera]
) -> None:
    front, rear = cameras
    front.submit(1)
    engine.wait_entered(1)
    for value in (11, 12, 13):
        rear.submit(value)
        # The first is taken at once and waits for the turn, the others find it waiting.
        wait_until(lambda: len(in_line(front)) == 1)
    engine.gate.release(2)
    rear.sink.wait(1)
    assert engine.entered == [1, 13]
    assert rear.metrics.snapshot().dropped == {"newer frame arrived": 2}


def test_no_camera_waits_for_a_fresher_frame_while_others_wait_for_the_engine(
    engine: GatedEngine, cameras: list[Camera], monkeypatch: pytest.MonkeyPatch
) -> None:
    front, rear = cameras
    front.submit(1)
    engine.wait_entered(1)
    pipeline, waits = front.pipeline, []
    almost_due = SimpleNamespace(arrived_s=time.monotonic() - 9.9)
    monkeypatch.setattr(pipeline, "_inference_s", 100.0)
    monkeypatch.setattr(pipeline, "_cadence", SimpleNamespace(period_s=10.0))
    monkeypatch.setattr(pipeline, "_newer", lambda _, wait_s: waits.append(wait_s))
    pipeline._freshest(almost_due)
    assert waits == [10.0]
    rear.submit(2)
    wait_until(lambda: len(in_line(front)) == 1)
    assert pipeline._freshest(almost_due) is almost_due
    assert waits == [10.0]


def in_line(camera: Camera) -> Sized:
    """Who waits for the engine of this camera."""
    return camera.pipeline._place._line._waiting


def test_a_camera_stops_at_once_while_it_waits_for_its_turn(
    engine: GatedEngine, cameras: list[Camera]
) -> None:
    front, rear = cameras
    front.submit(1)
    engine.wait_entered(1)
    rear.submit(2)
    wait_until(lambda: len(in_line(front)) == 1)
    assert rear.pipeline.stop()
    assert rear.metrics.snapshot().dropped == {"node stopped": 1}
    engine.gate.release()
    front.sink.wait(1)
    assert engine.entered == [1]
