"""The local correction and its parts: neighbours, diffusion, upsampling, uncertainty."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scale_picture import SCALE, SHIFT, bent_disparity, inverse_depth, points

from depth_node.scale.diffusion import diffuse
from depth_node.scale.field import build_grids, correct, fine_shape, fused, referred
from depth_node.scale.kernel import Anchors, regress
from depth_node.scale.nearest import nearest_points
from depth_node.scale.points import sample
from depth_node.scale.upsample import guided, joint_bilateral_double


def corrected(count: int, seed: int = 0, spoil: float = 0.0):
    """(relative error of depth, relative sigma, correction) below the sky."""
    values = bent_disparity()
    given = points(count, seed)
    grids = build_grids(values, SCALE, SHIFT, count)
    residual = np.log(1 / given.depth) - sample(grids.fine, given.u, given.v)
    rng = np.random.default_rng(seed)
    wrong = rng.random(count) < spoil
    residual[wrong] += np.where(rng.random(wrong.sum()) < 0.5, 0.6, -0.4).astype(np.float32)
    correction = correct(grids, given.u, given.v, residual)
    below = slice(64, None)
    true = np.log(inverse_depth()[below])
    error = np.abs(grids.fine[below] + correction.log_field[below] - true)
    return error, correction.log_sigma[below], correction


@pytest.mark.parametrize(("count", "most"), [(50, 0.09), (500, 0.03), (5000, 0.01)])
def test_more_points_make_the_depth_better(count: int, most: float):
    error, _, _ = corrected(count)
    assert error.mean() < most


def test_a_box_that_the_network_misjudges_does_not_leak_into_the_wall_behind_it():
    error, _, _ = corrected(1500)
    beside = error[100 - 64 : 110 - 64, 114:122]  # the wall, right of the box's edge at column 110
    assert np.median(beside) < 0.03


def test_outliers_among_the_points_are_refused():
    error, _, correction = corrected(3000, spoil=0.3)
    assert 0.1 < (~correction.used).mean() < 0.4
    assert np.median(error) < 0.05


@pytest.mark.parametrize("count", [200, 3000])
def test_the_ninety_percent_interval_is_honest(count: int):
    error, sigma, _ = corrected(count)
    assert 0.8 < (error < 1.645 * sigma).mean() <= 1.0


def test_sigma_grows_away_from_the_points():
    given = points(4000)
    left = given.u < 100
    values = bent_disparity()
    grids = build_grids(values, SCALE, SHIFT)
    residual = np.log(1 / given.depth) - sample(grids.fine, given.u, given.v)
    found = correct(grids, given.u[left], given.v[left], residual[left])
    assert np.median(found.log_sigma[180:, 250:]) > 2 * np.median(found.log_sigma[180:, :90])


def test_still_frames_steady_the_correction_and_a_contradiction_replaces_it():
    _, _, first = corrected(500, seed=1)
    _, _, second = corrected(500, seed=2)
    steadied = fused(first, second, 0.0)
    moved = np.abs(steadied.log_field - first.log_field).mean()
    assert moved < np.abs(second.log_field - first.log_field).mean()
    far = replace(second, log_field=second.log_field + np.float32(1.0))
    sure = (second.log_sigma < 0.2) & (np.abs(second.log_field - first.log_field) < 0.2)
    assert fused(first, far, 0.0).log_field[sure] == pytest.approx(far.log_field[sure], abs=1e-5)


def test_a_correction_means_the_same_depth_after_a_step_of_the_scale():
    _, _, before = corrected(500, seed=1)
    stepped = 1.3 * SCALE, SHIFT - 0.001
    grids = build_grids(bent_disparity(), *stepped, 500)
    now = replace(before, guide=grids.fine)
    moved = referred(before, now, (SCALE, SHIFT), stepped)
    below = slice(64, None)  # the sky is saturated: its inverse depth has a floor
    expected = (before.guide + before.log_field)[below]
    np.testing.assert_allclose((now.guide + moved.log_field)[below], expected, atol=1e-4)
    assert referred(before, now, stepped, stepped) is before


@pytest.mark.parametrize(("dense", "off"), [(False, 3.0), (True, 1.5)])
def test_the_nearest_point_of_all_is_among_the_neighbours(dense: bool, off: float):
    rng = np.random.default_rng(0)
    x, y = (rng.uniform(0, 39, 60).astype(np.float32) for _ in range(2))
    near = nearest_points(x, y, (40, 40), 6, dense=dense).reshape(6, 40, 40)
    rows, columns = np.mgrid[:40, :40]
    found = np.hypot(x[near] - columns, y[near] - rows).min(axis=0)
    true = np.hypot(x - columns[..., None], y - rows[..., None]).min(axis=2)
    near_a_point = true < 2.0
    assert (found - true)[near_a_point].max() < off  # points are placed on whole cells or blocks
    assert (found - true).max() < 3.5


def test_a_slope_along_the_lowest_ring_is_not_carried_on_to_the_robots_feet():
    # Noise in the slope would draw stripes on the floor.
    rng = np.random.default_rng(0)
    x = np.arange(60, dtype=np.float32)
    y = np.full(60, np.float32(24.0))
    guide = (-0.6 + 0.05 * rng.normal(size=60)).astype(np.float32)
    residual = (0.1 + 0.03 * rng.normal(size=60)).astype(np.float32)
    anchors = Anchors(x, y, guide, residual)
    near = nearest_points(x, y, (60, 60), 6).reshape(6, 60, 60)
    feet = regress(x, np.full(60, np.float32(55)), np.zeros(60, np.float32), anchors, near[:, 55])
    assert np.abs(feet.value - 0.1).max() < 0.1


def test_one_point_is_everybodys_neighbour():
    near = nearest_points(np.array([3.0], np.float32), np.array([2.0], np.float32), (8, 8), 8)
    assert near.shape == (1, 64)
    assert (near == 0).all()


def test_upsampling_keeps_a_constant_and_does_not_mix_across_an_edge():
    guide = np.zeros((20, 30), np.float32)
    guide[:, 15:] = 1.0
    fine = np.repeat(np.repeat(guide, 2, 0), 2, 1)
    constant = joint_bilateral_double(np.full((20, 30), 0.3, np.float32), guide, fine, 0.02)
    assert constant == pytest.approx(np.full((40, 60), 0.3), abs=1e-6)
    sharp = joint_bilateral_double(guide, guide, fine, 0.02)
    assert np.abs(sharp - fine).max() < 0.01


def test_a_field_diffuses_along_a_surface_and_stops_at_an_edge():
    q = np.full((60, 80), 0.1, np.float32)
    q[:, 40:] = 0.5
    weight, value = np.zeros_like(q), np.zeros_like(q)
    weight[30, 5], value[30, 5] = 1.0, 0.2
    weight[30, 70], value[30, 70] = 1.0, -0.2
    field = diffuse(q, weight, value, 0.3)
    assert field[10, 30] == pytest.approx(0.2, abs=0.04)
    assert field[50, 45] == pytest.approx(-0.2, abs=0.04)


def test_a_slanted_plane_is_no_edge():
    q = np.repeat(np.linspace(0.02, 0.6, 60, dtype=np.float32)[:, None], 80, axis=1)
    weight, value = np.zeros_like(q), np.zeros_like(q)
    weight[58], value[58] = 1.0, 0.1
    assert diffuse(q, weight, value, 0.3)[20, 40] == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("size", [(480, 640), (252, 336), (375, 1242), (37, 53)])
def test_the_grid_is_divisible_and_bounded(size: tuple[int, int]):
    rows, columns = fine_shape(*size)
    assert rows % 8 == 0
    assert columns % 8 == 0
    assert rows * columns <= 125_000


def test_guided_enlargement_keeps_what_is_linear_in_the_guide():
    fine = np.random.default_rng(0).uniform(-1, 1, (40, 60)).astype(np.float32)
    guide = fine.reshape(20, 2, 30, 2).mean(axis=(1, 3))
    enlarged = guided(0.2 + 0.5 * guide, np.full_like(guide, 0.5), guide, fine)
    assert enlarged == pytest.approx(0.2 + 0.5 * fine, abs=1e-5)


def test_the_frame_before_spares_the_search_but_not_the_result():
    values = bent_disparity()
    grids = build_grids(values, SCALE, SHIFT)
    first, other = points(300, seed=1), points(300, seed=2)

    def log_residual(given):
        return np.log(1 / given.depth) - sample(grids.fine, given.u, given.v)

    before = correct(grids, first.u, first.v, log_residual(first))
    cold = correct(grids, other.u, other.v, log_residual(other))
    warm = correct(grids, other.u, other.v, log_residual(other), before)
    true = np.log(inverse_depth()[64:])

    def error(found):
        return np.abs(grids.fine[64:] + found.log_field[64:] - true).mean()

    assert error(warm) < 1.1 * error(cold)
