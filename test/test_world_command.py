"""`depth-node world` in a process of its own, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2

from depth_node.world.cache import load_drive
from depth_node.world.drive import DriveSettings, Mounts, SensorNoise


def command(*arguments: str, folder: Path, root: Path) -> subprocess.CompletedProcess[str]:
    code = (
        "import argparse, sys; from depth_node.world import command\n"
        "p = argparse.ArgumentParser(); command.add_arguments(p)\n"
        "sys.exit(command.run(p.parse_args()))"
    )
    env = {**os.environ, "DEPTH_NODE_CACHE": str(folder), "PYTHONPATH": str(root)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_command_renders_draws_sheets_and_reports(tmp_path, repo_root):
    size = ("--width", "32", "--height", "24", "--fps", "5", "--seconds", "1")
    sheet = tmp_path / "new" / "sheet.png"
    done = command(
        "--render", "--sheet", str(sheet), "--count", "2", "--json", *size,
        folder=tmp_path, root=repo_root,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["frames"] == 5
    assert report["from_cache"] is False
    assert cv2.imread(str(sheet)).shape == (360, 480, 3)


def test_the_command_moves_the_sensors_and_makes_them_err(tmp_path, repo_root, monkeypatch):
    done = command(
        "--render", "--width", "32", "--height", "24", "--fps", "5", "--seconds", "1",
        "--lidar-at", "0.1", "0", "0.85", "--lidar-offset-m", "0.4", "--imu-sigma", "0",
        folder=tmp_path, root=repo_root,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("DEPTH_NODE_CACHE", str(tmp_path))
    asked = DriveSettings(
        width=32,
        height=24,
        fps=5.0,
        seconds=1.0,
        mounts=Mounts(lidar=(0.1, 0.0, 0.85)),
        noise=SensorNoise(lidar_offset_m=0.4, imu_sigma=0.0),
    )
    drive = load_drive(asked)
    assert drive is not None
    assert drive.settings == asked


def test_the_command_says_what_is_wrong(tmp_path, repo_root):
    done = command("--render", "--fps", "0", folder=tmp_path, root=repo_root)
    assert done.returncode == 1
    assert "0.0 Hz" in done.stderr
    assert "Traceback" not in done.stderr
    done = command("--render", "--lidar-dropout", "2", folder=tmp_path, root=repo_root)
    assert (done.returncode, "lidar_dropout is 2.0" in done.stderr) == (1, True)
    assert command(folder=tmp_path, root=repo_root).returncode == 2
