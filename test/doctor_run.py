"""Runs of `depth-node doctor --json` in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from onnx_stubs import save_stub

from depth_node.files import cache_directory

ROOT = Path(__file__).resolve().parent.parent


class Report:
    """What one run of `depth-node doctor --json` found."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        assert "Traceback" not in done.stderr, done.stderr
        self.code = done.returncode
        content = json.loads(done.stdout)
        self.well = content["ok"]
        self.findings = content["findings"]
        self.text = done.stdout

    def find(self, level: str, topic: str, text: str = "") -> dict[str, str]:
        """The finding of a level and topic that contains a text."""
        for finding in self.findings:
            if (finding["level"], finding["topic"]) == (level, topic) and text in finding["seen"]:
                assert level == "ok" or finding["cure"], finding
                return dict(finding)
        raise AssertionError(f"no {level} finding on {topic} with {text!r} in {self.text}")

    def levels(self, topic: str) -> set[str]:
        """How bad the findings on a topic are."""
        return {finding["level"] for finding in self.findings if finding["topic"] == topic}


def doctor(*args: str, env: dict[str, str]) -> Report:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "depth_node.cli", "doctor", "--json", *args]
    done = subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    return Report(done)


def fill_cache(folder: Path) -> Path:
    """Make a cache of `folder` in which `model.name: auto` finds a network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPTH_NODE_CACHE", str(folder))
        network = cache_directory() / "models" / "depth-anything-v2-small"
    network.mkdir(parents=True)
    save_stub(network / "252.onnx")
    return folder
