"""A ROS domain of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

import depth_node.domain
from depth_node.domain import DOMAINS, private_domain


def test_two_holders_have_two_domains() -> None:
    with private_domain() as first, private_domain() as second:
        assert first != second


def test_a_domain_with_ports_in_shared_memory_is_the_last_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 42
    for domain in DOMAINS:
        if domain != free:
            (tmp_path / f"fastdds_port{7400 + 250 * domain + 11}").touch()
    (tmp_path / "something_else").touch()
    monkeypatch.setattr(depth_node.domain, "_SHARED_MEMORY", tmp_path)
    with private_domain() as domain:
        assert domain == free
