"""A teacher's labels: written, continued, refused, and packed for training. Needs no PyTorch."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_node.cli import main
from depth_node.engines.base import EngineError
from depth_node.training import label
from depth_node.training.folders import FolderConfig, pack_folder
from depth_node.training.frames import Frames
from depth_node.types import Disparity
from depth_node.world import sample

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(3):
        image, metres = sample(seed, 96, 64, "room")
        cv2.imwrite(str(folder / f"{seed}.png"), image[..., ::-1])
        (folder / "depth").mkdir(exist_ok=True)
        depth = np.where(metres > 4, 0, 1000 * metres).astype(np.uint16)  # 0: not measured
        cv2.imwrite(str(folder / "depth" / f"{seed}.png"), depth)
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("DEPTH_NODE_CACHE", str(cache))


@pytest.fixture
def folder(pictures, tmp_path) -> Path:
    return Path(shutil.copytree(pictures, tmp_path / "pictures"))


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    label.add_arguments(parser)
    return label.run(parser.parse_args([*words, "--engine", "onnxruntime", "--threads", "1"]))


def test_every_image_gets_what_the_teacher_says(folder, capsys):
    assert run(str(folder), "--model", "student") == 0
    assert "3 labels written" in capsys.readouterr().out
    disparity = label.read_label(folder / "disparity" / "0.png.npz")
    assert disparity.shape == (192, 256)
    assert disparity.dtype == np.float32
    assert 0 <= disparity.min() < disparity.max()
    assert not list((folder / "disparity").glob("*.partial"))


def test_labels_that_are_there_are_kept(folder, capsys):
    run(str(folder), "--model", "student")
    paths = sorted((folder / "disparity").glob("*.npz"))
    stamps = [path.stat().st_mtime_ns for path in paths[1:]]
    paths[0].unlink()  # as after an interruption
    assert run(str(folder), "--model", "student") == 0
    assert "1 labels written" in capsys.readouterr().out
    assert [path.stat().st_mtime_ns for path in paths[1:]] == stamps
    assert run(str(folder), "--model", "student") == 0
    assert "every image" in capsys.readouterr().out


def test_another_teachers_labels_are_not_mixed_in(folder, tmp_path, repo_root):
    run(str(folder), "--model", "student")
    other = tmp_path / "other.onnx"
    other.write_bytes((repo_root / "models" / "student.onnx").read_bytes() + b"\x00")
    with pytest.raises(label.LabelError, match="made by student, another network than other"):
        run(str(folder), "--model", str(other))


def test_depth_maps_among_the_images_are_no_images(folder):
    shutil.copy(folder / "depth" / "0.png", folder / "0.depth.png")
    assert [path.name for path in label.images_of(folder)] == ["0.png", "1.png", "2.png"]


def test_a_label_keeps_any_range_to_half_precision(tmp_path):
    values = np.array([[0.0, 3e-5, 7.0, 699.0]], np.float32) * 1e4
    label.write_label(tmp_path / "a.npz", Disparity(values))
    np.testing.assert_allclose(label.read_label(tmp_path / "a.npz"), values, rtol=1e-3, atol=0.6)
    label.write_label(tmp_path / "b.npz", Disparity(np.zeros((2, 2), np.float32)))
    assert not label.read_label(tmp_path / "b.npz").any()


def test_an_image_that_cannot_be_decoded_is_named_and_skipped(folder, capsys):
    (folder / "broken.jpg").write_bytes(b"no image")
    assert run(str(folder), "--model", "student") == 0
    seen = capsys.readouterr()
    assert "3 labels written" in seen.out
    assert "broken.jpg" in seen.err
    for path in folder.glob("*.png"):
        path.unlink()
    shutil.rmtree(folder / "disparity")
    with pytest.raises(label.LabelError, match="can be decoded"):
        run(str(folder), "--model", "student")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none",), "none is not a folder"),
        (("empty",), "there is no image in"),
    ],
)
def test_a_wrong_folder_is_one_clear_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(["label", *words]) == 1
    assert message in capsys.readouterr().err


def test_a_teacher_that_is_not_here_is_named(folder, capsys):
    assert main(["label", str(folder)]) == 1
    assert "depth-node models export depth-anything-v2-small" in capsys.readouterr().err
    assert not (folder / "disparity").exists()


def test_a_full_disk_is_one_clear_error(folder, monkeypatch):
    def refuse(path, disparity):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(label, "write_label", refuse)
    with pytest.raises(label.LabelError, match="No space left"):
        run(str(folder), "--model", "student")


def test_a_failing_engine_is_not_hidden(folder, monkeypatch):
    def fail(files, settings, log):
        raise EngineError("no engine can run it")

    monkeypatch.setattr(label, "load_files", fail)
    with pytest.raises(EngineError):
        run(str(folder), "--model", "student")


# --- packing --------------------------------------------------------------------------------------


def test_a_labelled_folder_becomes_frames_of_the_stored_size(folder, tmp_path):
    run(str(folder), "--model", "student")
    shards = pack_folder(FolderConfig(str(folder), 0.5), (64, 48), tmp_path)
    frames = Frames(shards)
    assert frames.count == 3
    for index in range(3):
        image, disparity, teacher = frames[index]
        assert image.shape == (48, 64, 3)
        assert disparity is None
        assert teacher.shape == (48, 64)
        assert teacher.max() == 1
    wanted = label.read_label(folder / "disparity" / "1.png.npz")
    wanted = cv2.resize(wanted, (64, 48))
    np.testing.assert_allclose(frames[1].teacher, wanted / wanted.max(), atol=2e-3)


def test_packing_happens_once_and_anew_when_a_label_changes(folder, tmp_path):
    run(str(folder), "--model", "student")
    config = FolderConfig(str(folder), 0.5)
    first = pack_folder(config, (64, 48), tmp_path)
    stamp = (first[0] / "image.npy").stat().st_mtime_ns
    assert pack_folder(config, (64, 48), tmp_path) == first
    assert (first[0] / "image.npy").stat().st_mtime_ns == stamp
    label.write_label(folder / "disparity" / "0.png.npz", Disparity(np.ones((5, 5), np.float32)))
    assert pack_folder(config, (64, 48), tmp_path) != first


def test_measured_depth_becomes_inverse_metres_with_its_holes(folder, tmp_path):
    run(str(folder), "--model", "student")
    config = FolderConfig(str(folder), 0.5, depth=str(folder / "depth"))
    frames = Frames(pack_folder(config, (96, 64), tmp_path))
    _, metres = sample(2, 96, 64, "room")
    seen = np.asarray(frames[2].disparity, np.float32)
    known = metres <= 4
    assert np.isnan(seen[~known]).all()
    np.testing.assert_allclose(1 / seen[known], metres[known], rtol=3e-3)


def test_corrected_depth_is_packed_anew(folder, tmp_path):
    run(str(folder), "--model", "student")
    config = FolderConfig(str(folder), 0.5, depth=str(folder / "depth"))
    pack_folder(config, (96, 64), tmp_path)
    cv2.imwrite(str(folder / "depth" / "1.png"), np.full((64, 96), 4000, np.uint16))
    frames = Frames(pack_folder(config, (96, 64), tmp_path))
    assert (np.asarray(frames[1].disparity) == 0.25).all()


def test_a_folder_that_cannot_be_used_says_why(folder, tmp_path):
    with pytest.raises(label.LabelError, match="run: depth-node label"):
        pack_folder(FolderConfig(str(folder), 0.5), (64, 48), tmp_path)
    run(str(folder), "--model", "student")
    with pytest.raises(label.LabelError, match="a depth image has one channel"):
        pack_folder(FolderConfig(str(folder), 0.5, depth=str(folder)), (64, 48), tmp_path)
    with pytest.raises(label.LabelError, match=r"0\.png is missing; each labelled image"):
        pack_folder(FolderConfig(str(folder), 0.5, depth=str(tmp_path)), (64, 48), tmp_path)
    (folder / "disparity" / "0.png.npz").write_bytes(b"PK no label")
    with pytest.raises(label.LabelError, match="is not a label"):
        pack_folder(FolderConfig(str(folder), 0.5), (64, 48), tmp_path)
    with pytest.raises(ValueError, match="share is 0"):
        FolderConfig(str(folder), 0)
