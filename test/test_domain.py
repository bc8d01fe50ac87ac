"""A ROS domain of one's own, and what is left of it in shared memory."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path

import pytest

import depth_node.domain
from depth_node.domain import DOMAINS, private_domain


@pytest.fixture
def shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(depth_node.domain, "_SHARED_MEMORY", tmp_path)
    return tmp_path


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.time() + seconds
    monkeypatch.setattr(time, "time", lambda: now)


def test_two_holders_have_two_domains() -> None:
    with private_domain() as first, private_domain() as second:
        assert first != second


@pytest.mark.parametrize("library", ["fastdds", "fastrtps"])
def test_a_domain_with_ports_in_shared_memory_is_the_last_choice(
    shared_memory: Path, library: str
) -> None:
    free = 42
    for domain in DOMAINS:
        if domain != free:
            (shared_memory / f"{library}_port{7400 + 250 * domain + 11}").touch()
    (shared_memory / "something_else").touch()
    with private_domain() as domain:
        assert domain == free


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("library", ["fastdds", "fastrtps"])
def test_ports_that_killed_processes_left_on_the_domain_are_removed(
    shared_memory: Path, library: str
) -> None:
    others = [f"{library}_port7001", "another_program"]  # 7001 is no domain's own
    with private_domain() as domain:
        dead, lock_only = (f"{library}_port{7400 + 250 * domain + end}" for end in (11, 13))
        left = [dead, f"{dead}_el", f"sem.{dead}_mutex", f"{lock_only}_el"]
        for name in (*left, *others):
            (shared_memory / name).touch()
        with private_domain():
            pass
        assert names(shared_memory) == sorted((*left, *others))
    assert names(shared_memory) == sorted(others)


def test_segments_of_killed_processes_are_removed_once_they_are_no_newcomers(
    shared_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = "fastdds_" + "0a" * 8
    (shared_memory / segment).touch()
    (shared_memory / f"{segment}_el").touch()
    with private_domain():
        assert names(shared_memory) == [segment, f"{segment}_el"]
        later(monkeypatch, 60.0)
    assert names(shared_memory) == []


def test_shared_memory_of_a_living_process_stays(
    shared_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with private_domain() as domain:
        name = f"fastrtps_port{7400 + 250 * domain + 13}"
        lock = (shared_memory / f"{name}_el").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        (shared_memory / name).touch()
        later(monkeypatch, 60.0)
    assert names(shared_memory) == [name, f"{name}_el"]
    lock.close()
