"""The world's pictures: exact depth, determinism, what light does."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world_checks import assert_plausible_view

from depth_node.types import CameraModel
from depth_node.world import make_place, photometry, sample, samples
from depth_node.world.builder import SceneBuilder
from depth_node.world.meshes import NAMES, unit_mesh
from depth_node.world.render import pixel_rays, render, render_depth
from depth_node.world.sampling import camera_rotation
from depth_node.world.scene import Light, Scene, Sky
from depth_node.world.sheet import contact_sheet
from depth_node.world.textures import texture_bank

CAMERA = CameraModel.from_field_of_view(64, 48, 70)


def build(compose, seed: int = 0) -> Scene:
    builder = SceneBuilder(np.random.default_rng(seed))
    compose(builder)
    return builder.build()


def grey(builder: SceneBuilder, **kwargs) -> int:
    return builder.material("plain", (0.5, 0.5, 0.5), **kwargs)


def pose_at(x=0.0, y=0.0, z=1.0, yaw=0.0, pitch=0.0, roll=0.0) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = camera_rotation(yaw, pitch, roll)
    pose[:3, 3] = x, y, z
    return pose


angles = st.floats(-0.6, 0.6)


@settings(max_examples=40, deadline=None)
@given(distance=st.floats(0.3, 80), yaw=angles, pitch=angles, roll=angles)
def test_the_depth_of_a_wall_is_exact(distance, yaw, pitch, roll):
    scene = build(lambda b: b.box(grey(b), (1, 4000, 4000), (distance + 0.5, 0, -2000)))
    pose = pose_at(yaw=yaw, pitch=pitch, roll=roll)
    depth = render_depth(scene, CAMERA, pose)
    # Z along the optical axis at which the pixel's ray meets the plane x = distance
    along = pixel_rays(CAMERA).astype(np.float64) @ pose[0, :3]
    expected = np.where(along > 1e-3, distance / along, np.inf).reshape(depth.shape)
    seen = expected < 1000
    np.testing.assert_allclose(depth[seen], expected[seen], rtol=1e-4)


@settings(max_examples=20, deadline=None)
@given(height=st.floats(0.1, 2.0), pitch=st.floats(-1.0, -0.1))
def test_the_depth_of_the_floor_is_exact_and_the_sky_is_infinite(height, pitch):
    scene = build(lambda b: b.box(grey(b), (1e4, 1e4, 1), (0, 0, -1)))
    pose = pose_at(z=height, pitch=pitch)
    depth = render_depth(scene, CAMERA, pose).ravel()
    down = -(pixel_rays(CAMERA).astype(np.float64) @ pose[2, :3])
    near = down > height / 500
    np.testing.assert_allclose(depth[near], height / down[near], rtol=1e-4)
    assert np.all(np.isposinf(depth[down < 0]))


def test_the_depth_of_a_ball_lies_within_its_polygons():
    scene = build(lambda b: b.put("sphere", grey(b), (2, 2, 2), (5, 0, 0)))
    depth = render_depth(scene, CAMERA, pose_at(z=1.0))
    rays = pixel_rays(CAMERA).astype(np.float64)
    points = rays * depth.reshape(-1, 1)
    radius = np.linalg.norm(points[np.isfinite(depth.ravel())] - [0, 0, 5], axis=1)
    assert len(radius) > 100
    assert radius.max() <= 1.0 + 1e-4
    assert radius.min() > 0.9  # 8 x 12 facets lie inside the sphere


def test_a_box_rotated_by_yaw_turns_counter_clockwise_seen_from_above():
    scene = build(lambda b: b.box(grey(b), (2, 0.1, 1), (4, 0, 0.5), (0, 0, 0.5)))
    low, high = scene.corners.reshape(-1, 3).min(0), scene.corners.reshape(-1, 3).max(0)
    far = scene.corners.reshape(-1, 3)[scene.corners.reshape(-1, 3)[:, 0].argmax()]
    assert far[1] > 0.3  # the far end moved to the left (+y)
    np.testing.assert_allclose([low[2], high[2]], [0.5, 1.5], atol=1e-6)


def test_a_beam_joins_its_ends():
    start, end = np.array([1.0, 2.0, 0.5]), np.array([-1.0, 3.0, 2.5])
    scene = build(lambda b: b.beam(grey(b), tuple(start), tuple(end), 0.02))
    points = scene.corners.reshape(-1, 3)
    axis = (end - start) / np.linalg.norm(end - start)
    along = (points - start) @ axis
    np.testing.assert_allclose(
        [along.min(), along.max()], [0, np.linalg.norm(end - start)], atol=1e-5
    )
    across = np.linalg.norm(points - start - along[:, None] * axis, axis=1)
    assert across.max() < 0.0151


def test_nested_frames_compose():
    def compose(b: SceneBuilder) -> None:
        with b.at(1, 0, 0, np.pi / 2), b.at(2, 0, 0):
            b.box(grey(b), (0.2, 0.2, 0.2))

    centre = build(compose).corners.reshape(-1, 3).mean(0)
    np.testing.assert_allclose(centre, [1, 2, 0.1], atol=1e-6)


def test_a_piece_that_finds_no_room_leaves_nothing_behind():
    def piece(b: SceneBuilder):
        b.box(grey(b), (1, 1, 1))
        return 1.0, 1.0

    def compose(b: SceneBuilder) -> None:
        b.box(grey(b), (0.1, 0.1, 0.1))
        assert not b.attempt(piece, lambda _w, _d: None)
        assert b.attempt(piece, lambda _w, _d: (5.0, 1.0, 0.0))

    scene = build(compose)
    assert len(scene.corners) == 24
    np.testing.assert_allclose(scene.corners[12:].mean((0, 1)), [5, 1, 0.5], atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_unit_meshes_fill_their_unit_and_have_unit_normals(name):
    mesh = unit_mesh(name)
    points = mesh.corners.reshape(-1, 3)
    assert points[:, :2].min() >= -0.5001
    assert points[:, :2].max() <= 0.5001
    assert points[:, 2].min() >= -1e-4
    assert points[:, 2].max() <= 1.0001
    length = np.linalg.norm(mesh.normals, axis=-1)
    assert np.all((np.abs(length - 1) < 1e-3) | (length < 1e-6))


def lit_room(compose, *lights: Light) -> Scene:
    def all_of_it(b: SceneBuilder) -> None:
        b.box(grey(b), (200, 200, 1), (0, 0, -1))
        b.lights.extend(lights)
        b.sky = Sky(ambient=(0.1, 0.1, 0.1), bounce=(0.1, 0.1, 0.1), clouds=0)
        compose(b)

    return build(all_of_it)


def test_a_sun_casts_a_shadow_away_from_itself():
    sun = Light((0.0, 0.7, 0.714), (3.0, 3.0, 3.0), sun=True)  # from the left
    scene = lit_room(lambda b: b.box(grey(b), (0.2, 0.2, 1.0), (4, 0, 0)), sun)
    camera, pose = CAMERA.resized(256, 192), pose_at(z=2.0, pitch=-0.4)
    colour, depth = render(scene, camera, pose)
    points = pixel_rays(camera) @ pose[:3, :3].T * depth.reshape(-1, 1) + [0, 0, 2.0]
    ground = np.abs(points[:, 2]) < 1e-3
    brightness = colour.reshape(-1, 3).mean(1)
    strip = ground & (np.abs(points[:, 0] - 4) < 0.08)
    shade = brightness[strip & (points[:, 1] < -0.2) & (points[:, 1] > -0.8)]
    sunny = brightness[strip & (points[:, 1] > 0.3) & (points[:, 1] < 1.5)]
    assert len(shade) > 3
    assert len(sunny) > 3
    assert shade.max() < 0.3 * sunny.min()


def test_glass_and_mirrors_have_the_depth_of_their_own_surface():
    for kind in ("clear", "mirror"):

        def compose(b: SceneBuilder, kind: str = kind) -> None:
            b.box(grey(b, **{kind: 0.9}), (0.01, 40, 40), (2.005, 0, -20))
            b.box(b.material("plain", (1, 0, 0), glow=5.0), (1, 4, 4), (5.5, 0, -1))
            b.box(b.material("plain", (0, 1, 0), glow=5.0), (1, 4, 4), (-5.5, 0, -1))

        colour, depth = render(build(compose), CAMERA, pose_at())
        np.testing.assert_allclose(depth, 2.0, rtol=1e-4)
        red, green, _ = colour[24, 32]
        assert (red > 3 * green) == (kind == "clear")


def test_corners_receive_less_ambient_light_than_open_floor():
    def compose(b: SceneBuilder) -> None:
        b.box(grey(b), (0.2, 10, 3), (2.1, 0, 0))

    scene = lit_room(compose)
    points = np.array([[1.95, 0, 0], [0, 0, 0]], np.float32)
    corner, floor = scene.openness.at(points, np.array([[0, 0, 1], [0, 0, 1]], np.float32))
    assert corner < 0.85 * floor


def test_textures_repeat_and_smooth_lookups_agree_with_sharp_ones_far_away():
    bank = texture_bank()
    number = np.array([bank.numbers["bricks"][0]] * 3, np.int32)
    uv = np.array([[0.3, 0.4], [1.3, 0.4], [-0.7, 2.4]], np.float32)
    near = np.full(3, 0.5, np.float32)
    sharp = bank.lookup(number, uv + np.float32(5), near)
    assert np.array_equal(sharp[0], sharp[1])
    assert np.array_equal(sharp[0], sharp[2])
    far = np.full(3, 4096, np.float32)  # the level of one texel
    np.testing.assert_allclose(bank.lookup(number, uv, far), bank.lookup_smooth(number, uv, far))


def test_a_tilted_camera_sees_the_horizon_where_it_should():
    scene = build(lambda b: b.box(grey(b), (1e4, 1e4, 1), (0, 0, -1)))
    up = render_depth(scene, CAMERA, pose_at(pitch=0.2))
    down = render_depth(scene, CAMERA, pose_at(pitch=-0.2))
    assert np.isinf(up).sum() > np.isinf(down).sum()
    rolled = render_depth(scene, CAMERA, pose_at(roll=0.3))
    # a camera rolled clockwise sees the horizon turned counter-clockwise: higher on its right
    assert np.isinf(rolled[:, 0]).sum() > np.isinf(rolled[:, -1]).sum()


@pytest.mark.parametrize("kind", ["room", "corridor", "street", "clutter"])
def test_samples_are_plausible_views(kind):
    for rgb, depth in samples(3, 3, 96, 64, kind):
        assert_plausible_view(rgb, depth, 96, 64)
        assert rgb.std() > 2


def test_streets_have_sky_and_rooms_are_closed():
    assert any(np.isinf(depth).any() for _, depth in samples(5, 4, 64, 48, "street"))
    place = make_place(4, "room")
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((500, 3))
    x0, y0, x1, y1 = place.bounds
    from depth_node.world.render import cast

    origin = np.tile(np.array([(x0 + x1) / 2, (y0 + y1) / 2, 1.5], np.float32), (500, 1))
    below = directions.astype(np.float32)
    below[:, 2] = -np.abs(below[:, 2]) - 0.5
    assert np.isfinite(cast(place.scene, origin, below).distance).all()


def test_a_seed_gives_the_same_bytes_in_every_process(repo_root: Path):
    code = (
        "import hashlib; from depth_node.world import sample\n"
        "h = hashlib.sha256()\n"
        "for seed in (1, 2):\n    [h.update(a.tobytes()) for a in sample(seed, 64, 48)]\n"
        "print(h.hexdigest())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], cwd=repo_root, capture_output=True, text=True, check=True
    )
    here = hashlib.sha256()
    for seed in (1, 2):
        for array in sample(seed, 64, 48):
            here.update(array.tobytes())
    assert other.stdout.strip() == here.hexdigest()


def test_seeds_and_views_differ():
    views = [depth for _, depth in samples(8, 2, 48, 32, "room")]
    views.append(sample(9, 48, 32, "room")[1])
    assert not np.allclose(views[0], views[1])
    assert not np.allclose(views[0], views[2])


def test_an_unknown_kind_of_world_is_refused():
    with pytest.raises(ValueError, match=r"moon.*room"):
        make_place(0, "moon")


def test_photometry_keeps_a_grey_wall_grey_and_adds_the_noise_it_is_told():
    radiance = np.full((120, 160, 3), 0.4, np.float32)
    camera = photometry.Photometry(noise=4.0, vignette=0.0)
    image = photometry.develop(radiance, camera, np.random.default_rng(0)).astype(float)
    assert 60 < image.mean() < 220
    assert abs(image[..., 0].mean() - image[..., 2].mean()) < 0.5
    assert 3.5 < image.std() < 4.6


def test_a_contact_sheet_holds_every_view():
    views = [sample(seed, 40, 30, "clutter") for seed in range(3)]
    sheet = contact_sheet(views, columns=2)
    assert sheet.shape == (120, 80, 3)
    assert np.array_equal(sheet[:30, :40], views[0][0])
    with pytest.raises(ValueError, match="one view"):
        contact_sheet([])
