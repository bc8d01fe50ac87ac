"""Flying pixels go; planes, creases and thin things stay."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_node.geometry.depth import MetricConverter
from depth_node.geometry.edges import EdgeDetector
from depth_node.parameters import DepthSettings
from depth_node.types import CameraModel, Disparity, Frame, ScaleEstimate, ScaleState

WIDTH, HEIGHT, NET = 640, 480, (256, 192)
CAMERA = CameraModel.from_field_of_view(WIDTH, HEIGHT, 70.0)
FRAME = Frame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), 0, "optical", CAMERA, 0, True)
METRIC = ScaleEstimate(ScaleState.METRIC, "fixed")


@pytest.fixture(scope="module")
def scenes(repo_root):
    sys.path.insert(0, str(repo_root / "bench"))
    try:
        from edge_scenes import measure, scenes
    finally:
        sys.path.pop(0)
    return {scene.name: scene for scene in scenes()}, measure


def detect(q, ratio=0.08, size=(WIDTH, HEIGHT)):
    q = np.asarray(q, np.float32)
    return EdgeDetector().detect(q, cv2.resize(q, size), ratio, 1 / 50.0) > 0


def depth_of(q, **kwargs):
    disparity = Disparity(np.asarray(q, np.float32))
    return MetricConverter().to_metric(disparity, METRIC, FRAME, DepthSettings(**kwargs)).depth


def ground(pitch, roll, height):
    """Inverse depth of a plane in the network's pixels, 1/Z = n . ray / h; 0 above its horizon."""
    normal = np.array([np.sin(roll) * np.cos(pitch), np.cos(roll) * np.cos(pitch), np.sin(pitch)])
    fx, fy, cx, cy = CAMERA.resized(*NET).intrinsics
    u, v = np.meshgrid((np.arange(NET[0]) - cx) / fx, (np.arange(NET[1]) - cy) / fy)
    return np.maximum((normal[0] * u + normal[1] * v + normal[2]) / height, 0.0)


@settings(max_examples=25, deadline=None)
@given(pitch=st.floats(-0.9, 1.5), roll=st.floats(-3.1, 3.1), height=st.floats(0.2, 3.0))
def test_a_plane_at_any_slant_loses_no_pixel(pitch, roll, height):
    q = ground(pitch, roll, height)
    if q.min() > 0.0:
        assert not detect(q).any()
    else:  # a sliver of it in a corner, narrower than the slope window, may go
        assert detect(q).mean() < 0.01


@settings(max_examples=15, deadline=None)
@given(pitch=st.floats(-0.2, 0.5), roll=st.floats(-0.15, 0.15), height=st.floats(0.2, 3.0))
def test_the_floor_before_a_driving_robot_is_kept_up_to_the_horizon(pitch, roll, height):
    assert detect(ground(pitch, roll, height)).mean() < 5e-4


def test_a_crease_between_two_planes_is_no_edge():
    v, u = np.mgrid[: NET[1], : NET[0]]
    floor_and_wall = np.maximum(0.15, (v - 90.0) * 0.01) + 0 * u
    inner_corner = 0.2 + 0.004 * np.abs(u - 128.0)
    outer_corner = 0.9 - 0.004 * np.abs(u - 128.0)
    for q in (floor_and_wall, inner_corner, outer_corner):
        assert not detect(q).any()


@pytest.mark.parametrize("blur_px", [0.0, 0.5, 1.0, 1.5])
@pytest.mark.parametrize(("near", "far"), [(1.0, 4.0), (2.0, 2.6), (8.0, 30.0)])
def test_between_a_box_and_its_wall_no_pixel_is_left_in_the_air(blur_px, near, far):
    q = np.full(NET[::-1], 1.0 / far, np.float32)
    q[60:140, 90:180] = 1.0 / near
    if blur_px > 0:
        q = cv2.GaussianBlur(q, (0, 0), blur_px)
    depth = depth_of(q)
    flying = (depth > near * 1.1) & (depth < far * 0.9)
    assert np.isnan(depth).any()
    assert flying.mean() < 2e-4  # corners
    lost = np.isnan(depth).mean()
    outline_px = 2 * (80 + 90) * WIDTH / NET[0]
    assert lost * WIDTH * HEIGHT < outline_px * (3 + 6 * blur_px) * WIDTH / NET[0]


def test_both_surfaces_survive_beside_their_edge():
    q = np.full(NET[::-1], 0.25, np.float32)
    q[:, 128:] = 1.0
    depth = depth_of(cv2.GaussianBlur(q, (0, 0), 1.0))
    edge = WIDTH / 2
    assert np.isfinite(depth[:, : round(edge - 12)]).all()
    assert np.isfinite(depth[:, round(edge + 12) :]).all()


@pytest.mark.parametrize("width_px", [1, 2, 3, 5])
@pytest.mark.parametrize("blur_px", [0.0, 0.7, 1.2])
def test_a_thin_pole_keeps_points_in_every_row(width_px, blur_px):
    q = np.full(NET[::-1], 0.2, np.float32)
    q[:, 100 : 100 + width_px] = 0.7
    if blur_px > 0:
        q = cv2.GaussianBlur(q, (0, 0), blur_px)
    depth = depth_of(q)
    crest = 1.0 / q.max()
    assert (np.abs(depth - crest) < 0.1 * crest).any(axis=1).all()


def test_towards_the_sky_a_building_ends_in_nan_and_then_infinity():
    q = np.full(NET[::-1], 0.0, np.float32)
    q[100:] = 0.5
    depth = depth_of(cv2.GaussianBlur(q, (0, 0), 1.0))
    column = depth[:, WIDTH // 2]
    assert np.isposinf(column[:200]).all()
    np.testing.assert_allclose(column[300:], 2.0, rtol=1e-3)
    # within half of edge_ratio of the range's end a pixel counts as beyond it, and stays
    assert not ((column > 2.2) & (column < 50.0 / 1.04)).any()


def test_a_larger_ratio_removes_less_and_none_is_removed_when_it_is_off():
    q = np.full(NET[::-1], 0.4, np.float32)
    q[:, 128:] = 0.5
    q = cv2.GaussianBlur(q, (0, 0), 1.0)
    counts = [detect(q, ratio).sum() for ratio in (0.02, 0.08, 0.2, 0.6)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1] == 0
    assert np.isfinite(depth_of(q, remove_edges=False)).all()


@pytest.mark.parametrize("name", ["room", "street", "poles"])
def test_flying_points_of_exact_scenes_become_rare_and_surfaces_stay(scenes, name):
    by_name, measure = scenes
    result = measure(by_name[name], blur_px=1.0)
    assert result["flying_before"] > 0.015
    assert result["flying_after"] < 0.15 * result["flying_before"]
    assert result["surface_lost"] < 0.02
    assert result["thin_rows_kept"] > 0.95  # the ends of a pole are edges too
