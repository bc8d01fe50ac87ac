"""Local regression of the points' log residuals, at every cell of a grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from depth_node.types import ArrayF32

_EDGE = 0.03  # difference of log inverse depth at which a point's weight is halved
_SLOPE_RIDGE = 3e-4  # variance of log inverse depth below which the slope is not believed
_REACH = 6.0  # standard deviations of the points' guides from which on the slope is not believed
_NEAR_CELLS2 = 0.25  # squared distance, in cells, below which points count as equally near
_BLOCK = 9600  # places at a time: (6, 9600) float32 arrays stay in the cache
_SURFACE = 0.1  # difference of log inverse depth up to which points may share a surface
_AGREEMENT = 0.15
_SUPPORT, _SUPPORT_SHARE = 0.8, 0.4
_SPREAD_FLOOR = 0.06
_SPREAD_FACTOR = 2.0


@dataclass(frozen=True, eq=False)
class Anchors:
    """The measured points on a grid.

    Attributes:
        x: (n,) float32 column in cells.
        y: (n,) float32 row in cells.
        guide: (n,) float32 log of the predicted inverse depth at the point.
        residual: (n,) float32 log of the measured over the predicted inverse depth.
    """

    x: ArrayF32
    y: ArrayF32
    guide: ArrayF32
    residual: ArrayF32


@dataclass(frozen=True, eq=False)
class Regression:
    """What the points near m places say.

    Attributes:
        value: (m,) float32 expected log residual.
        slope: (m,) float32 its derivative by the guide.
        support: (m,) float32 sum of the points' weights, 0..k: how many near, alike points speak.
        spread: (m,) float32 weighted mean absolute deviation of the points from the regression.
        distance2: (m,) float32 squared distance of the nearest point, cells.
    """

    value: ArrayF32
    slope: ArrayF32
    support: ArrayF32
    spread: ArrayF32
    distance2: ArrayF32


def regress(
    x: ArrayF32,
    y: ArrayF32,
    guide: ArrayF32,
    anchors: Anchors,
    near: NDArray[np.int32],
    exclude: NDArray[np.bool_] | None = None,
) -> Regression:
    """Regress the residual on the guide over each place's neighbours, robustly.

    Weights fall with distance, measured by the neighbours' own spacing, and with the difference of
    the guide, so that a point on another surface has little to say. One reweighting step then
    discounts points that contradict the others.

    Args:
        x: (m,) column of each place, cells.
        y: (m,) row of each place, cells.
        guide: (m,) log of the predicted inverse depth there.
        anchors: the n points.
        near: (k, m) indices of each place's neighbours.
        exclude: (k, m) neighbours to leave out (a point that is asked about itself), or None.

    Returns:
        One value a place.
    """
    parts = []
    for start in range(0, len(guide), _BLOCK):
        block = slice(start, start + _BLOCK)
        left_out = None if exclude is None else exclude[:, block]
        parts.append(_regress(x[block], y[block], guide[block], anchors, near[:, block], left_out))
    return Regression(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def unsupported(
    anchors: Anchors, near: NDArray[np.int32], suspects: NDArray[np.intp], cell: NDArray[np.int32]
) -> NDArray[np.intp]:
    """Those of the suspect points whose neighbours on the same surface do not agree with them.

    Args:
        anchors: the n points.
        near: (k, cells) indices of each cell's neighbours.
        suspects: (m,) indices of points that the global fit does not explain.
        cell: (n,) cell of each point.

    Returns:
        Indices of the refused points.
    """
    neighbours = near[:, cell[suspects]]
    alike = anchors.guide[neighbours] - anchors.guide[suspects]
    weight = np.float32(1.0) / (np.float32(1.0) + (alike / np.float32(_SURFACE)) ** 2)
    weight[neighbours == suspects] = 0.0
    apart = np.abs(anchors.residual[neighbours] - anchors.residual[suspects])
    agreeing = (weight * (apart < _AGREEMENT)).sum(axis=0)
    lonely = agreeing < np.maximum(_SUPPORT, _SUPPORT_SHARE * weight.sum(axis=0))
    return np.asarray(suspects[lonely])


def _regress(
    x: ArrayF32,
    y: ArrayF32,
    guide: ArrayF32,
    anchors: Anchors,
    near: NDArray[np.int32],
    exclude: NDArray[np.bool_] | None,
) -> tuple[ArrayF32, ArrayF32, ArrayF32, ArrayF32, ArrayF32]:
    """The columns of `Regression` for one block of places."""
    distance2 = take(anchors.x, near)
    distance2 -= x
    distance2 *= distance2
    weight = take(anchors.y, near)
    weight -= y
    weight *= weight
    distance2 += weight
    if exclude is not None:
        distance2[exclude] = np.float32(1e8)
    nearest = distance2.min(axis=0)
    difference = take(anchors.guide, near)
    difference -= guide
    residual = take(anchors.residual, near)

    # Width of the kernel: three neighbours over the sum of their inverse squared distances, so the
    # near ones set it and a few far ones do not.
    np.add(distance2, np.float32(_NEAR_CELLS2), out=weight)
    np.reciprocal(weight, out=weight)
    width2 = np.float32(min(len(near), 3)) / weight.sum(axis=0) + np.float32(_NEAR_CELLS2)
    distance2 /= width2
    distance2 += np.float32(1.0)
    distance2 *= distance2
    np.multiply(difference, difference, out=weight)
    weight *= np.float32(1.0 / _EDGE**2)
    weight += np.float32(1.0)
    weight *= distance2
    np.reciprocal(weight, out=weight)
    if exclude is not None:
        weight[exclude] = 0.0

    value, slope = _weighted_line(weight, difference, residual)
    deviation = distance2  # no longer needed: reuse its memory
    _absolute_deviation(value, slope, difference, residual, deviation)
    support = weight.sum(axis=0) + np.float32(1e-9)
    spread = np.einsum("km,km->m", weight, deviation) / support
    deviation /= np.float32(_SPREAD_FACTOR) * spread + np.float32(_SPREAD_FLOOR)
    deviation *= deviation
    deviation += np.float32(1.0)
    deviation *= deviation
    weight /= deviation
    value, slope = _weighted_line(weight, difference, residual)
    return value, slope, support, spread, nearest


def take(values: ArrayF32, index: NDArray[np.int32]) -> ArrayF32:
    """values[index]; indices beyond the ends give the ends, which is twice as fast as a check."""
    return np.take(values, index, out=np.empty(index.shape, np.float32), mode="clip")


def _weighted_line(
    weight: ArrayF32, difference: ArrayF32, residual: ArrayF32
) -> tuple[ArrayF32, ArrayF32]:
    total = weight.sum(axis=0)
    total += np.float32(1e-9)
    weighted = weight * difference
    mean_difference = weighted.sum(axis=0) / total
    mean_residual = np.einsum("km,km->m", weight, residual) / total
    variance = np.einsum("km,km->m", weighted, difference) / total - mean_difference**2
    covariance = np.einsum("km,km->m", weighted, residual) / total - mean_difference * mean_residual
    np.maximum(variance, np.float32(0.0), out=variance)
    variance += np.float32(_SLOPE_RIDGE)
    slope = covariance / variance
    # Where the points end, their slope must not be carried on far: it is mostly noise there.
    slope /= np.float32(1.0) + mean_difference**2 / (np.float32(_REACH**2) * variance)
    return mean_residual - slope * mean_difference, slope


def _absolute_deviation(
    value: ArrayF32, slope: ArrayF32, difference: ArrayF32, residual: ArrayF32, out: ArrayF32
) -> None:
    np.multiply(difference, slope, out=out)
    np.subtract(residual, out, out=out)
    out -= value
    np.abs(out, out=out)
