"""The soak and latency benchmarks in their short forms: no growth, no queue, no uncounted frame."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

pytestmark = [pytest.mark.ros, pytest.mark.slow]


def bench(root: Path, script: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(root / "bench" / f"{script}.py"), "--json", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=180, cwd=root)
    return dict(json.loads(done.stdout))


def test_a_short_soak_at_30_hz_neither_grows_nor_slows_nor_loses_count(repo_root: Path) -> None:
    figures = bench(repo_root, "soak", "--seconds", "16")
    assert figures["uncounted"] == 0
    counted = figures["frames"]["published"] + sum(figures["dropped"].values())
    assert counted == figures["frames"]["received"]
    # A few frames are on their way while DDS connects publishers and subscribers.
    assert abs(figures["lost_before_the_node"]) <= 10
    assert abs(figures["lost_after_the_node"]) <= 10
    assert figures["frames"]["published"] > 250
    # Bounds of the hour's run are 1% and 1.1; this one is short and the machine may be shared.
    assert figures["memory_growth_percent"] < 3.0
    assert figures["latency_p99_ratio"] < 3.0


def test_latency_is_divided_into_stages_that_add_up(repo_root: Path, tmp_path: Path) -> None:
    plot = tmp_path / "latency.png"
    short = ("--seconds", "2", "--image", "640x480", "--network", "instant", "--plot", str(plot))
    runs = {run["camera"]: run for run in bench(repo_root, "latency", *short)["runs"]}
    assert set(runs) == {"topic", "built in"}
    for run in runs.values():
        assert run["frames"] > 20
        assert 0.0 < run["p50_ms"] <= run["p99_ms"]
        assert sum(run["share_percent"].values()) == pytest.approx(100.0, abs=25.0)
    # A camera of the node's own has no transport to the node.
    assert runs["built in"]["stages_p50_ms"]["transport"] < 1.0
    assert plot.stat().st_size > 10_000
