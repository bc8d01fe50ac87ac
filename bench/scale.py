"""Measure the metric scale: accuracy against its bars, robustness, time behaviour and cost.

    python bench/scale.py --data ../shared/data --json

Every AbsRel is a mean over frames, on pixels that were not given to the estimator. `bar` is what
was asked for; a figure above its bar is reported all the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scale_scenes
from machine import describe_machine, print_result

from depth_node.evaluation.scale import (
    Given,
    Scene,
    choose_points,
    evaluate,
    load_scene,
)
from depth_node.scale.apply import fitted_inverse_depth, inverse_depth, log_sigma
from depth_node.scale.fit import fit_affine
from depth_node.scale.ground import GroundReference, fit_ground
from depth_node.scale.measure import ScaleConfig
from depth_node.scale.metric import MetricScaleEstimator
from depth_node.scale.points import RangeNoise, SparseDepth, project
from depth_node.scale.uncertainty import TWO_SIDED_90
from depth_node.types import ArrayF32, CameraModel, Disparity, Frame, ScaleEstimate, ScaleState

BARS = {
    "random:100": 0.046,
    "random:500": 0.029,
    "random:2000": 0.019,
    "random:10000": 0.012,
    "lines:64": 0.019,
    "lines:16": 0.026,
    "lines:8": 0.034,
    "lines:4": 0.050,
    "lines:1": 0.070,
}
SEEDS = (0, 1, 2)
FRAME_NS = 100_000_000
KITTI_HEIGHT_M = 1.65
CLOUD_POINTS, CLOUD_INSIDE = 120_000, 20_000
Measure = Callable[[int], Callable[[], SparseDepth]]
"""Prepares what is measured at a stamp; only what this returns is timed."""


def recorded_scenes(data: Path) -> list[Scene]:
    """The frames with a recorded Depth Anything V2 output and ground truth."""
    folder = data / "dav2_predictions"
    return [
        load_scene(path, path.with_name(path.name.replace("_disp.npz", "_gt.png")), 256.0)
        for path in sorted(folder.glob("*_disp.npz"))
    ]


def accuracy(scenes: list[Scene]) -> dict[str, Any]:
    """AbsRel of every method by pattern, and the coverage of the 90% interval."""
    table = {}
    for pattern, bar in BARS.items():
        seeds = SEEDS if pattern.startswith("random") else SEEDS[:1]
        results = [
            evaluate(scene, choose_points(scene, pattern, seed), repeats=1).figures
            for scene in scenes
            for seed in seeds
        ]
        methods = {
            name: round(float(np.mean([r["methods"][name]["absrel"] for r in results])), 4)
            for name in results[0]["methods"]
        }
        coverage = round(float(np.mean([r["coverage_90"] for r in results])), 3)
        table[pattern] = {
            **methods,
            "bar": bar,
            "held": methods["ours"] <= bar,
            "coverage_90": coverage,
        }
    return table


def never_worse(scenes: list[Scene]) -> dict[str, Any]:
    """Ours over the better of the global fit and interpolation, at any density and pattern."""
    ratios = {}
    patterns = [f"random:{n}" for n in (20, 50, 200, 1000, 5000, 20000, 40000, 60000)]
    for pattern in [*patterns, "lines:32", "lines:2", "scan"]:
        per_frame = []
        for scene in scenes:
            methods = evaluate(scene, choose_points(scene, pattern, 0), repeats=1).figures[
                "methods"
            ]
            best = min(methods["robust_global"]["absrel"], methods["interpolation"]["absrel"])
            per_frame.append(methods["ours"]["absrel"] / best)
        ratios[pattern] = round(float(np.mean(per_frame)), 3)
    return ratios


def robustness(scenes: list[Scene]) -> dict[str, Any]:
    """AbsRel under outliers and a wrong extrinsic, over the clean global fit's."""
    table = {}
    for name, spoil in SPOILERS.items():
        ours, clean = [], []
        for scene in scenes:
            for pattern in ("random:2000", "lines:16"):
                for seed in SEEDS:
                    given = choose_points(scene, pattern, seed)
                    methods = evaluate(scene, given, repeats=1).figures["methods"]
                    clean.append(methods["robust_global"]["absrel"])
                    spoiled = spoil(scene, given, np.random.default_rng(seed))
                    kept = evaluate(scene, spoiled, repeats=1).figures["methods"]
                    ours.append(kept.get("ours", {"absrel": np.inf})["absrel"])
        median = float(np.median(ours))
        table[name] = {
            "absrel": round(float(np.mean(ours)), 4),
            "clean_global": round(float(np.mean(clean)), 4),
            "ratio": round(float(np.mean(ours) / np.mean(clean)), 3),
            "share_over_twice_median": float(np.mean(np.array(ours) > 2 * median)),
        }
    return table


