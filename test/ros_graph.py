"""A private ROS graph for one test: real node processes over real DDS, and an observer here."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_process import PATIENCE_S, Process

from depth_node.domain import private_domain
from depth_node.ros.status import problems_in

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = Path(__file__).resolve().parent / "programs"
RCLPY_OF_KILTED = 9
LOOK_PERIOD_S = 0.5
"""How often who waits looks whether a program has crashed."""


class Graph:
    """One ROS domain of its own: starts programs on it, publishes to them and observes them."""

    def __init__(self, domain: int) -> None:
        self.domain = domain
        self.drivers: list[CameraDriver] = []
        self._programs: list[Process] = []
        self._closing = False
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain, args=[])
        self.node = rclpy.create_node("observer", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._closing:
            try:
                self._executor.spin()
            except ExternalShutdownException:
                return
            except (
                Exception
            ):  # one message less is better than an observer that is deaf from now on
                traceback.print_exc()

    def destroy(self, destroy: Callable[[Any], object], entity: Any) -> None:
        """Destroy a subscription or client of this node, between two looks of the executor.

        rclpy's executor may raise when its entities are destroyed on another thread meanwhile.
        """
        done = threading.Event()
        task = self._executor.create_task(destroy, entity)
        task.add_done_callback(lambda _: done.set())
        assert done.wait(PATIENCE_S), self.explain("the observer itself hangs")

    def close(self) -> None:
        """End all programs and drivers and leave the domain."""
        for driver in list(self.drivers):
            driver.close()
        for program in self._programs:
            program.end()
        self._closing = True
        self._executor.shutdown()
        self._thread.join(timeout=PATIENCE_S)
        self.node.destroy_node()
        self._context.try_shutdown()

    def explain(self, what: str) -> str:
        """The message of a wait that failed: what was waited for, and what the programs say."""
        programs = [program.describe() for program in self._programs]
        return "\n\n".join([f"domain {self.domain}: {what}", *programs])

    def assert_nothing_failed(self) -> None:
        """Nobody need wait for what a program that has crashed was to do."""
        failed = any(program.has_failed for program in self._programs)
        assert not failed, self.explain("a program has failed")

    def environment(self, **extra: str) -> dict[str, str]:
        """The environment of a program on this graph."""
        env = {**os.environ, "ROS_DOMAIN_ID": str(self.domain), **extra}
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT), env.get("PYTHONPATH", "")])
        return env

    def run(self, *command: str, env: dict[str, str] | None = None) -> Process:
        """Start a program with this interpreter."""
        program = Process([sys.executable, *command], env or self.environment())
        self._programs.append(program)
        return program

    def depth_node(
        self,
        *args: str,
        program: str = "-m depth_node.ros.main",
        env: dict[str, str] | None = None,
        **parameters: object,
    ) -> Process:
        """Start the node, or one of `test/programs` in its place, with parameters `a__b=c`.

        `env` is added to the environment. The engine of `node_with_engine.py` is as good as Depth
        Anything, unless `scale__network_error` says otherwise.
        """
        if program == "node_with_engine.py":
            parameters.setdefault("scale__network_error", 0.08)
        command = program.split() if program.startswith("-m") else [str(PROGRAMS / program)]
        command += ["--ros-args", "--log-level", "info", *args]
        for name, value in parameters.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            command += ["-p", f"{name.replace('__', '.')}:={text}"]
        return self.run(*command, env=self.environment(**(env or {})))

    def collect(
        self, kind: type[Any], topic: str, *, best_effort: bool = False, depth: int = 50
    ) -> Collector:
        """Listen to a topic from now on."""
        reliability = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
        return Collector(self, kind, topic, QoSProfile(depth=depth, reliability=reliability))

    def call(self, kind: type[Any], service: str, request: Any, timeout: float = PATIENCE_S) -> Any:
        """Call a service of a lifecycle node and wait for its answer."""
        deadline = time.monotonic() + timeout
        client = self.node.create_client(kind, service)
        try:
            while not client.wait_for_service(LOOK_PERIOD_S):
                self.assert_nothing_failed()
                late = time.monotonic() >= deadline
                assert not late, self.explain(f"no service {service} within {timeout} s")
            self._state_of(service.rpartition("/")[0], deadline)
            future = self._answer(client, request, timeout)
            assert future.done(), self.explain(f"{service} did not answer within {timeout} s")
            return future.result()
        finally:
            self.destroy(self.node.destroy_client, client)

    def _state_of(self, node: str, deadline: float) -> str:
        """The state of a node that has discovered all clients that were made here so far.

        A node gives up on an answer when it has not discovered the client's side within 0.1 s
        (rmw_fastrtps), which happens where it has just started. Who asks for the state may ask
        again; and as clients are announced in their order, the node then knows the older ones too.
        """
        from lifecycle_msgs.srv import GetState

        client = self.node.create_client(GetState, f"{node}/get_state")
        try:
            while True:
                if client.wait_for_service(LOOK_PERIOD_S):
                    answer = self._answer(client, GetState.Request(), 1.0)
                    if answer.done():
                        return str(answer.result().current_state.label)
                self.assert_nothing_failed()
                late = time.monotonic() >= deadline
                assert not late, self.explain(f"{node} does not tell its state")
        finally:
            self.destroy(self.node.destroy_client, client)

    @staticmethod
    def _answer(client: Any, request: Any, timeout: float) -> Any:
        """The future of an answer, done unless it has not come in time."""
        arrived = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: arrived.set())
        arrived.wait(timeout)
        return future

    def change_state(self, transition: int, timeout: float = PATIENCE_S) -> bool:
        """Ask the depth node for a lifecycle transition."""
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request()
        request.transition.id = transition
        return bool(self.call(ChangeState, "/depth_node/change_state", request, timeout).success)

    def assert_refused(self, transition: int) -> None:
        """Ask for a transition that the depth node cannot make now; its state stays what it is."""
        before = self.state()
        if int(importlib.metadata.version("rclpy").partition(".")[0]) >= RCLPY_OF_KILTED:
            assert not self.change_state(transition)
        else:  # rclpy raises in its own callback then, and answers nobody
            with contextlib.suppress(AssertionError):
                self.change_state(transition, timeout=2.0)
        assert self.state() == before

    def state(self) -> str:
        """The lifecycle state of the depth node."""
        return self._state_of("/depth_node", time.monotonic() + PATIENCE_S)

    def set_parameters(self, **values: object) -> list[Any]:
        """Set parameters of the depth node, given as `a__b=c`: one result each."""
        from rcl_interfaces.srv import SetParameters

        messages = [
            Parameter(name.replace("__", "."), value=value).to_parameter_msg()
            for name, value in values.items()
        ]
        request = SetParameters.Request(parameters=messages)
        return list(self.call(SetParameters, "/depth_node/set_parameters", request).results)

    def diagnostics(self, timeout: float = PATIENCE_S) -> Diagnosis:
        """The next report of the depth node."""
        from diagnostic_msgs.msg import DiagnosticArray

        with self.collect(DiagnosticArray, "/diagnostics") as reports:
            return Diagnosis(reports.wait(1, timeout)[-1])

    def wait_until(self, condition: Callable[[], bool], timeout: float = PATIENCE_S) -> None:
        """Ask again and again, at the pace of the question itself, until the answer is yes."""
        deadline = time.monotonic() + timeout
        while not condition():
            self.assert_nothing_failed()
            assert time.monotonic() < deadline, self.explain(f"not within {timeout} s")

    def wait_for_problem(self, text: str, timeout: float = PATIENCE_S) -> Diagnosis:
        """Wait until the node's diagnostics contain `text`."""
        deadline = time.monotonic() + timeout
        report = self.diagnostics(timeout)
        while text not in report.text:
            late = time.monotonic() >= deadline
            assert not late, self.explain(f"no {text!r} in diagnostics: {report.text}")
            report = self.diagnostics(timeout)
        return report


