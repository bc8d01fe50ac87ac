"""How the demo scores what the node publishes, and how much of it."""

from __future__ import annotations

import numpy as np
import pytest

from depth_node.demo.score import mean_score, mean_share, score_metric, score_relative

TRUTH = np.full((20, 30), 2.0, np.float32)
TRUTH[:, 15:] = 4.0
TRUTH[:5] = np.inf  # sky, which is no ground truth


def test_metres_are_scored_where_they_are_and_the_share_says_how_much_that_is() -> None:
    depth = TRUTH.copy()
    depth[5:, :15] *= 1.1
    whole = score_metric(depth, TRUTH)
    assert whole.metrics.absrel == pytest.approx(0.05)
    assert whole.share == 1.0
    depth[5:, :15] = np.nan  # the wrong half is not published: a better score, of less
    half = score_metric(depth, TRUTH)
    assert half.metrics.absrel == pytest.approx(0.0)
    assert half.share == pytest.approx(0.5)
    mean = mean_score([whole, half])
    assert mean is not None
    assert mean.absrel == pytest.approx(0.025)
    assert mean_share([whole, half]) == pytest.approx(0.75)


def test_a_wall_that_the_network_takes_for_sky_is_not_scored_and_the_share_says_so() -> None:
    disparity = (1.0 / TRUTH).astype(np.float32)
    disparity[5:8] = 0.0
    assert score_relative(disparity, TRUTH).share == pytest.approx(0.8)


def test_without_a_score_there_is_no_share() -> None:
    assert np.isnan(mean_share([]))
