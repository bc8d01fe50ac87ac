"""Clouds: rays, colours, invalid points, strides and voxels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_node.geometry.cloud import CloudPacker, first_of_each_voxel
from depth_node.parameters import PointsSettings
from depth_node.types import CameraModel, MetricDepth, ScaleEstimate, ScaleState

MAX_M = 20.0


def metric(depth, camera=None):
    depth = np.asarray(depth, np.float32)
    height, width = depth.shape
    camera = camera or CameraModel.pinhole(width, height, 40.0, 45.0, width / 2, height / 2)
    return MetricDepth(depth, camera, 99, "optical", ScaleEstimate(ScaleState.METRIC, "fixed"))


def pack(depth, image=None, camera=None, **kwargs):
    return CloudPacker().pack(metric(depth, camera), image, PointsSettings(**kwargs), MAX_M)


def colours(cloud):
    """Nx3 R, G, B as rviz unpacks them from the float's bits."""
    bits = np.ascontiguousarray(cloud.data[..., 3]).view(np.uint32)
    assert not (bits >> 24).any()
    return np.stack([bits >> 16 & 255, bits >> 8 & 255, bits & 255], axis=-1)


@settings(max_examples=50, deadline=None)
@given(
    fx=st.floats(20, 2000),
    fy=st.floats(20, 2000),
    cx=st.floats(-20, 60),
    cy=st.floats(-20, 60),
    stride=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_projecting_the_cloud_gives_back_pixels_and_depth(fx, fy, cx, cy, stride, seed):
    depth = np.random.default_rng(seed).uniform(0.1, 50, (23, 37)).astype(np.float32)
    camera = CameraModel.pinhole(37, 23, fx, fy, cx, cy)
    x, y, z = np.moveaxis(pack(depth, camera=camera, stride=stride).data.astype(float), -1, 0)
    v, u = np.mgrid[:23:stride, :37:stride]
    np.testing.assert_allclose(fx * x / z + cx, u, atol=1e-3)
    np.testing.assert_allclose(fy * y / z + cy, v, atol=1e-3)
    np.testing.assert_array_equal(z, depth[::stride, ::stride])


def test_an_organised_cloud_is_laid_out_as_pointcloud2_wants_it():
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    cloud = pack(np.full((6, 8), 2.0), image)
    assert (cloud.width, cloud.height, cloud.organised, cloud.has_rgb) == (8, 6, True, True)
    assert cloud.data.dtype == np.float32
    assert cloud.data.flags.c_contiguous
    assert cloud.data.strides[1] == 16
    np.testing.assert_array_equal(colours(cloud), image)


@pytest.mark.parametrize("kwargs", [{"color": False}, {"color": True}])
def test_without_colour_a_point_has_twelve_bytes(kwargs):
    image = None if kwargs["color"] else np.zeros((6, 8, 3), np.uint8)
    cloud = pack(np.full((6, 8), 2.0), image, **kwargs)
    assert cloud.data.shape == (6, 8, 3)
    assert not cloud.has_rgb


@pytest.mark.parametrize(("color", "names"), [(True, "x y z rgb sigma"), (False, "x y z sigma")])
def test_sigma_rides_in_the_last_field_of_each_point(color, names):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    sigma = rng.uniform(0.01, 1.0, (6, 8)).astype(np.float32)
    depth = metric(np.full((6, 8), 2.0))
    settings = PointsSettings(color=color, stride=2)
    cloud = CloudPacker().pack(depth, image, settings, MAX_M, sigma)
    assert cloud.fields == tuple(names.split())
    assert cloud.has_rgb == color
    np.testing.assert_array_equal(cloud.data[..., -1], sigma[::2, ::2])
    if color:
        np.testing.assert_array_equal(colours(cloud), image[::2, ::2])


def test_every_colour_survives_packing():
    values = np.arange(256, dtype=np.uint8)
    image = np.stack([values, values[::-1], np.roll(values, 77)], axis=-1).reshape(16, 16, 3)
    np.testing.assert_array_equal(colours(pack(np.full((16, 16), 1.0), image)), image)


def test_rows_of_the_image_may_be_padded():
    padded = np.random.default_rng(0).integers(0, 256, (6, 11, 3), dtype=np.uint8)
    np.testing.assert_array_equal(colours(pack(np.full((6, 8), 2.0), padded[:, :8])), padded[:, :8])


def test_far_points_are_nan_or_clamped_and_invalid_ones_stay_nan():
    depth = np.full((4, 6), 3.0)
    depth[0], depth[1] = np.inf, np.nan
    gone = pack(depth).data
    assert np.isnan(gone[:2]).all()
    assert np.isfinite(gone[2:]).all()
    kept = pack(depth, far_points="clamp").data
    np.testing.assert_array_equal(kept[0, :, 2], np.float32(MAX_M))
    np.testing.assert_allclose(kept[0, :, 0], (np.arange(6) - 3) / 40.0 * MAX_M, rtol=1e-6)
    assert np.isnan(kept[1]).all()
    np.testing.assert_array_equal(kept[2:], gone[2:])


def test_a_point_of_a_downscaled_depth_has_the_mean_colour_of_its_block():
    image = np.zeros((8, 12, 3), np.uint8)
    image[:, 0::2], image[:, 1::2] = 100, 200
    image[:4, :6, 0] = 7
    found = colours(pack(np.full((4, 6), 2.0), image))
    assert (found[..., 1] == 150).all()
    assert (found[:2, :3, 0] == 7).all()


def test_stride_keeps_colour_and_point_together():
    v, u = np.mgrid[:9, :13]
    image = np.stack([u, v, u + v], axis=-1).astype(np.uint8)
    camera = CameraModel.pinhole(13, 9, 1.0, 1.0, 0.0, 0.0)
    cloud = pack(np.full((9, 13), 1.0), image, camera, stride=4)
    assert (cloud.width, cloud.height) == (4, 3)
    np.testing.assert_array_equal(cloud.data[..., :2], colours(cloud)[..., :2])


def random_depth(seed):
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.5, 6.0) + rng.normal(0, 0.3, (31, 43)).cumsum(axis=1) * 0.1
    depth = np.abs(depth) + 0.2
    depth[rng.random(depth.shape) < 0.1] = np.nan
    depth[rng.random(depth.shape) < 0.1] = np.inf
    return depth


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), voxel_m=st.floats(0.005, 2.0))
def test_a_voxel_has_at_most_one_point_and_none_is_emptied(seed, voxel_m):
    depth = random_depth(seed)
    full = pack(depth).data.reshape(-1, 3)
    full = full[np.isfinite(full).all(axis=1)]
    cloud = pack(depth, voxel_m=voxel_m)
    assert (cloud.organised, cloud.height, cloud.width) == (False, 1, len(cloud.data))
    assert np.isfinite(cloud.data).all()

    def cells(points):
        return [tuple(c) for c in np.floor(points.astype(float) / voxel_m).astype(int)]

    kept = cells(cloud.data)
    assert len(set(kept)) == len(kept)
    assert set(kept) == set(cells(full))
    assert {tuple(p) for p in cloud.data} <= {tuple(p) for p in full}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), voxel_m=st.sampled_from([1e-7, 1e-3, 0.05, 1.0, 10.0]))
