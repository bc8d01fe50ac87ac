"""How well sparse points make a prediction metric: one frame, one pattern of points, one seed.

The truth's pixels are split: some are given, as a sensor would measure them, all others test. The
errors of four methods are measured on the pixels that were not given.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.evaluation.depth import EvaluationError
from depth_node.evaluation.recording import read_depth
from depth_node.scale.apply import FARTHEST_M, inverse_depth, log_sigma
from depth_node.scale.fit import fit_affine
from depth_node.scale.measure import ScaleConfig
from depth_node.scale.metric import MetricScaleEstimator
from depth_node.scale.points import RangeNoise, SparseDepth
from depth_node.scale.samples import gather
from depth_node.scale.uncertainty import TWO_SIDED_90
from depth_node.types import ArrayF32, CameraModel, Disparity, Frame, ScaleEstimate, ScaleState

RINGS = 64
LOWEST_DEG, HIGHEST_DEG = -24.8, 2.0
HALF_WIDTH_DEG = 0.06
SCAN_HALF_WIDTH_DEG = 0.1
_KITTI_FOCAL_WIDTHS = 0.577
_STAMP_NS = 1_000_000_000


@dataclass(frozen=True, eq=False)
class Scene:
    """One frame to evaluate on.

    Attributes:
        disparity: HxW float32, relative disparity.
        truth: HxW float32 metres, 0 where there is none.
        camera: the rectified camera.
        camera_note: where the camera's numbers come from.
    """

    disparity: ArrayF32
    truth: ArrayF32
    camera: CameraModel
    camera_note: str


@dataclass(frozen=True, eq=False)
class Given:
    """The points that are given: (n,) columns and rows, integers, and depths in metres."""

    u: NDArray[np.intp]
    v: NDArray[np.intp]
    depth: ArrayF32


@dataclass(frozen=True, eq=False)
class Result:
    """What came out of one evaluation.

    Attributes:
        figures: everything measured, ready for JSON.
        estimate: ours.
        depth: HxW float32 metres, ours; +Inf where saturated.
        sigma: HxW float32 metres.
        tested: HxW bool, the pixels that were measured.
        used: (n,) bool by given point, whether our estimate lies within three sigma of it.
    """

    figures: dict[str, Any]
    estimate: ScaleEstimate
    depth: ArrayF32
    sigma: ArrayF32
    tested: NDArray[np.bool_]
    used: NDArray[np.bool_]


def load_scene(disparity: Path, truth: Path, truth_scale: float) -> Scene:
    """Read a prediction and its ground truth.

    Args:
        disparity: npz with the key `disp` (or a single array), or npy: HxW, larger is nearer.
        truth: depth image of the same view, as `eval depth` takes it; NaN and Inf are none.
        truth_scale: stored units in a metre.

    Returns:
        The scene, with the camera from a `calib.json` beside the disparity where there is one for
        this size, or else KITTI's field of view.

    Raises:
        EvaluationError: a file is missing or does not hold what it should.
    """
    if not 0.0 < truth_scale < np.inf:
        raise EvaluationError(
            f"--truth-scale is {truth_scale:g}; it must be the positive number of stored units in "
            "a metre, 256 for KITTI"
        )
    values = _load_disparity(disparity)
    depth = read_depth(truth, truth_scale)
    depth[~np.isfinite(depth)] = 0.0
    if depth.shape != values.shape:
        values = np.asarray(cv2.resize(values, depth.shape[::-1]), np.float32)
    camera, note = _camera(disparity.parent / "calib.json", depth.shape[1], depth.shape[0])
    return Scene(values, depth, camera, note)


def _load_disparity(path: Path) -> ArrayF32:
    try:
        loaded = np.load(path)
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path} is no npz or npy file: {error}") from error
    if not isinstance(loaded, np.ndarray):
        key = "disp" if "disp" in loaded.files else loaded.files[0]
        loaded = loaded[key]
    values = np.asarray(loaded, np.float32)
    if values.ndim != 2:
        raise EvaluationError(f"{path} holds an array {values.shape}; it must be HxW")
    return np.ascontiguousarray(values)


def _camera(calibration: Path, width: int, height: int) -> tuple[CameraModel, str]:
    if calibration.is_file():
        known = json.loads(calibration.read_text())
        if (known.get("width"), known.get("height")) == (width, height):
            K = np.asarray(known["K"], np.float64)
            return CameraModel(width=width, height=height, K=K), str(calibration.name)
    f = _KITTI_FOCAL_WIDTHS * width
    centre = (0.5 * (width - 1), 0.5 * (height - 1))
    return CameraModel.pinhole(width, height, f, f, *centre), "assumed: KITTI's field of view"


def choose_points(scene: Scene, pattern: str, seed: int) -> Given:
    """Choose the pixels of the truth that are given.

    Args:
        scene: the frame.
        pattern: `random:N`; `lines:L`, L of the 64 rings of a scanner at the camera's place with
            elevations from -24.8 to 2 degrees, each the middle one of 64/L neighbours, +-0.06
            degrees (rings below the picture give nothing, as on the real sensor); `scan`, a level
            2D scanner.
        seed: of the random choice.

    Returns:
        The points.

    Raises:
        EvaluationError: the pattern is unknown.
    """
    v, u = np.nonzero(scene.truth > 0.0)
    match = re.fullmatch(r"(random|lines):(\d+)|(scan)", pattern)
    if match is None:
        raise EvaluationError(
            f"the pattern {pattern!r} is not known; give random:N, lines:L or scan"
        )
    if match[1] == "random":
        count = min(int(match[2]), len(u))
        keep = np.random.default_rng(seed).choice(len(u), count, replace=False)
    else:
        fx, fy, cx, cy = scene.camera.intrinsics
        x, y = (u - cx) / fx, (v - cy) / fy
        elevation = np.degrees(np.arctan2(-y, np.hypot(x, 1.0)))
        keep = np.flatnonzero(_on_rings(elevation, int(match[2] or 0)))
    return Given(u[keep], v[keep], scene.truth[v[keep], u[keep]])


def _on_rings(elevation: NDArray[np.floating], lines: int) -> NDArray[np.bool_]:
    if lines == 0:
        return np.asarray(np.abs(elevation) <= SCAN_HALF_WIDTH_DEG)
    rings = np.linspace(LOWEST_DEG, HIGHEST_DEG, RINGS)
    count = min(lines, RINGS)
    chosen = rings[((np.arange(count) + 0.5) * RINGS / count).astype(np.intp)]
    return np.asarray((np.abs(elevation[:, None] - chosen) <= HALF_WIDTH_DEG).any(axis=1))


def evaluate(scene: Scene, given: Given, *, local: bool = True, repeats: int = 5) -> Result:
    """Measure the four methods on the pixels that were not given.

    Args:
        scene: the frame.
        given: what is measured.
        local: whether our estimate has its local correction.
        repeats: how often our estimate is timed.

    Returns:
        AbsRel, RMSE in metres and delta1 of each method, the coverage of our 90% interval, and our
        time by stage in milliseconds.

    Raises:
        EvaluationError: nothing is left to test.
    """
    height, width = scene.truth.shape
    tested = (scene.truth > 0.0) & (scene.disparity > 0.0)
    tested[given.v, given.u] = False
    if not tested.any():
        raise EvaluationError("no pixel with truth and disparity is left to test on")
    g = scene.truth[tested]
    d = scene.disparity[given.v, given.u]
    seen = d > 0.0
    d, q = d[seen], (1.0 / given.depth[seen]).astype(np.float32)
    methods: dict[str, Any] = {
        "least_squares": _errors(_least_squares(scene.disparity[tested], d, q), g),
        "robust_global": _errors(_robust(scene, given, tested), g),
        "interpolation": _errors(_interpolated(given, tested), g),
    }
    estimate, stages = _ours(scene, given, local, repeats)
    figures: dict[str, Any] = {
        "given": len(given.u),
        "tested": int(tested.sum()),
        "saturated_share": float(np.mean(scene.disparity[scene.truth > 0.0] <= 0.0)),
        "methods": methods,
        "status": estimate.state.value,
        "reason": estimate.reason,
        "inliers": estimate.inliers,
        "residual": estimate.residual,
        "time_ms": stages,
        "camera": scene.camera_note,
    }
    nothing = np.full((height, width), np.nan, np.float32)
    used = np.zeros(len(given.u), bool)
    if estimate.state is ScaleState.RELATIVE:
        return Result(figures, estimate, nothing, nothing, tested, used)
    start = time.perf_counter()
    disparity = Disparity(scene.disparity)
    inverse = inverse_depth(disparity, estimate, width, height)
    relative = log_sigma(disparity, estimate, width, height)
    stages["apply"] = 1e3 * (time.perf_counter() - start)
    with np.errstate(divide="ignore"):
        depth = np.float32(1.0) / inverse
    z = np.minimum(depth, np.float32(FARTHEST_M))
    sigma = z * relative
    methods["ours"] = _errors(z[tested], g)
    figures["coverage_90"] = float(np.mean(np.abs(z[tested] - g) <= TWO_SIDED_90 * sigma[tested]))
    at = given.v, given.u
    used = np.abs(z[at] - given.depth) <= 3.0 * sigma[at]
    return Result(figures, estimate, depth, sigma, tested, used)


def _errors(z: NDArray[np.floating], g: ArrayF32) -> dict[str, float]:
    ratio = np.maximum(z / g, g / z)
    return {
        "absrel": float(np.mean(np.abs(z - g) / g)),
        "rmse": float(np.sqrt(np.mean((z - g) ** 2))),
        "delta1": float(np.mean(ratio < 1.25)),
    }


def _metres(q: NDArray[np.floating]) -> NDArray[np.floating]:
    return 1.0 / np.maximum(q, 1.0 / FARTHEST_M)


def _least_squares(tested: ArrayF32, d: ArrayF32, q: ArrayF32) -> NDArray[np.floating]:
    if len(d) < 2:
        return np.full(len(tested), np.nan)
    rows = np.stack([d, np.ones_like(d)], axis=1).astype(np.float64)
    scale, shift = np.linalg.lstsq(rows, q.astype(np.float64), rcond=None)[0]
    return _metres(scale * tested + shift)


def _robust(scene: Scene, given: Given, tested: NDArray[np.bool_]) -> NDArray[np.floating]:
    samples = gather(scene.disparity, [_sparse(scene, given)])
    smallest = float(scene.disparity.min())
    fit = fit_affine(samples.d, samples.q, patches=samples.patches(), lowest=max(smallest, 0.0))
    if not fit.accepted:
        return np.full(int(tested.sum()), np.nan)
    return _metres(fit.scale * scene.disparity[tested] + fit.shift)


def _sparse(scene: Scene, given: Given) -> SparseDepth:
    height, width = scene.truth.shape
    return SparseDepth(
        u=given.u.astype(np.float32),
        v=given.v.astype(np.float32),
        depth=given.depth,
        sigma=RangeNoise().sigma(given.depth),
        source="lidar",
        stamp_ns=_STAMP_NS,
        size=(width, height),
    )


def _interpolated(given: Given, tested: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Linear interpolation of inverse depth over a triangulation, the nearest point outside it."""
    from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
    from scipy.spatial import QhullError

    points = np.stack([given.u, given.v], axis=1).astype(np.float64)
    if len(points) == 0:
        return np.full(int(tested.sum()), np.nan)
    q = 1.0 / given.depth.astype(np.float64)
    v, u = np.nonzero(tested)
    at = np.stack([u, v], axis=1)
    filled = np.full(len(at), np.nan)
    try:
        filled = LinearNDInterpolator(points, q)(at)
    except (QhullError, ValueError):
        filled[:] = np.nan  # too few points, or all on one line: the nearest one is all there is
    outside = np.isnan(filled)
    filled[outside] = NearestNDInterpolator(points, q)(at[outside])
    return _metres(filled)


def _ours(
    scene: Scene, given: Given, local: bool, repeats: int
) -> tuple[ScaleEstimate, dict[str, float]]:
    height, width = scene.truth.shape
    image = np.zeros((height, width, 3), np.uint8)
    frame = Frame(image, _STAMP_NS, "camera_optical_frame", scene.camera, 0, rectified=True)
    disparity = Disparity(scene.disparity)
    estimator = MetricScaleEstimator(ScaleConfig(local_correction=local))
    estimator.add(_sparse(scene, given))
    estimate = estimator.estimate(frame, disparity)
    # The first frame also searches the extrinsic offset, which then rests for seconds.
    times = []
    for _ in range(max(repeats, 1)):
        start = time.perf_counter()
        estimator.estimate(frame, disparity)
        times.append(1e3 * (time.perf_counter() - start))
    return estimate, {"estimate_p50": float(np.median(times)), "estimate_max": max(times)}