def _outliers(_: Scene, given: Given, rng: np.random.Generator) -> Given:
    wrong = rng.random(len(given.u)) < 0.3
    factor = np.where(rng.random(len(given.u)) < 0.5, 0.5, 1.5)
    return replace(given, depth=np.where(wrong, given.depth * factor, given.depth).astype("f4"))


def _moved(pitch_deg: float, yaw_deg: float, up_m: float) -> Callable[..., Given]:
    rotation = cv2.Rodrigues(np.radians([pitch_deg, yaw_deg, 0.0]))[0]

    def spoil(scene: Scene, given: Given, _: np.random.Generator) -> Given:
        fx, fy, cx, cy = scene.camera.intrinsics
        rays = np.stack([(given.u - cx) / fx, (given.v - cy) / fy, np.ones(len(given.u))])
        x, y, z = rotation @ (rays * given.depth) + np.array([[0.0], [-up_m], [0.0]])
        u, v = np.round(fx * x / z + cx).astype(int), np.round(fy * y / z + cy).astype(int)
        seen = (u >= 0) & (u < scene.camera.width) & (v >= 0) & (v < scene.camera.height)
        return Given(u[seen], v[seen], z[seen].astype(np.float32))

    return spoil


SPOILERS: dict[str, Callable[..., Given]] = {
    "outliers_30_percent": _outliers,
    "pitch_1_deg": _moved(1.0, 0.0, 0.0),
    "yaw_1_deg": _moved(0.0, 1.0, 0.0),
    "translation_0.25_m": _moved(0.0, 0.0, 0.25),
}


def ground(scenes: list[Scene]) -> dict[str, Any]:
    """AbsRel on the road within 10 m from the camera's height, and coverage by pitch error."""
    table = {}
    for error_deg in (-1.0, -0.5, 0.0, 0.5, 1.0):
        errors, covered = [], []
        angle = np.radians(error_deg)
        reference = GroundReference(KITTI_HEIGHT_M, (0.0, np.cos(angle), np.sin(angle)))
        for scene in scenes:
            fit = fit_ground(scene.disparity, scene.camera, reference).fit
            if not fit.accepted:
                continue
            _, fy, _, cy = scene.camera.intrinsics
            v, u = np.nonzero((scene.truth > 0.0) & (scene.disparity > 0.0))
            z = scene.truth[v, u]
            road = (np.abs((v - cy) / fy * z - KITTI_HEIGHT_M) < 0.2) & (z <= 10.0)
            v, u, z = v[road], u[road], z[road]
            estimate = ScaleEstimate(
                state=ScaleState.METRIC,
                source="ground",
                scale=fit.scale,
                shift=fit.shift,
                covariance=fit.covariance,
                inliers=fit.inliers,
                residual=fit.residual,
            )
            height, width = scene.disparity.shape
            relative = log_sigma(Disparity(scene.disparity), estimate, width, height)[v, u]
            predicted = 1 / fitted_inverse_depth(scene.disparity[v, u], fit.scale, fit.shift)
            error = np.abs(predicted - z)
            errors.append(float(np.mean(error / z)))
            covered.append(float(np.mean(error <= TWO_SIDED_90 * relative * predicted)))
        table[f"pitch_error_{error_deg:g}_deg"] = {
            "frames": len(errors),
            "absrel_road_10m": round(float(np.mean(errors)), 4) if errors else None,
            "coverage_90": round(float(np.mean(covered)), 3) if errors else None,
        }
    return table


