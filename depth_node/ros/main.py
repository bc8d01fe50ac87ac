"""The ROS executable `depth_node`: `ros2 run depth_node depth_node`."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from depth_node.ros.node import DepthNode

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
    """Run the node until SIGINT, SIGTERM or the shutdown of its context."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    stop = _Stop()
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    node = DepthNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if node.settings.autostart:
            _start(node, stop)
        _spin(node, executor, stop)
    finally:
        if node.context.ok() and node.state_label in ("unconfigured", "inactive", "active"):
            node.trigger_shutdown()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _start(node: DepthNode, stop: _Stop) -> None:
    """Configure and activate; a failure leaves the node where it can be mended."""
    for transition in (node.trigger_configure, node.trigger_activate):
        if stop.requested.is_set() or transition() != TransitionCallbackReturn.SUCCESS:
            return


def _spin(node: DepthNode, executor: SingleThreadedExecutor, stop: _Stop) -> None:
    while not stop.requested.is_set() and node.context.ok():
        try:
            executor.spin_once(timeout_sec=0.1)
        except ExternalShutdownException:
            return
        except Exception:
            if node.context.ok():  # a context that ends under a wait is no fault
                _log.exception("a callback failed; the node goes on")


if __name__ == "__main__":
    sys.exit(main())
