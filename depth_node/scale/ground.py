"""Metric scale from the camera's known height over the ground and the direction of gravity.

A ground pixel has n.P = h for the unit vector n that points down in the camera's frame and the
camera's height h, so its inverse depth is known without any measurement:
1/Z = (n_x (u - cx)/fx + n_y (v - cy)/fy + n_z) / h, an affine function of the pixel. In disparity a
ground plane is a plane too, so the ground is found there, without back-projection.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.scale.fit import SHIFT_PRIOR, AffineFit, ShiftPrior, fit_affine
from depth_node.types import ArrayF32, ArrayF64, CameraModel

GRID = (120, 160)
"""Rows and columns on which the ground is looked for."""
_MAX_ROLL = np.radians(3.0)
_MAX_UNKNOWN_ROLL = np.radians(15.0)  # where gravity is not known: beyond it, the plane is a wall
_MIN_INLIERS = 0.5
_MIN_SHARE = 0.15
_FARTHEST_HEIGHTS = 12.0
_PLANE_BAND = 0.06  # relative distance from the plane in disparity that still is ground
_HYPOTHESES = 96
_SCORED = 400
_MAX_SHIFT_SIGMAS = 3.0
_MIN_CONTRAST = 0.05  # median deviation of disparity over the ground; a wall's is smaller


@dataclass(frozen=True)
class GroundReference:
    """What is known of the camera's mounting.

    Attributes:
        height_m: height of the optical centre over the ground, metres.
        down: unit vector of gravity in the camera's optical frame (x right, y down, z forward), or
            None when the direction is not known: then only the scale can be had.
        height_sigma_m: standard deviation of the height, metres.
        direction_sigma_rad: standard deviation of the direction's pitch, radians.
    """

    height_m: float
    down: tuple[float, float, float] | None
    height_sigma_m: float = 0.02
    direction_sigma_rad: float = 0.0175


@dataclass(frozen=True, eq=False)
class GroundFit:
    """The scale from the ground.

    Attributes:
        fit: scale and shift, or a refusal with its reason.
        mask: GRID-sized bool, what was taken for ground.
        roll_rad: roll of the ground found in the disparity against gravity, radians.
    """

    fit: AffineFit
    mask: NDArray[np.bool_]
    roll_rad: float


def fit_ground(disparity: ArrayF32, camera: CameraModel, reference: GroundReference) -> GroundFit:
    """Find the ground in the disparity and take scale and shift from it.

    Args:
        disparity: hxw float32 over the whole image.
        camera: the rectified camera, of any size over the same view.
        reference: height and direction of gravity.

    Returns:
        The fit. It is refused, with its reason, on slopes, walls, stairs, little ground and
        ground that tilts against gravity; it never guesses.
    """
    try:
        plane = _find_ground(disparity, camera, reference)
    except _NoGroundError as found:
        return GroundFit(AffineFit(reason=str(found)), np.zeros(GRID, bool), 0.0)
    if reference.down is None:
        fit = _scale_of_plane(plane, reference)
    else:
        fit = _scale_and_shift(plane, reference)
    return GroundFit(fit, plane.mask, plane.roll_rad)


class _NoGroundError(Exception):
    """What was looked at is no level ground; the message says what it is."""


@dataclass(frozen=True, eq=False)
class _Plane:
    """A plane in the disparity that may be the ground.

    Attributes:
        d: (n,) float32 disparity of its pixels.
        g: (n,) float64 inverse depth that level ground would have there, 1/m.
        normal: disparity is normal . (x, y, 1) for a ray (x, y, 1).
        mask: GRID-sized bool, its pixels.
        roll_rad: its roll against gravity.
    """

    d: ArrayF32
    g: ArrayF64
    normal: tuple[float, float, float]
    mask: NDArray[np.bool_]
    roll_rad: float


def _find_ground(disparity: ArrayF32, camera: CameraModel, reference: GroundReference) -> _Plane:
    rows, columns = GRID
    d = np.asarray(cv2.resize(disparity, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)
    fx, fy, cx, cy = camera.resized(columns, rows).intrinsics
    x = (np.arange(columns, dtype=np.float64) - cx) / fx
    y = (np.arange(rows, dtype=np.float64)[:, None] - cy) / fy
    down = np.asarray(reference.down or (0.0, 1.0, 0.0), np.float64)
    down = down / np.linalg.norm(down)
    g = (down[0] * x + down[1] * y + down[2]) / reference.height_m
    below = (g > 1.0 / (_FARTHEST_HEIGHTS * reference.height_m)) & (d > 0.0) & np.isfinite(d)
    seeds = below & _trapezoid(below)
    if np.count_nonzero(seeds) < 0.5 * _MIN_SHARE * rows * columns:
        raise _NoGroundError("too little of the picture lies below the horizon")
    plane = _fit_plane(d, seeds)
    if plane is None:
        raise _NoGroundError("what lies below the horizon is no plane in the disparity")
    v, u = np.mgrid[:rows, :columns]
    fitted = plane[0] * u + plane[1] * v + plane[2]
    flat = np.abs(d - fitted) <= _PLANE_BAND * np.maximum(fitted, 1e-6)
    share = np.count_nonzero(flat & seeds) / np.count_nonzero(seeds)
    if share < _MIN_INLIERS:
        raise _NoGroundError(f"{share:.0%} of what lies below the horizon is a plane")
    # d grows along the same direction of the image as g does, whatever scale and shift are.
    roll = _angle((plane[0] * fx, plane[1] * fy), (down[0], down[1]))
    if abs(roll) > (_MAX_ROLL if reference.down is not None else _MAX_UNKNOWN_ROLL):
        raise _NoGroundError(f"the plane below the horizon rolls {np.degrees(roll):.1f} deg")
    mask = _connected(flat & below, seeds)
    part = np.count_nonzero(mask) / mask.size
    if part < _MIN_SHARE:
        raise _NoGroundError(f"ground covers {part:.0%} of the picture, less than 15%")
    facing = np.median(np.abs(d[mask] - np.median(d[mask]))) < _MIN_CONTRAST * np.median(d[mask])
    if facing:
        raise _NoGroundError("the surface below the horizon faces the camera: a wall")
    normal = (plane[0] * fx, plane[1] * fy, plane[0] * cx + plane[1] * cy + plane[2])
    return _Plane(d[mask], g[mask], normal, mask, roll)


def _scale_and_shift(plane: _Plane, reference: GroundReference) -> AffineFit:
    """Regress g on d. An error of the direction shifts g as a whole, by sigma / h.

    So the regression shows the network's shift minus that error; each is near 0 with its own
    standard deviation, and the posterior of the shift follows.
    """
    d, g = plane.d, plane.g
    typical = float(np.median(g))
    free = ShiftPrior(0.0, 10.0 * typical)
    fit = fit_affine(d, g.astype(np.float32), patches=max(1, len(d) // 64), prior=free)
    if not fit.accepted:
        return fit
    sigma_shift = SHIFT_PRIOR * typical
    sigma_tilt = reference.direction_sigma_rad / reference.height_m
    total = sigma_shift**2 + sigma_tilt**2
    if fit.shift**2 > _MAX_SHIFT_SIGMAS**2 * total:
        return replace(
            fit,
            scale=0.0,
            reason="the surface below the horizon is no level ground: it slopes, or the direction "
            "of gravity is off",
        )
    share = sigma_shift**2 / total
    theta = np.array([fit.scale, share * fit.shift])
    shrink = np.diag([1.0, share])
    covariance = shrink @ fit.covariance @ shrink
    # A tilt that is seen to be larger than expected leaves more than was expected to the shift.
    covariance[1, 1] += share * sigma_tilt**2 * max(1.0, fit.shift**2 / total)
    covariance += (reference.height_sigma_m / reference.height_m) ** 2 * np.outer(theta, theta)
    return replace(fit, shift=float(theta[1]), covariance=covariance)


def _scale_of_plane(plane: _Plane, reference: GroundReference) -> AffineFit:
    """Scale of a plane of disparity normal . (x, y, 1) at height h, with the shift taken as 0.

    Pitch and shift are one free gauge here, so the shift keeps the uncertainty it had a priori.
    """
    scale = 1.0 / (reference.height_m * float(np.linalg.norm(plane.normal)))
    sigma_shift = SHIFT_PRIOR * scale * float(np.median(plane.d))
    sigma_h = reference.height_sigma_m / reference.height_m
    return AffineFit(
        scale=scale,
        covariance=np.diag([(scale * max(sigma_h, 0.03)) ** 2, sigma_shift**2]),
        inliers=len(plane.d),
        total=len(plane.d),
        residual=0.5 * _PLANE_BAND,
        scale_only=True,
    )


def _trapezoid(below: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The lower half of what lies below the horizon, narrowing upwards to its middle half."""
    rows, columns = below.shape
    first = int(np.argmax(below.any(axis=1)))
    top = (first + rows) // 2
    v, u = np.mgrid[:rows, :columns]
    inset = 0.25 * columns * (rows - 1 - v) / max(rows - 1 - top, 1)
    return np.asarray((v >= top) & (u >= inset) & (u <= columns - 1 - inset))


