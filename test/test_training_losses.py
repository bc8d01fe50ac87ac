"""The losses: what they ignore, what they see, and what they never touch."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="training needs PyTorch (extra [train])")

from depth_node.training import losses


@given(scale=st.floats(0.05, 20), shift=st.floats(-5, 5), seed=st.integers(0, 50))
@settings(deadline=None, max_examples=30)
def test_the_affine_gauge_of_the_prediction_does_not_matter(scale, shift, seed):
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand((2, 24, 32), generator=generator, dtype=torch.float64) + 0.1
    prediction = torch.rand((2, 24, 32), generator=generator, dtype=torch.float64)
    valid = torch.rand((2, 24, 32), generator=generator) > 0.2
    reference = losses.normalise(target, valid)

    def terms(values):
        difference = losses.normalise(values, valid) - reference
        return (
            losses.trimmed_mean(difference.abs(), valid, 0.1),
            losses.gradient_matching(difference, valid, 4),
        )

    torch.testing.assert_close(terms(scale * prediction + shift), terms(prediction))
    assert all(float(term) < 1e-9 for term in terms(scale * target + shift))


@given(scale=st.floats(0.05, 20))
@settings(deadline=None, max_examples=20)
def test_the_logarithmic_term_ignores_scale_but_sees_shift(scale):
    target = torch.rand((2, 24, 32), dtype=torch.float64) + 0.1
    valid = torch.ones_like(target, dtype=torch.bool)
    assert losses.log_error(scale * target, target, valid).max() < 1e-9
    assert losses.log_error(target + 1, target, valid).mean() > 0.01


@given(scale=st.floats(0.5, 20), shift=st.floats(0, 5), seed=st.integers(0, 50))
@settings(deadline=None, max_examples=30)
def test_the_relative_term_ignores_the_gauge_and_the_sky(scale, shift, seed):
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand((2, 24, 32), generator=generator, dtype=torch.float64) + 0.1
    prediction = scale * target + shift
    target[:, :6] = 0
    valid = torch.rand((2, 24, 32), generator=generator) > 0.2
    assert losses.relative_error(prediction, target, valid).max() < 1e-3


def test_the_relative_term_counts_far_and_near_alike():
    def error_of_a_tenth_more(row: int) -> float:
        target = torch.linspace(0.05, 2.0, 100).repeat_interleave(400).view(1, 100, 400)
        prediction = target.clone()
        prediction[:, row, :100] *= 1.1
        valid = torch.ones_like(target, dtype=torch.bool)
        return float(losses.relative_error(prediction, target, valid)[:, row, :100].mean())

    assert error_of_a_tenth_more(5) == pytest.approx(0.0953, rel=0.1)
    assert error_of_a_tenth_more(95) == pytest.approx(0.0953, rel=0.1)


def test_the_relative_term_stays_finite_where_the_fit_goes_below_zero():
    target = torch.rand((1, 16, 16)) + 0.01
    prediction = (1 - target).requires_grad_()
    valid = torch.ones_like(target, dtype=torch.bool)
    losses.relative_error(prediction, target, valid).mean().backward()
    assert torch.isfinite(prediction.grad).all()


def test_the_worst_tenth_of_the_pixels_does_not_count():
    error = torch.zeros((1, 20, 50))
    error[0, :1] = 100.0  # 5% outliers
    error[0, 1:] = 1.0
    valid = torch.ones_like(error, dtype=torch.bool)
    assert losses.trimmed_mean(error, valid, 0.1) == pytest.approx(1.0)
    assert losses.trimmed_mean(error, valid, 0.0) == pytest.approx(5.95)


def test_sky_may_saturate_as_deep_as_it_likes():
    target = torch.rand((1, 32, 32)) + 0.2
    target[:, :8] = 0
    valid = torch.ones_like(target, dtype=torch.bool)
    prediction = target[:, None].clone()
    shallow = losses.student_loss(prediction, target, valid, losses.LossConfig())
    prediction[:, :, :8] = -50
    deep = losses.student_loss(prediction, target, valid, losses.LossConfig())
    assert float(deep["total"]) == pytest.approx(float(shallow["total"]), abs=1e-6)
    prediction[:, :, :8] = 0.5
    near = losses.student_loss(prediction, target, valid, losses.LossConfig())
    assert float(near["total"]) > float(shallow["total"]) + 0.1


def test_pixels_without_ground_truth_have_no_gradient():
    target = torch.rand((2, 16, 16)) + 0.1
    valid = torch.ones_like(target, dtype=torch.bool)
    valid[:, 4:9, 4:9] = False
    prediction = torch.rand((2, 1, 16, 16), requires_grad=True)
    losses.student_loss(prediction, target, valid, losses.LossConfig())["total"].backward()
    assert prediction.grad is not None
    assert torch.isfinite(prediction.grad).all()
    assert float(prediction.grad[:, 0, 4:9, 4:9].abs().max()) == 0


def test_an_image_without_ground_truth_gives_zero_not_nan():
    prediction = torch.rand((1, 1, 16, 16), requires_grad=True)
    empty = torch.zeros((1, 16, 16), dtype=torch.bool)
    total = losses.student_loss(prediction, torch.ones(1, 16, 16), empty, losses.LossConfig())
    total["total"].backward()
    assert float(total["total"]) == 0
    assert torch.isfinite(prediction.grad).all()
