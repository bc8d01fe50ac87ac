"""Between threads: a slot in which the newest item wins, and a line in which each has its turn."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def worker(name: str, work: Callable[..., None], *args: Any) -> threading.Thread:
    """A daemon thread, not yet started, that works in a copy of the caller's context.

    So what it logs is said to come from the node that made it.
    """
    context = contextvars.copy_context()
    return threading.Thread(target=context.run, args=(work, *args), name=name, daemon=True)


class Slot(Generic[T]):
    """Holds at most one item; putting a newer one displaces what nobody has taken yet.

    A queue between a camera and a slow network grows old. A slot cannot: what is taken from it is
    always the newest item that was there.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> T | None:
        """Offer an item and return the one that it displaced, or the item itself when closed."""
        with self._changed:
            if self._closed:
                return item
            displaced, self._item = self._item, item
            self._changed.notify()
            return displaced

    def take(self, timeout: float | None = None) -> T | None:
        """Wait for an item and remove it; None after `timeout` seconds or when the slot closes."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed, timeout)
            item, self._item = self._item, None
            return item

    def close(self) -> T | None:
        """Refuse further items, wake whoever waits, and return what was never taken."""
        with self._changed:
            self._closed = True
            item, self._item = self._item, None
            self._changed.notify_all()
            return item

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._closed


class Line:
    """Threads that take turns with something: first come, first served, so that none starves.

    A lock is no substitute: a thread that releases one and takes it again at once often overtakes
    those that wait for it.
    """

    def __init__(self, at_once: int = 1) -> None:
        """Begin with nobody in line; `at_once` is how many may have their turn together."""
        self._changed = threading.Condition()
        self._waiting: deque[Place] = deque()
        self._free = at_once

    def join(self) -> Place:
        """A place for one thread, which waits in line whenever it enters it."""
        return Place(self)

    @property
    def busy(self) -> bool:
        """Whether anybody waits for a turn."""
        return bool(self._waiting)

    def enter(self, place: Place) -> None:
        """Wait for the turn of a place, or until it is closed."""
        with self._changed:
            self._waiting.append(place)
            self._changed.wait_for(
                lambda: place.closed or (self._free > 0 and self._waiting[0] is place)
            )
            self._waiting.remove(place)
            place.served = not place.closed
            self._free -= place.served
            self._changed.notify_all()

    def leave(self, place: Place) -> None:
        """End the turn of a place."""
        with self._changed:
            self._free += place.served
            place.served = False
            self._changed.notify_all()

    def close(self, place: Place) -> None:
        """Let a place wait no longer."""
        with self._changed:
            place.closed = True
            self._changed.notify_all()


class Place:
    """One thread's place in a line: a context manager that is entered for the length of a turn.

    Attributes:
        closed: whether it has been closed; it is then entered at once, without a turn.
        served: whether it has its turn.
    """

    def __init__(self, line: Line) -> None:
        self.closed = self.served = False
        self._line = line

    def __enter__(self) -> None:
        self._line.enter(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._line.leave(self)

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for this turn to end."""
        return self._line.busy

    def close(self) -> None:
        """Wait for no further turn, and end the waiting for one."""
        self._line.close(self)
