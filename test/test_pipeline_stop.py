"""The end of a pipeline while a frame is inside the network or on its way out."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError

import pytest
from test_pipeline import TIMEOUT_S, Bench

from depth_node import pipeline, watch
from depth_node.engines.base import EngineError
from depth_node.scale.fixed import NoScale
from depth_node.types import Disparity, Frame, ScaleEstimate


def test_stop_returns_while_the_engine_hangs_and_accounts_for_every_frame() -> None:
    bench = Bench()
    bench.submit(1)
    bench.engine.wait_entered(1)
    bench.submit(2)
    assert not bench.pipeline.stop()
    bench.submit(3)
    bench.engine.gate.release()
    bench.wait_for(lambda: bench.metrics.snapshot().in_flight == 0)
    assert bench.metrics.snapshot().dropped == {"node stopped": 3}
    assert bench.sink.results == []


def test_a_slow_network_is_waited_for_as_long_as_it_usually_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "JOIN_S", 0.01)
    monkeypatch.setattr(watch.NetworkWatch, "usual_s", TIMEOUT_S)
    bench = Bench()
    bench.submit(1)
    bench.engine.wait_entered(1)
    with ThreadPoolExecutor(1) as threads:
        stopped = threads.submit(bench.pipeline.stop)
        with pytest.raises(FutureTimeoutError):
            stopped.result(0.1)
        bench.engine.gate.release()
        assert stopped.result(TIMEOUT_S)


def test_a_process_that_ends_waits_for_no_slow_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "JOIN_S", 0.01)
    monkeypatch.setattr(watch.NetworkWatch, "usual_s", TIMEOUT_S)
    bench = Bench()
    bench.submit(1)
    bench.engine.wait_entered(1)
    assert not bench.pipeline.stop(hurry=True)
    bench.engine.gate.release()


def test_an_output_that_hangs_is_not_held_against_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entered, leave = threading.Event(), threading.Event()

    class Hanging(NoScale):
        def estimate(self, frame: Frame, disparity: Disparity) -> ScaleEstimate:
            entered.set()
            assert leave.wait(TIMEOUT_S)
            return super().estimate(frame, disparity)

    monkeypatch.setattr(pipeline, "JOIN_S", 0.01)
    bench = Bench(Hanging())
    bench.engine.gate.release()
    bench.submit(1)
    assert entered.wait(TIMEOUT_S)
    bench.wait_for(bench.pipeline.stop)
    leave.set()
    bench.wait_for(lambda: bench.metrics.snapshot().dropped == {"node stopped": 1})


def test_what_goes_wrong_after_the_stop_is_no_problem_of_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "JOIN_S", 0.01)
    bench = Bench()
    bench.engine.fault = EngineError("device lost")
    bench.submit(1)
    bench.engine.wait_entered(1)
    assert not bench.pipeline.stop()
    bench.engine.gate.release()
    bench.wait_for(lambda: bench.metrics.snapshot().dropped == {"node stopped": 1})
    assert bench.health.problems() == []
