"""What an engine compiles for one shape of image at a time."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from depth_node.engines.base import EngineError

_KEPT = 2
Shape = TypeVar("Shape", bound=Hashable)
Session = TypeVar("Session")


class ByShape(Generic[Shape, Session]):
    """What an engine has compiled, by the shape that it was compiled for; the last two are kept.

    A runtime that is right for one shape may be wrong for another: what is compiled is held to the
    fp32 network before it is given a frame.
    """

    def __init__(
        self, open_for: Callable[[Shape], Session], free: Callable[[Session], None] | None = None
    ) -> None:
        """Start with nothing.

        Args:
            open_for: compiles for a shape, or takes it from the cache.
            free: gives back what is not kept.
        """
        self._open_for = open_for
        self._free = free
        self._sessions: dict[Shape, Session] = {}
        self._refused: dict[Shape, str] = {}

    def load(self, shape: Shape) -> Session:
        """Open the shape that an engine is loaded with, whose test is the loader's.

        Raises:
            EngineError: it cannot be compiled.
        """
        while len(self._sessions) >= _KEPT:
            self._drop(next(iter(self._sessions)))
        self._sessions[shape] = self._open_for(shape)
        return self._sessions[shape]

    def get(self, shape: Shape, test: Callable[[], None]) -> Session:
        """What was compiled for a shape; compiled and tested now if it is not there.

        Args:
            shape: the shape.
            test: runs what was compiled, which it gets by `get` itself; raises EngineError when it
                may not be used. That is final: it is not compiled again for every frame.

        Raises:
            EngineError: it cannot be compiled, or has not passed its test.
        """
        if shape in self._refused:
            raise EngineError(self._refused[shape])
        if shape not in self._sessions:
            self.load(shape)
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
        return self._sessions[shape]

    def clear(self) -> None:
        """Give everything back."""
        for shape in list(self._sessions):
            self._drop(shape)

    def _drop(self, shape: Shape) -> None:
        session = self._sessions.pop(shape)
        if self._free is not None:
            self._free(session)