class Diagnosis:
    """One report on `/diagnostics`, as a test reads it."""

    def __init__(self, msg: Any) -> None:
        (status,) = msg.status
        self.problems = problems_in(status)
        self.text = "\n".join(problem.text for problem in self.problems) or status.message
        self.level = ord(status.level)
        self.values = {item.key: item.value for item in status.values}

    def assert_accounts_balance(self) -> None:
        """No more frames than can be on their way were neither published nor counted as dropped."""
        received, published, dropped = (
            int(self.values[key]) for key in ("received", "published", "dropped")
        )
        assert 0 <= received - published - dropped <= 5, self.values


class Collector:
    """Keeps what arrives on a topic, with the time of arrival; a context manager."""

    def __init__(self, graph: Graph, kind: type[Any], topic: str, qos: QoSProfile) -> None:
        self.messages: list[Any] = []
        self.arrivals_ns: list[int] = []
        self._topic = topic
        self._graph = graph
        self._news = threading.Condition()
        self._subscription = graph.node.create_subscription(kind, topic, self._add, qos)

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *_: object) -> None:
        self._graph.destroy(self._graph.node.destroy_subscription, self._subscription)

    def _add(self, msg: Any) -> None:
        now = time.time_ns()
        with self._news:
            self.messages.append(msg)
            self.arrivals_ns.append(now)
            self._news.notify_all()

    def wait(self, count: int, timeout: float = PATIENCE_S) -> list[Any]:
        """Wait until `count` messages have arrived in total and return all."""
        return self.wait_until(lambda messages: len(messages) >= count, timeout)

    def wait_until(
        self, condition: Callable[[list[Any]], bool], timeout: float = PATIENCE_S
    ) -> list[Any]:
        """Wait until the messages so far satisfy a condition and return all."""
        deadline = time.monotonic() + timeout
        with self._news:
            while not self._news.wait_for(lambda: condition(self.messages), LOOK_PERIOD_S):
                self._graph.assert_nothing_failed()
                late = f"not what was waited for in {timeout} s; {len(self.messages)} arrived"
                left_s = deadline - time.monotonic()
                assert left_s > 0.0, self._graph.explain(f"{self._topic}: {late}")
            return list(self.messages)

    def wait_from_now(self, count: int) -> list[Any]:
        """Wait for `count` messages of images that are taken from now on and return those."""
        now = time.time_ns()
        return taken_after(self.wait_until(lambda m: len(taken_after(m, now)) >= count), now)

    def clear(self) -> None:
        """Forget what has arrived."""
        with self._news:
            self.messages.clear()
            self.arrivals_ns.clear()


