"""One engine for several cameras of a process.

Cameras that ask for the same engine hold shares of it: it is loaded for the first of them and
closed with the last. Frames that wait at the same time run as one batch where the engine gains from
that; otherwise cameras take turns.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from depth_node.engines.base import BatchEngine, Engine, EngineError
from depth_node.handover import Line, Place
from depth_node.types import Disparity, ImageU8

_RECENT_RUNS = 100
_GATHERING_SHARE = 0.25
"""Longest wait for cameras that were served just now, as a share of a run."""
_log = logging.getLogger(__name__)


class EnginePool:
    """The engines of a process, by what was asked for."""

    def __init__(self) -> None:
        self._loading = threading.Lock()
        self._lock = threading.Lock()
        self._engines: dict[Hashable, SharedEngine] = {}

    def share(self, key: Hashable, load: Callable[[], Engine]) -> EngineShare:
        """A share of the engine of that key, which is loaded if nobody holds one.

        Args:
            key: all that the choice of the engine depends on.
            load: loads it; what it raises is raised here.
        """
        share = self._share_of(key)
        if share is not None:
            return share
        with self._loading:  # one at a time: two that compile at once only slow each other
            return self._share_of(key) or self._add(SharedEngine(key, load()))

    def release(self, share: EngineShare) -> None:
        """Take a share back; the last one closes the engine."""
        shared = share.shared
        with self._lock:
            shared.shares.discard(share)
            if shared.shares:
                return
            self._forget(shared)
        shared.engine.close()

    def abandon(self, share: EngineShare) -> None:
        """Hand an engine out no more that a share's call has not returned from.

        The share is taken back when that call returns: closing an engine under a running call
        crashes the process.
        """
        with self._lock:
            self._forget(share.shared)
            share.given_up = True
            if share.calls:
                return
        self.release(share)

    def enter(self, share: EngineShare) -> None:
        """Note that a call of a share begins.

        Raises:
            EngineError: the share was given up.
        """
        with self._lock:
            if share.given_up:
                raise EngineError(f"{share.name} has been closed")
            share.calls += 1

    def leave(self, share: EngineShare) -> None:
        """Note that a call has returned; the last of a share that was given up takes it back."""
        with self._lock:
            share.calls -= 1
            if share.calls or not share.given_up:
                return
        self.release(share)

    def _share_of(self, key: Hashable) -> EngineShare | None:
        with self._lock:
            shared = self._engines.get(key)
            return None if shared is None else EngineShare(self, shared)

    def _add(self, shared: SharedEngine) -> EngineShare:
        with self._lock:
            self._engines[shared.key] = shared
            return EngineShare(self, shared)

    def _forget(self, shared: SharedEngine) -> None:
        if self._engines.get(shared.key) is shared:
            del self._engines[shared.key]


class EngineShare:
    """One camera's share of an engine; keeps the protocol `Engine`.

    Attributes:
        shared: the engine with all who hold it.
        calls: how many calls have not returned; under the pool's lock.
        given_up: whether it was left behind; under the pool's lock.
    """

    def __init__(self, pool: EnginePool, shared: SharedEngine) -> None:
        """Add a share; the pool's lock is held."""
        self.shared = shared
        self.calls = 0
        self.given_up = False
        self.name = shared.engine.name
        self.model = shared.engine.model
        self.device = shared.engine.device
        self.precision = shared.engine.precision
        self._pool = pool
        shared.shares.add(self)

    def join_line(self) -> Place:
        """A place in the line of those who use the engine; `infer` belongs inside a turn."""
        return self.shared.line.join()

    def infer(self, image: ImageU8) -> Disparity:
        """Run the network on one HxWx3 uint8 RGB image of any size; see `Engine.infer`.

        Raises:
            EngineError: it failed, or the share was given up.
        """
        self._pool.enter(self)
        try:
            return self.shared.infer(image)
        finally:
            self._pool.leave(self)

    def close(self) -> None:
        """Give the share back; the engine is closed with its last share."""
        self._pool.release(self)

    def abandon(self) -> None:
        """Leave an engine behind that does not return: the next who asks for it gets another.

        This one is closed when it does return after all, and nobody else holds it.
        """
        self._pool.abandon(self)

    def facts(self) -> dict[str, str]:
        """How the engine is shared, in words; nothing where this is its only share."""
        if len(self.shared.shares) < 2:
            return {}
        return {
            "engine_cameras": str(len(self.shared.shares)),
            "engine_batch.limit": str(self.shared.batch_limit),
            "engine_batch.mean": f"{self.shared.mean_batch:.2f}",
        }


