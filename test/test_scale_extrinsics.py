"""Extrinsics that are off: found in one view when far off, else over many."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scale_picture import HEIGHT, STAMP_NS, WIDTH, disparity, points

from depth_node.scale.alignment import Offset, find_offset
from depth_node.scale.extrinsics import Evidence, ExtrinsicMonitor
from depth_node.scale.points import SparseDepth, project
from depth_node.types import CameraModel

NONE = Offset()
WORLD = CameraModel.from_field_of_view(WIDTH, HEIGHT, 75.0)
FOCAL_WIDTHS = 260.0 / WIDTH
PERIOD_NS = 5_000_000_000
FITS = 45
"""Frames that one view is examined on, at most."""


def test_a_pitch_error_is_found_in_one_view():
    given = points(2000)
    offset = find_offset(disparity(), Offset(dv=-4.5 / WIDTH, gain=1.0).applied(given))
    assert offset.dv * WIDTH == pytest.approx(4.5, abs=1.5)
    assert offset.du == 0.0
    assert find_offset(disparity(), given).gain == 0.0


def test_an_error_of_the_height_is_found_in_one_view():
    moved = Offset(lift=-0.1, gain=1.0).applied(points(2000))
    offset = find_offset(disparity(), moved)
    assert offset.lift == pytest.approx(0.1, abs=0.03)
    assert offset.down_m(FOCAL_WIDTHS) == pytest.approx(0.1 / FOCAL_WIDTHS, abs=0.04)


@pytest.mark.parametrize(
    ("offset", "words"),
    [
        (NONE, ""),
        (Offset(du=0.001), ""),
        (Offset(du=-0.0142), "turned by about 1 deg to the left"),
        (Offset(dv=0.0142), "turned by about 1 deg down"),
        (Offset(lift=-0.165), "moved by about 0.2 m up"),
    ],
)
def test_an_offset_says_what_is_to_be_done(offset: Offset, words: str):
    assert offset.described(FOCAL_WIDTHS) == words


@pytest.mark.parametrize("count", [100, 2000])
def test_one_scan_line_accuses_nobody(count: int):
    given = points(count)
    line = replace(given, v=np.full(count, 130.0, np.float32))
    assert find_offset(disparity(), line).gain == 0.0


def view(seed: int) -> np.ndarray:
    """A picture whose network errs smoothly by 12%, otherwise in every view."""
    return (disparity() * network_error(seed)).astype(np.float32)


def network_error(seed: int) -> np.ndarray:
    """HEIGHTxWIDTH factor, smooth."""
    error = np.random.default_rng(seed).normal(0.0, 0.12, (5, 7))
    return np.exp(cv2.resize(error, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))


def drive(error: Offset, views: int = 12) -> ExtrinsicMonitor:
    monitor, stamp = ExtrinsicMonitor(), STAMP_NS
    for index in range(views):
        values = view(index)
        for _ in range(FITS):
            given = points(600, seed=index, stamp_ns=stamp)
            monitor.align(values, error.applied(given), 0.0)
            stamp += PERIOD_NS // (FITS - 1)
    return monitor


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (Offset(dv=-0.0125, gain=1.0), (0, 1, 0)),
        (Offset(du=0.0125, gain=1.0), (-1, 0, 0)),
        (Offset(lift=-0.14, gain=1.0), (0, 0, 1)),
    ],
)
def test_many_views_tell_in_which_direction_it_is_off(error: Offset, cure: tuple[int, ...]):
    verdict = drive(error).verdicts["lidar"]
    assert verdict.gain > 0.0
    assert (np.sign([verdict.du, verdict.dv, verdict.lift]) == cure).all()


def test_right_extrinsics_are_not_accused():
    monitor = drive(NONE)
    assert monitor.verdicts["lidar"].gain == 0.0
    assert "no sign of an error" in monitor.summaries()["lidar"]


@pytest.fixture(scope="module")
def world_views() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(disparity, LiDAR points, T_camera_lidar) of views of the world's streets and rooms.

    The disparity is the true one with a network's smooth error of 12%.
    """
    pytest.importorskip("embreex")
    from depth_node.world.drive import DriveSettings, plan_drive
    from depth_node.world.render import render_depth
    from depth_node.world.sensors import lidar_cloud

    views = []
    for kind in ("street", "room"):
        settings = DriveSettings(kind, seed=1, width=WORLD.width, height=WORLD.height, fps=2.0)
        drive = plan_drive(settings)
        rng = np.random.default_rng(0)
        for index in range(0, settings.frames, 2):
            scene = drive.place.scene
            depth = render_depth(scene, WORLD, drive.sensor_pose(index, "camera"))
            sweep = lidar_cloud(scene, drive.sensor_pose(index, "lidar"), settings.noise, rng)
            inverse = np.where(np.isfinite(depth), 1.0 / depth, 0.0)
            values = cv2.GaussianBlur(inverse, (0, 0), 1.0) * network_error(index)
            views.append(
                (values.astype(np.float32), sweep.points, settings.mounts.camera_to("lidar"))
            )
    return views


