"""The training pipeline: network, loop, export."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch (extra [train])")
pytest.importorskip("onnx", reason="the export needs onnx (extra [train])")

from depth_node.training import export
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
from depth_node.training.network import NetworkConfig, Student, normalised
from depth_node.training.replicas import Replicas
from depth_node.training.shards import ShardConfig, render_shards

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
    assert sum(parameter.numel() for parameter in student.parameters()) <= 2_000_000
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


def test_the_images_of_a_run_are_counted_across_its_phases():
    run = dataclasses.replace(RUN, phases=(Phase(3, 32, 32, 4), Phase(2, 64, 64, 6)))
    steps = list(run.plan())
    assert [(step.number, step.first, step.count) for step in steps] == [
        (0, 0, 4),
        (1, 4, 4),
        (2, 8, 4),
        (3, 12, 6),
        (4, 18, 6),
    ]
    assert [step.size for step in steps] == [(32, 32)] * 3 + [(64, 64)] * 2
    for start in range(6):
        assert list(run.plan(start)) == steps[start:]


def test_a_checkpoint_of_another_run_is_refused(frames, tmp_path):
    train(RUN, frames, tmp_path / "c.pt", stop_at=1)
    other = dataclasses.replace(RUN, learning_rate=1e-4)
    with pytest.raises(CheckpointError, match="another configuration"):
        train(other, frames, tmp_path / "c.pt")


def test_a_checkpoint_on_other_images_is_refused(frames, tmp_path):
    path = tmp_path / "c.pt"
    train(RUN, frames, path, stop_at=1, sources=["0.4 from a", "0.6 from b"])
    with pytest.raises(CheckpointError, match=r"other images(.|\n)*0\.4 from a(.|\n)*0\.5 from a"):
        train(RUN, frames, path, stop_at=2, sources=["0.5 from a", "0.5 from b"])
    assert train(RUN, frames, path, stop_at=2, sources=["0.4 from a", "0.6 from b"]).step == 2


def test_a_checkpoint_that_does_not_say_its_images_is_continued(frames, tmp_path):
    """Those that were written before checkpoints said it."""
    path = tmp_path / "c.pt"
    train(RUN, frames, path, stop_at=1)
    state = torch.load(path, weights_only=True)
    del state["sources"]
    torch.save(state, path)
    assert train(RUN, frames, path, stop_at=2, sources=["1 from a"]).step == 2
    assert torch.load(path, weights_only=True)["sources"] == ["1 from a"]


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
    batch = make_batch(frames, RUN.augment, 0, next(RUN.plan()))
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
