"""Sparse depth in the picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scale_picture import CAMERA, HEIGHT, WIDTH, disparity, points

from depth_node.scale.points import (
    SparseDepth,
    from_depth_image,
    project,
    sample,
    sample_disparity,
)

IDENTITY = np.eye(4)


@settings(max_examples=50, deadline=None)
@given(st.floats(0, WIDTH - 1), st.floats(0, HEIGHT - 1), st.floats(0.2, 90))
def test_a_point_lands_where_the_pinhole_model_says(u: float, v: float, z: float):
    fx, fy, cx, cy = CAMERA.intrinsics
    xyz = np.array([[(u - cx) / fx * z, (v - cy) / fy * z, z]], np.float32)
    found = project(xyz, IDENTITY, CAMERA, source="lidar", stamp_ns=1)
    assert len(found) == 1
    assert (found.u[0], found.v[0]) == pytest.approx((u, v), abs=0.01)
    assert found.depth[0] == pytest.approx(z, rel=1e-5)


def test_points_of_a_lidar_are_carried_into_the_camera():
    T = np.array([[0, -1, 0, 0], [0, 0, -1, 0.25], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    found = project(np.array([[4.0, 0, 0.25]]), T, CAMERA, source="lidar", stamp_ns=1)
    assert found.depth[0] == pytest.approx(4.0)
    assert (found.u[0], found.v[0]) == pytest.approx((159.5, 119.5))


def test_points_that_cannot_be_seen_are_dropped():
    xyz = [[0, 0, -3], [0, 0, 0.01], [0, 0, 500], [50, 0, 1], [np.nan, 0, 2], [0, 0, np.inf]]
    found = project(np.array(xyz, np.float32), IDENTITY, CAMERA, source="lidar", stamp_ns=1)
    assert len(found) == 0


@pytest.mark.parametrize(
    ("xyz", "T"), [(np.zeros((3, 2)), IDENTITY), (np.zeros((2, 3)), np.full((4, 4), np.nan))]
)
def test_wrong_shapes_and_transforms_are_named(xyz: np.ndarray, T: np.ndarray):
    with pytest.raises(ValueError, match="must be"):
        project(xyz, T, CAMERA, source="lidar", stamp_ns=1)


def test_sampling_is_bilinear():
    ramp = np.add.outer(np.arange(20.0) * 3, np.arange(30.0)).astype(np.float32)
    x, y = np.array([2.25, 7.5], np.float32), np.array([4.0, 3.5], np.float32)
    assert sample(ramp, x, y) == pytest.approx(3 * y + x, abs=0.05)


def test_a_point_beside_the_sky_is_saturated():
    found = points(400)
    d = sample_disparity(disparity(), found)
    row = found.v.astype(int)
    assert (d[row > 60] > 0).all()
    edge = SparseDepth(
        *(np.full(1, x, np.float32) for x in (100.0, 59.5, 9.0, 0.1)), "lidar", 1, (WIDTH, HEIGHT)
    )
    assert sample_disparity(disparity(), edge)[0] == 0.0


def test_a_cone_reads_the_nearest_surface_inside():
    values = np.full((HEIGHT, WIDTH), 10.0, np.float32)
    values[110:130, 150:170] = 50.0
    cone = SparseDepth(
        *(np.full(1, x, np.float32) for x in (159.0, 119.0, 2.0, 0.1)),
        "range",
        1,
        (WIDTH, HEIGHT),
        footprint_px=25.0,
    )
    assert sample_disparity(values, cone)[0] == pytest.approx(50.0)


def test_a_low_resolution_depth_image_covers_the_same_view():
    depth = np.full((60, 80), np.nan, np.float32)
    depth[10, 20] = 3.0
    found = from_depth_image(depth, CAMERA, source="landmarks", stamp_ns=1)
    assert (found.u[0], found.v[0]) == pytest.approx((20.5 * 4 - 0.5, 10.5 * 4 - 0.5))


def test_thinning_keeps_the_order_and_the_ends():
    thinned = points(1000).at_most(10)
    assert len(thinned) == 10
    assert thinned.u[0] == points(1000).u[0]
    assert thinned.u[-1] == points(1000).u[-1]
