"""Learning from a teacher: pseudo-labels, dual supervision, CutMix, feature alignment."""

from __future__ import annotations

import dataclasses
import socket

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="training needs PyTorch (extra [train])")
pytest.importorskip("onnx", reason="the export needs onnx (extra [train])")

from depth_node.training import distillation
from depth_node.training.alignment import (
    AlignmentConfig,
    AlignmentError,
    FrozenEncoder,
    alignment_loss,
)
from depth_node.training.data import AugmentConfig, make_batch
from depth_node.training.frames import Frames, Mixture, Step, write_shard
from depth_node.training.loop import Phase, RunConfig, Trainer, train
from depth_node.training.losses import LossConfig, student_loss
from depth_node.training.network import NetworkConfig

pytestmark = pytest.mark.usefixtures("one_torch_thread")
RUN = RunConfig(
    phases=(Phase(40, 32, 32, 6),),
    network=NetworkConfig(
        width=32, height=32, channels=(8, 8, 16, 16, 24), blocks=(1, 1, 1, 1), decoder=(8,) * 4
    ),
    augment=AugmentConfig(zoom=0.9, stretch=0, colour=0.2, noise=0, blur=0, jpeg=0),
    learning_rate=5e-3,
    precision="fp32",
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scenes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of a bright square before a dark ramp, and their disparity."""
    rng = np.random.default_rng(4)
    disparity = np.tile(np.linspace(0.1, 0.5, 32, dtype=np.float32)[:, None], (count, 1, 32))
    images = np.repeat((80 * disparity)[..., None], 3, axis=-1).astype(np.uint8)
    for i in range(count):
        y, x = rng.integers(4, 18, 2)
        disparity[i, y : y + 10, x : x + 10] = 1.0
        images[i, y : y + 10, x : x + 10] = rng.integers(150, 250, 3)
    return images, disparity


def source(folder, name: str, *, truth: bool, teacher: bool) -> Frames:
    images, disparity = scenes(12)
    arrays = {"image": images}
    if truth:
        holes = disparity.astype(np.float16)
        holes[:, ::3] = np.nan  # a sensor that sees only some rows
        arrays["disparity"] = holes
    if teacher:
        arrays["teacher"] = (7 * disparity + 2).astype(np.float16)
    write_shard(folder / name, arrays)
    return Frames([folder / name])


@pytest.fixture
def mixture(tmp_path) -> Mixture:
    """A third each of ground truth, of a teacher alone, and of both."""
    return Mixture(
        [
            (source(tmp_path, "a", truth=True, teacher=False), 1 / 3),
            (source(tmp_path, "b", truth=False, teacher=True), 1 / 3),
            (source(tmp_path, "c", truth=True, teacher=True), 1 / 3),
        ]
    )


def tensors(seed: int = 0, batch: int = 3) -> tuple[torch.Tensor, ...]:
    """Prediction, ground truth, nothing taught, nothing pasted."""
    random = generator(seed)
    prediction = torch.rand((batch, 1, 24, 32), generator=random)
    truth = torch.rand((batch, 24, 32), generator=random) + 0.1
    nothing = torch.full_like(truth, float("nan"))
    return prediction, truth, nothing, torch.zeros_like(truth, dtype=torch.bool)


# --- pseudo-labels --------------------------------------------------------------------------------


def test_without_a_teacher_the_loss_is_that_of_the_ground_truth():
    prediction, truth, nothing, pasted = tensors()
    config = LossConfig()
    mixed = distillation.batch_loss(prediction, truth, nothing, pasted, config, generator())
    alone = student_loss(prediction, truth, torch.ones_like(truth, dtype=torch.bool), config)
    assert {name: float(mixed[name]) for name in alone} == pytest.approx(
        {name: float(term) for name, term in alone.items()}
    )
    assert float(mixed["teacher"]) == 0


@given(scale=st.floats(0.1, 10), shift=st.floats(0, 3), seed=st.integers(0, 20))
@settings(deadline=None, max_examples=20)
def test_the_gauge_of_the_teacher_does_not_matter(scale, shift, seed):
    prediction, teacher, nothing, pasted = tensors(seed)
    config = LossConfig()

    def loss(values: torch.Tensor) -> float:
        terms = distillation.batch_loss(prediction, nothing, values, pasted, config, generator())
        return float(terms["total"])

    assert loss(scale * teacher + shift) == pytest.approx(loss(teacher), rel=2e-3)
    perfect = (scale * teacher + shift)[:, None]
    terms = distillation.batch_loss(perfect, nothing, teacher, pasted, config, generator())
    assert float(terms["total"]) < 1e-3


def test_the_weight_of_the_teacher_scales_what_it_adds():
    prediction, teacher, nothing, pasted = tensors()
    once, twice, never = (
        float(
            distillation.batch_loss(
                prediction, nothing, teacher, pasted, LossConfig(teacher=weight), generator()
            )["total"]
        )
        for weight in (1.0, 2.0, 0.0)
    )
    assert never == 0
    assert twice == pytest.approx(2 * once)


def test_each_part_of_a_cutmix_has_its_own_gauge():
    _, left, nothing, pasted = tensors(1)
    right = tensors(2)[1]
    pasted[:, :, 16:] = True
    teacher = torch.where(pasted, 5 * right + 1, left)
    prediction = torch.where(pasted, right, 3 * left + 2)[:, None]
    config = LossConfig()
    terms = distillation.batch_loss(prediction, nothing, teacher, pasted, config, generator())
    assert float(terms["total"]) < 1e-3
    unaware = torch.zeros_like(pasted)
    terms = distillation.batch_loss(prediction, nothing, teacher, unaware, config, generator())
    assert float(terms["total"]) > 0.1


# --- dual supervision -----------------------------------------------------------------------------


def test_where_depth_was_measured_the_teacher_has_no_say_in_the_layout():
    """Two flat halves whose order the teacher has wrong by far, without an edge in its labels."""
    truth = torch.ones((1, 24, 32))
    truth[:, :12] = 3.0
    ramp = torch.linspace(0, 1e-4, 24)[None, :, None].expand(1, 24, 32)
    no_paste = torch.zeros_like(truth, dtype=torch.bool)
    config = LossConfig(gradient=0.0, ranking=1.0)
    right, wrong = truth[:, None].clone(), 4 - truth[:, None]
    right_total, wrong_total = (
        float(
            distillation.batch_loss(p, truth, truth + ramp, no_paste, config, generator())["total"]
        )
        for p in (right, wrong)
    )
    assert right_total < wrong_total
    measured = distillation.batch_loss(right, truth, 4 - truth, no_paste, config, generator())
    assert float(measured["affine"]) < 1e-5, "the scale comes from the measurement alone"


def test_the_teacher_sharpens_what_was_not_measured():
    _, disparity = scenes(2)
    target = torch.from_numpy(disparity)
    blurred = torch.nn.functional.avg_pool2d(target[:, None], 5, 1, 2, count_include_pad=False)
    taught = torch.ones_like(target, dtype=torch.bool)

    def loss(prediction: torch.Tensor, **weights: float) -> float:
        config = LossConfig(**weights)
        return float(
            distillation.detail_loss(prediction.squeeze(1), 3 * target, taught, config, generator())
        )

    sharp = target[:, None]
    assert loss(sharp, ranking=0.0) < 1e-4
    assert loss(blurred, ranking=0.0) > 0.1
    assert loss(blurred, gradient=0.0, ranking=1.0) > loss(sharp, gradient=0.0, ranking=1.0)


def test_where_the_teacher_is_saturated_the_network_may_go_below():
    """As in every other term: the ReLU hides what is below 0, and the sky of the world is there."""
    teacher = tensors()[1]
    teacher[:, :8] = 0.0
    teacher[:, 8, :4] = float("nan")
    below = teacher.clone().nan_to_num()
    below[:, :8] = -5.0
    taught = torch.isfinite(teacher)
    config = LossConfig(ranking=0.0)
    assert float(distillation.detail_loss(below, teacher, taught, config, generator())) < 1e-4


def test_ranking_wants_the_order_of_the_target_across_its_edges():
    _, disparity = scenes(3)
    target = torch.from_numpy(disparity)
    taught = torch.ones_like(target, dtype=torch.bool)
    right = distillation.edge_ranking(target, target, taught, generator())
    flat = distillation.edge_ranking(torch.zeros_like(target), target, taught, generator())
    turned = distillation.edge_ranking(-target, target, taught, generator())
    assert float(right) < float(flat) < float(turned)
    again = distillation.edge_ranking(target, target, taught, generator())
    assert float(right) == float(again), "the same seed draws the same points"
    nowhere = distillation.edge_ranking(-target, target, ~taught, generator())
    assert float(nowhere) == 0


def test_labels_that_are_missing_have_no_gradient():
    prediction, truth, teacher, pasted = tensors()
    truth[0] = float("nan")
    teacher[0] = truth[1]
    teacher[0, 4:9, 4:9] = float("nan")
    prediction.requires_grad_()
    config = LossConfig()
    terms = distillation.batch_loss(prediction, truth, teacher, pasted, config, generator())
    terms["total"].backward()
    assert torch.isfinite(prediction.grad).all()
    assert float(prediction.grad[0, 0, 4:9, 4:9].abs().max()) == 0
    assert float(prediction.grad[0].abs().max()) > 0


# --- feature alignment ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    """A tiny DINOv2 with random weights, in a folder, as the hub would give one."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    folder = tmp_path_factory.mktemp("encoder")
    transformers.Dinov2Model(config).save_pretrained(folder)
    return str(folder)


def test_alignment_ends_at_the_margin():
    reference = torch.randn((2, 8, 3, 4), generator=generator())
    assert float(alignment_loss(3 * reference, reference, 0.85)) == 0
    assert float(alignment_loss(-reference, reference, 0.85)) == pytest.approx(2, abs=1e-5)
    features = torch.randn((2, 8, 3, 4), generator=generator(1), requires_grad=True)
    alignment_loss(features, reference, 0.85).backward()
    assert float(features.grad.abs().sum()) > 0


def test_each_feature_of_the_encoder_covers_one_place_of_the_student(encoder):
    frozen = FrozenEncoder(AlignmentConfig(1.0, encoder), torch.device("cpu"))
    image = torch.zeros((2, 32, 64, 3), dtype=torch.uint8)
    assert frozen.features(image).shape == (2, 16, 2, 4)


def test_alignment_changes_the_loss_and_draws_the_features_together(encoder, mixture, tmp_path):
    history = {}
    config = dataclasses.replace(RUN, alignment=AlignmentConfig(1.0, encoder, 0.999))
    config = dataclasses.replace(config, phases=(Phase(100, 32, 32, 6),))
    train(config, mixture, tmp_path / "c.pt", log=lambda step, means: history.update({step: means}))
    assert history[100]["alignment"] < 0.9 * history[50]["alignment"]
    batch = make_batch(mixture, RUN.augment, 0, Step(0, 0, 6, (32, 32)))
    aligned = Trainer(config).update(batch)
    plain = Trainer(RUN).update(batch)
    assert "alignment" not in plain
    assert float(aligned["total"]) == pytest.approx(
        float(plain["total"]) + float(aligned["alignment"]), rel=1e-4
    )


def test_an_encoder_that_is_not_here_is_one_clear_error(monkeypatch, tmp_path):
    pytest.importorskip("transformers")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(AlignmentError, match=r"alignment\.encoder a folder"):
        FrozenEncoder(AlignmentConfig(1.0, str(tmp_path / "none")), torch.device("cpu"))


def refuse(*arguments: object) -> None:
    raise OSError("no network in this test")


# --- all together ---------------------------------------------------------------------------------


def test_a_tiny_network_learns_from_every_kind_of_label(mixture, tmp_path):
    history = {}
    config = dataclasses.replace(RUN, phases=(Phase(150, 32, 32, 6),))
    train(config, mixture, tmp_path / "c.pt", log=lambda step, means: history.update({step: means}))
    assert history[150]["teacher"] < 0.85 * history[50]["teacher"]
    assert history[150]["affine"] < 0.85 * history[50]["affine"]


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_resumed_mixture_ends_with_the_same_bits(mixture, tmp_path, encoder, replicas):
    config = dataclasses.replace(
        RUN,
        phases=(Phase(9, 32, 32, 6),),
        replicas=replicas,
        alignment=AlignmentConfig(0.5, encoder),
    )
    whole = train(config, mixture, tmp_path / "whole.pt")
    train(config, mixture, tmp_path / "parts.pt", stop_at=4)
    parts = train(config, mixture, tmp_path / "parts.pt")
    for name, value in whole.averaged.state_dict().items():
        assert torch.equal(value, parts.averaged.state_dict()[name]), name