@pytest.mark.parametrize(
    ("turn_deg", "cure"),
    [((0, 0), (0, 0)), ((1, 0), (0, 1)), ((-1, 0), (0, -1)), ((0, 1), (-1, 0)), ((0, -1), (1, 0))],
)
def test_a_degree_is_found_in_the_world_and_right_extrinsics_are_not_accused(
    world_views, turn_deg: tuple[float, float], cure: tuple[int, int]
):
    wrong = np.eye(4)
    wrong[:3, :3] = cv2.Rodrigues(np.radians([*turn_deg, 0.0]))[0]
    monitor, stamp = ExtrinsicMonitor(), STAMP_NS
    for values, xyz, T_camera_lidar in world_views:
        given = project(xyz, wrong @ T_camera_lidar, WORLD, source="lidar", stamp_ns=0)
        for _ in range(FITS):
            monitor.align(values, replace(given, stamp_ns=stamp), 0.0)
            stamp += PERIOD_NS // (FITS - 1)
    verdict = monitor.verdicts["lidar"]
    assert tuple(np.sign([verdict.du, verdict.dv])) == cure
    assert (verdict.gain > 0.0) == any(turn_deg)


class StillTrial:
    """A view on which one suspicion gains."""

    def __init__(self, gain: float, still: float) -> None:
        self.gain, self.still = gain, still

    def of(self, *, du: float, dv: float, lift: float) -> Offset:
        return Offset(du, dv, lift, self.gain if dv > 0.0 else -0.1)


@pytest.mark.parametrize(
    ("views", "still", "found"), [(8, 0.1, True), (7, 0.1, False), (8, 0.2, False)]
)
def test_few_views_and_poor_predictions_say_nothing(views: int, still: float, found: bool):
    evidence = Evidence()
    for index in range(views):
        for _ in evidence.add(StillTrial(0.1 + 0.01 * index, still)):
            pass
    assert (evidence.verdict().gain > 0.0) == found
    assert evidence.summary().startswith("off, as 8 views") == found


def test_an_offset_ends_with_the_mounting_that_it_was_found_at():
    monitor, wrong = ExtrinsicMonitor(), Offset(dv=-4.5 / WIDTH, gain=1.0)
    monitor.align(disparity(), wrong.applied(points(2000)), 0.0)
    assert monitor.offsets["lidar"].gain > 0.0
    corrected = replace(points(2000), mounting=1)
    assert monitor.align(disparity(), corrected, 0.0) is corrected
    assert monitor.verdicts["lidar"] == NONE
    assert monitor.summaries()["lidar"].startswith("not known yet")


def test_the_same_view_again_is_no_further_evidence():
    monitor, stamp = ExtrinsicMonitor(), STAMP_NS
    wrong = Offset(du=0.0125, gain=1.0)
    for index in range(12 * FITS):
        given: SparseDepth = wrong.applied(points(600, seed=index, stamp_ns=stamp))
        monitor.align(view(0), given, 0.0)
        stamp += PERIOD_NS // (FITS - 1)
    assert monitor.verdicts["lidar"] == monitor.offsets["lidar"]
