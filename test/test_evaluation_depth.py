"""The frozen depth protocol: alignment, clipping, metrics, masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_node.evaluation import depth as protocol
from depth_node.types import Disparity


def scene(seed: int = 0, shape: tuple[int, int] = (24, 32)) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 9.0, shape).astype(np.float32)


@given(scale=st.floats(0.01, 50), shift=st.floats(-5, 5), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_any_affine_disparity_of_the_truth_scores_perfectly(scale, shift, seed):
    truth = scene(seed)
    disparity = ((1 / truth - shift) / scale).astype(np.float32)
    mask = protocol.valid_mask(truth, 1e-3, 10)
    metrics = protocol.evaluate_disparity(disparity, truth, mask, 1e-3, 10)
    assert metrics.absrel < 2e-3
    assert metrics.delta1 == 1.0


@given(scale=st.floats(0.1, 10), shift=st.floats(-3, 3))
@settings(deadline=None, max_examples=25)
def test_figures_do_not_depend_on_the_gauge_of_the_prediction(scale, shift):
    truth = scene(1)
    prediction = (1 / scene(2) + 2 / truth).astype(np.float32)
    mask = protocol.valid_mask(truth, 1e-3, 10)
    one = protocol.evaluate_disparity(prediction, truth, mask, 1e-3, 10)
    other = protocol.evaluate_disparity(
        (scale * prediction + shift).astype(np.float32), truth, mask, 1e-3, 10
    )
    assert one.absrel == pytest.approx(other.absrel, rel=1e-3)


def test_alignment_is_the_least_squares_solution_in_disparity():
    truth, prediction = scene(3), scene(4)
    mask = truth < 6
    design = np.stack([prediction[mask], np.ones(mask.sum())], axis=1)
    expected, *_ = np.linalg.lstsq(design, 1 / truth[mask], rcond=None)
    assert protocol.align_disparity(prediction, truth, mask) == pytest.approx(expected, rel=1e-4)


def test_depth_alignment_recovers_scale_and_shift():
    truth = scene(5)
    mask = np.ones_like(truth, bool)
    scale, shift = protocol.align_depth((truth - 1.5) / 3, truth, mask)
    assert (scale, shift) == pytest.approx((3, 1.5), rel=1e-4)


def test_a_metric_network_is_compared_as_it_is_or_fitted_in_depth():
    truth = scene(7)
    mask = truth > 0
    seen = Disparity((1 / (2 * truth)).astype(np.float32), "metric")  # all of it twice too far
    as_it_is = protocol.DepthProtocol(0.1, 50.0, align="none").predicted_depth(seen, truth, mask)
    np.testing.assert_allclose(as_it_is, 2 * truth, rtol=1e-5)
    fitted = protocol.DepthProtocol(0.1, 50.0, align="depth").predicted_depth(seen, truth, mask)
    np.testing.assert_allclose(fitted, truth, rtol=1e-4)


@pytest.mark.parametrize("factor", [0.01, 0.5, 1.3, 3.0, 40.0])
def test_a_fit_in_depth_does_not_care_where_the_range_ends(factor):
    truth = scene(8)
    seen = Disparity((1 / (factor * truth)).astype(np.float32), "metric")
    mask = truth > 0
    fitted = protocol.DepthProtocol(0.3, 9.0, align="depth").predicted_depth(seen, truth, mask)
    assert protocol.depth_metrics(fitted, truth, mask).absrel == pytest.approx(0.0, abs=1e-4)


def test_what_is_fitted_in_depth_is_clipped_to_the_range_afterwards():
    truth = scene(9)
    seen = Disparity((1 / (3 * truth)).astype(np.float32), "metric")
    mask = (truth > 2.0) & (truth < 6.0)
    fitted = protocol.DepthProtocol(2.0, 6.0, align="depth").predicted_depth(seen, truth, mask)
    np.testing.assert_allclose(fitted, np.clip(truth, 2.0, 6.0), rtol=1e-4)


@pytest.mark.parametrize("align", ["none", "depth"])
def test_relative_disparity_is_fitted_in_disparity_only(align):
    with pytest.raises(protocol.EvaluationError, match="relative"):
        protocol.DepthProtocol(align=align).predicted_depth(
            Disparity(scene()), scene(), np.ones((24, 32), bool)
        )


@pytest.mark.parametrize("ends", [(0.0, 10.0), (5.0, 5.0), (1.0, np.inf), (np.nan, 10.0)])
def test_a_range_that_is_none_is_refused(ends):
    with pytest.raises(protocol.EvaluationError, match="range"):
        protocol.DepthProtocol(*ends)


def test_negative_aligned_disparity_becomes_the_far_end_of_the_range():
    depth = protocol.aligned_depth(np.array([[-1.0, 0.0, 0.5, 1e6]], np.float32), 1, 0, 0.1, 80)
    assert depth.tolist() == [[80.0, 80.0, 2.0, pytest.approx(0.1)]]


def test_metrics_of_a_known_error():
    truth = np.full((8, 8), 2.0, np.float32)
    metrics = protocol.depth_metrics(truth * 1.3, truth, np.ones((8, 8), bool))
    assert metrics.absrel == pytest.approx(0.3, rel=1e-5)
    assert metrics.sqrel == pytest.approx(0.18, rel=1e-5)
    assert metrics.rmse == pytest.approx(0.6, rel=1e-5)
    assert metrics.log_rmse == pytest.approx(np.log(1.3), rel=1e-5)
    assert (metrics.delta1, metrics.delta2) == (0.0, 1.0)


def test_unknown_ground_truth_never_counts():
    truth = np.array([[0.0, np.nan, np.inf, 5.0, 90.0]], np.float32)
    assert protocol.valid_mask(truth, 1e-3, 80).tolist() == [[False, False, False, True, False]]


def test_crops_are_those_of_the_literature():
    nyu = protocol.valid_mask(np.ones((480, 640), np.float32), 1e-3, 10, "eigen")
    assert nyu.sum() == 426 * 560
    garg = protocol.valid_mask(np.ones((375, 1242), np.float32), 1e-3, 80, "garg")
    rows, columns = np.nonzero(garg)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (153, 370, 44, 1196)
    benchmark = protocol.valid_mask(
        np.ones((375, 1242), np.float32), 1e-3, 80, "none", benchmark=True
    )
    assert benchmark.sum() == 352 * 1216
    assert not benchmark[:23].any()


def test_row_baseline_fits_a_floor_exactly():
    rows = np.arange(1, 41, dtype=np.float32)[:, None]
    floor = np.repeat(20 / rows, 30, axis=1)
    mask = np.ones_like(floor, bool)
    metrics = protocol.evaluate_disparity(protocol.row_baseline(40, 30), floor, mask, 1e-3, 80)
    assert metrics.absrel < 1e-4


def test_a_constant_prediction_falls_back_to_the_mean():
    truth = scene(6)
    mask = np.ones_like(truth, bool)
    scale, shift = protocol.align_disparity(np.ones_like(truth), truth, mask)
    assert scale == 0
    assert shift == pytest.approx(float(np.mean(1 / truth)), rel=1e-5)


@pytest.mark.parametrize(
    ("prediction", "mask", "message"),
    [
        (np.ones((24, 31), np.float32), np.ones((24, 32), bool), "differ in shape"),
        (np.ones((24, 32), np.float32), np.zeros((24, 32), bool), "0 pixels"),
        (np.full((24, 32), np.nan, np.float32), np.ones((24, 32), bool), "NaN"),
    ],
)
def test_what_cannot_be_compared_is_refused(prediction, mask, message):
    with pytest.raises(protocol.EvaluationError, match=message):
        protocol.align_disparity(prediction, scene(), mask)


def test_no_images_is_an_error_not_a_zero():
    with pytest.raises(protocol.EvaluationError, match="no image"):
        protocol.mean_metrics([])