class CameraDriver:
    """Publishes images with CameraInfo at a rate, as a driver does, from a thread of this process.

    Attributes:
        sent: the stamps of the images published, in nanoseconds.
    """

    def __init__(
        self,
        graph: Graph,
        make: Callable[[int], tuple[Any, Any | None]],
        *,
        rate_hz: float = 30.0,
        topic: str = "/camera/image_raw",
        reliable: bool = True,
    ) -> None:
        """`make(stamp_ns)` gives the image message and its CameraInfo, or None for none."""
        image, info = make(time.time_ns())
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(depth=2, reliability=reliability)
        self.sent: list[int] = []
        self.make = make
        self._graph = graph
        self._image = graph.node.create_publisher(type(image), topic, qos)
        info_topic = topic.removesuffix("/compressed").rsplit("/", 1)[0] + "/camera_info"
        self._info = graph.node.create_publisher(type(info), info_topic, qos) if info else None
        self._period_s = 1.0 / rate_hz
        self._stop = threading.Event()
        graph.drivers.append(self)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due += self._period_s
            stamp_ns = time.time_ns()
            image, info = self.make(stamp_ns)
            self.sent.append(stamp_ns)
            if self._info is not None and info is not None:
                self._info.publish(info)
            self._image.publish(image)

    def close(self) -> None:
        """Stop publishing and leave the graph; safe to call twice."""
        if self not in self._graph.drivers:
            return
        self._graph.drivers.remove(self)
        self._stop.set()
        self._thread.join()
        self._graph.node.destroy_publisher(self._image)
        if self._info is not None:
            self._graph.node.destroy_publisher(self._info)


@contextlib.contextmanager
def private_graph() -> Iterator[Graph]:
    """A graph on a domain that no other test has, limited to this machine."""
    with private_domain() as domain, contextlib.closing(Graph(domain)) as graph:
        yield graph


def stamped(msg: Any, stamp_ns: int, frame_id: str = "camera_optical_frame") -> Any:
    """Fill a message's header."""
    msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    msg.header.frame_id = frame_id
    return msg


def stamp_of(msg: Any) -> int:
    """A message's stamp in nanoseconds."""
    return int(msg.header.stamp.sec) * 1_000_000_000 + int(msg.header.stamp.nanosec)


def taken_after(messages: list[Any], moment_ns: int) -> list[Any]:
    """Those whose image was taken later: topics come in any order, and a message may be late."""
    return [msg for msg in messages if stamp_of(msg) > moment_ns]


def image_array(msg: Any) -> Any:
    """The pixels of a 32FC1, 16UC1 or rgb8 image that the node published."""
    dtype, channels = {"32FC1": ("<f4", 1), "16UC1": ("<u2", 1), "rgb8": ("u1", 3)}[msg.encoding]
    array = np.frombuffer(msg.data, dtype=np.dtype(dtype))
    shape = (msg.height, msg.width) if channels == 1 else (msg.height, msg.width, channels)
    return array.reshape(shape)
