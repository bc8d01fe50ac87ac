"""The robust global fit and its degenerate cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_node.scale.fit import ShiftPrior, fit_affine


def scene(count: int, seed: int = 0, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    d = rng.uniform(5.0, 100.0, count).astype(np.float32)
    q = (0.004 * d + 0.003) * (1 + noise * rng.normal(size=count))
    return d, q.astype(np.float32)


def test_exact_points_give_exact_scale_and_shift():
    fit = fit_affine(*scene(200), prior=ShiftPrior(0.0, 10.0))
    assert fit.accepted
    assert fit.scale == pytest.approx(0.004, rel=1e-4)
    assert fit.shift == pytest.approx(0.003, rel=1e-2)


def test_thirty_percent_outliers_do_not_move_the_fit():
    d, q = scene(400, noise=0.02)
    rng = np.random.default_rng(1)
    wrong = rng.random(400) < 0.3
    q[wrong] *= np.where(rng.random(wrong.sum()) < 0.5, 0.5, 1.5)
    fit = fit_affine(d, q, prior=ShiftPrior(0.0, 10.0))
    predicted, true = fit.scale * d + fit.shift, 0.004 * d + 0.003
    assert np.abs(predicted / true - 1).max() < 0.03


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-3, 1e3))
def test_depth_does_not_depend_on_the_networks_units(unit: float):
    d, q = scene(150, noise=0.05)
    one, other = fit_affine(d, q), fit_affine(d * np.float32(unit), q)
    assert other.scale * unit == pytest.approx(one.scale, rel=1e-3)
    assert other.shift == pytest.approx(one.shift, rel=1e-2, abs=1e-5)


def test_no_point_is_refused_with_a_reason():
    fit = fit_affine(np.zeros(0, np.float32), np.zeros(0, np.float32))
    assert not fit.accepted
    assert "no measured point" in fit.reason


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_few_points_give_the_scale_only_and_keep_the_known_shift(count: int):
    d, q = scene(count)
    fit = fit_affine(d, q, prior=ShiftPrior(0.003, 1e-4))
    assert fit.accepted
    assert fit.scale_only
    assert fit.shift == pytest.approx(0.003, abs=1e-6)
    assert fit.scale == pytest.approx(0.004, rel=1e-3)


def test_constant_disparity_gives_the_scale_only():
    d = np.full(100, 40.0, np.float32)
    fit = fit_affine(d, np.full(100, 0.2, np.float32))
    assert fit.accepted
    assert fit.scale_only
    assert fit.scale * 40.0 + fit.shift == pytest.approx(0.2, rel=1e-3)


def test_points_that_agree_with_nothing_are_refused():
    rng = np.random.default_rng(0)
    d = rng.uniform(5, 100, 300).astype(np.float32)
    q = np.exp(rng.uniform(np.log(1 / 80), np.log(1.0), 300)).astype(np.float32)
    assert not fit_affine(d, q).accepted


def test_disparity_that_falls_with_nearness_is_refused():
    d, q = scene(200)
    assert not fit_affine(d, 1.0 / (q + np.float32(0.01)) / 100).accepted


def test_one_scan_line_does_not_invent_a_shift():
    rng = np.random.default_rng(0)
    d = rng.normal(40.0, 1.5, 300).astype(np.float32)
    q = (0.004 * d * rng.normal(1.0, 0.05, 300)).astype(np.float32)
    fit = fit_affine(d, q, patches=20)
    assert fit.scale == pytest.approx(0.004, rel=0.15)
    assert abs(fit.shift) < 0.03


def test_more_of_the_picture_means_a_smaller_covariance():
    d, q = scene(500, noise=0.1)
    few, many = fit_affine(d, q, patches=10), fit_affine(d, q, patches=200)
    assert few.covariance[0, 0] > 2 * many.covariance[0, 0]


def test_invalid_points_are_left_out():
    d, q = scene(100)
    d[:10], q[10:20] = np.nan, 0.0
    fit = fit_affine(d, q)
    assert fit.accepted
    assert fit.total == 80