def over_time(scene: Scene) -> dict[str, Any]:
    """Jitter in a static scene whose gauge changes by the frame, hold without LiDAR, a cut."""
    table: dict[str, Any] = {}
    for name, filtered in (("filter_on", True), ("filter_off", False)):
        drive = _StaticDrive(scene, ScaleConfig(filtered=filtered))
        level = [drive.step(measured=True)[0] for _ in range(60)][10:]
        fresh = drive.last_absrel
        for _ in range(20):
            drive.step(measured=False)
        held = drive.last_absrel
        drive.cut()
        after = [drive.step(measured=True)[1] for _ in range(3)]
        table[name] = {
            "jitter_rms_percent": round(100 * float(np.sqrt(np.mean(np.diff(level) ** 2))), 3),
            "absrel_fresh": round(fresh, 4),
            "absrel_after_2_s_without_lidar": round(held, 4),
            "frames_to_recover_from_cut": next(
                (i + 1 for i, state in enumerate(after) if state is ScaleState.METRIC), None
            ),
        }
    return table


class _StaticDrive:
    """One frame shown again and again in another gauge each time, with other points."""

    def __init__(self, scene: Scene, config: ScaleConfig) -> None:
        self._scene = scene
        self._estimator = MetricScaleEstimator(config)
        self._rng = np.random.default_rng(0)
        self._stamp_ns = 0
        self.last_absrel = 0.0

    def cut(self) -> None:
        """Show another scene: this one mirrored."""
        mirrored = (
            np.ascontiguousarray(a[:, ::-1]) for a in (self._scene.disparity, self._scene.truth)
        )
        disparity, truth = mirrored
        self._scene = replace(self._scene, disparity=disparity, truth=truth)

    def step(self, *, measured: bool) -> tuple[float, ScaleState]:
        """One frame; (log of the median inverse depth, state)."""
        self._stamp_ns += FRAME_NS
        scene, rng = self._scene, self._rng
        seen = scene.disparity > 0.0
        values = scene.disparity * rng.uniform(0.7, 1.4) + seen * rng.uniform(0.0, 5.0)
        disparity = Disparity(values.astype(np.float32))
        height, width = scene.truth.shape
        if measured:
            given = choose_points(scene, "random:2000", int(rng.integers(1 << 30)))
            noisy = (given.depth * rng.normal(1.0, 0.01, len(given.u))).astype(np.float32)
            u, v = given.u.astype(np.float32), given.v.astype(np.float32)
            sigma = RangeNoise().sigma(noisy)
            size = (width, height)
            self._estimator.add(SparseDepth(u, v, noisy, sigma, "lidar", self._stamp_ns, size))
        image = np.zeros((height, width, 3), np.uint8)
        frame = Frame(image, self._stamp_ns, "camera", scene.camera, 0, rectified=True)
        estimate = self._estimator.estimate(frame, disparity)
        if estimate.state is ScaleState.RELATIVE:
            return float("nan"), estimate.state
        tested = (scene.truth > 0.0) & seen
        z = 1.0 / np.maximum(inverse_depth(disparity, estimate, width, height)[tested], 1e-3)
        g = scene.truth[tested]
        self.last_absrel = float(np.mean(np.abs(z - g) / g))
        return float(-np.log(np.median(z))), estimate.state


def cost(scene: Scene, frames: int) -> dict[str, Any]:
    """Milliseconds of the stage at 640x480 on one thread, without and with projecting a cloud."""
    cv2.setNumThreads(1)
    table: dict[str, Any] = {}
    disparity = np.asarray(cv2.resize(scene.disparity, (640, 480)), np.float32)
    camera = CameraModel.from_field_of_view(640, 480, 75.0)
    rng = np.random.default_rng(0)
    fit = fit_affine(scene.disparity[scene.truth > 0.0], 1.0 / scene.truth[scene.truth > 0.0])
    for count in (100, 1000, 5000, 20000):
        draw = _measured_points(disparity, fit.scale, fit.shift, count, rng)
        table[f"points_{count}"] = _timed(disparity, camera, draw, frames)
    draw = _measured_points(disparity, fit.scale, fit.shift, CLOUD_INSIDE, rng)
    table["cloud_120000_with_projection"] = _timed(
        disparity, camera, _projected_cloud(camera, draw, rng), frames
    )
    cv2.setNumThreads(-1)
    return table


