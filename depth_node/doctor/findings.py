"""What the doctor found: one line each, with its cure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from depth_node.health import Level, apart


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: OK when all is well, WARN when results are still right, ERROR when something does not
            arrive or would be wrong.
        topic: what it is about: a ROS topic, a node, or a word such as `engine`.
        seen: what was seen, and what was expected where that is not plain.
        cure: what to do, or empty when there is nothing to do.
    """

    level: Level
    topic: str
    seen: str
    cure: str = ""

    @classmethod
    def from_text(cls, level: Level, topic: str, text: str, cure: str = "") -> Finding:
        """A finding from a message of this package: `what was seen; what to do`.

        Args:
            level: how bad it is.
            topic: what it is about.
            text: the message.
            cure: taken when the message names none.
        """
        return cls(level, topic, *apart(text, cure))

    def line(self) -> str:
        """The finding as one line of text."""
        text = f"{self.level.name.lower():<5}  {self.topic}: {self.seen}"
        return " ".join(f"{text} -> {self.cure}".split("\n")) if self.cure else text

    def as_dict(self) -> dict[str, str]:
        """The finding as `--json` prints it: `level` (ok, warn, error), `topic`, `seen`, `cure`."""
        return {
            "level": self.level.name.lower(),
            "topic": self.topic,
            "seen": self.seen,
            "cure": self.cure,
        }


def ok(topic: str, seen: str, cure: str = "") -> Finding:
    """All is well, or there is nothing to judge."""
    return Finding(Level.OK, topic, seen, cure)


def warn(topic: str, seen: str, cure: str) -> Finding:
    """Odd, slow or likely to hurt a consumer."""
    return Finding(Level.WARN, topic, seen, cure)


def error(topic: str, seen: str, cure: str) -> Finding:
    """Something does not arrive, or would be wrong."""
    return Finding(Level.ERROR, topic, seen, cure)


def all_well(findings: Sequence[Finding]) -> bool:
    """Whether nothing is wrong; warnings do not count."""
    return all(finding.level < Level.ERROR for finding in findings)
