"""A smooth field through scattered values that may jump where a guide has an edge."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.linalg import solveh_banded

from depth_node.types import ArrayF32

_EDGE = 0.005  # relative jump of inverse depth between cells at which smoothness is halved
_FLOOR = 1e-3  # smoothness that is left across the strongest edge
_PULL = 1e-5  # towards zero, where no value reaches
_DIRECT_CELLS = 1300
_ITERATIONS = 16
_WARM_ITERATIONS = 8


def diffuse(
    inverse_depth: ArrayF32,
    weight: ArrayF32,
    value: ArrayF32,
    smooth: float,
    start: ArrayF32 | None = None,
) -> ArrayF32:
    """Minimise sum weight (f - value)^2 + smooth * sum edge (f_i - f_j)^2 + tiny * sum f^2.

    Solved exactly on a coarse grid, then by conjugate gradients on each finer one; or by a few
    conjugate gradients alone, where a similar field is at hand to start from.

    Args:
        inverse_depth: hxw float32, positive: the guide.
        weight: hxw float32, how many values fell into a cell.
        value: hxw float32, their mean; ignored where the weight is 0.
        smooth: strength of the smoothness between cells without an edge.
        start: hxw float32 field of a similar problem, or None.

    Returns:
        hxw float32.
    """
    height, width = inverse_depth.shape
    across, down = _smoothness(inverse_depth, smooth)
    if start is not None:
        return _solve_iterative(across, down, weight, value, start, _WARM_ITERATIONS)
    if height * width <= _DIRECT_CELLS or min(height, width) < 8:
        return _solve_direct(across, down, weight, value)
    half = (width + 1) // 2, (height + 1) // 2
    coarse_weight, coarse_value = _halve(weight, value)
    start = diffuse(
        _resize(inverse_depth, half, cv2.INTER_AREA),
        coarse_weight,
        coarse_value,
        smooth,
    )
    start = _resize(start, (width, height), cv2.INTER_LINEAR)
    return _solve_iterative(across, down, weight, value, start, _ITERATIONS)


def _resize(image: ArrayF32, size: tuple[int, int], interpolation: int) -> ArrayF32:
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.float32)


def _halve(weight: ArrayF32, value: ArrayF32) -> tuple[ArrayF32, ArrayF32]:
    odd = ((0, weight.shape[0] % 2), (0, weight.shape[1] % 2))
    total = np.pad(weight, odd)
    moment = np.pad(weight * value, odd)
    rows, columns = total.shape[0] // 2, total.shape[1] // 2
    total = total.reshape(rows, 2, columns, 2).sum(axis=(1, 3))
    moment = moment.reshape(rows, 2, columns, 2).sum(axis=(1, 3))
    return total, moment / np.maximum(total, np.float32(1e-9))


def _smoothness(q: ArrayF32, smooth: float) -> tuple[ArrayF32, ArrayF32]:
    """Weights of the links to the right, h x (w-1), and down, (h-1) x w."""
    down = _links(q, smooth)
    across = _links(np.ascontiguousarray(q.T), smooth).T
    return np.ascontiguousarray(across), down


def _links(q: ArrayF32, smooth: float) -> ArrayF32:
    # A slanted plane is linear in inverse depth: steep, but without an edge. The jump is therefore
    # the geometric mean of the step itself and of its excess over the steps two cells away.
    step = q[1:] - q[:-1]
    padded = np.pad(step, ((2, 2), (0, 0)), "edge")
    excess = np.minimum(np.abs(step - padded[:-4]), np.abs(step - padded[4:]))
    jump_squared: ArrayF32 = np.abs(step) * excess
    level = q[1:] + q[:-1]
    jump_squared *= np.float32(4.0 / _EDGE**2) / (level * level)
    jump_squared += np.float32(1.0)
    np.reciprocal(jump_squared, out=jump_squared)
    np.maximum(jump_squared, np.float32(_FLOOR), out=jump_squared)
    jump_squared *= np.float32(smooth)
    return jump_squared


def _diagonal(across: ArrayF32, down: ArrayF32, weight: ArrayF32) -> ArrayF32:
    diagonal: ArrayF32 = weight + np.float32(_PULL)
    diagonal[:, :-1] += across
    diagonal[:, 1:] += across
    diagonal[:-1] += down
    diagonal[1:] += down
    return diagonal


def _solve_direct(across: ArrayF32, down: ArrayF32, weight: ArrayF32, value: ArrayF32) -> ArrayF32:
    height, width = weight.shape
    if width > height:  # the bandwidth is the shorter side
        return np.ascontiguousarray(_solve_direct(down.T, across.T, weight.T, value.T).T)
    bands = np.zeros((width + 1, height * width), np.float32)
    bands[0] = _diagonal(across, down, weight).ravel()
    beside = np.zeros((height, width), np.float32)
    beside[:, :-1] = -across
    bands[1] = beside.ravel()
    bands[width, : (height - 1) * width] += -down.ravel()
    right = (weight * value).ravel()
    solution = solveh_banded(bands, right, lower=True, overwrite_ab=True, check_finite=False)
    return np.asarray(solution, np.float32).reshape(height, width)


def _solve_iterative(
    across: ArrayF32,
    down: ArrayF32,
    weight: ArrayF32,
    value: ArrayF32,
    start: ArrayF32,
    iterations: int,
) -> ArrayF32:
    """Conjugate gradients with Jacobi's preconditioner (Shewchuk 1994, section B3)."""
    diagonal = _diagonal(across, down, weight)
    flow_across, flow_down = np.empty_like(across), np.empty_like(down)

    def apply(f: ArrayF32, out: ArrayF32) -> None:
        np.multiply(diagonal, f, out=out)
        np.multiply(across, f[:, 1:], out=flow_across)
        out[:, :-1] -= flow_across
        np.multiply(across, f[:, :-1], out=flow_across)
        out[:, 1:] -= flow_across
        np.multiply(down, f[1:], out=flow_down)
        out[:-1] -= flow_down
        np.multiply(down, f[:-1], out=flow_down)
        out[1:] -= flow_down

    f: ArrayF32 = start.copy()
    applied = np.empty_like(f)
    apply(f, applied)
    residual = weight * value - applied
    inverse = np.reciprocal(diagonal)
    scaled = residual * inverse
    direction = scaled.copy()
    energy = float(np.vdot(residual, scaled))
    for _ in range(iterations):
        if energy < 1e-10:
            break
        apply(direction, applied)
        step = np.float32(energy / float(np.vdot(direction, applied)))
        np.multiply(applied, step, out=applied)
        residual -= applied
        np.multiply(direction, step, out=scaled)
        f += scaled
        np.multiply(residual, inverse, out=scaled)
        previous, energy = energy, float(np.vdot(residual, scaled))
        direction *= np.float32(energy / previous)
        direction += scaled
    return f
