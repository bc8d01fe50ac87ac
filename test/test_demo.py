"""The demo as a user runs it: a command in its own process, judged by what it prints and leaves."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("rich")

from ros_graph import Process

from depth_node.demo import command
from depth_node.demo.processes import ProgramEndedError
from depth_node.engines import select
from depth_node.parameters import ModelSettings

pytestmark = pytest.mark.ros
COMMAND = ["-m", "depth_node.cli", "demo", "--seconds", "8"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of images, a ball that moves over a floor."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(10):
        image = np.full((240, 320, 3), 200, np.uint8)
        image[140:] = (60, 90, 120)
        cv2.circle(image, (60 + 20 * i, 150), 40, (20, 20, 220), -1)
        cv2.imwrite(str(folder / f"{i}.png"), image)
    return folder


def run(*options: str, timeout: float = 240.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *COMMAND, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def report(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return loaded


@pytest.mark.slow
def test_the_world_is_seen_in_metres_and_scored_against_the_truth(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("--output", str(out), "--json")
    assert done.returncode == 0, done.stderr
    result = report(out)
    assert json.loads(done.stdout) == result
    assert result["frames"] > 5
    assert result["rate_hz"] > 0.5
    assert 0.0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p99"]
    assert result["scale_status"]["source"] == "lidar"
    assert result["scale_status"]["state"] in ("metric", "held")  # between two sweeps, when slow
    assert result["aligned_per_frame"] is False
    assert 0.0 < result["absrel"] < 0.3
    assert 0.5 < result["delta1"] <= 1.0
    assert 0.5 < result["scored_share"] <= 1.0
    picture = cv2.imread(str(out / "side_by_side.png"))
    assert picture.shape[0] > 480
    assert picture.shape[1] > 3 * 640
    header, _, data = (out / "cloud.ply").read_bytes().partition(b"end_header\n")
    count = int(header.partition(b"element vertex ")[2].split()[0])
    assert count > 50_000
    vertices = np.frombuffer(data, [("xyz", "<f4", 3), ("rgb", "u1", 3)])
    assert vertices.size == count
    assert 0.2 < np.median(vertices["xyz"][:, 2]) < 20.0


@pytest.mark.slow
def test_without_a_source_of_scale_the_world_is_scored_aligned_and_said_so(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("--output", str(out), "--no-lidar")
    assert done.returncode == 0, done.stderr
    result = report(out)
    assert result["scale_status"]["state"] == "relative"
    assert result["aligned_per_frame"] is True
    assert "aligned to the" in done.stdout
    assert b"aligned to the ground truth" in (out / "cloud.ply").read_bytes()[:300]


def test_a_folder_of_images_is_seen_without_metres_and_without_a_score(
    tmp_path: Path, pictures: Path
) -> None:
    out = tmp_path / "out"
    done = run("--input", str(pictures), "--output", str(out))
    assert done.returncode == 0, done.stderr
    result = report(out)
    assert result["frames"] > 3
    assert result["absrel"] is None
    assert result["scored_share"] is None
    assert result["scale_status"]["state"] == "relative"
    assert "relative" in done.stdout
    header, _, data = (out / "cloud.ply").read_bytes().partition(b"end_header\n")
    assert b"no unit" in header
    assert len(data) == 15 * int(header.partition(b"element vertex ")[2].split()[0]) > 0
    assert (out / "side_by_side.png").stat().st_size > 10_000


def test_an_input_that_cannot_be_opened_ends_with_its_reason(tmp_path: Path) -> None:
    done = run("--input", str(tmp_path / "film.mp4"), "--output", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "film.mp4" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_network_is_loaded_here_before_the_processes_start(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []

    class Engine:
        def close(self) -> None:
            done.append("closed")

    def load(settings: ModelSettings, log: Callable[[str], None]) -> Engine:
        done.append(settings)
        return Engine()

    def start(*_: object) -> None:
        done.append("started")
        raise ProgramEndedError("that is enough")

    monkeypatch.setattr(select, "load_engine", load)
    monkeypatch.setattr(command, "running", start)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    options = ["--input", str(pictures), "--output", str(tmp_path), "--engine", "onnxruntime"]
    assert command.run(parser.parse_args(options)) == 1
    assert done == [ModelSettings(engine="onnxruntime"), "closed", "started"]


@pytest.fixture
def running_demo(tmp_path: Path, pictures: Path) -> Iterator[Process]:
    import os

    command = [sys.executable, *COMMAND[:-1], "60", "--input", str(pictures)]
    process = Process([*command, "--output", str(tmp_path / "out")], dict(os.environ))
    yield process
    process.end()


def test_ctrl_c_ends_the_demo_and_its_processes(running_demo: Process) -> None:
    running_demo.wait_for_line("ROS domain")
    code, seconds = running_demo.interrupt(signal.SIGINT)
    assert code == 130, running_demo.describe()
    assert seconds < 15.0  # soon on a quiet machine; by itself it would go on for a minute
    assert "Traceback" not in running_demo.output
    assert "ended by Ctrl-C" in running_demo.output
