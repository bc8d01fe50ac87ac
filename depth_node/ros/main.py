"""The ROS executable `depth_node`: `ros2 run depth_node depth_node`."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

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
    """Turns signals into a wish to stop that the main loop sees."""

    def __init__(self) -> None:
        self.requested = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        if not self.requested.is_set():
            cut_off = threading.Timer(GRACE_S, os._exit, args=[0])
            cut_off.daemon = True
            cut_off.start()
        self.requested.set()


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