def _fit_plane(d: ArrayF32, seeds: NDArray[np.bool_]) -> ArrayF64 | None:
    """RANSAC, then least squares over the inliers, of d = a u + b v + c with relative residuals."""
    v, u = np.nonzero(seeds)
    keep = np.linspace(0, len(u) - 1, min(_SCORED, len(u))).astype(np.intp)
    rows = np.stack([u, v, np.ones(len(u))], axis=1).astype(np.float64)
    value = d[v, u].astype(np.float64)
    triples = np.random.default_rng(0).choice(keep, (_HYPOTHESES, 3))
    systems = rows[triples]
    regular = np.abs(np.linalg.det(systems)) > 1.0
    if not regular.any():
        return None
    planes = np.linalg.solve(systems[regular], value[triples[regular]][..., None])[..., 0]
    error = np.abs(planes @ rows[keep].T / value[keep] - 1.0)
    plane = planes[np.argmin(np.minimum(error, _PLANE_BAND).sum(axis=1))]
    for _ in range(3):
        inlier = np.abs(rows @ plane / value - 1.0) <= _PLANE_BAND
        if np.count_nonzero(inlier) < 3:
            return None
        weighted = rows[inlier] / value[inlier, None]
        plane = np.linalg.lstsq(weighted, np.ones(len(weighted)), rcond=None)[0]
    return np.asarray(plane, np.float64)


def _angle(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Angle from the second to the first direction in the image, radians."""
    cross = second[0] * first[1] - second[1] * first[0]
    return float(np.arctan2(cross, first[0] * second[0] + first[1] * second[1]))


def _connected(mask: NDArray[np.bool_], seeds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts of a mask that touch the seeds."""
    _, label = cv2.connectedComponents(mask.astype(np.uint8))
    touched = np.unique(np.asarray(label)[seeds & mask])
    return np.asarray(np.isin(label, touched) & mask)
