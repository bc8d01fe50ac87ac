"""A one-slot hand-over between threads in which the newest item wins."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


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
