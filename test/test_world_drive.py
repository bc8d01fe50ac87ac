"""The robot's drive: path, sensors, cache and replay."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import stat
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_node.cameras.base import EndOfStream
from depth_node.world import cache, sensors
from depth_node.world.cache import CachedDrive, CacheError, cache_key, load_drive, render_drive
from depth_node.world.camera import WorldCamera
from depth_node.world.drive import DriveSettings, Mounts, SensorNoise, plan_drive
from depth_node.world.render import render_depth

EXACT = SensorNoise(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
SETTINGS = DriveSettings(
    seed=0, width=80, height=60, fps=15.0, seconds=8.0, lidar_every=30, noise=EXACT
)
SMALL = dataclasses.replace(SETTINGS, width=32, height=24, seconds=0.8)


@pytest.fixture(scope="module")
def drive():
    return plan_drive(SETTINGS)


@pytest.fixture
def private_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DEPTH_NODE_CACHE", str(tmp_path))
    return tmp_path / "world"


@pytest.fixture(scope="module")
def cached(tmp_path_factory) -> CachedDrive:
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("DEPTH_NODE_CACHE")
    os.environ["DEPTH_NODE_CACHE"] = str(folder)
    try:
        return render_drive(SMALL, workers=1)
    finally:
        if before is None:
            del os.environ["DEPTH_NODE_CACHE"]
        else:
            os.environ["DEPTH_NODE_CACHE"] = before


@pytest.mark.parametrize("kind", ["room", "corridor", "street", "clutter"])
def test_the_drive_closes_its_loop_at_a_robots_speed(kind):
    drive = plan_drive(dataclasses.replace(SETTINGS, kind=kind, seed=2))
    xy = np.vstack([drive.poses[:, :2, 3], drive.poses[:1, :2, 3]])
    steps = np.linalg.norm(np.diff(xy, axis=0), axis=1) * SETTINGS.fps
    assert steps.max() < 3.2
    assert steps.max() < 1.5 * np.median(steps) + 0.05  # also across the seam
    forward = np.vstack([drive.poses[:, :3, 0], drive.poses[:1, :3, 0]])
    turn = np.arccos(np.clip((forward[1:] * forward[:-1]).sum(1), -1, 1)) * SETTINGS.fps
    assert turn.max() < 2.0
    rotation = drive.poses[:, :3, :3]
    np.testing.assert_allclose(
        rotation @ np.swapaxes(rotation, 1, 2), np.tile(np.eye(3), (len(rotation), 1, 1)), atol=1e-9
    )
    assert (np.linalg.det(rotation) > 0.99).all()
    assert (rotation[:, 2, 2] > 0.99).all()


def test_the_robot_faces_where_it_goes_and_stays_clear(drive):
    xy = drive.poses[:, :2, 3]
    step = np.roll(xy, -1, axis=0) - xy
    heading = step / np.linalg.norm(step, axis=1, keepdims=True)
    assert ((heading * drive.poses[:, :2, 0]).sum(1) > 0.95).all()
    assert drive.place.clearance(xy[:, 0], xy[:, 1]).min() > 0.4


def test_poses_agree_with_what_the_camera_sees(drive):
    """The depth of one frame, moved by odometry, is the depth of the next frame."""
    camera = SETTINGS.camera
    poses = [drive.sensor_pose(frame, "camera") for frame in (40, 42)]
    first, second = (render_depth(drive.place.scene, camera, pose) for pose in poses)
    fx, fy, cx, cy = camera.intrinsics
    v, u = np.mgrid[0:60, 0:80]
    points = np.stack([(u - cx) / fx * first, (v - cy) / fy * first, first], -1).reshape(-1, 3)
    moved = np.linalg.inv(poses[1]) @ poses[0]
    points = points @ moved[:3, :3].T + moved[:3, 3]
    x, y = points[:, 0] / points[:, 2] * fx + cx, points[:, 1] / points[:, 2] * fy + cy
    inside = (points[:, 2] > 0.1) & (x > 1) & (x < 78) & (y > 1) & (y < 58)
    seen = cv2.remap(second, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR).ravel()
    error = np.abs(seen - points[:, 2])[inside] / points[inside, 2]
    assert inside.mean() > 0.6
    assert np.mean(error < 0.01) > 0.85  # the rest lies at the edges of things
    # and without the motion it does not agree
    still = np.abs(second - first).ravel()[inside] / first.ravel()[inside]
    assert np.median(error) < 0.1 * np.median(still)


@pytest.mark.parametrize("offset", [(0.15, 0.0, 0.85), (0.0, 0.3, 1.1)])
def test_lidar_points_lie_on_the_surfaces_that_the_depth_image_shows(drive, offset):
    mounts = Mounts(lidar=offset)
    frame = 50
    pose = drive.poses[frame] @ mounts.base_to("lidar")
    cloud = sensors.lidar_cloud(drive.place.scene, pose, EXACT, np.random.default_rng(0))
    into_camera = mounts.camera_to("lidar")
    np.testing.assert_allclose(
        np.linalg.inv(into_camera)[:3, 3] + np.array(offset),
        np.array(Mounts().camera),
        atol=1e-9,
    )
    points = cloud.points @ into_camera[:3, :3].T + into_camera[:3, 3]
    camera = dataclasses.replace(SETTINGS, width=640, height=480).camera
    depth = render_depth(drive.place.scene, camera, drive.sensor_pose(frame, "camera"))
    fx, fy, cx, cy = camera.intrinsics
    u, v = points[:, 0] / points[:, 2] * fx + cx, points[:, 1] / points[:, 2] * fy + cy
    inside = (points[:, 2] > 0.1) & (u > 0) & (u < 639) & (v > 0) & (v < 479)
    assert inside.sum() > 400
    seen = depth[np.round(v[inside]).astype(int), np.round(u[inside]).astype(int)]
    error = np.abs(seen - points[inside, 2]) / points[inside, 2]
    # what is off was seen past an edge from the LiDAR's own place
    assert np.mean(error < 0.02) > 0.85


def test_the_lidar_has_rings_times_and_the_errors_it_is_told(drive):
    pose = drive.sensor_pose(0, "lidar")
    scene = drive.place.scene
    exact = sensors.lidar_cloud(scene, pose, EXACT, np.random.default_rng(1))
    assert set(exact.ring) <= set(range(16))
    elevation = np.arctan2(exact.points[:, 2], np.hypot(*exact.points[:, :2].T))
    np.testing.assert_allclose(elevation, sensors.LIDAR_ELEVATION[exact.ring], atol=1e-5)
    assert not exact.time.any()  # all beams at once: a consumer must not bend the cloud
    shifted = sensors.lidar_cloud(
        scene, pose, SensorNoise(0, 0, 0, 0.5, 0, 0, 0), np.random.default_rng(1)
    )
    gain = np.linalg.norm(shifted.points, axis=1) - np.linalg.norm(exact.points, axis=1)
    np.testing.assert_allclose(gain, 0.5, atol=1e-4)
    holes = sensors.lidar_cloud(
        scene, pose, SensorNoise(0, 0.4, 0, 0, 0, 0, 0), np.random.default_rng(1)
    )
    assert 0.55 < len(holes.points) / len(exact.points) < 0.65
    stray = sensors.lidar_cloud(
        scene, pose, SensorNoise(0, 0, 0.2, 0, 0, 0, 0), np.random.default_rng(1)
    )
    assert len(stray.points) > 0.9 * len(exact.points)
    assert not np.allclose(stray.points[:100], exact.points[:100])


def test_scan_and_range_finder_agree_straight_ahead(drive):
    scene, rng = drive.place.scene, np.random.default_rng(0)
    pose = drive.sensor_pose(10, "range")
    scan = sensors.planar_scan(scene, pose, EXACT, rng)
    ahead = np.abs(sensors.scan_angles()) < sensors.RANGE_FOV_RAD / 2 * 0.9
    reading = sensors.range_reading(scene, pose, EXACT, rng)
    assert reading <= scan[ahead].min() + 0.02
    assert np.isposinf(scan[scan > sensors.SCAN_MAX_M]).all()


def test_the_accelerometer_feels_gravity_upwards(drive):
    force = sensors.accelerometer(drive.sensor_pose(5, "imu"), EXACT, np.random.default_rng(0))
    assert np.linalg.norm(force) == pytest.approx(9.80665)
    assert force[2] > 9.8
    world = drive.sensor_pose(5, "imu")[:3, :3] @ force
    np.testing.assert_allclose(world, [0, 0, 9.80665], atol=1e-9)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fps": 0.0}, "0.0 Hz"),
        ({"seconds": -1.0}, "-1.0 s"),
        ({"width": 3}, "3x"),
        ({"horizontal_fov_deg": 190.0}, "190"),
        ({"lidar_every": 0}, "lidar_every"),
        ({"kind": "sea"}, "sea.*room"),
    ],
)
def test_impossible_settings_are_refused_with_the_reason(change, reason):
    with pytest.raises(ValueError, match=reason):
        dataclasses.replace(SETTINGS, **change)


def test_settings_survive_json():
    odd = dataclasses.replace(SETTINGS, mounts=Mounts(lidar=(0.1, 0.2, 0.3)), kind="street")
    assert DriveSettings.from_dict(json.loads(json.dumps(dataclasses.asdict(odd)))) == odd


def test_a_cached_drive_holds_everything(cached):
    assert cached.rgb.shape == (12, 24, 32, 3)
    assert cached.depth.shape == (12, 24, 32)
    assert cached.depth.dtype == np.float32
    assert cached.poses.shape == (12, 4, 4)
    assert cached.scans.shape == (1, sensors.SCAN_BEAMS)
    assert len(cached.lidar_sweep(11)) == len(cached.lidar)
    assert isinstance(cached.rgb, np.memmap)
    again = plan_drive(SMALL)
    expected = render_depth(again.place.scene, SMALL.camera, again.sensor_pose(7, "camera"))
    assert np.array_equal(cached.depth[7], expected)


def test_rendering_is_the_same_with_any_number_of_workers(cached, private_cache):
    other = render_drive(SMALL, workers=2)
    assert np.array_equal(other.rgb, cached.rgb)
    assert np.array_equal(other.lidar, cached.lidar)


def test_the_cache_is_private_reused_and_leaves_nothing_half_done(private_cache):
    ticks: list[tuple[int, int]] = []
    assert load_drive(SMALL) is None
    render_drive(SMALL, lambda done, total: ticks.append((done, total)), workers=1)
    assert ticks[-1] == (12, 12)
    assert stat.S_IMODE(private_cache.stat().st_mode) == 0o700
    assert [path.name for path in private_cache.iterdir()] == [cache_key(SMALL)]
    ticks.clear()
    render_drive(SMALL, lambda done, total: ticks.append((done, total)))
    assert not ticks
    assert load_drive(SMALL) is not None


def test_the_key_follows_settings_and_code(monkeypatch, tmp_path):
    key = cache_key(SMALL)
    assert key == cache_key(dataclasses.replace(SMALL))
    assert key != cache_key(dataclasses.replace(SMALL, seed=1))
    assert key != cache_key(dataclasses.replace(SMALL, mounts=Mounts(camera=(0, 0, 1.0))))
    (tmp_path / "render.py").write_text("other code")
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "cache.py"))
    assert key != cache_key(SMALL)


@pytest.fixture
def entry(cached, private_cache) -> Path:
    """A copy of a good entry in a cache of its own."""
    folder = private_cache / cache_key(SMALL)
    shutil.copytree(Path(cached.rgb.filename).parent, folder)
    return folder


@pytest.mark.parametrize("harm", ["flip", "cut", "manifest", "missing"])
def test_a_damaged_entry_is_found(entry, harm):
    assert load_drive(SMALL) is not None
    depth = entry / "depth.npy"
    if harm == "flip":
        with depth.open("r+b") as stream:
            stream.seek(5000)
            byte = stream.read(1)
            stream.seek(5000)
            stream.write(bytes([byte[0] ^ 1]))
    elif harm == "cut":
        os.truncate(depth, 3000)
    elif harm == "manifest":
        (entry / "manifest.json").write_text("{")
    else:
        depth.unlink()
    with pytest.raises(CacheError, match="damaged"):
        load_drive(SMALL)


def test_a_damaged_entry_is_rendered_again(entry, cached):
    os.truncate(entry / "rgb.npy", 3000)
    assert np.array_equal(render_drive(SMALL, workers=1).rgb, cached.rgb)


def test_a_cache_that_cannot_be_written_is_an_error_with_a_cure(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEPTH_NODE_CACHE", str(tmp_path / "file"))
    with pytest.raises(CacheError, match="DEPTH_NODE_CACHE"):
        render_drive(SMALL)


def test_an_interrupted_rendering_leaves_no_entry(private_cache):
    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_drive(SMALL, interrupt, workers=1)
    assert list(private_cache.iterdir()) == []


def test_old_entries_give_way(private_cache):
    private_cache.mkdir(parents=True)
    for k in range(6):
        (private_cache / f"old{k}").mkdir()
        os.utime(private_cache / f"old{k}", (k, k))
    render_drive(SMALL, workers=1)
    names = {path.name for path in private_cache.iterdir()}
    assert names == {cache_key(SMALL), "old5", "old4", "old3"}


def test_what_a_killed_rendering_left_is_deleted_and_a_running_one_is_not(private_cache):
    now = time.time()
    for name, folder_age, file_age in (("dead", 7200, 7200), ("slow", 7200, 60), ("new", 60, 60)):
        partial = private_cache / f".key.{name}"
        partial.mkdir(parents=True)
        (partial / "rgb.npy").write_bytes(b"half")
        os.utime(partial / "rgb.npy", (now - file_age,) * 2)
        os.utime(partial, (now - folder_age,) * 2)
    render_drive(SMALL, workers=1)
    names = {path.name for path in private_cache.iterdir()}
    assert names == {cache_key(SMALL), ".key.slow", ".key.new"}


def test_the_camera_replays_at_its_rate_with_its_truth(cached):
    camera = WorldCamera(cached, frame_id="eye")
    start = time.monotonic()
    frames = [camera.read() for _ in range(6)]
    elapsed = time.monotonic() - start
    assert elapsed > 4.5 / SMALL.fps
    stamps = np.diff([frame.stamp_ns for frame in frames])
    np.testing.assert_allclose(stamps % round(1e9 / SMALL.fps), 0, atol=1e9 / SMALL.fps)
    assert frames[0].frame_id == "eye"
    assert frames[0].camera is not None
    assert frames[0].camera.width == 32
    assert abs(frames[0].stamp_ns - time.time_ns()) < 5e9
    for frame in frames:
        k = round((frame.stamp_ns - frames[0].stamp_ns) * SMALL.fps / 1e9) % 12
        assert np.array_equal(frame.image, cached.rgb[k])
        assert np.array_equal(camera.true_depth(frame.stamp_ns), cached.depth[k])


def test_a_late_reader_gets_the_newest_frame(cached):
    camera = WorldCamera(cached)
    first = camera.read()
    due = time.monotonic() + 5.5 / SMALL.fps
    while time.monotonic() < due:
        pass
    late = camera.read()
    assert late.stamp_ns - first.stamp_ns >= 5 * 0.99e9 / SMALL.fps


def test_a_drive_that_is_not_looped_ends(cached):
    camera = WorldCamera(cached, loop=False)
    begun = time.monotonic()
    with pytest.raises(EndOfStream, match="12 frames"):  # noqa: PT012
        for _ in range(13):  # a late reader misses some
            camera.read()
    assert time.monotonic() - begun > 0.99 * SMALL.seconds


def test_a_closed_camera_ends_its_stream(cached):
    camera = WorldCamera(cached)
    camera.read()
    camera.close()
    camera.close()
    with pytest.raises(EndOfStream, match="closed"):
        camera.read()
