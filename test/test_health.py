"""What is logged of a problem, and how its text is taken apart."""

from __future__ import annotations

import logging

import pytest

from depth_node.doctor.findings import Finding
from depth_node.health import LOG_AGAIN_S, TEXT_LIMIT, Health, Level, apart, joined


class Clock:
    """Seconds that pass when the test says so."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged since the last look."""
    texts = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return texts


def test_a_problem_is_logged_once_and_not_for_other_numbers_and_names(
    caplog: pytest.LogCaptureFixture,
) -> None:
    health = Health()
    for frame in range(5):
        health.report(
            "image", Level.WARN, f"{frame} rows of 'frame {frame}', {frame}.5e-3 s", "act"
        )
    assert logged(caplog) == ["0 rows of 'frame 0', 0.5e-3 s; act"]
    assert health.problems()[0].text.startswith("4 rows of 'frame 4'"), (
        "diagnostics have the newest"
    )
    health.report("image", Level.WARN, "5 columns", "act")
    health.report("image", Level.ERROR, "6 columns", "act")
    health.report("camera", Level.WARN, "5 columns", "act")
    assert logged(caplog) == ["5 columns; act", "6 columns; act", "5 columns; act"]


def test_the_log_has_the_level_of_the_problem(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    health.report("clock", Level.WARN, "late", "wait")
    health.report("camera", Level.ERROR, "gone", "plug it in")
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.ERROR]


def test_a_problem_that_comes_and_goes_is_logged_again_after_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    health = Health(clock)
    for _ in range(10):
        health.report("image", Level.ERROR, "cut", "act")
        health.clear("image")
    assert len(logged(caplog)) == 1
    clock.now_s = LOG_AGAIN_S
    health.report("image", Level.ERROR, "cut", "act")
    assert len(logged(caplog)) == 1
    clock.now_s *= 5.0
    health.report("image", Level.ERROR, "cut", "act")
    assert logged(caplog) == [], "it was never well meanwhile"


def test_what_ends_with_the_frames_is_logged_again_with_the_next_ones(
    caplog: pytest.LogCaptureFixture,
) -> None:
    health = Health()
    for _ in range(2):
        for topic in ("camera", "name"):
            health.report(topic, Level.WARN, topic, "act")
        health.forget(but=("name",))
    assert logged(caplog) == ["camera; act", "name; act", "camera; act"]


def test_whoever_asks_is_told_each_time_and_a_bug_leaves_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    health = Health()
    for _ in range(2):
        health.report("transition", Level.ERROR, "no", "act", error=ValueError("why"), asked=True)
    assert caplog.text.count("ValueError: why") == 2


def test_endless_kinds_of_problem_do_not_fill_the_memory() -> None:
    health = Health()
    for number in range(1000):
        health.report("image", Level.WARN, number * "x", "act")
    assert len(health._logged_s) < 300


@pytest.mark.parametrize(
    ("seen", "cure"),
    [
        ("cut", "check the driver; or wait"),
        ("format 'rgb8; jpeg' is unknown; it is odd", "set another"),
        (5 * TEXT_LIMIT * "s", "look"),
        ("short", 5 * TEXT_LIMIT * "c"),
    ],
)
def test_what_was_seen_and_what_to_do_stay_apart_in_one_text(seen: str, cure: str) -> None:
    health = Health()
    health.report("image", Level.ERROR, seen, cure)
    (problem,) = health.problems()
    assert problem.text == joined(seen, cure)
    assert len(problem.text) <= TEXT_LIMIT
    finding = Finding.from_text(problem.level, "node", f"it says: {problem.text}", "see its log")
    assert finding.seen[:12] == f"it says: {seen}"[:12]
    assert finding.cure[:9] == cure[:9]
    assert finding.cure != "see its log"


def test_a_text_without_a_cure_takes_the_one_that_is_given() -> None:
    assert apart("cut", "look") == ("cut", "look")
    assert apart("cut; mend it", "look") == ("cut", "mend it")
