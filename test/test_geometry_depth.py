"""Disparity becomes metres by the formula, and REP 117 holds whatever comes in."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from depth_node.geometry.depth import MetricConverter, published_size
from depth_node.parameters import DepthSettings
from depth_node.types import CameraModel, Disparity, Frame, ScaleEstimate, ScaleState

METRIC = ScaleEstimate(ScaleState.METRIC, "fixed")
SMOOTH = DepthSettings(remove_edges=False)


def frame(width=64, height=48, rectified=True, camera="pinhole"):
    if camera == "pinhole":
        camera = CameraModel.pinhole(width, height, 50.0, 52.0, 31.0, 24.0)
    return Frame(np.zeros((height, width, 3), np.uint8), 77, "optical", camera, 0, rectified)


def convert(values, estimate=METRIC, settings=SMOOTH, unseen=None, **kwargs):
    disparity = Disparity(np.asarray(values, np.float32))
    return MetricConverter().to_metric(disparity, estimate, frame(**kwargs), settings, unseen)


def plane(shape, a, b, c):
    v, u = np.mgrid[: shape[0], : shape[1]]
    return (a * u + b * v + c).astype(np.float32)


def test_depth_is_the_inverse_of_scaled_and_shifted_disparity():
    estimate = replace(METRIC, scale=0.02, shift=0.1)
    result = convert(np.full((12, 16), 20.0), estimate)
    np.testing.assert_allclose(result.depth, 1.0 / (0.02 * 20.0 + 0.1), rtol=1e-6)
    assert (result.depth.dtype, result.depth.shape) == (np.float32, (48, 64))
    assert (result.stamp_ns, result.frame_id, result.scale) == (77, "optical", estimate)


def test_the_log_field_divides_depth_by_its_exponential():
    field = np.array([[0.2, 0.2], [-0.3, -0.3]], np.float32)
    depth = convert(np.full((48, 64), 0.5), replace(METRIC, log_field=field)).depth
    np.testing.assert_allclose(depth[0], 2.0 * np.exp(-0.2), rtol=1e-5)
    np.testing.assert_allclose(depth[-1], 2.0 * np.exp(0.3), rtol=1e-5)


def test_a_plane_stays_exact_when_it_is_upsampled():
    depth = convert(plane((24, 32), 0.004, 0.01, 0.2)).depth
    u, v = np.meshgrid((np.arange(64) + 0.5) / 2 - 0.5, (np.arange(48) + 0.5) / 2 - 0.5)
    inside = (slice(1, -1), slice(1, -1))  # beyond the outermost pixel centres there is no data
    np.testing.assert_allclose(depth[inside], (1 / (0.004 * u + 0.01 * v + 0.2))[inside], rtol=1e-5)


def test_saturated_disparity_is_infinite_whatever_the_shift():
    values = np.full((48, 64), 1.0)
    values[:10] = 0.0
    depth = convert(values, replace(METRIC, shift=0.5)).depth
    assert np.isposinf(depth[:10]).all()
    assert np.isfinite(depth[10:]).all()


def with_points(*points: tuple[float, float, float], **estimate: object) -> ScaleEstimate:
    """(column, row, metres) of points that were measured in front of what the network sees."""
    rays = np.array([(x, y, 1 / metres) for x, y, metres in points], np.float32)
    return replace(METRIC, in_front=rays, **estimate)


@pytest.mark.parametrize("max_m", [8.0, 50.0])
@pytest.mark.parametrize("seen_m", [np.inf, 25.0])
def test_nothing_is_free_around_a_measured_surface_that_the_network_does_not_see(max_m, seen_m):
    values = np.full((48, 64), 1.0)
    values[:30] = 1 / seen_m
    chosen = DepthSettings(remove_edges=False, max_m=max_m)
    depth = convert(values, with_points((20, 10, 4.0)), chosen).depth
    assert np.isnan(depth[9:12, 19:22]).all()
    assert np.isnan(depth).sum() < 30
    assert (depth[:30, 30:] > max_m - 25.1).all()
    assert np.isfinite(depth[31:]).all()


def test_what_the_correction_brings_up_from_nothing_is_still_behind_the_surface():
    lifted = np.full((2, 2), 0.3, np.float32)
    seen = with_points((20, 10, 4.0), shift=-1.0, log_field=lifted)
    assert np.isnan(convert(np.full((48, 64), 1.0), seen).depth[10, 20])


def test_a_surface_measured_beyond_the_range_leaves_infinity_what_it_is():
    chosen = DepthSettings(remove_edges=False, max_m=20.0)
    depth = convert(np.zeros((48, 64)), with_points((20, 10, 25.0)), chosen).depth
    assert np.isposinf(depth).all()


def test_a_point_on_an_outline_contradicts_nothing():
    values = np.full((48, 64), 1.0)
    values[:30] = 0.0
    depth = convert(values, with_points((20, 29, 4.0), (40, 35, 4.0), (40, 36, 0.3))).depth
    assert not np.isnan(depth).any()


def test_range_and_sign_decide_between_nan_and_infinity():
    values = np.full((48, 64), 1.0)
    values[:8], values[8:16], values[16:24] = 20.0, 0.01, 0.2
    depth = convert(
        values, replace(METRIC, shift=-0.05), DepthSettings(remove_edges=False, max_m=5.0)
    ).depth
    assert np.isnan(depth[:8]).all()  # 5 cm
    assert np.isposinf(depth[8:16]).all()  # behind infinity: q < 0
    assert np.isposinf(depth[16:24]).all()  # 6.7 m
    assert np.isfinite(depth[24:]).all()


@settings(max_examples=80, deadline=None)
@given(
    values=hnp.arrays(
        np.float32,
        st.tuples(st.integers(2, 12), st.integers(2, 12)),
        elements=st.one_of(
            st.floats(0, 2000, width=32), st.sampled_from([0.0, np.nan, np.inf, -np.inf])
        ),
    ),
    scale=st.floats(1e-6, 10.0),
    shift=st.floats(-2.0, 2.0),
    remove_edges=st.booleans(),
    downscale=st.integers(1, 8),
)
def test_depth_is_nan_or_infinite_or_within_the_range(
    values, scale, shift, remove_edges, downscale
):
    chosen = DepthSettings(remove_edges=remove_edges, downscale=downscale, min_m=0.3, max_m=20.0)
    depth = convert(values, replace(METRIC, scale=scale, shift=shift), chosen).depth
    assert not np.isneginf(depth).any()
    finite = depth[np.isfinite(depth)]
    assert ((finite >= 0.3 * (1 - 1e-6)) & (finite <= 20.0 * (1 + 1e-6))).all()


def test_a_disparity_that_is_not_finite_spoils_its_own_pixels_only():
    values = np.full((48, 64), 1.0)
    values[20, 30], values[5, 5] = np.nan, -np.inf
    depth = convert(values).depth
    assert np.isnan(depth[20, 30])
    assert np.isnan(depth[5, 5])
    assert np.isnan(depth).sum() == 2


def test_pixels_that_the_camera_never_saw_have_no_depth():
    unseen = np.zeros((48, 64), np.uint8)
    unseen[:, :6] = 255
    depth = convert(np.full((12, 16), 1.0), unseen=unseen).depth
    assert np.isnan(depth[:, :6]).all()
    assert np.isfinite(depth[:, 6:]).all()


def test_relative_disparity_never_becomes_metres():
    relative = ScaleEstimate(ScaleState.RELATIVE, reason="no anchors")
    with pytest.raises(ValueError, match=r"relative.*no anchors"):
        convert(np.ones((4, 4)), relative)


@pytest.mark.parametrize("broken", [{"scale": 0.0}, {"scale": np.nan}, {"shift": np.inf}])
def test_a_scale_that_cannot_be_used_is_refused(broken):
    with pytest.raises(ValueError, match="must be finite and the scale positive"):
        convert(np.ones((4, 4)), replace(METRIC, **broken))


def test_a_frame_without_a_calibration_of_its_size_is_refused():
    with pytest.raises(ValueError, match="no calibration"):
        convert(np.ones((4, 4)), camera=None)
    with pytest.raises(ValueError, match="32x24 but the image is 64x48"):
        convert(np.ones((4, 4)), camera=CameraModel.pinhole(32, 24, 50, 50, 16, 12))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 700), st.integers(2, 700), st.integers(1, 8))
def test_colour_and_depth_have_the_same_integer_ratio_on_both_axes(width, height, downscale):
    w, h = published_size(frame(width, height, camera=None), downscale)
    assert width % w == 0
    assert height % h == 0
    assert width // w == height // h <= downscale
    if width % downscale == 0 and height % downscale == 0:
        assert width // w == downscale


def test_the_published_camera_has_the_published_size():
    result = convert(np.ones((12, 16)), settings=DepthSettings(downscale=4))
    assert result.depth.shape == (12, 16)
    assert (result.camera.width, result.camera.height) == (16, 12)
    # pixel (0, 0) of the small image is the middle of the first 4x4 block
    np.testing.assert_allclose(
        result.camera.intrinsics, (12.5, 13.0, 31.5 / 4 - 0.375 - 0.125, 5.625)
    )


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([(32, 24), (16, 12), (128, 96)]), st.floats(20, 44), st.floats(15, 33))
def test_resized_intrinsics_follow_what_opencv_does_to_the_image(size, u, v):
    cam = CameraModel.pinhole(64, 48, 50.0, 52.0, 31.0, 24.0)
    x, y = np.meshgrid(np.arange(64.0), np.arange(48.0))
    dot = np.exp(-0.5 * ((x - u) ** 2 + (y - v) ** 2) / 3.0**2)
    shrink = size[0] < 64
    small = cv2.resize(dot, size, interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
    xs, ys = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    fx, fy, cx, cy = cam.intrinsics
    expected = cam.resized(*size).P[:, :3] @ [(u - cx) / fx, (v - cy) / fy, 1.0]
    found = ((small * xs).sum() / small.sum(), (small * ys).sum() / small.sum())
    np.testing.assert_allclose(found, expected[:2], atol=0.05)


def test_each_depth_is_an_array_of_its_own():
    converter, one = MetricConverter(), Disparity(np.ones((12, 16), np.float32))
    two = Disparity(np.full((12, 16), 2.0, np.float32))
    first = converter.to_metric(one, METRIC, frame(), DepthSettings())
    kept = first.depth.copy()
    converter.to_metric(two, METRIC, frame(), DepthSettings())
    np.testing.assert_array_equal(first.depth, kept)
    np.testing.assert_array_equal(one.values, 1.0)


def test_size_and_settings_may_change_between_frames():
    converter, ones = MetricConverter(), Disparity(np.ones((12, 16), np.float32))
    for width, height, downscale in ((64, 48, 1), (32, 24, 2), (64, 48, 4), (66, 51, 3)):
        cam = CameraModel.from_field_of_view(width, height, 70)
        chosen = DepthSettings(downscale=downscale)
        result = converter.to_metric(ones, METRIC, frame(width, height, camera=cam), chosen)
        assert result.depth.shape == (height // downscale, width // downscale)
        assert (result.camera.height, result.camera.width) == result.depth.shape
