"""The gauge between frames and the filter over time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scale_picture import disparity

from depth_node.scale.filter import ScaleFilter
from depth_node.scale.fit import AffineFit
from depth_node.scale.gauge import Gauge, carry, lowest, thumbnail

STILL = Gauge(a=1.0, b=0.0, sigma=1e-3, level=50.0, share=1.0)


def fit(scale: float, shift: float = 0.001, sigma: float = 0.01) -> AffineFit:
    covariance = np.diag([(sigma * scale) ** 2, 1e-6])
    return AffineFit(scale, shift, covariance, inliers=100, total=100, residual=0.05)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.2, 5.0), st.floats(0.0, 20.0))
def test_the_gauge_between_two_frames_is_found(a: float, b: float):
    before = disparity()
    now = np.where(before > 0, a * before + b, 0).astype(np.float32)
    found = carry(thumbnail(before), thumbnail(now))
    assert found is not None
    assert found.a == pytest.approx(a, rel=0.02)
    assert found.share > 0.95


def test_another_scene_shares_no_gauge():
    found = carry(thumbnail(disparity()), thumbnail(disparity()[:, ::-1] ** 2))
    assert found is None or found.share < 0.8
    assert carry(thumbnail(disparity()), np.zeros((36, 48), np.float32)) is None


def test_a_saturated_sky_makes_zero_the_lowest_disparity():
    assert lowest(thumbnail(disparity())) == 0.0
    assert lowest(thumbnail(disparity() + np.float32(3.0))) == pytest.approx(3.0, rel=1e-3)


def test_the_carried_scale_gives_the_same_metres():
    tracker = ScaleFilter()
    tracker.update(fit(0.004, 0.002))
    gauge = Gauge(a=2.0, b=3.0, sigma=1e-3, level=80.0, share=1.0)
    assert tracker.predict(gauge, 0.1)
    now = tracker.current
    d = 40.0
    assert now.scale * (2.0 * d + 3.0) + now.shift == pytest.approx(0.004 * d + 0.002, rel=1e-9)


def test_noise_of_the_measurements_is_averaged():
    rng = np.random.default_rng(0)
    tracker, scales = ScaleFilter(), []
    for _ in range(200):
        tracker.predict(STILL, 0.1)
        tracker.update(fit(0.004 * (1 + 0.01 * rng.normal())))
        scales.append(tracker.current.scale)
    assert np.std(np.diff(np.log(scales[20:]))) < 0.004


def test_one_contradiction_is_refused_and_three_that_agree_are_believed():
    tracker = ScaleFilter()
    for _ in range(20):
        tracker.predict(STILL, 0.1)
        tracker.update(fit(0.004))
    taken = []
    for _ in range(3):
        tracker.predict(STILL, 0.1)
        taken.append(tracker.update(fit(0.008)))
    assert taken == [False, False, True]
    assert tracker.current.scale == pytest.approx(0.008)


def test_contradictions_that_do_not_agree_are_not_believed():
    tracker = ScaleFilter()
    for _ in range(20):
        tracker.predict(STILL, 0.1)
        tracker.update(fit(0.004))
    for scale in (0.008, 0.002, 0.03, 0.0007, 0.011):
        tracker.predict(STILL, 0.1)
        assert not tracker.update(fit(scale))
    assert tracker.current.scale == pytest.approx(0.004, rel=0.01)


def test_a_held_scale_grows_uncertain():
    tracker = ScaleFilter()
    tracker.update(fit(0.004))
    sigmas = []
    for _ in range(20):
        tracker.predict(STILL, 0.1)
        sigmas.append(tracker.current.covariance[0, 0])
    assert np.all(np.diff(sigmas) > 0)
    assert tracker.current.age_s == pytest.approx(2.0)


def test_a_cut_forgets_the_scale():
    tracker = ScaleFilter()
    tracker.update(fit(0.004))
    assert not tracker.predict(None, 0.1)
    assert tracker.current is None
