"""The evaluation command, on made-up files and on recorded predictions."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from scale_picture import bent_disparity, inverse_depth

from depth_node.evaluation.depth import EvaluationError
from depth_node.evaluation.scale import choose_points, evaluate, load_scene
from depth_node.evaluation.scale_command import add_scale_arguments, run_scale


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    q = inverse_depth()
    truth = np.where(q > 0, 256 / np.maximum(q, 1e-3), 0).astype(np.uint16)
    np.savez(tmp_path / "disp.npz", disp=bent_disparity())
    cv2.imwrite(str(tmp_path / "truth.png"), truth)
    return tmp_path / "disp.npz", tmp_path / "truth.png"


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add_scale_arguments(parser)
    return run_scale(parser.parse_args(words))


def test_the_command_prints_one_json_object(files, capsys, tmp_path):
    disparity, truth = map(str, files)
    report = tmp_path / "report.png"
    words = ("--disparity", disparity, "--truth", truth, "--pattern", "random:300", "--json")
    assert command(*words, "--report", str(report)) == 0
    figures = json.loads(capsys.readouterr().out)
    methods = figures["methods"]
    assert methods["ours"]["absrel"] < methods["robust_global"]["absrel"]
    assert {"absrel", "rmse", "delta1"} <= set(methods["interpolation"])
    assert 0.5 < figures["coverage_90"] <= 1.0
    assert cv2.imread(str(report)) is not None


def test_no_points_are_no_metres(files, capsys):
    disparity, truth = map(str, files)
    words = ("--disparity", disparity, "--truth", truth, "--pattern", "random:0", "--json")
    assert command(*words) == 2
    assert json.loads(capsys.readouterr().out)["status"] == "relative"


def test_given_pixels_are_not_tested(files):
    scene = load_scene(*files, 256.0)
    given = choose_points(scene, "random:100", 0)
    result = evaluate(scene, given, repeats=1)
    assert not result.tested[given.v, given.u].any()


def test_the_same_seed_gives_the_same_points(files):
    scene = load_scene(*files, 256.0)
    one, same, other = (choose_points(scene, "random:50", seed) for seed in (3, 3, 4))
    assert (one.u == same.u).all()
    assert (one.u != other.u).any()


def test_lines_lie_on_the_rings_of_the_scanner(files):
    scene = load_scene(*files, 256.0)
    given = choose_points(scene, "lines:16", 0)
    fx, fy, cx, cy = scene.camera.intrinsics
    elevation = np.degrees(np.arctan2(-(given.v - cy) / fy, np.hypot((given.u - cx) / fx, 1)))
    rings = np.linspace(-24.8, 2.0, 64)[2::4]
    assert np.abs(elevation[:, None] - rings).min(axis=1).max() <= 0.0601
    assert len(choose_points(scene, "lines:64", 0).u) > len(given.u)


@pytest.mark.parametrize("pattern", ["grid:4", "random", "lines:x", ""])
def test_an_unknown_pattern_is_named(files, pattern):
    with pytest.raises(EvaluationError, match="pattern"):
        choose_points(load_scene(*files, 256.0), pattern, 0)


def test_unreadable_files_are_named(files, tmp_path):
    disparity, truth = files
    with pytest.raises(EvaluationError, match="npz or npy"):
        load_scene(tmp_path / "missing.npz", truth, 256.0)
    with pytest.raises(EvaluationError, match="depth image"):
        load_scene(disparity, tmp_path / "missing.png", 256.0)


@pytest.mark.parametrize("scale", [0.0, -256.0, float("nan"), float("inf")])
def test_a_scale_that_gives_no_metres_is_refused(files, scale):
    with pytest.raises(EvaluationError, match=r"--truth-scale is .*positive number"):
        load_scene(*files, scale)


def test_what_was_not_measured_is_no_truth(files, tmp_path):
    """65535 was taken for a wall at 65.5 m, which `eval depth` never did."""
    disparity, truth = files
    stored = cv2.imread(str(truth), cv2.IMREAD_UNCHANGED)
    stored[:, :40] = 65535
    cv2.imwrite(str(truth), stored)
    metres = load_scene(disparity, truth, 1000.0).truth
    assert not metres[:, :40].any()
    np.testing.assert_array_equal(metres[:, 40:], stored[:, 40:].astype(np.float32) / 1000)
    floats = stored.astype(np.float32)
    floats[0], floats[1] = np.nan, np.inf
    cv2.imwrite(str(tmp_path / "truth.tiff"), floats)
    metres = load_scene(disparity, tmp_path / "truth.tiff", 1.0).truth
    assert not metres[:2].any()
    np.testing.assert_array_equal(metres[2:], floats[2:])


def test_a_picture_of_depth_is_no_truth(files, tmp_path):
    disparity, truth = files
    stored = cv2.imread(str(truth), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(tmp_path / "picture.png"), (stored // 256).astype(np.uint8))
    with pytest.raises(EvaluationError, match="8 bits are a picture"):
        load_scene(disparity, tmp_path / "picture.png", 256.0)


BARS = {"random:100": 0.048, "random:500": 0.029, "random:2000": 0.02, "random:10000": 0.0145}
BARS |= {"lines:64": 0.0185, "lines:16": 0.0285, "lines:8": 0.036, "lines:4": 0.055}


@pytest.mark.parametrize(("pattern", "most"), BARS.items())
def test_recorded_predictions_become_metric(shared_data, pattern, most):
    folder = shared_data / "dav2_predictions"
    errors, covered = [], []
    for name in ("0000000071", "0000000072"):
        scene = load_scene(folder / f"{name}_disp.npz", folder / f"{name}_gt.png", 256.0)
        figures = evaluate(scene, choose_points(scene, pattern, 0), repeats=1).figures
        methods = {name: value["absrel"] for name, value in figures["methods"].items()}
        errors.append(methods["ours"])
        covered.append(figures["coverage_90"])
        assert methods["ours"] < min(methods["robust_global"], methods["interpolation"])
    assert np.mean(errors) < most
    assert 0.83 < np.mean(covered) < 0.99
