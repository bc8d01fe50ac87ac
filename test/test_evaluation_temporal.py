"""Temporal alignment error, poses, and `depth-node eval temporal`."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from depth_node.cli import main
from depth_node.evaluation.depth import EvaluationError
from depth_node.evaluation.recording import read_poses
from depth_node.evaluation.temporal import temporal_alignment_error
from depth_node.evaluation.temporal_command import SequenceFit

K = np.array([[60.0, 0.0, 32.0], [0.0, 60.0, 24.0], [0.0, 0.0, 1.0]])
STILL = np.eye(4)


def wall(metres: float) -> np.ndarray:
    return np.full((48, 64), metres, np.float32)


def ahead(metres: float) -> np.ndarray:
    T = np.eye(4)
    T[2, 3] = metres
    return T


def test_a_wall_that_comes_nearer_as_far_as_the_camera_moves_has_no_error():
    error = temporal_alignment_error((wall(2.0), wall(1.9)), (STILL, ahead(0.1)), K)
    assert error == pytest.approx(0.0, abs=1e-6)


def test_the_error_is_relative_to_the_frame_that_is_arrived_in():
    seen = 1.9 * 1.05
    error = temporal_alignment_error((wall(2.0), wall(seen)), (STILL, ahead(0.1)), K)
    forth, back = (seen - 1.9) / seen, (seen + 0.1 - 2.0) / 2.0
    assert error == pytest.approx((forth + back) / 2, rel=1e-5)


@given(factor=st.floats(0.5, 2.0))
@settings(deadline=None, max_examples=20)
def test_a_flickering_scale_is_its_own_error_when_nothing_moves(factor):
    error = temporal_alignment_error((wall(2.0), wall(2.0 * factor)), (STILL, STILL), K)
    assert error == pytest.approx((abs(1 - factor) / factor + abs(1 - factor)) / 2, abs=1e-5)


@given(seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_a_plane_seen_from_two_places_agrees_up_to_rounding(seed):
    """The depth of one world plane, ray cast from two random poses, is consistent."""
    rng = np.random.default_rng(seed)
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(rng.uniform(-0.05, 0.05, 3)).as_matrix()
    T[:3, 3] = rng.uniform(-0.1, 0.1, 3)
    normal, distance = np.array([0.1, -0.05, 1.0]), 3.0
    v, u = np.mgrid[:48, :64]
    rays = np.stack([(u - 32.0) / 60.0, (v - 24.0) / 60.0, np.ones_like(u, float)], axis=-1)

    def depth_from(T_world_cam: np.ndarray) -> np.ndarray:
        along = rays @ T_world_cam[:3, :3].T @ normal
        return ((distance - normal @ T_world_cam[:3, 3]) / along).astype(np.float32)

    assert temporal_alignment_error((depth_from(STILL), depth_from(T)), (STILL, T), K) < 2e-3


@pytest.mark.parametrize("aside", [-1e-5, 1e-5])
def test_a_point_belongs_to_the_nearest_pixel(aside):
    """A camera that hardly moves sees the same steps, and no pixel of their other side."""
    steps = wall(2.0)
    steps[10:30, 20:40] = 4.0
    T = np.eye(4)
    T[:2, 3] = aside
    assert temporal_alignment_error((steps, steps), (STILL, T), K) < 1e-5


def test_unknown_depth_enters_nothing():
    a, b = wall(2.0), wall(2.0)
    a[0], a[1], a[2], b[-1] = np.nan, np.inf, 0.0, np.nan
    assert temporal_alignment_error((a, b), (STILL, STILL), K) == 0.0


def test_frames_of_two_sizes_are_no_sequence():
    with pytest.raises(EvaluationError, match="one size"):
        temporal_alignment_error((wall(2.0), wall(2.0)[:-1]), (STILL, STILL), K)


def test_views_that_share_nothing_have_no_error_to_tell():
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("y", 180, degrees=True).as_matrix()
    assert np.isnan(temporal_alignment_error((wall(2.0), wall(2.0)), (STILL, turned), K))


@given(scale=st.floats(0.01, 50), shift=st.floats(-5, 5))
@settings(deadline=None, max_examples=20)
def test_one_gauge_is_found_for_a_whole_sequence(scale, shift):
    rng = np.random.default_rng(0)
    fit = SequenceFit()
    for _ in range(3):
        truth = rng.uniform(0.5, 9.0, (24, 32)).astype(np.float32)
        fit.add((1 / truth - shift) / scale, truth, rng.random((24, 32)) < 0.5)
    assert fit.solve() == pytest.approx((scale, shift), rel=1e-3, abs=1e-3)


def test_a_sequence_without_truth_is_refused():
    with pytest.raises(EvaluationError, match="no ground truth"):
        SequenceFit().solve()


POSE = np.array(
    [[0.0, 0.0, 1.0, 1.5], [-1.0, 0.0, 0.0, 2.5], [0.0, -1.0, 0.0, 3.5], [0.0, 0.0, 0.0, 1.0]]
)


@pytest.mark.parametrize("form", ["matrix files", "tum", "stamped tum", "kitti"])
def test_poses_are_read_in_every_common_form(tmp_path: Path, form: str):
    if form == "matrix files":
        for i in (9, 10):
            np.savetxt(tmp_path / f"{i}.txt", POSE if i == 9 else np.eye(4))
    else:
        quaternion = Rotation.from_matrix(POSE[:3, :3]).as_quat()
        line = {
            "tum": [1.5, 2.5, 3.5, *quaternion],
            "stamped tum": [1305031102.2, 1.5, 2.5, 3.5, *quaternion],
            "kitti": list(POSE[:3].ravel()),
        }[form]
        still = {7: [0, 0, 0, 0, 0, 0, 1], 8: [0, 0, 0, 0, 0, 0, 0, 1]}.get(
            len(line), list(np.eye(4)[:3].ravel())
        )
        np.savetxt(tmp_path / "all.txt", [line, still])
    first, second = read_poses(str(tmp_path / "*.txt"), 2)
    np.testing.assert_allclose(first, POSE, atol=1e-6)
    np.testing.assert_allclose(second, np.eye(4), atol=1e-6)


def test_poses_that_cannot_be_are_refused(tmp_path: Path):
    pattern = str(tmp_path / "*.txt")
    with pytest.raises(EvaluationError, match="0 files"):
        read_poses(pattern, 2)
    np.savetxt(tmp_path / "all.txt", np.zeros((2, 5)))
    with pytest.raises(EvaluationError, match="5 numbers"):
        read_poses(pattern, 2)
    with pytest.raises(EvaluationError, match="2 poses for 3 frames"):
        read_poses(pattern, 3)
    np.savetxt(tmp_path / "all.txt", np.ones((2, 12)))
    with pytest.raises(EvaluationError, match="not orthonormal"):
        read_poses(pattern, 2)
    (tmp_path / "all.txt").write_text("seconds x y z\n")
    with pytest.raises(EvaluationError, match="no number"):
        read_poses(pattern, 2)


@pytest.fixture
def path_to_a_wall(tmp_path: Path) -> list[str]:
    """Three images of a tilted wall while the camera moves 0.1 m towards it each time."""
    slope = np.linspace(0.0, 1.0, 64, dtype=np.float32)
    for i in range(3):
        image = np.full((48, 64, 3), 100, np.uint8)
        image[:, 20:40] = (30, 60, 200)
        cv2.imwrite(str(tmp_path / f"{i}.jpg"), image)
        depth = np.broadcast_to(2.0 - 0.1 * i + 0.5 * slope, (48, 64))
        cv2.imwrite(str(tmp_path / f"{i}.png"), (1000 * depth).astype(np.uint16))
        np.savetxt(tmp_path / f"{i}.txt", ahead(0.1 * i))
    options = ["--rgb", "*.jpg", "--depth", "*.png", "--poses", "*.txt"]
    return [str(tmp_path / option) if "*" in option else option for option in options]


def eval_temporal(*options: str) -> int:
    network = ["--model", "student", "--engine", "onnxruntime"]
    return main(
        ["eval", "temporal", *options, "--intrinsics", "60", "60", "32", "24", *network, "--json"]
    )


def test_the_command_puts_the_recordings_own_error_beside_the_networks(
    path_to_a_wall: list[str], capsys: pytest.CaptureFixture[str]
):
    assert eval_temporal(*path_to_a_wall) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["frames"] == 3
    assert 0.0 < result["tae_percent"] < 100.0
    assert result["tae_of_truth_percent"] < 1.0
    assert 0.0 < result["absrel"] < 1.0


def test_the_command_refuses_poses_of_another_camera(
    path_to_a_wall: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    away = np.eye(4)
    away[0, 3] = 50.0
    np.savetxt(tmp_path / "1.txt", away)
    assert eval_temporal(*path_to_a_wall) == 1
    assert "share nothing by their poses" in capsys.readouterr().err
