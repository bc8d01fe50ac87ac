"""What is wrong now, and what to do about it."""

from __future__ import annotations

import enum
import threading
from dataclasses import dataclass

TEXT_LIMIT = 1000
"""Longest text of a problem: it may quote what others sent, and goes out every second."""


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
        text: what was seen, what was expected and what to do.
    """

    level: Level
    text: str


class Health:
    """Thread-safe set of problems by topic; a topic has one problem or none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._problems: dict[str, Problem] = {}

    def report(self, topic: str, level: Level, text: str) -> bool:
        """Record a problem; true when it is news, so that it is logged once and not every frame."""
        problem = Problem(level, concise(text))
        with self._lock:
            news = self._problems.get(topic) != problem
            self._problems[topic] = problem
            return news

    def clear(self, topic: str) -> bool:
        """The topic is well again; true when it was not."""
        with self._lock:
            return self._problems.pop(topic, None) is not None

    def forget(self, *, but: tuple[str, ...]) -> None:
        """Clear every topic but these: whatever could tell that the others are well has ended."""
        with self._lock:
            self._problems = {t: problem for t, problem in self._problems.items() if t in but}

    def problems(self) -> list[Problem]:
        """What is wrong now, the worst first."""
        with self._lock:
            return sorted(self._problems.values(), key=lambda problem: -problem.level)


def concise(text: str) -> str:
    """A text cut to `TEXT_LIMIT` characters."""
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 6] + " [...]"
