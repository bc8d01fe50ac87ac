"""Unit meshes that scenes are composed of.

Every mesh fills x, y in [-0.5, 0.5] and stands on z = 0 with height 1, so a size in metres scales
it and its base is where it is put. z is up.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from depth_node.types import ArrayF32, ArrayF64


class UnitMesh(NamedTuple):
    """Triangles of a unit mesh.

    Attributes:
        corners: (n, 3, 3) float32, corner positions.
        normals: (n, 3, 3) float32, unit normals at the corners for shading.
    """

    corners: ArrayF32
    normals: ArrayF32


def face_normals(corners: ArrayF64 | ArrayF32) -> ArrayF64:
    """Unit normals of (n, 3, 3) triangles, (n, 3); zero for degenerate ones."""
    edges = np.asarray(corners, np.float64)
    cross = np.cross(edges[:, 1] - edges[:, 0], edges[:, 2] - edges[:, 0])
    return np.asarray(cross / np.maximum(np.linalg.norm(cross, axis=1, keepdims=True), 1e-18))


def flat(corners: ArrayF64) -> UnitMesh:
    """A mesh whose triangles each have one normal."""
    normals = np.repeat(face_normals(corners)[:, None], 3, axis=1)
    return UnitMesh(corners.astype(np.float32), normals.astype(np.float32))


def _quads(a: ArrayF64, b: ArrayF64, c: ArrayF64, d: ArrayF64) -> ArrayF64:
    return np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def grid(points: ArrayF64, normals: ArrayF64 | None = None) -> UnitMesh:
    """Triangulate a (rows, columns, 3) grid of points; smooth when normals are given."""

    def split(field: ArrayF64) -> ArrayF64:
        a, b = field[:-1, :-1].reshape(-1, 3), field[:-1, 1:].reshape(-1, 3)
        d, c = field[1:, :-1].reshape(-1, 3), field[1:, 1:].reshape(-1, 3)
        return _quads(a, b, c, d)

    corners = split(points)
    edges = corners[:, 1:] - corners[:, :1]
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    solid = area > 1e-9  # where rows meet in a pole, half of the triangles are none
    if normals is None:
        return flat(corners[solid])
    return UnitMesh(corners[solid].astype(np.float32), split(normals)[solid].astype(np.float32))


def join(parts: Sequence[UnitMesh]) -> UnitMesh:
    """One mesh of several."""
    return UnitMesh(
        np.concatenate([part.corners for part in parts]),
        np.concatenate([part.normals for part in parts]),
    )


def box() -> UnitMesh:
    """A cube."""
    corners = []
    for axis in range(3):
        for side in (-0.5, 0.5):
            u, v = (axis + 1) % 3, (axis + 2) % 3
            quad = np.zeros((4, 3))
            quad[:, axis] = side
            quad[:, u] = np.array([-0.5, 0.5, 0.5, -0.5]) * np.sign(side)
            quad[:, v] = [-0.5, -0.5, 0.5, 0.5]
            corners.append(quad)
    quads = np.array(corners)
    quads[..., 2] += 0.5
    return flat(_quads(*(quads[:, i] for i in range(4))))


def lathe(
    profile: Sequence[tuple[float, float]], segments: int, *, smooth: bool = True
) -> UnitMesh:
    """Rotate a profile of (radius, height) around z; caps are part of the profile (radius 0)."""
    radius, height = np.array(profile, float).T
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    points = np.stack(
        [
            np.outer(radius, np.cos(angle)),
            np.outer(radius, np.sin(angle)),
            np.repeat(height[:, None], segments + 1, axis=1),
        ],
        axis=-1,
    )
    if not smooth:
        return grid(points)
    parts = []
    for i in range(len(profile) - 1):  # bands of their own: edges between them stay sharp
        dr, dz = radius[i + 1] - radius[i], height[i + 1] - height[i]
        length = max(float(np.hypot(dr, dz)), 1e-9)
        normal = np.stack([np.cos(angle) * dz, np.sin(angle) * dz, np.full_like(angle, -dr)], -1)
        parts.append(grid(points[i : i + 2], np.stack([normal, normal]) / length))
    return join(parts)


def sphere(rows: int, columns: int, power: float = 1.0) -> UnitMesh:
    """An ellipsoid; a power below 1 makes it boxy (superellipsoid), as cushions are."""

    def soften(value: ArrayF64) -> ArrayF64:
        return np.asarray(np.sign(value) * np.abs(value) ** power)

    theta = np.linspace(-np.pi / 2, np.pi / 2, rows + 1)[:, None]
    phi = np.linspace(0, 2 * np.pi, columns + 1)[None]
    points = np.stack(
        [
            soften(np.cos(theta)) * soften(np.cos(phi)),
            soften(np.cos(theta)) * soften(np.sin(phi)),
            soften(np.sin(theta)) * np.ones_like(phi),
        ],
        axis=-1,
    )
    sign = np.sign(points) * np.abs(points) ** (2 / power - 1) if power < 1 else points
    normals = sign / np.maximum(np.linalg.norm(sign, axis=-1, keepdims=True), 1e-9)
    return grid(points * 0.5 + [0, 0, 0.5], normals)


def lump(seed: int, roughness: float, rows: int = 7, columns: int = 11) -> UnitMesh:
    """A rock, bag or bush: a sphere with random bumps, closed at the seam."""
    rng = np.random.default_rng([seed, 1])
    theta = np.linspace(-np.pi / 2, np.pi / 2, rows + 1)
    phi = np.linspace(0, 2 * np.pi, columns + 1)
    radius = 1 - roughness * rng.random((rows + 1, columns + 1))
    radius[:, -1] = radius[:, 0]
    radius[0], radius[-1] = radius[0, 0], radius[-1, 0]
    points = np.stack(
        [
            radius * np.outer(np.cos(theta), np.cos(phi)),
            radius * np.outer(np.cos(theta), np.sin(phi)),
            radius * np.sin(theta)[:, None],
        ],
        axis=-1,
    )
    return _fit(grid(points))


def _fit(mesh: UnitMesh) -> UnitMesh:
    """Stretch a mesh to the unit extent."""
    points = mesh.corners.reshape(-1, 3)
    low, high = points.min(0), points.max(0)
    fitted = (mesh.corners - low) / np.maximum(high - low, 1e-9) - np.array([0.5, 0.5, 0.0])
    return UnitMesh(fitted.astype(np.float32), mesh.normals)


def crown(seed: int, leaves: int, clumps: int) -> UnitMesh:
    """The crown of a tree: clumps of foliage with loose leaf cards around them."""
    rng = np.random.default_rng([seed, 2])
    parts = []
    centres = rng.normal(0, 0.2, (clumps, 3)) * [1, 1, 0.9]
    for centre in centres:
        blob = lump(int(rng.integers(1 << 30)), 0.45, 5, 8)
        size = rng.uniform(0.25, 0.5)
        corners = (blob.corners - np.array([0, 0, 0.5])) * size + centre
        parts.append(UnitMesh(corners.astype(np.float32), blob.normals))
    around = centres[rng.integers(clumps, size=leaves)]
    direction = rng.standard_normal((leaves, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    at = around + direction * rng.uniform(0.12, 0.32, (leaves, 1))
    triangles = at[:, None] + rng.normal(0, 0.035, (leaves, 3, 3))
    parts.append(flat(triangles))
    return _fit(join(parts))


def fan(seed: int, blades: int) -> UnitMesh:
    """A potted plant or a tuft of grass: blades that bend outwards from the base."""
    rng = np.random.default_rng([seed, 3])
    triangles = []
    for _ in range(blades):
        angle, lean = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.5)
        out = np.array([np.cos(angle), np.sin(angle), 0.0])
        side = np.array([-out[1], out[0], 0.0]) * rng.uniform(0.015, 0.08)
        middle = 0.5 * lean * out + [0, 0, rng.uniform(0.4, 0.8)]
        tip = lean * out * 1.6 + [0, 0, rng.uniform(0.3, 1.0)]
        root = 0.02 * out
        triangles += [[root, middle + side, middle - side], [middle + side, tip, middle - side]]
    return _fit(flat(np.array(triangles)))


def wave(folds: int, depth: float) -> UnitMesh:
    """A hanging curtain in the x-z plane, or a corrugated sheet."""
    x = np.linspace(-0.5, 0.5, 8 * folds + 1)
    y = depth * np.sin(2 * np.pi * folds * x)
    points = np.stack([np.stack([x, y, np.full_like(x, z)], -1) for z in (0.0, 1.0)])
    slope = depth * 2 * np.pi * folds * np.cos(2 * np.pi * folds * x)
    normal = np.stack([slope, -np.ones_like(x), np.zeros_like(x)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return grid(points, np.stack([normal, normal]))


def extrusion(profile: Sequence[tuple[float, float]], waist: float, tuck: float) -> UnitMesh:
    """Extrude an outline in (x, z) along y; above `waist` it narrows by the share `tuck`."""
    outline = np.array(profile, float)
    half = np.where(outline[:, 1] > waist, 0.5 * (1 - tuck), 0.5)
    left = np.stack([outline[:, 0], half, outline[:, 1]], 1)
    right = left * [1, -1, 1]
    sides = _quads(left, np.roll(left, -1, 0), np.roll(right, -1, 0), right)
    caps = []
    for ring in (left, right):
        centre = np.broadcast_to(ring.mean(0), ring.shape)
        caps.append(np.stack([centre, ring, np.roll(ring, -1, 0)], 1))
    return flat(np.concatenate([sides, *caps]))


def _card() -> UnitMesh:
    points = np.array([[[-0.5, 0, 0], [0.5, 0, 0]], [[-0.5, 0, 1], [0.5, 0, 1]]], float)
    return grid(points)


def _sheet() -> UnitMesh:
    points = np.array([[[-0.5, -0.5, 0], [0.5, -0.5, 0]], [[-0.5, 0.5, 0], [0.5, 0.5, 0]]], float)
    return grid(points)


def _random_lathe(seed: int) -> UnitMesh:
    rng = np.random.default_rng([seed, 4])
    steps = int(rng.integers(3, 8))
    radius = np.clip(np.cumsum(rng.normal(0, 0.12, steps)) + 0.35, 0.06, 0.5)
    profile = [(0.0, 0.0)]
    profile += [(float(r), float(z)) for r, z in zip(radius, np.linspace(0, 1, steps), strict=True)]
    profile.append((0.0, 1.0))
    return _fit(lathe(profile, 10))


_SEDAN = [(-0.5, 0.2), (-0.5, 0.52), (-0.46, 0.6), (-0.2, 0.64), (0.33, 0.64), (0.47, 0.62)]
_SEDAN += [(0.5, 0.5), (0.5, 0.2)]
_HATCH = [(-0.5, 0.2), (-0.5, 0.5), (-0.44, 0.58), (-0.22, 0.63), (0.47, 0.66), (0.5, 0.5)]
_HATCH += [(0.49, 0.2)]
_VAN = [(-0.5, 0.15), (-0.5, 0.42), (-0.42, 0.52), (-0.3, 0.96), (-0.22, 1.0), (0.48, 1.0)]
_VAN += [(0.5, 0.9), (0.5, 0.15)]

_MAKERS: dict[str, Callable[[], UnitMesh]] = {
    "box": box,
    "card": _card,
    "sheet": _sheet,
    "cylinder": lambda: lathe([(0, 0), (0.5, 0), (0.5, 1), (0, 1)], 12),
    "pole": lambda: lathe([(0.5, 0), (0.5, 1)], 6),
    "tube": lambda: lathe([(0.42, 0), (0.5, 0), (0.5, 1), (0.42, 1), (0.42, 0.02), (0, 0.02)], 12),
    "sphere": lambda: sphere(8, 12),
    "cushion": lambda: sphere(8, 12, 0.35),
    "dome": lambda: lathe([(0.5, 0), (0.47, 0.35), (0.36, 0.7), (0.2, 0.92), (0, 1)], 12),
    "car_sedan": lambda: extrusion(_SEDAN, 0.6, 0.06),
    "car_hatch": lambda: extrusion(_HATCH, 0.58, 0.06),
    "van": lambda: extrusion(_VAN, 0.5, 0.1),
    "curtain": lambda: wave(7, 0.5),
    "tuft0": lambda: fan(0, 14),
    "tuft1": lambda: fan(1, 26),
    "tuft2": lambda: fan(2, 40),
    **{f"crown{i}": functools.partial(crown, i, 260, 5 + i % 3) for i in range(5)},
    "crown_sparse": lambda: crown(9, 420, 2),
    **{f"rock{i}": functools.partial(lump, i, 0.25 + 0.05 * i) for i in range(6)},
    "knoll0": lambda: lump(20, 0.35, 4, 8),
    "knoll1": lambda: lump(21, 0.45, 4, 7),
    **{f"lathe{i}": functools.partial(_random_lathe, i) for i in range(10)},
}
NAMES = tuple(_MAKERS)


@functools.cache
def unit_mesh(name: str) -> UnitMesh:
    """The unit mesh called `name`, made once a process.

    Raises:
        KeyError: no such mesh.
    """
    return _MAKERS[name]()
