"""What an engine compiles for one shape of image at a time."""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

from depth_node.engines.base import EngineError
from depth_node.release import run_all

_MEMORY_BYTES = 2 << 30
"""Most memory for all shapes of a network together, unless `_FEWEST` of them take more."""
_MEMORY_A_GRAPH_BYTE = 2.5
"""Memory of one shape by the size of the graph's file: each has its own copy of the weights and its
own scratch. Of Depth Anything V2 Small at 252 (fp32, 100 MB) it is 240 MB in OpenVINO and 260 MB in
ONNX Runtime, measured as the growth of the process."""
_FEWEST, _MOST = 2, 8
_REST, _SHORTEST_REST_S = 10.0, 10.0
"""After a failure to compile the next attempt waits for so many times as long as that one took, at
least for so many seconds. A want of memory may pass; but cameras that share the engine wait while
it compiles, which TensorRT does for minutes: they lose a tenth of the time at most."""
_MOST_REFUSED = 100
"""Refusals that are remembered: images may come in any number of shapes."""
Shape = TypeVar("Shape", bound=Hashable)
Session = TypeVar("Session")
_log = logging.getLogger(__name__)


class _Refusal(NamedTuple):
    """Why a shape cannot be had, and until when, on the monotonic clock, it is not tried again."""

    reason: str
    until_s: float


class ByShape(Generic[Shape, Session]):
    """What an engine has compiled, by the shape that it was compiled for.

    The shapes that were used last are kept, 2 to 8 of them: as many as fit into 2 GiB.

    A runtime that is right for one shape may be wrong for another: what is compiled is held to the
    fp32 network before it is given a frame, unless it is the reference itself.
    """

    def __init__(
        self,
        engine: str,
        graph_bytes: int,
        open_for: Callable[[Shape], Session],
        free: Callable[[Session], None] | None = None,
    ) -> None:
        """Start with nothing.

        Args:
            engine: its name, for the log.
            graph_bytes: size of the network's graph file; 0 where all shapes share one session, so
                that opening one costs no time.
            open_for: compiles for a shape, or takes it from the cache.
            free: gives back what is not kept.
        """
        self._engine = engine
        self._limit = _shapes_in_memory(graph_bytes)
        self._open_for = open_for
        self._free = free
        self._sessions: dict[Shape, Session] = {}  # in the order of their last use
        self._refused: dict[Shape, _Refusal] = {}  # in the order of their time
        # None where there is nothing to tell of those that come back, or once the log has told it
        self._dropped: set[Shape] | None = set() if graph_bytes else None

    def load(self, shape: Shape) -> Session:
        """Open a shape that needs no test here: the loader tests it, or it is the reference.

        Raises:
            EngineError: it cannot be compiled, or what it displaces not be given back.
        """
        self._tell_if_dropped(shape)
        while len(self._sessions) >= self._limit:
            oldest = next(iter(self._sessions))
            self._drop(oldest)
            if self._dropped is not None:
                self._dropped.add(oldest)
        begun_s = time.monotonic()
        try:
            session = self._open_for(shape)
        except Exception as error:  # a runtime's own error would be met with every frame as well
            now_s = time.monotonic()
            rest_s = max(_REST * (now_s - begun_s), _SHORTEST_REST_S)
            known = isinstance(error, EngineError)
            reason = str(error) if known else f"{type(error).__name__}: {error}"
            self._refuse(shape, reason, now_s + rest_s)
            raise
        self._sessions[shape] = session
        return session

    def get(self, shape: Shape, test: Callable[[], None] | None = None) -> Session:
        """What was compiled for a shape; compiled and tested now if it is not there.

        Args:
            shape: the shape.
            test: runs what was compiled, which it gets by `get` itself; raises EngineError when it
                may not be used. That is final. None for an engine that is the reference itself.

        Raises:
            EngineError: it cannot be compiled, or has not passed its test. It is not compiled again
                for every frame: after a failure to compile a tenth of the time goes to further
                attempts at most; until the next one the reason of the last is raised again.
        """
        refusal = self._refused.get(shape)
        if refusal is not None and time.monotonic() < refusal.until_s:
            raise EngineError(refusal.reason)
        if shape not in self._sessions:
            self.load(shape)
            if test is not None:
                self._test(shape, test)
        self._sessions[shape] = session = self._sessions.pop(shape)  # the newest is the last
        return session

    def clear(self) -> None:
        """Give everything back, also after one of them has failed to.

        Raises:
            EngineError: the first that failed.
        """
        run_all(*(functools.partial(self._drop, shape) for shape in self._sessions))

    def _test(self, shape: Shape, test: Callable[[], None]) -> None:
        """Test what was compiled, and drop it unless it passes."""
        passed = False
        try:
            test()
            passed = True
        except EngineError as error:
            self._refuse(shape, str(error), math.inf)
            raise
        finally:
            if not passed:
                self._drop(shape)

    def _refuse(self, shape: Shape, reason: str, until_s: float) -> None:
        self._refused.pop(shape, None)
        self._refused[shape] = _Refusal(reason, until_s)
        while len(self._refused) > _MOST_REFUSED:
            del self._refused[next(iter(self._refused))]

    def _drop(self, shape: Shape) -> None:
        session = self._sessions.pop(shape)
        if self._free is not None:
            self._free(session)

    def _tell_if_dropped(self, shape: Shape) -> None:
        if self._dropped is None or shape not in self._dropped:
            return
        self._dropped = None
        _log.warning(
            "%s opens its network again for a shape of image that it had dropped, which takes the "
            "time of many frames: it keeps %d shapes of a network as large as this one, and images "
            "come in more; set model.size to a fixed one, as 252x336, or let the cameras deliver "
            "fewer shapes",
            self._engine,
            self._limit,
        )


def _shapes_in_memory(graph_bytes: int) -> int:
    """How many shapes of a network with a graph of so many bytes are kept."""
    fitting = int(_MEMORY_BYTES / (_MEMORY_A_GRAPH_BYTE * max(graph_bytes, 1)))
    return min(max(fitting, _FEWEST), _MOST)
