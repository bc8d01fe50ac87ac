"""The training pipeline: network, loop, export, command."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch (extra [train])")
pytest.importorskip("onnx", reason="the export needs onnx (extra [train])")

from depth_node.training import command, export, label
from depth_node.training.data import AugmentConfig, make_batch
from depth_node.training.frames import Frames, Mixture
from depth_node.training.loop import (
    CheckpointError,
    Phase,
    RunConfig,
    Trainer,
    learning_rate,
    train,
)
from depth_node.training.network import (
    NetworkConfig,
    Student,
    normalised,
    parameter_count,
)
from depth_node.training.replicas import Replicas
from depth_node.training.shards import ShardConfig, render_shards
from depth_node.types import Disparity

pytestmark = pytest.mark.usefixtures("one_torch_thread")
TINY = NetworkConfig(
    width=64, height=64, channels=(8, 8, 16, 16, 24), blocks=(1, 1, 1, 1), decoder=(8, 8, 8, 16)
)
RUN = RunConfig(
    phases=(Phase(16, 32, 32, 4), Phase(14, 64, 64, 4)),
    network=TINY,
    learning_rate=5e-3,
    checkpoint_every=7,
    precision="fp32",
)


@pytest.fixture(scope="session")
def frames(tmp_path_factory) -> Mixture:
    config = ShardConfig(frames=12, width=64, height=48, views=6, per_shard=6)
    shards = render_shards(config, tmp_path_factory.mktemp("shards"), workers=1)
    return Mixture([(Frames(shards), 1.0)])


def trained_norms(student: Student) -> Student:
    """Give batch norms statistics as a training leaves them, or folding would be trivial."""
    generator = torch.Generator().manual_seed(3)
    student.train()
    with torch.no_grad():
        for _ in range(3):
            image = torch.rand((2, 3, 64, 64), generator=generator)
            student(image)
    return student.eval()


# --- network --------------------------------------------------------------------------------------


def test_the_default_student_stays_within_its_budget():
    student = Student(NetworkConfig())
    assert parameter_count(student) <= 2_000_000
    with torch.no_grad():
        out = student.eval()(torch.zeros(1, 3, 96, 160))
    assert out.shape == (1, 1, 96, 160)


@pytest.mark.parametrize("wrong", [{"width": 100}, {"channels": (8, 8)}, {"decoder": (8,) * 5}])
def test_impossible_networks_are_refused(wrong):
    with pytest.raises(ValueError, match=f"network.{next(iter(wrong))}"):
        NetworkConfig(**wrong)


# --- loop -----------------------------------------------------------------------------------------


def test_the_loss_falls(frames, tmp_path):
    history = {}
    config = dataclasses.replace(
        RUN, phases=(Phase(100, 32, 32, 6),), augment=AugmentConfig(zoom=0.9, colour=0.2)
    )
    train(config, frames, tmp_path / "c.pt", log=lambda step, means: history.update({step: means}))
    assert sorted(history) == [50, 100]
    assert history[100]["total"] < 0.85 * history[50]["total"]


def test_a_phase_may_weigh_the_gradients_for_itself(frames, tmp_path):
    phases = (Phase(50, 32, 32, 4, gradient=0.0), Phase(50, 32, 32, 4))
    run = dataclasses.replace(RUN, phases=phases)
    weights = {}
    train(run, frames, tmp_path / "c.pt", log=lambda step, means: weights.update({step: means}))
    for step, weight in ((50, 0.0), (100, run.loss.gradient)):
        m = weights[step]
        total = m["affine"] + weight * m["gradient"] + run.loss.logarithm * m["logarithm"]
        assert m["total"] == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_resumed_run_ends_with_the_same_bits(frames, tmp_path, replicas):
    run = dataclasses.replace(RUN, replicas=replicas)
    whole = train(run, frames, tmp_path / "whole.pt")
    train(run, frames, tmp_path / "parts.pt", stop_at=11)
    train(run, frames, tmp_path / "parts.pt", stop_at=19)
    parts = train(run, frames, tmp_path / "parts.pt")
    assert whole.step == parts.step == 30
    for one, other in ((whole.model, parts.model), (whole.averaged, parts.averaged)):
        for name, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name


def test_replicas_take_the_mean_gradient_of_their_shares():
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 2, 3)  # without batch norm the shares do not matter
    image = torch.rand(5, 3, 8, 8)

    def loss(network, part):
        return {"total": network(image[part]).square().mean()}

    expected = loss(model, slice(0, 5))["total"]
    expected.backward()
    gradient = model.weight.grad.clone()
    model.zero_grad()
    total = Replicas(model, 2).backward(5, loss)["total"]
    torch.testing.assert_close(total, expected.detach())
    torch.testing.assert_close(model.weight.grad, gradient)


def test_a_checkpoint_of_another_run_is_refused(frames, tmp_path):
    train(RUN, frames, tmp_path / "c.pt", stop_at=1)
    other = dataclasses.replace(RUN, learning_rate=1e-4)
    with pytest.raises(CheckpointError, match="another configuration"):
        train(other, frames, tmp_path / "c.pt")


def test_the_learning_rate_rises_stays_and_falls():
    rates = np.array([learning_rate(RUN, step) for step in range(RUN.steps)])
    assert rates.max() == RUN.learning_rate
    assert rates[0] < RUN.learning_rate
    assert rates[-1] < 0.1 * RUN.learning_rate
    stays = np.flatnonzero(rates == RUN.learning_rate)
    assert len(stays) == pytest.approx((1 - RUN.warmup - RUN.decay) * RUN.steps, abs=1)
    assert (np.diff(rates[stays[-1] :]) < 0).all()


def test_a_longer_run_leaves_the_plateau_as_it_was():
    longer = dataclasses.replace(RUN, phases=(Phase(1000, 32, 32, 4),), warmup=0.0, decay=0.1)
    shorter = dataclasses.replace(longer, phases=(Phase(500, 32, 32, 4),))
    assert [learning_rate(longer, s) for s in range(400)] == [
        learning_rate(shorter, s) for s in range(400)
    ]


def test_mixed_precision_trains_too(frames):
    trainer = Trainer(dataclasses.replace(RUN, precision="bf16"))
    batch = make_batch(frames, RUN.augment, 0, 0, (32, 32), 4)
    assert np.isfinite(float(trainer.update(batch)["total"]))


# --- export ---------------------------------------------------------------------------------------


def test_the_exported_graph_equals_pytorch(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(1)
    student = trained_norms(Student(TINY))
    path = tmp_path / "student.onnx"
    export.export_student(student, path, name="s", version="1")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    # At twice the network's size the front is exactly a 2x2 mean.
    pooled = image.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3), dtype=np.float32)
    with torch.no_grad():
        expected = student(normalised(torch.from_numpy(pooled[None])))[0, 0].relu().numpy()
    (disparity,) = session.run(None, {"image": image})
    assert disparity.dtype == np.float32
    assert np.abs(disparity - expected).max() <= 1e-4 * max(1.0, float(expected.max()))


@pytest.mark.parametrize("size", [(1, 1), (37, 91), (64, 64), (375, 1242), (1200, 1920)])
def test_the_exported_graph_takes_any_image_size(tmp_path, size):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "student.onnx"
    export.export_student(Student(TINY), path, name="s", version="1")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (disparity,) = session.run(None, {"image": np.full((*size, 3), 90, np.uint8)})
    assert disparity.shape == (64, 64)
    assert (disparity >= 0).all()


def test_the_exported_file_says_what_it_is(tmp_path):
    import onnx

    path = tmp_path / "student.onnx"
    export.export_student(Student(TINY), path, name="tiny", version="7")
    model = onnx.load(path)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties == {
        "name": "tiny",
        "kind": "relative",
        "licence": "Apache-2.0",
        "version": "7",
    }
    assert model.opset_import[0].version == 17
    assert not list(tmp_path.glob("*.partial"))


# --- command --------------------------------------------------------------------------------------


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
