"""What an engine compiles for one shape of image at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from depth_node.engines.base import EngineError

_MEMORY_BYTES = 2 << 30
"""Most memory for all shapes of a network together, unless `_FEWEST` of them take more."""
_MEMORY_A_GRAPH_BYTE = 2.5
"""Memory of one shape by the size of the graph's file: each has its own copy of the weights and its
own scratch. Of Depth Anything V2 Small at 252 (fp32, 100 MB) it is 240 MB in OpenVINO and 260 MB in
ONNX Runtime, measured as the growth of the process."""
_FEWEST, _MOST = 2, 8
Shape = TypeVar("Shape", bound=Hashable)
Session = TypeVar("Session")
_log = logging.getLogger(__name__)


class ByShape(Generic[Shape, Session]):
    """What an engine has compiled, by the shape that it was compiled for.

    The shapes that were used last are kept, 2 to 8 of them: as many as fit into 2 GiB.

    A runtime that is right for one shape may be wrong for another: what is compiled is held to the
    fp32 network before it is given a frame.
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
            graph_bytes: size of the network's graph file.
            open_for: compiles for a shape, or takes it from the cache.
            free: gives back what is not kept.
        """
        self._engine = engine
        self._limit = _shapes_in_memory(graph_bytes)
        self._open_for = open_for
        self._free = free
        self._sessions: dict[Shape, Session] = {}  # in the order of their last use
        self._refused: dict[Shape, str] = {}
        self._dropped: set[Shape] | None = set()  # None once the log has told of one that came back

    def load(self, shape: Shape) -> Session:
        """Open a shape that needs no test here: the loader tests it, or it is the reference.

        Raises:
            EngineError: it cannot be compiled.
        """
        self._tell_if_dropped(shape)
        while len(self._sessions) >= self._limit:
            oldest = next(iter(self._sessions))
            self._drop(oldest)
            if self._dropped is not None:
                self._dropped.add(oldest)
        self._sessions[shape] = self._open_for(shape)
        return self._sessions[shape]

    def get(self, shape: Shape, test: Callable[[], None] | None = None) -> Session:
        """What was compiled for a shape; compiled and tested now if it is not there.

        Args:
            shape: the shape.
            test: runs what was compiled, which it gets by `get` itself; raises EngineError when it
                may not be used. That is final: it is not compiled again for every frame. None for
                an engine that is the reference itself.

        Raises:
            EngineError: it cannot be compiled, or has not passed its test.
        """
        if shape in self._refused:
            raise EngineError(self._refused[shape])
        if shape not in self._sessions:
            self.load(shape)
            if test is not None:
                self._test(shape, test)
        self._sessions[shape] = session = self._sessions.pop(shape)  # the newest is the last
        return session

    def clear(self) -> None:
        """Give everything back."""
        for shape in list(self._sessions):
            self._drop(shape)

    def _test(self, shape: Shape, test: Callable[[], None]) -> None:
        """Test what was compiled, and drop it unless it passes."""
        passed = False
        try:
            test()
            passed = True
        except EngineError as error:
            self._refused[shape] = str(error)
            raise
        finally:
            if not passed:
                self._drop(shape)

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
