"""What every message conversion shares: its error, its limit, headers and the fast data fill."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from std_msgs.msg import Header

MAX_PIXELS = 64_000_000
"""Largest image accepted by default: more than any camera gives, 192 MB as RGB."""


class ConversionError(ValueError):
    """A message cannot be converted; the message says what was seen, expected and to be done."""


def fill(field: array[int], values: NDArray[Any]) -> None:
    """Append an array's bytes to a message's `uint8[]` field: one copy, and no look at each byte.

    Assigning to the field (or naming it in the constructor) copies once or twice more in some
    releases of rosidl, and checks bytes and ndarrays element by element in others
    (common_interfaces #177); the array that is already there takes bytes as they are.

    Args:
        field: the `data` of a new message, `array.array('B')`.
        values: any shape and dtype, taken in C order and in the array's own byte order; an array
            that is not C-contiguous is copied once more.
    """
    field.frombytes(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)


def make_header(stamp_ns: int, frame_id: str) -> Header:
    """A header with a stamp given in nanoseconds."""
    seconds, nanoseconds = divmod(int(stamp_ns), 1_000_000_000)
    return Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id=frame_id)


def stamp_ns(header: Header) -> int:
    """A header's stamp in nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)