def test_the_voxel_filter_changes_nothing_the_second_time(seed, voxel_m):
    once = pack(random_depth(seed), voxel_m=voxel_m).data
    kept = first_of_each_voxel(once.T, voxel_m)
    np.testing.assert_array_equal(kept, np.arange(len(once)))


def test_points_of_a_voxel_filter_keep_their_colour():
    image = np.random.default_rng(3).integers(0, 256, (31, 43, 3), dtype=np.uint8)
    depth = random_depth(3)
    full, cloud = pack(depth, image), pack(depth, image, voxel_m=0.1)
    whole = {
        tuple(p[:3]): tuple(c)
        for p, c in zip(full.data.reshape(-1, 4), colours(full).reshape(-1, 3), strict=True)
    }
    for point, colour in zip(cloud.data, colours(cloud), strict=True):
        assert whole[tuple(point[:3])] == tuple(colour)


def test_a_cloud_without_any_point_is_empty_when_filtered():
    cloud = pack(np.full((4, 6), np.nan), np.zeros((4, 6, 3), np.uint8), voxel_m=0.1)
    assert cloud.data.shape == (0, 4)
    assert (cloud.width, cloud.height) == (0, 1)


def test_clouds_and_depth_are_not_overwritten_by_the_next_one():
    packer, depth = CloudPacker(), metric(np.full((6, 8), 2.0))
    first = packer.pack(depth, None, PointsSettings(far_points="clamp"), MAX_M)
    kept = first.data.copy()
    packer.pack(metric(np.full((6, 8), 5.0)), None, PointsSettings(), MAX_M)
    np.testing.assert_array_equal(first.data, kept)
    np.testing.assert_array_equal(depth.depth, 2.0)


def test_size_camera_and_settings_may_change_between_frames():
    packer = CloudPacker()
    for shape, fx, stride in (((6, 8), 40.0, 1), ((6, 8), 80.0, 1), ((12, 16), 80.0, 3)):
        camera = CameraModel.pinhole(shape[1], shape[0], fx, fx, 0.0, 0.0)
        cloud = packer.pack(
            metric(np.full(shape, 2.0), camera), None, PointsSettings(stride=stride), MAX_M
        )
        u = np.arange(0, shape[1], stride)
        np.testing.assert_allclose(cloud.data[0, :, 0], 2.0 * u / fx, rtol=1e-6)
