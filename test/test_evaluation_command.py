"""`depth-node eval depth` on images with ground truth, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_node.cli import main


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Two images of a floor with its depth in millimetres."""
    rows = np.arange(240, dtype=np.float32)[:, None]
    depth = np.clip(1.0 / (0.1 + rows / 240), 0.5, 9.0).repeat(320, axis=1)
    for i in range(2):
        image = np.full((240, 320, 3), 90 + 10 * i, np.uint8)
        image[120:] = (60, 120, 160)
        cv2.imwrite(str(tmp_path / f"{i}.color.png"), image)
        cv2.imwrite(str(tmp_path / f"{i}.depth.png"), (1000 * depth).astype(np.uint16))
    return tmp_path


def options(folder: Path, *more: str) -> list[str]:
    globs = ["--rgb", str(folder / "*.color.png"), "--depth", str(folder / "*.depth.png")]
    return ["eval", "depth", *globs, "--model", "student", "--engine", "onnxruntime", *more]


def test_the_report_names_network_protocol_and_errors(
    frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options(frames, "--json")) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["frames"] == 2
    assert result["align"] == "disparity"
    assert 0.0 < result["absrel"] < 1.0
    assert result["row_baseline"]["absrel"] == pytest.approx(0.0, abs=0.02)  # depth is of the row


def test_a_relative_network_is_not_scored_without_alignment(
    frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options(frames, "--align", "none")) == 1
    assert "relative: it has to be aligned" in capsys.readouterr().err


def test_globs_that_do_not_pair_are_refused(
    frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (frames / "1.depth.png").unlink()
    assert main(options(frames)) == 1
    assert "finds 2 files and --depth 1" in capsys.readouterr().err
