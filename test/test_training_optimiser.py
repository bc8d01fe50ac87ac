"""Which parameter gets which update."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch (extra [train])")

from torch import nn

from depth_node.training.optimiser import Optimiser


def module() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(8, 16, 3), nn.Conv2d(16, 16, 5, groups=16), nn.BatchNorm2d(16))
    return layers.to(memory_format=torch.channels_last)


def updates(weight_decay: float = 0.0, rate: float = 0.01) -> dict[str, torch.Tensor]:
    """What one step adds to every parameter, after gradients that almost all point one way."""
    layers = module()
    before = {name: p.detach().clone() for name, p in layers.named_parameters()}
    generator = torch.Generator().manual_seed(1)
    for p in layers.parameters():
        p.grad = 1.0 + 0.05 * torch.randn(p.shape, generator=generator)
    Optimiser(layers, weight_decay).step(rate)
    return {name: p.detach() - before[name] for name, p in layers.named_parameters()}


def test_every_direction_of_a_dense_kernel_learns_alike():
    kernel = updates()["0.weight"]
    strengths = torch.linalg.svdvals(kernel.flatten(1))
    assert strengths.min() > 0.4 * strengths.max()


def test_all_else_moves_by_the_rate_as_with_adam():
    changes = updates(rate=0.01)
    for name in ("0.bias", "1.weight", "1.bias", "2.weight", "2.bias"):
        torch.testing.assert_close(changes[name], torch.full_like(changes[name], -0.01))


def test_a_dense_kernel_moves_about_as_far_as_the_others():
    kernel = updates(rate=0.01)["0.weight"]
    assert 0.001 < float(kernel.square().mean().sqrt()) < 0.01


def test_weight_decay_shrinks_kernels_only():
    plain, decayed = updates(0.0), updates(0.5)
    moved = {name for name in plain if not torch.equal(plain[name], decayed[name])}
    assert moved == {"0.weight", "1.weight"}


def test_parameters_without_a_gradient_stay():
    layers = module()
    before = [p.detach().clone() for p in layers.parameters()]
    optimiser = Optimiser(layers, 0.5)
    optimiser.zero_grad()
    optimiser.step(0.01)
    assert all(torch.equal(p, old) for p, old in zip(layers.parameters(), before, strict=True))


def test_the_update_of_dense_kernels_is_that_of_pytorchs_muon_but_for_rounding():
    layers = module()
    before = layers[0].weight.detach().permute(0, 2, 3, 1).flatten(1).clone()
    matrix = nn.Parameter(before.clone())
    muon = torch.optim.Muon([matrix], 0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    optimiser = Optimiser(layers, 0.1)
    generator = torch.Generator().manual_seed(2)
    for _ in range(3):
        for p in layers.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        matrix.grad = layers[0].weight.grad.permute(0, 2, 3, 1).flatten(1)
        optimiser.step(0.01)
        muon.step()
    expected = matrix.detach() - before
    moved = layers[0].weight.detach().permute(0, 2, 3, 1).flatten(1) - before
    assert float((moved - expected).norm()) < 0.02 * float(expected.norm())