def _measured_points(
    disparity: ArrayF32, scale: float, shift: float, count: int, rng: np.random.Generator
) -> Measure:
    """Draws other pixels below the horizon for every stamp, with 5% of noise."""

    def draw(stamp: int) -> Callable[[], SparseDepth]:
        u, v = rng.integers(0, 640, count), rng.integers(120, 480, count)
        q = np.maximum(scale * disparity[v, u] + shift, 0.01) * rng.normal(1.0, 0.05, count)
        z = (1.0 / q).astype(np.float32)
        sigma = RangeNoise().sigma(z)
        points = SparseDepth(u.astype("f4"), v.astype("f4"), z, sigma, "lidar", stamp, (640, 480))
        return lambda: points

    return draw


def _projected_cloud(camera: CameraModel, draw: Measure, rng: np.random.Generator) -> Measure:
    """Projects a spinning scanner's cloud, a sixth of which lies in the picture."""
    fx, fy, cx, cy = camera.intrinsics
    seen = draw(0)()
    xyz = np.stack([(seen.u - cx) / fx, (seen.v - cy) / fy, np.ones(len(seen))]) * seen.depth
    behind = rng.normal(size=(CLOUD_POINTS - len(seen), 3)) * [20.0, 2.0, 20.0]
    behind[:, 2] = -np.abs(behind[:, 2])
    cloud = np.concatenate([xyz.T, behind]).astype(np.float32)
    rng.shuffle(cloud)

    def later(stamp: int) -> Callable[[], SparseDepth]:
        return lambda: project(cloud, np.eye(4), camera, source="lidar", stamp_ns=stamp)

    return later


def _timed(
    disparity: ArrayF32, camera: CameraModel, prepare: Measure, frames: int
) -> dict[str, float]:
    estimator = MetricScaleEstimator()
    image = np.zeros((480, 640, 3), np.uint8)
    wall, processor = [], []
    for index in range(frames + 5):
        stamp = (index + 1) * 33_000_000
        frame = Frame(image, stamp, "camera", camera, 0, rectified=True)
        measure = prepare(stamp)
        start, busy = time.perf_counter(), time.thread_time()
        estimator.add(measure())
        estimator.estimate(frame, Disparity(disparity))
        wall.append(1e3 * (time.perf_counter() - start))
        processor.append(1e3 * (time.thread_time() - busy))
    return {
        **_percentiles(wall[5:]),
        "cpu_p50_ms": round(float(np.median(processor[5:])), 2),
        "cpu_min_ms": round(float(np.min(processor[5:])), 2),
    }


def _percentiles(times: list[float]) -> dict[str, float]:
    names = {"p50_ms": 50, "p99_ms": 99}
    return {name: round(float(np.percentile(times, p)), 2) for name, p in names.items()}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--frames", type=int, default=300, help="frames timed for the cost")
    parser.add_argument("--skip-network", action="store_true", help="leave out what runs a network")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    scenes = recorded_scenes(args.data)
    if not scenes:
        parser.error(f"there is no recorded prediction in {args.data / 'dav2_predictions'}")
    report: dict[str, Any] = {
        "benchmark": "scale",
        "command": "python bench/scale.py --json",
        "frames": len(scenes),
        "accuracy_absrel": accuracy(scenes),
        "ours_over_best_of_global_and_interpolation": never_worse(scenes),
        "robustness": robustness(scenes),
        "ground": ground(scenes),
        "time": over_time(scenes[0]),
        "cost": cost(scenes[0], args.frames),
    }
    if not args.skip_network:
        report.update(scale_scenes.measure(args.data))
    print_result({**report, **describe_machine()}, as_json=args.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
