"""`depth-node train`: its yaml, its data, what it refuses."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch (extra [train])")
pytest.importorskip("onnx", reason="the export needs onnx (extra [train])")

from depth_node.training import command, label
from depth_node.training.network import NetworkConfig
from depth_node.types import Disparity

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(list(words))


def test_the_committed_runs_are_valid_and_follow_each_other(repo_root):
    first, second = (
        command.load_settings(repo_root / "config" / name)
        for name in ("student_base.yaml", "student.yaml")
    )
    assert first.run.network == second.run.network == NetworkConfig()
    assert not first.run.start.weights
    assert second.run.start.weights == "training_output/base/student.onnx"
    seen = first.data.first_seed + first.data.frames // first.data.views
    assert second.data.first_seed >= seen, "the second run's scenes are new"


def test_the_command_makes_a_student(tmp_path):
    config = tmp_path / "tiny.yaml"
    config.write_text(
        """
name: tiny
version: "1"
data: {frames: 8, width: 64, height: 48, views: 4, per_shard: 8}
run:
  phases: [{steps: 3, width: 32, height: 32, batch: 2}]
  precision: fp32
  network: {width: 64, height: 64, channels: [8, 8, 8, 8, 8], blocks: [0, 0, 0, 0],
            decoder: [8, 8, 8, 8]}
"""
    )
    words = ("--config", str(config), "--output", str(tmp_path / "out"), "--workers", "1")
    assert command.run(arguments(*words, "--device", "cpu")) == 0
    assert (tmp_path / "out" / "student.onnx").is_file()
    assert (tmp_path / "out" / "log.jsonl").is_file()


@pytest.fixture
def labelled(tmp_path) -> Path:
    """A folder of six pictures with a teacher's disparity, as `depth-node label` leaves it."""
    folder = tmp_path / "pictures"
    (folder / "disparity").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(6):
        image = folder / f"{number}.png"
        cv2.imwrite(str(image), rng.integers(0, 256, (40, 56, 3), np.uint8))
        disparity = rng.random((20, 28), np.float32)
        label.write_label(label.label_path(folder / "disparity", image), Disparity(disparity))
    return folder


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_command_mixes_a_labelled_folder_in(labelled, tmp_path, share):
    config = tmp_path / "tiny.yaml"
    config.write_text(
        f"""
name: tiny
version: "1"
data: {{frames: 4, width: 64, height: 48, views: 4, per_shard: 4}}
folders:
  - {{path: {labelled}, share: {share}}}
run:
  phases: [{{steps: 2, width: 32, height: 32, batch: 4}}]
  precision: fp32
  loss: {{teacher: 0.5}}
  network: {{width: 64, height: 64, channels: [8, 8, 8, 8, 8], blocks: [0, 0, 0, 0],
            decoder: [8, 8, 8, 8]}}
"""
    )
    output = tmp_path / "out"
    words = ("--config", str(config), "--output", str(output), "--workers", "1")
    assert command.run(arguments(*words, "--device", "cpu")) == 0
    (line,) = (output / "log.jsonl").read_text().splitlines()
    assert json.loads(line)["teacher"] > 0
    assert any((output / "frames").glob("folder-*"))
    assert any((output / "frames").glob("world-*")) == (share < 1)


def test_a_run_is_not_continued_on_other_images(labelled, tmp_path, capsys):
    config, output = tmp_path / "tiny.yaml", tmp_path / "out"
    words = ("--config", str(config), "--output", str(output), "--workers", "1", "--device", "cpu")
    text = f"""
name: tiny
version: "1"
data: {{frames: 4, width: 64, height: 48, views: 4, per_shard: 4}}
folders: [{{path: {labelled}, share: 0.5}}]
run:
  phases: [{{steps: 2, width: 32, height: 32, batch: 4}}]
  precision: fp32
  network: {{width: 64, height: 64, channels: [8, 8, 8, 8, 8], blocks: [0, 0, 0, 0],
            decoder: [8, 8, 8, 8]}}
"""
    config.write_text(text)
    assert command.run(arguments(*words, "--steps", "1")) == 0
    made = sorted((output / "frames").iterdir())
    for old, new in (("frames: 4", "frames: 8"), ("share: 0.5", "share: 0.25")):
        config.write_text(text.replace(old, new))
        assert command.run(arguments(*words)) == 1
        said = capsys.readouterr().err
        assert "a run on other images" in said
        assert f"it has: 0.5 from {labelled} (folder-" in said
    assert sorted((output / "frames").iterdir()) == made, "it is said before anything is rendered"
    config.write_text(text)
    label.label_path(labelled / "disparity", labelled / "0.png").touch()
    assert command.run(arguments(*words)) == 1
    assert "a file in them" in capsys.readouterr().err


def test_a_folder_without_labels_is_explained(labelled, tmp_path, capsys):
    shutil.rmtree(labelled / "disparity")
    config = tmp_path / "tiny.yaml"
    config.write_text(
        f"name: x\nversion: '1'\ndata: {{}}\nrun: {{}}\nfolders: [{{path: {labelled}, share: 1}}]"
    )
    assert command.run(arguments("--config", str(config), "--output", str(tmp_path))) == 1
    assert f"run: depth-node label {labelled}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nversion: '1'\ndata: {}\nrun: {learning_rat: 1}", "unknown key 'learning_rat'"),
        ("name: x\nversion: 1\ndata: {}\nrun: {}", "expected str"),
        ("name: x\nversion: '1'\ndata: {frames: many}\nrun: {}", "expected int"),
        ("name: x\nversion: '1'\ndata: {frames: 0}\nrun: {}", "must be positive"),
        ("name: x\nversion: '1'\ndata: {}\nrun: {precision: fp8}", "expected one of"),
        ("name: x", "missing"),
        ("name: x\nversion: '1'\ndata: {}\nrun: {start: {keep: 0.5}}", "names no file to keep"),
        ("name: x\nversion: '1'\ndata: {}\nrun: {}\nfolders: [{path: a, share: 2}]", "in (0, 1]"),
        (
            "name: x\nversion: '1'\ndata: {}\nrun: {}\n"
            "folders: [{path: a, share: 0.7}, {path: b, share: 0.6}]",
            "more than 1",
        ),
        ("{", "not valid yaml"),
    ],
)
def test_a_wrong_yaml_is_explained(tmp_path, capsys, text, message):
    config = tmp_path / "run.yaml"
    config.write_text(text)
    assert command.run(arguments("--config", str(config), "--output", str(tmp_path))) == 1
    assert message in capsys.readouterr().err


def test_a_start_that_is_not_there_is_explained_before_anything_is_rendered(tmp_path, capsys):
    config = tmp_path / "run.yaml"
    config.write_text("name: x\nversion: '1'\ndata: {}\nrun: {start: {weights: /no/student.onnx}}")
    assert command.run(arguments("--config", str(config), "--output", str(tmp_path / "out"))) == 1
    assert "cannot read the network /no/student.onnx" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_yaml_is_explained(tmp_path, capsys):
    assert command.run(arguments("--config", str(tmp_path / "none.yaml"))) == 1
    assert "does not exist" in capsys.readouterr().err
