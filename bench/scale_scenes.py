"""Metric scale with the shipped network: KITTI's LiDAR, the world's, and temporal alignment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.engines.base import Engine
from depth_node.engines.select import load_engine
from depth_node.evaluation.temporal import temporal_alignment_error
from depth_node.parameters import ModelSettings
from depth_node.scale.apply import inverse_depth, log_sigma
from depth_node.scale.fit import fit_affine
from depth_node.scale.measure import ScaleConfig
from depth_node.scale.metric import MetricScaleEstimator
from depth_node.scale.points import SparseDepth, from_depth_image, project, sample_disparity
from depth_node.scale.uncertainty import TWO_SIDED_90
from depth_node.types import (
    ArrayF32,
    CameraModel,
    Disparity,
    Frame,
    ImageU8,
    ScaleState,
)

RING_SPACING_DEG = 26.8 / 63
LOWEST_DEG = -24.8
WORLD_SECONDS = 4.0
SPARSE_POINTS = 500
NEAREST_TO_NOTHING = 0.01
"""1/m; both methods are clipped here, the testing points end at 80 m."""


@dataclass(frozen=True, eq=False)
class Step:
    """One frame of a recording: image, points that are given, and points that test."""

    image: ImageU8
    camera: CameraModel
    stamp_ns: int
    given: SparseDepth
    truth: SparseDepth


def measure(data: Path) -> dict[str, Any]:
    """Everything that needs the network, as one JSON object."""
    engine = load_engine(ModelSettings(name="student"), lambda line: None)
    try:
        return {
            "network": f"{engine.model} ({engine.name} {engine.precision})",
            "kitti_sequence_16_rings": run(engine, kitti_sequence(data / "kitti_sequence")),
            "world_lidar_0.25_m_above": {
                kind: run(engine, world_drive(kind)) for kind in ("room", "corridor", "street")
            },
            "sevenscenes_temporal_alignment_percent": temporal_alignment(
                engine, data / "sevenscenes"
            ),
        }
    finally:
        engine.close()


def run(engine: Engine, steps: Iterator[Step]) -> dict[str, Any]:
    """AbsRel of the global fit and of ours at the testing points, and the interval's coverage."""
    estimator = MetricScaleEstimator()
    ours, plain, covered, states = [], [], [], []
    for step in steps:
        disparity = engine.infer(step.image)
        estimator.add(step.given)
        frame = Frame(step.image, step.stamp_ns, "camera", step.camera, 0, rectified=True)
        estimate = estimator.estimate(frame, disparity)
        states.append(estimate.state is ScaleState.METRIC)
        d_given = sample_disparity(disparity.values, step.given)
        fit = fit_affine(d_given, 1.0 / step.given.depth, patches=64)
        u, v = np.round(step.truth.u).astype(int), np.round(step.truth.v).astype(int)
        d = sample_disparity(disparity.values, step.truth)
        g = step.truth.depth
        if estimate.state is ScaleState.RELATIVE or not fit.accepted:
            continue
        height, width = step.image.shape[:2]
        q = inverse_depth(disparity, estimate, width, height)[v, u]
        sigma = log_sigma(disparity, estimate, width, height)[v, u]
        tested = (d > 0.0) & (q > 0.0)
        z = 1.0 / np.maximum(q[tested], NEAREST_TO_NOTHING)
        g = g[tested]
        ours.append(np.mean(np.abs(z - g) / g))
        covered.append(np.mean(np.abs(z - g) <= TWO_SIDED_90 * sigma[tested] * z))
        z = 1.0 / np.maximum(fit.scale * d[tested] + fit.shift, NEAREST_TO_NOTHING)
        plain.append(np.mean(np.abs(z - g) / g))
    return {
        "frames": len(states),
        "metric": int(np.sum(states)),
        "absrel_global": round(float(np.mean(plain)), 4),
        "absrel_ours": round(float(np.mean(ours)), 4),
        "coverage_90": round(float(np.mean(covered)), 3),
    }


