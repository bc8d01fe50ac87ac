"""`depth-node eval depth` on images with ground truth, as a user runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_node.cli import main
from depth_node.evaluation.depth import EvaluationError
from depth_node.evaluation.recording import Recording


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


def test_the_table_can_be_pasted_and_says_what_is_aligned(
    frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options(frames)) == 0
    head, _, *table = capsys.readouterr().out.strip().splitlines()
    assert "2 frames; one scale and shift for each image, least squares in disparity" in head
    assert [line.count("|") for line in table] == [12] * 4
    assert table[3].startswith("| image row | 0.0")


def test_the_report_is_written_beside_the_figures(
    frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = frames / "new" / "report"
    assert main(options(frames, "--json", "--report", str(folder))) == 0
    assert json.loads(capsys.readouterr().out)["report"] == str(folder / "index.html")
    assert "0.color.png: AbsRel" in (folder / "index.html").read_text()


def test_a_report_that_cannot_be_written_stops_before_the_evaluation(
    frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (frames / "taken").write_text("")
    assert main(options(frames, "--report", str(frames / "taken"))) == 1
    assert "is no folder for a report" in capsys.readouterr().err


def test_views_of_the_world_are_measured_without_files(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["eval", "depth", "--world", "1", "--range", "0.001", "80", "--json"]
    assert main([*command, "--model", "student", "--engine", "onnxruntime"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["frames"], result["range_m"]) == (1, [0.001, 80.0])
    assert result["boundary_f1"] is not None


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
    complaint = capsys.readouterr().err
    assert "finds 2 files and --depth 1" in complaint
    assert "1.color.png has no partner" in complaint


def test_globs_that_find_nothing_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options(tmp_path)) == 1
    assert "--rgb finds 0 files" in capsys.readouterr().err


def test_a_shifted_pairing_is_refused(frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many files on both sides, and yet every image would meet the depth of another."""
    for old, new in (("0.depth", "2.depth"), ("1.color", "3.color"), ("0.color", "2.color")):
        (frames / f"{old}.png").rename(frames / f"{new}.png")
    assert main(options(frames)) == 1
    assert "2.color.png meets 1.depth.png, though there is 2.depth.png" in capsys.readouterr().err


def test_frames_are_taken_in_the_order_of_their_numbers(frames: Path) -> None:
    for side in ("color", "depth"):
        (frames / f"1.{side}.png").rename(frames / f"10.{side}.png")
        shutil.copy(frames / f"0.{side}.png", frames / f"9.{side}.png")
    found = Recording.find(str(frames / "*.color.png"), str(frames / "*.depth.png"), 1000)
    assert [frame.name for frame in found] == ["0.color.png", "9.color.png", "10.color.png"]


def test_depth_is_read_in_metres_and_saturation_is_unknown(frames: Path) -> None:
    stored = np.full((240, 320), 2500, np.uint16)
    stored[0], stored[1] = 65535, 0
    cv2.imwrite(str(frames / "0.depth.png"), stored)
    found = Recording.find(str(frames / "0.color.png"), str(frames / "0.depth.png"), 1000)
    truth = next(iter(found)).truth
    assert truth.dtype == np.float32
    assert not truth[:2].any()
    assert (truth[2:] == 2.5).all()


def test_depth_in_floats_is_read_as_the_complaint_says(frames: Path) -> None:
    stored = np.full((240, 320), 2.5, np.float32)
    stored[0] = 0.0
    cv2.imwrite(str(frames / "0.tiff"), stored)
    found = Recording.find(str(frames / "0.color.png"), str(frames / "0.tiff"), 1)
    np.testing.assert_array_equal(next(iter(found)).truth, stored)


@pytest.mark.parametrize(
    ("stored", "complaint"),
    [
        (np.zeros((240, 320), np.uint8), "one channel of 16 bits"),
        (np.zeros((240, 320, 3), np.uint16), "one channel of 16 bits"),
        (np.ones((240, 240), np.uint16), "cannot be one view"),
        (None, "cannot be read as a depth image; convert it to PNG of 16 bits or to TIFF"),
    ],
)
def test_files_that_are_no_truth_for_the_image_are_refused(
    frames: Path, stored: np.ndarray | None, complaint: str
) -> None:
    path = frames / "0.depth.png"
    if stored is None:
        path.write_bytes(b"no image")
    else:
        cv2.imwrite(str(path), stored)
    recording = Recording.find(str(frames / "*.color.png"), str(frames / "*.depth.png"), 1000)
    with pytest.raises(EvaluationError, match=complaint):
        next(iter(recording))


def test_a_frame_without_truth_is_named(frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(frames / "1.depth.png"), np.zeros((240, 320), np.uint16))
    assert main(options(frames)) == 1
    assert "1.color.png: only 0 pixels have ground truth" in capsys.readouterr().err
