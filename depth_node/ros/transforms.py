"""TF: `tf2_ros` where the distribution has it, else a buffer of our own that is fed by /tf."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from scipy.spatial.transform import Rotation

from depth_node.geometry.transforms import (
    CURES,
    FARTHEST_M,
    MAX_NAME,
    Fault,
    TransformBuffer,
    TransformError,
    Transforms,
    in_reach,
    rigid,
)
from depth_node.health import concise
from depth_node.ros.wire import stamp_ns
from depth_node.types import ArrayF64

HISTORY = 100
"""Messages on /tf that may wait for the executor, as in tf2_ros."""
_UNKNOWN = re.compile(r'"(.*)" passed to')  # how tf2 begins, of a frame that it does not know
_WARNINGS = 100  # frames that are warned about: names may never end
_log = logging.getLogger(__name__)


class TransformListener:
    """Answers look-ups from what it hears on /tf and /tf_static."""

    def __init__(self, node: Node, message: type[Any]) -> None:
        """Subscribe.

        Args:
            node: the node that subscribes.
            message: `tf2_msgs.msg.TFMessage`.
        """
        self._buffer = TransformBuffer()
        self._refused: set[str] = set()
        moving = QoSProfile(depth=HISTORY, reliability=ReliabilityPolicy.RELIABLE)
        static = QoSProfile(
            depth=HISTORY,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
        node.create_subscription(message, "/tf", self._on_moving, moving)
        node.create_subscription(message, "/tf_static", self._on_static, static)
        self._jumps = _when_set_back(node, self._buffer.clear_moving)

    def lookup(self, target: str, source: str, stamp_ns: int, timeout_s: float = 0.0) -> ArrayF64:
        """T_target_source at a time; see `Transforms`."""
        return self._buffer.lookup(target, source, stamp_ns, timeout_s)

    def _on_moving(self, msg: Any) -> None:
        self._take(msg, static=False)

    def _on_static(self, msg: Any) -> None:
        self._take(msg, static=True)

    def _take(self, msg: Any, *, static: bool) -> None:
        for child, error in take_in(self._buffer, msg, static=static):
            if child not in self._refused and len(self._refused) < _WARNINGS:
                _log.warning("TF: %s", concise(str(error)))
                self._refused.add(child)


def take_in(buffer: TransformBuffer, msg: Any, *, static: bool) -> list[tuple[str, TransformError]]:
    """Add every transform of a message to a buffer.

    Args:
        buffer: what look-ups are answered from.
        msg: a `tf2_msgs/TFMessage`.
        static: whether it came from /tf_static.

    Returns:
        Those that were refused: the child's frame, and why.
    """
    refused = []
    for item in msg.transforms:
        translation, quaternion = _numbers(item.transform)
        parent, child = item.header.frame_id, item.child_frame_id
        try:
            buffer.add(parent, child, stamp_ns(item.header), translation, quaternion, static=static)
        except TransformError as error:
            refused.append((child[:MAX_NAME], error))
    return refused


class Tf2Transforms:
    """Answers look-ups with tf2_ros."""

    def __init__(self, node: Node, tf2_ros: Any) -> None:
        """Listen.

        Args:
            node: the node that subscribes.
            tf2_ros: the module.
        """
        self._tf2 = tf2_ros
        self._buffer = tf2_ros.Buffer(node=node)
        self._listener = tf2_ros.TransformListener(self._buffer, node)
        self._jumps = _when_set_back(node, self._buffer.clear)  # Humble's and Iron's do not

    def lookup(self, target: str, source: str, stamp_ns: int, timeout_s: float = 0.0) -> ArrayF64:
        """T_target_source at a time; see `Transforms`.

        Raises:
            TransformError: it is not to be had; tf2's own words follow those of our own buffer.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        tf2 = self._tf2
        # Early in simulated time a look back ends before 0, which is no time to rclpy; and 0 is the
        # latest one to tf2. What is static holds at any time, all else is too old at the first.
        at = Time(nanoseconds=max(stamp_ns, 1))
        try:
            found = self._buffer.lookup_transform(target, source, at, Duration(seconds=timeout_s))
        except tf2.TransformException as error:
            raise self._explained(target, source, error) from error
        translation, quaternion = _numbers(found.transform)
        if not in_reach(translation):  # tf2 refuses NaN only
            raise TransformError(
                Fault.INVALID,
                f"transform {target!r} -> {source!r} has the translation {translation.tolist()}, "
                f"expected metres up to {FARTHEST_M:g}; {CURES[Fault.INVALID]}",
            )
        return rigid(translation, Rotation.from_quat(quaternion))

    def _explained(self, target: str, source: str, error: Exception) -> TransformError:
        """An error of tf2_ros in the words of our own buffer, followed by its own."""
        said = str(error).partition("\n")[0].strip(" .")  # of a loop, all frames come after
        what = f"transform {target!r} -> {source!r}"
        if "contains a loop" in said:  # a LookupException, too
            fault, seen = Fault.CYCLIC, f"{what} goes in a loop"
        elif isinstance(error, self._tf2.LookupException):
            named = _UNKNOWN.match(said)
            name = f"{named[1]!r}" if named else f"{source!r}, or no {target!r}"
            fault, seen = Fault.UNKNOWN_FRAME, f"TF knows no frame {name}"
        elif isinstance(error, self._tf2.ConnectivityException):
            fault, seen = Fault.NOT_CONNECTED, f"frames {source!r} and {target!r} are not connected"
        elif not isinstance(error, self._tf2.ExtrapolationException):
            fault, seen = Fault.INVALID, f"{what} cannot be looked up"
        elif "into the past" in said:
            fault, seen = Fault.TOO_OLD, f"{what} is asked for before the oldest one kept"
        elif "into the future" in said:
            fault, seen = Fault.NOT_YET, f"{what} is asked for after the newest one heard"
        else:  # a single one was heard
            fault, seen = Fault.NOT_YET, f"{what} is asked for beside the only one heard"
        return TransformError(fault, f"{seen} (tf2: {said}); {CURES[fault]}")


class NoTransforms:
    """Stands in where no TF can be heard."""

    def lookup(self, target: str, source: str, stamp_ns: int, timeout_s: float = 0.0) -> ArrayF64:
        """Never finds one: the message names the cure.

        Raises:
            TransformError: always.
        """
        raise TransformError(
            Fault.NO_TF,
            f"where {source!r} is in {target!r} is to come from TF, but tf2_msgs is not installed "
            "here: install it, or give the extrinsics as numbers",
        )


def listen(node: Node) -> Transforms:
    """Listen to TF with what is installed, for as long as the node lives."""
    try:
        import tf2_ros
    except ImportError:
        pass
    else:
        return Tf2Transforms(node, tf2_ros)
    try:
        from tf2_msgs.msg import TFMessage
    except ImportError:
        return NoTransforms()
    return TransformListener(node, TFMessage)


def _when_set_back(node: Node, clear: Callable[[], None]) -> Any:
    """Have a buffer cleared when the node's clock is set back, by tf2's own rule; keep the result.

    A simulation that starts anew sends the same stamps again, for other poses.
    """
    back = JumpThreshold(min_forward=None, min_backward=Duration(seconds=-1), on_clock_change=True)
    return node.get_clock().create_jump_callback(back, post_callback=lambda _: clear())


def _numbers(transform: Any) -> tuple[ArrayF64, ArrayF64]:
    """Translation (x, y, z) and quaternion (x, y, z, w) of a `geometry_msgs/Transform`."""
    t, r = transform.translation, transform.rotation
    return np.array([t.x, t.y, t.z]), np.array([r.x, r.y, r.z, r.w])