@dataclass(eq=False)
class _Request:
    """A frame that waits for the engine, and what came of it."""

    image: ImageU8
    outcome: Disparity | Exception | None = None


class SharedEngine:
    """An engine and the frames that wait for it.

    There is no thread of its own: of the threads that bring frames, one runs a batch for all.

    Attributes:
        key: what was asked for.
        engine: the engine itself.
        shares: who holds it.
        line: who may bring a frame: as many at once as the engine takes in one batch.
        batch_limit: most frames in one run.
    """

    def __init__(self, key: Hashable, engine: Engine) -> None:
        self.key = key
        self.engine = engine
        self.shares: set[EngineShare] = set()
        self.batch_limit = engine.batch_limit if isinstance(engine, BatchEngine) else 1
        self.line = Line(self.batch_limit)
        self._changed = threading.Condition()
        self._waiting: deque[_Request] = deque()
        self._running = False
        self._gathered = 1  # frames to wait for before the next run, until the time below
        self._gathered_s = 0.0
        self._sizes: deque[int] = deque(maxlen=_RECENT_RUNS)

    @property
    def mean_batch(self) -> float:
        """Frames in a run, mean of the last hundred runs; 0 before the first."""
        sizes = tuple(self._sizes)  # one step: frames run on other threads
        return sum(sizes) / len(sizes) if sizes else 0.0

    def infer(self, image: ImageU8) -> Disparity:
        """Run an image in the next batch that has room for it; see `Engine.infer`.

        Whatever the engine raises is raised for the frame that it failed on alone.
        """
        request = _Request(image)
        with self._changed:
            self._waiting.append(request)
            self._changed.notify_all()
        while batch := self._claim(request):
            begun_s = time.monotonic()
            try:
                self._run(batch)
            finally:
                with self._changed:
                    self._running = False
                    self._gather(len(batch), begun_s)
                    self._changed.notify_all()
        if isinstance(request.outcome, Disparity):
            return request.outcome
        assert request.outcome is not None
        raise request.outcome

    def _gather(self, served: int, begun_s: float) -> None:
        """Let the next run wait a little for those whom this one has served.

        Else cameras that bring more than the engine can take would run by turns for ever: each
        comes back when the other has just begun. A frame that comes later runs at once.
        """
        now_s = time.monotonic()
        self._gathered = min(served + len(self._waiting), self.batch_limit)
        self._gathered_s = now_s + _GATHERING_SHARE * (now_s - begun_s)

    def _claim(self, request: _Request) -> list[_Request]:
        """Wait for the engine and take the oldest frame with others of its size to run.

        Empty once `request` itself has been run.
        """
        with self._changed:
            while request.outcome is None:
                left_s = self._gathered_s - time.monotonic()
                if self._running:
                    self._changed.wait()
                elif len(self._waiting) < self._gathered and left_s > 0.0:
                    self._changed.wait(left_s)
                else:
                    self._running = True
                    return self._next_batch()
            return []

    def _next_batch(self) -> list[_Request]:
        size = self._waiting[0].image.shape
        batch = [waiting for waiting in self._waiting if waiting.image.shape == size]
        del batch[self.batch_limit :]
        for taken in batch:
            self._waiting.remove(taken)
        return batch

    def _run(self, batch: list[_Request]) -> None:
        """Run frames together, or else one after another, and note what came of each."""
        failure = self._run_together(batch) if len(batch) > 1 else None
        if len(batch) > 1 and failure is None:
            return
        for request in batch:
            self._sizes.append(1)
            try:
                request.outcome = self.engine.infer(request.image)
            except Exception as error:  # raised in the thread that brought the frame
                request.outcome = error
        if failure is not None and all(isinstance(r.outcome, Disparity) for r in batch):
            self.batch_limit = 1
            _log.warning(
                "%s ran %d frames one by one that it failed on together; it is given one at a "
                "time from now on: %s",
                self.engine.name,
                len(batch),
                failure,
            )

    def _run_together(self, batch: list[_Request]) -> Exception | None:
        """Run frames in one call; returns why that failed, if it did."""
        assert isinstance(self.engine, BatchEngine)
        try:
            outcomes = self.engine.infer_batch([request.image for request in batch])
            for request, outcome in zip(batch, outcomes, strict=True):
                request.outcome = outcome
        except Exception as error:  # one frame of them may be at fault: each is tried alone
            return error
        self._sizes.append(len(batch))
        return None
