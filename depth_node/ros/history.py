"""The newest messages of a sensor, for the frames that are still on their way to the scale."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from depth_node.geometry.transforms import RESTART_S
from depth_node.ros.wire import stamp_ns

SPAN_S = 10.0
"""For how long messages are kept at least, as transforms are: inference may take seconds."""
MAX_BYTES = 64_000_000
"""Memory of the messages beyond which the oldest go earlier: 2 s of a LiDAR with 64 lines."""
FEWEST = 4
"""Messages kept whatever their size."""
_FIELD_BYTES = 256  # of a PointField, as a Python object
_NS = 1_000_000_000


@dataclass(frozen=True, eq=False)
class Message:
    """A message as it came.

    Attributes:
        msg: the message.
        stamp_ns: its header's stamp.
        received_ns: `time.monotonic_ns()` when it came.
        size: bytes of what may be large in it.
    """

    msg: Any
    stamp_ns: int
    received_ns: int
    size: int


class History:
    """Keeps messages by time; one thread may add while another reads.

    A frame asks for its neighbours in time only after inference. Where messages come faster than
    `spacing_s`, some are dropped in between; the newest one never is.
    """

    def __init__(self, spacing_s: float) -> None:
        """Begin empty.

        Args:
            spacing_s: least time between the stamps of two messages that are kept, seconds.
        """
        self._spacing_ns = round(spacing_s * _NS)
        self._most = math.ceil(SPAN_S / spacing_s) + 1  # the newest is kept anyway
        self._lock = threading.Lock()
        self._messages: deque[Message] = deque()
        self._bytes = 0

    def add(self, msg: Any) -> None:
        """Keep a message with a header."""
        new = Message(msg, stamp_ns(msg.header), time.monotonic_ns(), _size(msg))
        with self._lock:
            kept = self._messages
            if kept and new.stamp_ns < kept[-1].stamp_ns - RESTART_S * _NS:  # a bag starts again
                self._clear()
            if len(kept) > 1 and 0 <= kept[-1].stamp_ns - kept[-2].stamp_ns < self._spacing_ns:
                self._bytes -= kept.pop().size
            kept.append(new)
            self._bytes += new.size
            while len(kept) > self._most or (self._bytes > MAX_BYTES and len(kept) > FEWEST):
                self._bytes -= kept.popleft().size

    def messages(self) -> list[Message]:
        """What is kept, in the order of arrival."""
        with self._lock:
            return list(self._messages)

    def forget_before(self, received_ns: int) -> None:
        """Drop what came earlier than all that later frames can want."""
        with self._lock:
            while self._messages and self._messages[0].received_ns < received_ns:
                self._bytes -= self._messages.popleft().size

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._clear()

    def _clear(self) -> None:
        self._messages.clear()
        self._bytes = 0


def _size(msg: Any) -> int:
    """Bytes of the arrays and texts of a message, which have no limit of their own."""
    arrays = [getattr(msg, name, b"") for name in ("data", "ranges", "intensities")]
    texts = [msg.header.frame_id, getattr(msg, "encoding", "")]
    fields = getattr(msg, "fields", ())
    texts += [field.name for field in fields]
    size = sum(len(values) * getattr(values, "itemsize", 1) for values in arrays)
    return size + sum(map(len, texts)) + _FIELD_BYTES * len(fields)
