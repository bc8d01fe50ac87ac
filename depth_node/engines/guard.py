"""Closing an engine while another thread is inside it."""

from __future__ import annotations

import atexit
import threading
from types import TracebackType

from depth_node.engines.base import EngineError

_LONGEST_FRAME_S = 5.0


class Guard:
    """Held while a frame is inside an engine; closing waits for that frame.

    It also closes when the interpreter exits: a daemon thread that is still inside a runtime's
    C++ code would otherwise abort the process.
    """

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._closed = False
        atexit.register(self.close)

    def __enter__(self) -> None:
        """Enter with a frame.

        Raises:
            EngineError: the engine has been closed.
        """
        self._lock.acquire()
        if self._closed:
            self._lock.release()
            raise EngineError(f"{self._engine} has been closed")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()

    def close(self) -> None:
        """Let no further frame in, once the last one has left (after 5 s it is left behind)."""
        left = self._lock.acquire(timeout=_LONGEST_FRAME_S)
        self._closed = True
        if left:
            self._lock.release()
        atexit.unregister(self.close)
