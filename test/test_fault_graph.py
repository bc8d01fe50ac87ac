"""What others do to the node: subscribers, parameter calls, transitions, namesakes and signals."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from itertools import cycle

import numpy as np
import pytest

pytest.importorskip("rclpy")

from faults import DEPTH, settle, start_camera, start_node, wait_for_metres
from lifecycle_msgs.msg import Transition
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_parameters
from ros_graph import PATIENCE_S, PROGRAMS, CameraDriver, Graph, Process, private_graph, stamp_of
from sensor_msgs.msg import Image
from test_node_outputs import OUTPUTS

pytestmark = pytest.mark.ros
UP = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
DOWN = (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)


def timing(graph: Graph, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of `count` depth images: seconds from stamp to arrival here, and between arrivals."""
    with graph.collect(Image, DEPTH) as images:
        received = images.wait(count)
        arrivals = np.array(images.arrivals_ns[: len(received)])
    return 1e-9 * (arrivals - [stamp_of(msg) for msg in received]), 1e-9 * np.diff(arrivals)


def test_fifty_subscribers_come_and_go(graph: Graph, camera: CameraDriver) -> None:
    kinds = cycle(OUTPUTS.items())
    with graph.collect(Image, DEPTH) as images:
        for _ in range(5):
            with contextlib.ExitStack() as stack:
                group = [
                    stack.enter_context(graph.collect(kind, topic, depth=2))
                    for topic, kind in (next(kinds) for _ in range(10))
                ]
                for subscriber in group:
                    subscriber.wait(1)
        images.clear()
        images.wait(10)
    settle(graph)


def test_without_a_subscriber_nothing_is_computed_and_with_one_it_starts_at_once(
    graph: Graph, camera: CameraDriver
) -> None:
    def idle_frames() -> int:
        return int(graph.diagnostics().values.get("dropped: no subscriber", "0"))

    begun = idle_frames()
    graph.wait_until(lambda: idle_frames() > begun + 3)  # the last subscriber's leaving is noticed
    begun, published = idle_frames(), graph.diagnostics().values["published"]
    graph.wait_until(lambda: idle_frames() > begun + 30)
    assert graph.diagnostics().values["published"] == published

    def frames_until_metres() -> int:
        """How many frames later the first depth is that a new subscriber gets."""
        begun = idle_frames()
        graph.wait_until(lambda: idle_frames() > begun + 3)
        sent = len(camera.sent)
        return camera.sent.index(stamp_of(wait_for_metres(graph, 1)[0])) - sent

    # Discovery takes some frames' time, and more where the machine is busy; of those that were
    # taken after it, the first comes out.
    assert min(frames_until_metres() for _ in range(3)) < 15
    settle(graph)


@pytest.mark.parametrize("frozen", [False, True], ids=["slow", "frozen"])
def test_a_slow_reliable_subscriber_does_not_delay_the_others(frozen: bool) -> None:
    with private_graph() as graph:
        start_node(graph)
        start_camera(graph)
        usual_ages_s, _ = timing(graph, 20)
        slow = graph.run(str(PROGRAMS / "slow_subscriber.py"))
        slow.wait_for_line("got one")
        if frozen:
            slow.send_signal(signal.SIGSTOP)
        ages_s, gaps_s = timing(graph, 60)
        slow.send_signal(signal.SIGCONT)
        slow.end()
        graph.wait_until(lambda: graph.node.count_subscribers(DEPTH) == 0)
        after_s, _ = timing(graph, 20)
        # It takes two seconds for a message, or never answers: others would wait as long.
        usual_s = max(np.median(usual_ages_s), np.median(after_s))
        assert np.median(ages_s) < usual_s + 0.15
        assert np.quantile(gaps_s, 0.9) < 1.0
        settle(graph)


def test_parameters_may_change_at_100_hz(graph: Graph, camera: CameraDriver) -> None:
    # Who has just stalled is sent many answers at once, and keeps them all with this profile.
    client = graph.node.create_client(
        SetParameters, "/depth_node/set_parameters", qos_profile=qos_profile_parameters
    )
    assert client.wait_for_service(PATIENCE_S)
    graph.state()  # who answers a younger client knows this one too
    answers: list[bool] = []
    news = threading.Condition()

    def answered(future: object) -> None:
        with news:
            answers.extend(result.successful for result in future.result().results)
            news.notify_all()

    with graph.collect(Image, DEPTH) as images:
        due = time.monotonic()
        for number in range(300):
            stride = Parameter("points.stride", value=1 + number % 4).to_parameter_msg()
            limit = Parameter("depth.max_m", value=30.0 + number % 200).to_parameter_msg()
            request = SetParameters.Request(parameters=[stride, limit])
            client.call_async(request).add_done_callback(answered)
            due += 0.01
            time.sleep(max(0.0, due - time.monotonic()))
        with news:
            assert news.wait_for(lambda: len(answers) == 600, PATIENCE_S), len(answers)
        assert all(answers)
        assert len(images.messages) > 10  # of 90: parameters do not starve the depth
    graph.destroy(graph.node.destroy_client, client)
    graph.set_parameters(points__stride=1, depth__max_m=50.0)
    settle(graph)


def test_transitions_from_wrong_states_are_refused_and_cycles_leave_nothing_behind(
    graph: Graph, camera: CameraDriver
) -> None:
    graph.assert_refused(Transition.TRANSITION_CONFIGURE)
    graph.assert_refused(Transition.TRANSITION_CLEANUP)
    with graph.collect(Image, DEPTH) as images:
        for _ in range(3):
            assert all(map(graph.change_state, DOWN))
            graph.assert_refused(Transition.TRANSITION_ACTIVATE)
            assert all(map(graph.change_state, UP))
        images.clear()
        images.wait(5)
    settle(graph)


def test_a_second_node_of_the_same_name_is_a_warning_until_it_ends() -> None:
    with private_graph() as graph:
        start_node(graph)
        start_camera(graph)
        second = start_node(graph, autostart=False)
        assert graph.wait_for_problem("another node is called /depth_node").level >= 1
        wait_for_metres(graph)
        second.end()
        graph.wait_until(lambda: "another node" not in graph.diagnostics().text)
        settle(graph)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_while_a_library_loads_the_engine(number: signal.Signals) -> None:
    with private_graph() as graph:
        node: Process = start_node(graph, env={"ENGINE_LOADS_FOREVER": "1"})
        node.wait_for_line("the engine begins to load")
        code, seconds = node.interrupt(number)
    assert code == 0, node.output
    assert seconds < 15.0  # 1.5 s on a quiet machine; by itself it would never end
    assert "Traceback" not in node.output
