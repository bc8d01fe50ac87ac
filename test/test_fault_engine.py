"""An engine that fails, stalls or is slow: what a consumer in another process sees of it."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("rclpy")

from faults import (
    DEPTH,
    HANGS,
    NO_MEMORY,
    NOT_FINITE,
    RAISES,
    SLOW,
    SLOW_S,
    meet_bad_frame,
    settle,
    start_node,
    with_engine_fault,
)
from lifecycle_msgs.msg import Transition
from ros_graph import CameraDriver, Graph, Process, private_graph, stamp_of, taken_after
from sensor_msgs.msg import Image
from test_node_outputs import frame

pytestmark = pytest.mark.ros
NETWORK_S = 0.2


@pytest.mark.parametrize(
    ("fault", "reason", "words"),
    [
        (NOT_FINITE, "engine failed", "not finite"),
        (RAISES, "internal error", "told to fail"),
        (NO_MEMORY, "internal error", "out of memory"),
    ],
)
def test_a_frame_that_the_engine_fails_on_is_lost_counted_logged_and_alone(
    graph: Graph, node: Process, camera: CameraDriver, fault: int, reason: str, words: str
) -> None:
    def count() -> int:
        return int(graph.diagnostics().values.get(f"dropped: {reason}", "0"))

    before = count()
    with graph.collect(Image, DEPTH) as images:
        images.wait(3)
        bad_ns, received = meet_bad_frame(
            camera, images, with_engine_fault(fault), lambda *_: count() > before
        )
    assert bad_ns not in {stamp_of(msg) for msg in received}
    report = settle(graph)
    assert int(report.values[f"dropped: {reason}"]) == before + 1
    assert words in node.output


def test_an_engine_that_fails_always_is_an_error_until_it_works_again(
    graph: Graph, camera: CameraDriver
) -> None:
    with graph.collect(Image, DEPTH) as images:
        camera.make = with_engine_fault(NOT_FINITE)
        failing_ns = time.time_ns()
        assert graph.wait_for_problem("not finite").level == 2
        graph.diagnostics().assert_accounts_balance()
        assert not taken_after(images.messages, failing_ns)
        camera.make = frame
        images.wait_from_now(3)
    graph.wait_until(lambda: graph.diagnostics().level == 0)
    settle(graph)


def test_an_exception_in_every_frame_is_logged_once(
    graph: Graph, node: Process, camera: CameraDriver
) -> None:
    camera.make = with_engine_fault(RAISES)
    with graph.collect(Image, "/depth/relative"):
        first = graph.wait_for_problem("told to fail")
        logged = node.output.count("Traceback")
        already = int(first.values["dropped: internal error"])
        graph.wait_until(
            lambda: int(graph.diagnostics().values["dropped: internal error"]) > already + 20
        )
    assert node.output.count("Traceback") == logged
    settle(graph)


def test_a_frame_that_takes_a_hundred_times_as_long_delays_no_other(
    graph: Graph, camera: CameraDriver
) -> None:
    with graph.collect(Image, DEPTH) as images:
        images.wait(3)
        oldest_s: list[float] = []  # of the frames after the slow one
        while not oldest_s or oldest_s[-1] > 0.5 * SLOW_S:
            # A machine that stalls makes frames old too, but not after every slow one.
            assert len(oldest_s) < 5, f"frames that came meanwhile are served: {oldest_s}"
            bad_ns, received = meet_bad_frame(
                camera,
                images,
                with_engine_fault(SLOW),
                lambda stamp_ns, messages: stamp_ns in map(stamp_of, messages),
            )
            ages_s = {
                stamp_of(msg): 1e-9 * (at - stamp_of(msg))
                for msg, at in zip(received, images.arrivals_ns, strict=False)
            }
            assert ages_s[bad_ns] > SLOW_S
            oldest_s.append(max(age for stamp, age in ages_s.items() if stamp > bad_ns))
    report = settle(graph)
    assert int(report.values["dropped: newer frame arrived"]) > 20


def test_a_network_that_hangs_is_an_error_until_it_returns(
    graph: Graph, camera: CameraDriver
) -> None:
    with graph.collect(Image, DEPTH) as images:
        images.wait(3)
        camera.make = with_engine_fault(HANGS)
        report = graph.wait_for_problem("the network has been busy with one frame")
        assert report.level == 2
        report.assert_accounts_balance()
        camera.make = frame
        images.wait_from_now(3)
    graph.wait_until(lambda: graph.diagnostics().level == 0)
    settle(graph)


def test_a_slow_network_may_finish_its_frame_when_the_node_is_deactivated() -> None:
    with private_graph() as graph:
        # Longer than a thread has to end in where the network is fast.
        node = start_node(graph, env={"ENGINE_DELAY_S": "1.5"})
        CameraDriver(graph, frame)
        with graph.collect(Image, DEPTH) as images:
            for _ in range(2):
                images.wait(2)  # the next frame has only now begun
                assert graph.change_state(Transition.TRANSITION_DEACTIVATE)
                images.clear()
                assert graph.change_state(Transition.TRANSITION_ACTIVATE)
            images.wait(1)
        assert "still busy" not in node.output
        settle(graph)


def test_depth_from_a_slow_network_is_never_older_than_1_2_inferences() -> None:
    with private_graph() as graph:
        start_node(graph, env={"ENGINE_DELAY_S": str(NETWORK_S)})
        CameraDriver(graph, frame)
        with graph.collect(Image, DEPTH) as images:
            images.wait(5)
            images.clear()
            received = images.wait(25)
            arrivals = images.arrivals_ns[: len(received)]
        ages_s = 1e-9 * (np.array(arrivals) - [stamp_of(msg) for msg in received])
        report = graph.diagnostics()
        # On a quiet machine no frame is older than the rule says; where frames queue, half of them
        # are two inferences old. The wait in the node, where the rule is kept, is checked as well:
        # frames that are taken whenever the network is free wait for half a period at the median
        # and for 31 ms in one case of twenty. A busy machine spoils one of the two at most.
        assert np.median(ages_s) <= 1.5 * NETWORK_S, np.sort(ages_s)
        waits_ms = [float(report.values[f"waiting_ms.{part}"]) for part in ("p50", "p95")]
        assert waits_ms[0] < 12.0 or waits_ms[1] < 28.0, report.values
        # Nothing queues: late frames are no older than early ones, and none comes twice.
        assert np.median(ages_s[-10:]) < np.median(ages_s[:10]) + 0.5 * NETWORK_S
        assert all(stamp_of(a) < stamp_of(b) for a, b in pairwise(received))
        # And the wait costs a tenth of the rate, not half of it.
        assert float(report.values["rate_out_hz"]) > 0.5 / NETWORK_S
        settle(graph)
