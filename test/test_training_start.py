"""A training that starts from an exported student."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch (extra [train])")
pytest.importorskip("onnx", reason="the export needs onnx (extra [train])")

from depth_node.training import export
from depth_node.training.frames import Frames, Mixture
from depth_node.training.loop import Phase, RunConfig, train
from depth_node.training.network import NetworkConfig, Student
from depth_node.training.shards import ShardConfig, render_shards
from depth_node.training.start import StartConfig, StartError, blended, load_start, read_weights

pytestmark = pytest.mark.usefixtures("one_torch_thread")
TINY = NetworkConfig(
    width=64, height=64, channels=(8, 8, 16, 16, 24), blocks=(1, 1, 1, 1), decoder=(8, 8, 8, 16)
)


def images(seed: int = 0) -> torch.Tensor:
    return torch.randn((4, 3, 64, 64), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def trained() -> Student:
    """A student whose normalisations do something."""
    torch.manual_seed(5)
    student = Student(TINY).train()
    with torch.no_grad():
        for module in student.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2)
                module.bias.uniform_(-1, 1)
        for seed in range(3):
            student(images(seed))
    return student.eval()


@pytest.fixture
def file(trained, tmp_path) -> Path:
    path = tmp_path / "student.onnx"
    export.export_student(trained, path, name="tiny", version="1")
    return path


def test_the_start_computes_what_the_file_does(trained, file):
    student = Student(TINY).eval()
    load_start(StartConfig(str(file)), student, images(7))
    with torch.no_grad():
        torch.testing.assert_close(student(images(8)), trained(images(8)), rtol=1e-3, atol=1e-3)


def test_on_the_images_of_the_statistics_training_mode_computes_the_same(trained, file):
    student = Student(TINY)
    load_start(StartConfig(str(file)), student, images(7))
    assert student.training
    with torch.no_grad():
        torch.testing.assert_close(student(images(7)), trained(images(7)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (dataclasses.replace(TINY, channels=(8, 8, 16, 16, 32)), "no student of this size"),
        (dataclasses.replace(TINY, blocks=(2, 1, 1, 1)), "nothing"),
    ],
)
def test_a_student_of_another_size_is_refused(file, network, message):
    with pytest.raises(StartError, match=message):
        load_start(StartConfig(str(file)), Student(network), images())


def test_another_file_than_the_run_was_made_for_is_refused(file):
    student = Student(TINY)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    load_start(StartConfig(str(file), digest), student, images())
    with pytest.raises(StartError, match=digest):
        load_start(StartConfig(str(file), "0" * 64), student, images())


def test_what_is_no_onnx_file_is_refused(tmp_path):
    path = tmp_path / "student.onnx"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(StartError, match="ONNX"):
        load_start(StartConfig(str(path)), Student(TINY), images())


@pytest.mark.parametrize("keep", [0.0, 0.25])
def test_what_is_exported_keeps_a_share_of_the_start(file, keep, tmp_path):
    torch.manual_seed(9)
    moved = Student(TINY).eval()
    kept = blended(moved, StartConfig(str(file), keep=keep))
    path = tmp_path / "kept.onnx"
    export.export_student(kept, path, name="tiny", version="2")
    own = dict(export.fused(moved).named_parameters())
    for name, array in read_weights(StartConfig(str(path))).arrays.items():
        if name in own:
            start = read_weights(StartConfig(str(file))).arrays[name]
            expected = keep * start + (1 - keep) * own[name].detach().numpy()
            np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-6)


def test_a_run_starts_there_and_resumes_without_the_file(file, trained, tmp_path):
    shards = render_shards(
        ShardConfig(frames=8, width=64, height=64, views=4, per_shard=8), tmp_path, workers=1
    )
    data = Mixture([(Frames(shards), 1.0)])
    run = RunConfig(
        phases=(Phase(4, 64, 64, 4),),
        network=TINY,
        start=StartConfig(str(file)),
        learning_rate=1e-9,
        weight_decay=0.0,
        precision="fp32",
        replicas=2,
    )
    train(run, data, tmp_path / "c.pt", stop_at=2)
    file.unlink()
    resumed = train(run, data, tmp_path / "c.pt")
    assert resumed.step == 4
    with torch.no_grad():
        now = resumed.averaged.eval()(images()).numpy()
        then = trained(images()).numpy()
    assert np.abs(now - then).mean() < 0.2 * then.std()
