"""How open space is around a point: soft shade in corners and under furniture.

Ambient light reaches a point from where nothing is near. That share is sampled once a scene on a
coarse grid and interpolated (ambient occlusion, as a volume).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from depth_node.types import ArrayF32

_CELLS = 5000
_REACH_M = 1.2
"""Surfaces farther away than this take no ambient light."""
_FLAT = 0.68
"""Openness a cell's width in front of a lone flat wall: what counts as fully lit."""
_CORNERS = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
_AXES = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]


@dataclass(frozen=True, eq=False)
class Openness:
    """A grid of openness.

    Attributes:
        low: (3,) float32 corner of the grid in the world frame, metres.
        cell: size of a cell in metres.
        values: (nx, ny, nz) float32 in [0, 1].
    """

    low: ArrayF32
    cell: float
    values: ArrayF32

    @classmethod
    def sample(cls, caster: Any, low: ArrayF32, high: ArrayF32) -> Openness:
        """Cast rays from every cell of a box into 14 directions; `caster` is an embree scene."""
        span = np.maximum(high - low, 0.1)
        cell = max(0.12, float((np.prod(span) / _CELLS) ** (1 / 3)))
        count = np.ceil(span / cell).astype(int) + 1
        lattice = np.stack(np.meshgrid(*(np.arange(n) for n in count), indexing="ij"), axis=-1)
        centres = (low + cell * lattice.reshape(-1, 3)).astype(np.float32)
        directions = np.array(_CORNERS + _AXES, np.float32)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        origins = np.repeat(centres, len(directions), axis=0)
        rays = np.tile(directions, (len(centres), 1))
        distance = caster.run(origins, rays, query="DISTANCE").reshape(len(centres), -1)
        near = np.minimum(distance, _REACH_M) / np.float32(_REACH_M)
        return cls(low, cell, np.asarray(near.mean(axis=1), np.float32).reshape(count))

    def at(self, points: ArrayF32, normals: ArrayF32) -> ArrayF32:
        """Share of ambient light that reaches surface points, (n,) float32 in [0, 1].

        Args:
            points: (n, 3) float32 in the world frame.
            normals: (n, 3) float32 unit normals towards the light.
        """
        scale = np.float32(1 / self.cell)
        place = (points - self.low) * scale + normals
        last = np.array(self.values.shape, np.float32) - np.float32(1.001)
        place = np.minimum(np.maximum(place, 0), last)
        cell = place.astype(np.int32)
        f = place - cell
        ny, nz = self.values.shape[1:]
        base = (cell[:, 0] * ny + cell[:, 1]) * nz + cell[:, 2]
        flat = self.values.ravel()

        def along_z(offset: int) -> ArrayF32:
            below = flat[base + offset]
            value: ArrayF32 = below + f[:, 2] * (flat[base + (offset + 1)] - below)
            return value

        near, far = along_z(0), along_z(ny * nz)
        near += f[:, 1] * (along_z(nz) - near)
        far += f[:, 1] * (along_z(ny * nz + nz) - far)
        open_share = (near + f[:, 0] * (far - near)) * np.float32(1 / _FLAT)
        return np.asarray(np.minimum(open_share, 1), np.float32)
