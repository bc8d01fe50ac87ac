"""What is wrong now, and what to do about it.

A problem is one text, which DiagnosticStatus and the log take: up to the first "; " what was seen,
and what follows is what to do.
"""

from __future__ import annotations

import enum
import logging
import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

TEXT_LIMIT = 1000
"""Longest text of a problem: it may quote what others sent, and goes out every second."""
LOG_AGAIN_S = 60.0
"""How long what was logged is not logged again: it may come and go with every other frame."""
_LOGGED_KEPT = 200
_VARYING = re.compile(r"'[^']*'|[-+]?\d[\d.]*(?:e[-+]?\d+)?")
"""What a problem quotes: names and numbers, which may change with every frame."""
_LOG_LEVELS = {0: logging.INFO, 1: logging.WARNING, 2: logging.ERROR}
_log = logging.getLogger(__name__)


class Level(enum.IntEnum):
    """How bad it is; the numbers are those of `diagnostic_msgs/DiagnosticStatus`."""

    OK = 0
    WARN = 1
    ERROR = 2


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        level: WARN when results are still right, ERROR when something is not published.
        text: what was seen and what was expected; after the first "; ", what to do.
    """

    level: Level
    text: str


class Health:
    """Thread-safe set of problems by topic, each logged once; a topic has one problem or none."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Begin with all well; `clock_s` gives seconds that only grow."""
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._problems: dict[str, Problem] = {}
        self._logged_s: dict[tuple[str, str], float] = {}

    def report(
        self,
        topic: str,
        level: Level,
        seen: str,
        cure: str,
        *,
        error: BaseException | None = None,
        asked: bool = False,
    ) -> None:
        """Record a problem; log it when it is news, and not with every frame.

        Other numbers and other quoted names are no news. Nor is a problem that comes back within
        `LOG_AGAIN_S` after it was logged.

        Args:
            topic: whose problem it is.
            level: WARN or ERROR.
            seen: what was seen, and what was expected where that is not plain.
            cure: what to do.
            error: its traceback goes to the log, for what nobody expected.
            asked: somebody waits for an answer: log it at any rate.
        """
        problem = Problem(level, joined(seen, cure))
        with self._lock:
            news = self._take(topic, problem)
        if news or asked:
            _log.log(_LOG_LEVELS[level], "%s", problem.text, exc_info=error)

    def _take(self, topic: str, problem: Problem) -> bool:
        """Make it the topic's problem; whether it is to be logged."""
        before = self._problems.get(topic)
        self._problems[topic] = problem
        if before == problem:
            return False
        kind = _kind(problem)
        if before is not None and _kind(before) == kind:
            return False
        now_s = self._clock_s()
        if now_s - self._logged_s.get((topic, kind), -math.inf) < LOG_AGAIN_S:
            return False
        self._logged_s.pop((topic, kind), None)  # it goes to the end, with the newest
        self._logged_s[topic, kind] = now_s
        if len(self._logged_s) > _LOGGED_KEPT:
            del self._logged_s[next(iter(self._logged_s))]
        return True

    def clear(self, topic: str) -> bool:
        """The topic is well again; true when it was not."""
        with self._lock:
            return self._problems.pop(topic, None) is not None

    def forget(self, *, but: tuple[str, ...]) -> None:
        """Clear every topic but these: whatever could tell that the others are well has ended."""
        with self._lock:
            self._problems = {t: problem for t, problem in self._problems.items() if t in but}
            self._logged_s = {key: at for key, at in self._logged_s.items() if key[0] in but}

    def problem(self, topic: str) -> Problem | None:
        """What is wrong with a topic now, or None."""
        with self._lock:
            return self._problems.get(topic)

    def problems(self) -> list[Problem]:
        """What is wrong now, the worst first."""
        with self._lock:
            return sorted(self._problems.values(), key=lambda problem: -problem.level)


def joined(seen: str, cure: str) -> str:
    """One text, at most `TEXT_LIMIT` characters, that `apart` takes apart again."""
    cure = concise(cure, TEXT_LIMIT // 2)
    seen = concise(seen.replace("; ", ", "), TEXT_LIMIT - len(cure) - 2)
    return f"{seen}; {cure}"


def apart(text: str, cure: str) -> tuple[str, str]:
    """What was seen and what to do, of a text of this package; `cure` where it does not say."""
    seen, _, own_cure = text.partition("; ")
    return seen, own_cure or cure


def _kind(problem: Problem) -> str:
    """What stays the same while a problem lasts: its level, and its text without what it quotes."""
    return f"{problem.level.name} {_VARYING.sub('', problem.text)}"


def concise(text: str, limit: int = TEXT_LIMIT) -> str:
    """A text cut to `limit` characters."""
    return text if len(text) <= limit else text[: limit - 6] + " [...]"
