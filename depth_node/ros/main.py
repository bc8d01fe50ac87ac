"""The ROS executable: `ros2 run depth_node depth_node [--cameras NAMESPACE ...]`."""

from __future__ import annotations

import argparse
import contextvars
import functools
import logging
import os
import signal
import socket
import sys
import threading
import time

from depth_node.imports import explain

try:
    import rclpy
    from rclpy.exceptions import InvalidNamespaceException
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions
    from rclpy.utilities import remove_ros_args
    from rclpy.validate_namespace import validate_namespace

    from depth_node.engines.shared import EnginePool
    from depth_node.ros.autostart import Autostart
    from depth_node.ros.node import DepthNode
except ImportError as problem:  # OpenCV that was built for another NumPy, above all
    explained = explain(problem)
    if explained is None:
        raise
    sys.exit(f"depth_node: {'; '.join(explained)}")

GRACE_S = 1.5
"""Time to end in after SIGINT or SIGTERM; a library call that never returns is then cut off."""
SWITCH_INTERVAL_S = 0.0005
"""How long a thread may hold the interpreter while another waits; Python's default of 5 ms would
let the executor delay a frame that is ready to be published."""

_log = logging.getLogger("depth_node")


class _Stop:
    """Turns signals into a wish to stop that the main loop sees.

    The main thread runs no handler while a library is at work in it, and compiling an engine can
    take minutes; the interpreter's wake-up file tells a thread of its own all the same.
    """

    def __init__(self) -> None:
        self.requested = threading.Event()
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        threading.Thread(target=self._watch, name="signals", daemon=True).start()

    def _watch(self) -> None:
        while self._receiver.recv(1)[0] not in (signal.SIGINT, signal.SIGTERM):
            pass
        self.requested.set()
        time.sleep(GRACE_S)
        os._exit(0)


def main(args: list[str] | None = None) -> int:
    """Run a node for each camera until SIGINT, SIGTERM or the shutdown of the context."""
    namespaces = _namespaces(remove_ros_args(args)[1:])
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    stop = _Stop()
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        _run(namespaces, stop)
    finally:
        rclpy.try_shutdown()
    return 0


def _namespaces(args: list[str]) -> list[str]:
    """The namespaces of the nodes, from the arguments that are not ROS' own; one empty if none."""
    parser = argparse.ArgumentParser(
        prog="depth_node", description="Turn cameras into metric depth sensors on ROS 2."
    )
    parser.add_argument(
        "--cameras",
        nargs="+",
        default=[""],
        type=_namespace,
        metavar="NAMESPACE",
        help="run a node in each of these namespaces, all with one engine (docs/cameras.md)",
    )
    cameras: list[str] = parser.parse_args(args).cameras
    if len(set(cameras)) < len(cameras):
        parser.error(f"--cameras names a camera twice: {' '.join(cameras)}")
    return cameras


def _namespace(text: str) -> str:
    name = f"/{text.strip('/')}"
    try:
        validate_namespace(name)
    except InvalidNamespaceException as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no namespace: letters, digits and _, not beginning with a digit, "
            "and / between its parts"
        ) from error
    return name


def _run(namespaces: list[str], stop: _Stop) -> None:
    """Serve every node on a thread of its own.

    So the others go on while one is configured. One executor for all would also build its wait
    set from everything that all nodes own, for every image of each of them.
    """
    engines = EnginePool()
    served = []
    names = set()
    for namespace in namespaces:
        context = contextvars.copy_context()  # whose log lines are whose
        node = context.run(DepthNode, engines, namespace=namespace)
        names.add(node.get_fully_qualified_name())
        served.append(functools.partial(context.run, _serve, node, stop))
    if len(names) < len(namespaces):
        raise SystemExit(
            f"the cameras would all be {names.pop()}: __ns replaces the namespace of every node of "
            "the process. Put it into the cameras' own instead: --cameras robot/front robot/rear"
        )
    first, *others = served
    threads = [threading.Thread(target=serve, daemon=True) for serve in others]
    for thread in threads:
        thread.start()
    try:
        first()
    finally:
        stop.requested.set()
        for thread in threads:
            thread.join(GRACE_S)


def _serve(node: DepthNode, stop: _Stop) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        _spin(node, executor, stop)
    finally:
        if node.context.ok() and node.state_label in ("unconfigured", "inactive", "active"):
            node.trigger_shutdown()
        executor.shutdown()
        node.destroy_node()


def _spin(node: DepthNode, executor: SingleThreadedExecutor, stop: _Stop) -> None:
    autostart = Autostart(node, stop.requested)
    while not stop.requested.is_set() and node.context.ok():
        autostart.look()
        try:
            executor.spin_once(timeout_sec=0.1)
        except ExternalShutdownException:
            return
        except Exception:
            if node.context.ok():  # a context that ends under a wait is no fault
                _log.exception("a callback failed; the node goes on")


if __name__ == "__main__":
    sys.exit(main())
