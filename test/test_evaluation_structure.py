"""SSIM, soft edge error and boundary F1 against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_node.evaluation.structure import (
    boundary_f1,
    soft_edge_error,
    ssim_map,
    structure_metrics,
)

EVERYWHERE = np.ones((24, 32), bool)


def rough(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 9.0, (24, 32)).astype(np.float32)


def some(seed: int) -> np.ndarray:
    return np.random.default_rng([seed, 1]).random((24, 32)) < 0.7


def step(near: float, far: float, column: int = 16) -> np.ndarray:
    """A near half on the left, a far one from `column` on."""
    depth = np.full((24, 32), near, np.float32)
    depth[:, column:] = far
    return depth


@given(seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_a_perfect_prediction_has_perfect_structure(seed):
    truth, mask = rough(seed), some(seed)
    similarity = ssim_map(truth, truth, mask, 8.5)
    metrics = structure_metrics(truth, truth, mask, similarity)
    assert metrics.ssim == pytest.approx(1.0, abs=1e-6)
    assert metrics.soft_edge_error == 0.0
    assert metrics.boundary_f1 == pytest.approx(1.0)


@given(seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_what_stands_at_unknown_truth_changes_nothing(seed):
    truth, predicted, mask = rough(seed), rough(seed + 1000), some(seed)
    torn = np.where(mask, truth, np.float32(np.nan))
    other = np.where(mask, predicted, np.float32(77.0))
    with np.errstate(invalid="raise"):
        maps = [ssim_map(p, t, mask, 8.5) for p, t in ((predicted, truth), (other, torn))]
        metrics = [
            structure_metrics(p, t, mask, similarity)
            for p, t, similarity in zip((predicted, other), (truth, torn), maps, strict=True)
        ]
    np.testing.assert_array_equal(*maps)
    assert np.isnan(maps[0][~mask]).all()
    assert metrics[0] == metrics[1]


def test_ssim_of_two_flat_depths_is_the_luminance_term():
    similarity = ssim_map(np.full((24, 32), 3.0), np.full((24, 32), 2.0), EVERYWHERE, 10.0)
    c1 = (0.01 * 10.0) ** 2
    np.testing.assert_allclose(similarity, (2 * 3 * 2 + c1) / (9 + 4 + c1), rtol=1e-6)


def test_ssim_is_wangs_formula_over_a_gaussian_window_of_known_pixels():
    truth, predicted, mask = rough(3), rough(4), some(5)
    mask[12, 16] = True
    window = np.s_[7:18, 11:22]
    offsets = np.arange(-5, 6)
    gauss = np.exp(-(offsets**2) / (2 * 1.5**2))
    weight = np.outer(gauss, gauss) * mask[window]
    weight /= weight.sum()
    x, y = predicted[window].astype(float), truth[window].astype(float)
    mean_x, mean_y = (weight * x).sum(), (weight * y).sum()
    variance_x = (weight * (x - mean_x) ** 2).sum()
    variance_y = (weight * (y - mean_y) ** 2).sum()
    covariance = (weight * (x - mean_x) * (y - mean_y)).sum()
    c1, c2 = (0.01 * 8.0) ** 2, (0.03 * 8.0) ** 2
    expected = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    expected /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    assert ssim_map(predicted, truth, mask, 8.0)[12, 16] == pytest.approx(expected, rel=1e-5)


def test_soft_edge_error_is_the_distance_of_an_invented_depth_to_the_nearer_surface():
    truth = step(2.0, 4.0)
    assert soft_edge_error(np.full_like(truth, 2.5), truth, EVERYWHERE) == pytest.approx(0.5)
    assert soft_edge_error(np.full_like(truth, 3.5), truth, EVERYWHERE) == pytest.approx(0.5)


def test_soft_edge_error_forgives_an_edge_one_pixel_aside():
    assert soft_edge_error(step(2.0, 4.0, 17), step(2.0, 4.0), EVERYWHERE) == 0.0


def test_soft_edge_error_looks_at_contours_only():
    truth = step(2.0, 4.0)
    predicted = truth.copy()
    predicted[:, :10] = 9.0  # far from the contour between columns 15 and 16
    assert soft_edge_error(predicted, truth, EVERYWHERE) == 0.0


def test_without_contours_edges_are_not_measured():
    slope = np.linspace(2.0, 3.0, 32, dtype=np.float32)[None].repeat(24, axis=0)
    assert soft_edge_error(slope, slope, EVERYWHERE) is None
    assert boundary_f1(slope, slope, EVERYWHERE) is None
    torn = EVERYWHERE.copy()
    torn[:, 15:17] = False  # the truth is unknown where it steps
    assert soft_edge_error(step(2.0, 4.0), step(2.0, 4.0), torn) is None
    assert boundary_f1(step(2.0, 4.0), step(2.0, 4.0), torn) is None


@given(scale=st.floats(0.05, 20.0), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_boundary_f1_does_not_depend_on_scale(scale, seed):
    truth, predicted = rough(seed), rough(seed + 1000)
    one = boundary_f1(predicted, truth, EVERYWHERE)
    scaled = boundary_f1((predicted * scale).astype(np.float32), truth, EVERYWHERE)
    assert one == pytest.approx(scaled, abs=2e-3)


def test_boundary_f1_wants_the_pixel_and_the_direction():
    truth = step(2.0, 4.0)
    assert boundary_f1(step(2.0, 4.0, 17), truth, EVERYWHERE) == 0.0
    assert boundary_f1(step(4.0, 2.0), truth, EVERYWHERE) == 0.0


def test_boundary_f1_joins_precision_and_recall():
    truth = step(2.0, 4.0, 10)
    truth[:, 20:] = 8.0
    one_of_two = step(2.0, 4.0, 10)  # precision 1, recall 1/2
    assert boundary_f1(one_of_two, truth, EVERYWHERE) == pytest.approx(2 / 3)
    assert boundary_f1(truth, one_of_two, EVERYWHERE) == pytest.approx(2 / 3)


def test_a_direction_without_contours_in_the_truth_has_no_recall():
    truth = step(4.0, 2.0)
    speck = truth.copy()
    speck[5, 5] = 2.0  # one false contour in each direction, of which one has 24 true ones
    precision = np.mean([24 / 25, 0.0, 0.0, 0.0])
    expected = 2 * precision / (precision + 1.0)  # recall is 1: all that there was is found
    assert boundary_f1(speck, truth, EVERYWHERE) == pytest.approx(expected)


def published_boundary_f1(predicted: np.ndarray, truth: np.ndarray) -> float:
    """The definition of github.com/apple/ml-depth-pro, eval/boundary_metrics.py, in short."""

    def contours(depth: np.ndarray, t: float) -> list[np.ndarray]:
        d = 1.0 / depth.astype(np.float64)
        pairs = ((d[:, 1:], d[:, :-1]), (d[1:], d[:-1]))
        return [x / y > t for one, other in pairs for x, y in ((one, other), (other, one))]

    ratios = np.linspace(1.05, 1.25, 10)
    scores = []
    for t in ratios:
        pairs = list(zip(contours(predicted, t), contours(truth, t), strict=True))
        both = [np.count_nonzero(p & g) for p, g in pairs]
        found = [max(np.count_nonzero(p), 1) for p, _ in pairs]
        given = [max(np.count_nonzero(g), 1) for _, g in pairs]
        precision, recall = np.mean(np.divide(both, found)), np.mean(np.divide(both, given))
        scores.append(2 * precision * recall / max(precision + recall, 1e-12))
    return float(np.average(scores, weights=ratios))


@pytest.mark.parametrize("blind", [False, True])
def test_boundary_f1_is_the_published_one_where_the_truth_has_contours_everywhere(blind):
    truth = rough(6)
    predicted = (truth * np.exp(np.random.default_rng(7).normal(0, 0.2, truth.shape))).astype("f4")
    if blind:  # nothing is found in one of the directions
        predicted = np.minimum.accumulate(predicted, axis=1)
    score = boundary_f1(predicted, truth, EVERYWHERE)
    assert 0.1 < score < 0.95
    assert score == pytest.approx(published_boundary_f1(predicted, truth), rel=1e-4)


def test_boundary_f1_weighs_its_ratios():
    weak = boundary_f1(step(2.0, 2.0 * 1.15), step(2.0, 4.0), EVERYWHERE)
    ratios = np.linspace(1.05, 1.25, 10)  # as Depth Pro publishes them
    assert weak == pytest.approx(ratios[ratios < 1.15].sum() / ratios.sum())
    # Where the truth itself steps by less, the larger ratios have no contour to be found.
    assert boundary_f1(step(2.0, 2.2), step(2.0, 2.2), EVERYWHERE) == pytest.approx(1.0)