def kitti_sequence(folder: Path) -> Iterator[Step]:
    """KITTI's LiDAR: every fourth ring is given, the other rings test."""
    calibration = json.loads((folder / "calib.json").read_text())
    camera = CameraModel(
        width=calibration["width"],
        height=calibration["height"],
        K=np.asarray(calibration["K"], np.float64),
    )
    T_cam_lidar = np.asarray(calibration["T_cam_lidar"], np.float64)
    for index, path in enumerate(sorted((folder / "image").glob("*.png"))):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        scan = np.fromfile(folder / "lidar" / f"{path.stem}.bin", np.float32).reshape(-1, 4)
        xyz = scan[:, :3]
        elevation = np.degrees(np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1])))
        ring = np.round((elevation - LOWEST_DEG) / RING_SPACING_DEG).astype(int)
        stamp = (index + 1) * 100_000_000
        given, truth = (
            project(xyz[chosen], T_cam_lidar, camera, source="lidar", stamp_ns=stamp, max_m=80.0)
            for chosen in (ring % 4 == 2, ring % 4 != 2)
        )
        yield Step(image, camera, stamp, given, truth)


def world_drive(kind: str) -> Iterator[Step]:
    """The world's 16-beam LiDAR, 0.25 m above the camera; every eighth pixel tests."""
    from depth_node.world.cache import render_drive
    from depth_node.world.drive import DriveSettings

    drive = render_drive(DriveSettings(kind=kind, seed=1, fps=10.0, seconds=WORLD_SECONDS))
    T_cam_lidar = drive.settings.mounts.camera_to("lidar")
    for index in range(drive.settings.frames):
        sweep = drive.lidar_sweep(index)
        xyz = np.stack([sweep["x"], sweep["y"], sweep["z"]], axis=1)
        stamp = (index + 1) * 100_000_000
        if index % drive.settings.lidar_every:
            continue
        given = project(xyz, T_cam_lidar, drive.camera, source="lidar", stamp_ns=stamp)
        thinned = np.full(drive.depth.shape[1:], np.nan, np.float32)
        thinned[::8, ::8] = drive.depth[index][::8, ::8]
        truth = from_depth_image(thinned, drive.camera, source="truth", stamp_ns=stamp, max_m=80.0)
        yield Step(np.ascontiguousarray(drive.rgb[index]), drive.camera, stamp, given, truth)


def temporal_alignment(engine: Engine, folder: Path) -> dict[str, Any]:
    """Temporal alignment error with the filter on and off, percent.

    500 pixels of the recorded depth are given in each frame.
    """
    calibration = json.loads((folder / "calib.json").read_text())
    K = np.asarray(calibration["K"], np.float64)
    camera = CameraModel(width=calibration["width"], height=calibration["height"], K=K)
    poses = [np.loadtxt(path) for path in sorted(folder.glob("*.pose.txt"))]
    result = {}
    for local in (False, True):
        for filtered in (True, False):
            config = ScaleConfig(filtered=filtered, local_correction=local)
            depths = list(_seven_scenes_depths(engine, folder, camera, config))
            errors = [
                temporal_alignment_error(pair, moved, K)
                for pair, moved in zip(pairwise(depths), pairwise(poses), strict=True)
            ]
            name = f"filter_{'on' if filtered else 'off'}_local_{'on' if local else 'off'}"
            result[name] = round(100 * float(np.mean(errors)), 3)
    return result


def _seven_scenes_depths(
    engine: Engine, folder: Path, camera: CameraModel, config: ScaleConfig
) -> Iterator[ArrayF32]:
    estimator = MetricScaleEstimator(config)
    rng = np.random.default_rng(0)
    for index, path in enumerate(sorted(folder.glob("*.color.jpg"))):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        stored = cv2.imread(str(path).replace(".color.jpg", ".depth.png"), cv2.IMREAD_UNCHANGED)
        metres = np.where(stored < 60_000, stored, 0).astype(np.float32) / 1000.0
        stamp = (index + 1) * 33_333_333
        points = from_depth_image(metres, camera, source="landmarks", stamp_ns=stamp)
        points = _some(points, rng.choice(len(points), SPARSE_POINTS, replace=False))
        estimator.add(points)
        disparity: Disparity = engine.infer(image)
        frame = Frame(image, stamp, "camera", camera, 0, rectified=True)
        estimate = estimator.estimate(frame, disparity)
        q = inverse_depth(disparity, estimate, camera.width, camera.height)
        yield np.where(q > 0.0, 1.0 / np.maximum(q, 1e-6), np.nan).astype(np.float32)


def _some(points: SparseDepth, keep: NDArray[np.intp]) -> SparseDepth:
    arrays = {name: getattr(points, name)[keep] for name in ("u", "v", "depth", "sigma")}
    return replace(points, **arrays)
