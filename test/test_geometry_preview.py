"""The picture of the depth: fixed colours, a legend, and no metres where there are none."""

from __future__ import annotations

import numpy as np
import pytest

from depth_node.geometry.preview import (
    FAR_RGB,
    INVALID_RGB,
    render_preview,
    render_relative_preview,
)
from depth_node.parameters import PreviewSettings

MAPS = ("turbo", "inferno", "magma", "viridis", "gray")
SETTINGS = PreviewSettings(min_m=0.5, max_m=10.0)


def uniform(metres, shape=(60, 80)):
    return np.full(shape, metres, np.float32)


@pytest.mark.parametrize("colormap", MAPS)
def test_a_depth_has_the_same_colour_in_every_frame(colormap):
    settings = PreviewSettings(min_m=0.5, max_m=10.0, colormap=colormap)
    mixed = uniform(3.0)
    mixed[30:], mixed[:, 40:] = 0.6, np.inf
    alone = render_preview(uniform(3.0), settings)
    np.testing.assert_array_equal(alone[0, 0], render_preview(mixed, settings)[0, 0])


@pytest.mark.parametrize("colormap", MAPS)
def test_invalid_far_near_and_distant_all_differ(colormap):
    depth = uniform(1.0)
    depth[:, 0:10], depth[:, 10:20] = np.nan, np.inf
    depth[:, 20:30], depth[:, 30:40] = 0.5, 9.9
    picture = render_preview(depth, PreviewSettings(min_m=0.5, max_m=10.0, colormap=colormap))
    seen = [tuple(picture[5, column]) for column in (5, 15, 25, 35, 45)]
    assert seen[0] == INVALID_RGB
    assert seen[1] == FAR_RGB
    assert len(set(seen)) == 5


def test_colours_are_linear_in_inverse_depth_and_stop_at_the_ends():
    settings = PreviewSettings(min_m=0.5, max_m=10.0, colormap="gray")
    inverse = np.linspace(0.02, 3.0, 80, dtype=np.float32)
    row = render_preview(np.tile(1.0 / inverse, (40, 1)), settings)[0, :80, 0].astype(int)
    expected = np.clip((inverse - 0.1) / 1.9, 0, 1) * 255
    np.testing.assert_allclose(row, expected, atol=1.5)


def test_the_legend_stands_beside_the_picture_and_hides_nothing():
    picture = render_preview(uniform(2.0, (120, 160)), SETTINGS)
    assert (picture.dtype, picture.shape[0]) == (np.uint8, 120)
    assert picture.shape[1] > 160
    assert (picture[:, :160] == picture[0, 0]).all()
    assert (picture[:, 160:].max(axis=-1) > 200).any()  # labels


def test_the_legend_shows_the_colours_that_the_picture_uses():
    near, far = (render_preview(uniform(z), SETTINGS) for z in (0.5, 10.0))
    legend = near[:, 80:].reshape(-1, 3).tolist()
    assert near[0, 0].tolist() in legend
    assert far[0, 0].tolist() in legend
    assert legend.index(near[0, 0].tolist()) < legend.index(far[0, 0].tolist())  # near on top


def test_side_by_side_puts_the_camera_to_the_left_at_the_depths_size():
    image = np.full((240, 320, 3), (10, 200, 30), np.uint8)
    alone = render_preview(uniform(2.0, (120, 160)), SETTINGS)
    both = render_preview(uniform(2.0, (120, 160)), SETTINGS, image)
    assert (both[:, :160] == (10, 200, 30)).all()
    np.testing.assert_array_equal(both[:, 160:], alone)


def test_a_relative_picture_says_so_and_does_not_depend_on_the_unit():
    disparity = np.tile(np.linspace(1, 9, 160, dtype=np.float32), (120, 1))
    picture = render_relative_preview(disparity, SETTINGS)
    np.testing.assert_array_equal(picture, render_relative_preview(disparity * 100, SETTINGS))
    label = picture[:30, :60]
    plain = render_relative_preview(np.roll(disparity, 60, axis=0), SETTINGS)[60:90, :60]
    assert (label != plain).any()


def test_saturated_disparity_has_the_colour_of_the_sky():
    disparity = np.full((120, 160), 3.0, np.float32)
    disparity[60:], disparity[60:, :40] = 0.0, np.nan
    picture = render_relative_preview(disparity, SETTINGS)
    assert tuple(picture[100, 100]) == FAR_RGB
    assert tuple(picture[100, 10]) == INVALID_RGB


def test_a_relative_picture_takes_the_size_of_the_image_beside_it():
    image = np.full((240, 320, 3), 9, np.uint8)
    picture = render_relative_preview(np.ones((96, 128), np.float32), SETTINGS, image)
    assert picture.shape[0] == 240
    assert (picture[:, :320] == 9).all()


@pytest.mark.parametrize("height", [1, 2, 9, 33, 1080])
@pytest.mark.parametrize("fill", [np.nan, np.inf, 0.0, 1.0])
def test_no_size_and_no_content_is_too_odd(height, fill):
    values = np.full((height, 12), fill, np.float32)
    assert render_relative_preview(values, SETTINGS).shape[0] == height
    assert render_preview(np.where(values == 0, np.nan, values), SETTINGS).shape[0] == height
