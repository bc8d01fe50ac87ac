"""The builder that composes a scene from unit meshes in nested frames."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_node.types import ArrayF64
from depth_node.world.meshes import UnitMesh, face_normals, flat, unit_mesh
from depth_node.world.scene import Colour, Light, Materials, Scene, Sky, Vector
from depth_node.world.textures import SIZE, texture_bank


@dataclass
class SceneBuilder:
    """Collects instances of unit meshes in nested frames; everything else happens in `build`.

    Attributes:
        rng: draws everything random.
        lights: lights that cast shadows.
        sky: sky and ambient light.
        box_low: lowest corner of the part in which ambient light is shaded.
        box_high: its highest corner.
        warp: bends the finished scene: (..., 3) world points to world points.
    """

    rng: np.random.Generator
    box_low: Vector = (-5.0, -5.0, 0.0)
    box_high: Vector = (5.0, 5.0, 3.0)
    lights: list[Light] = field(default_factory=list)
    sky: Sky = field(default_factory=Sky)
    warp: Callable[[ArrayF64], ArrayF64] | None = None

    def __post_init__(self) -> None:
        self._bank = texture_bank()
        self._materials: list[tuple[float, ...]] = []
        self._fit: list[float] = []
        self._instances: dict[str, list[tuple[float, ...]]] = {}
        self._poses: list[tuple[int, ArrayF64]] = [(0, np.eye(4))]
        self._stack: list[int] = [0]
        self._raw: list[tuple[UnitMesh, int]] = []

    def material(
        self,
        texture: str,
        a: Colour,
        b: Colour | None = None,
        c: Colour | None = None,
        *,
        tile: float = 1.0,
        gloss: float = 0.0,
        mirror: float = 0.0,
        clear: float = 0.0,
        glow: float = 0.0,
    ) -> int:
        """Register a material and return its number.

        Args:
            texture: name of a pattern in the texture bank.
            a: linear RGB of channel 0 at zero.
            b: linear RGB of channel 0 at one; `a` darkened when None.
            c: linear RGB of channel 1; `a` darkened more when None.
            tile: size of one tile in metres; 0 stretches one tile over each face.
            gloss: strength of the highlight.
            mirror: share reflected as by a mirror.
            clear: share that passes through.
            glow: emitted light as a multiple of the colour.
        """
        b = b or (0.7 * a[0], 0.7 * a[1], 0.7 * a[2])
        c = c or (0.4 * a[0], 0.4 * a[1], 0.4 * a[2])
        number = self._bank.pick(self.rng, texture)
        self._materials.append((number, *a, *b, *c, gloss, mirror, clear, glow))
        self._fit.append(tile)
        return len(self._materials) - 1

    @contextlib.contextmanager
    def at(
        self, x: float, y: float, z: float = 0.0, yaw: float = 0.0, tilt: float = 0.0
    ) -> Iterator[None]:
        """Compose everything inside in a frame at (x, y, z), turned by yaw, tilted about its y."""
        self._poses.append((self._stack[-1], _frame(x, y, z, yaw, tilt)))
        self._stack.append(len(self._poses) - 1)
        try:
            yield
        finally:
            self._stack.pop()

    def attempt(
        self,
        piece: Callable[[SceneBuilder], tuple[float, float]],
        settle: Callable[[float, float], tuple[float, float, float] | None],
    ) -> bool:
        """Compose a piece, ask where a thing of its size fits, and put it there or drop it.

        Args:
            piece: composes the thing around the origin; returns its width and depth in metres.
            settle: from width and depth to (x, y, yaw) in the current frame, or None.

        Returns:
            Whether the piece is in the scene now.
        """
        before = {name: len(rows) for name, rows in self._instances.items()}
        with self.at(0, 0):
            number = self._stack[-1]
            width, depth = piece(self)
        spot = settle(width, depth)
        if spot is None:
            for name, rows in self._instances.items():
                del rows[before.get(name, 0) :]
            return False
        self._poses[number] = (self._poses[number][0], _frame(spot[0], spot[1], 0, spot[2], 0))
        return True

    def put(
        self,
        mesh: str,
        material: int,
        size: Vector,
        at: Vector = (0.0, 0.0, 0.0),
        rpy: Vector = (0.0, 0.0, 0.0),
        taper: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        """Put a unit mesh with its base centre at `at`.

        Args:
            mesh: name of the unit mesh.
            material: number of the material.
            size: metres along the mesh's own x, y, z.
            at: base centre in the current frame, metres.
            rpy: roll, pitch, yaw about the base centre, radians.
            taper: x and y scale of the top relative to the base.
        """
        row = (*at, *size, *rpy, *taper, material, self._stack[-1])
        self._instances.setdefault(mesh, []).append(row)

    def box(
        self,
        material: int,
        size: Vector,
        at: Vector = (0.0, 0.0, 0.0),
        rpy: Vector = (0.0, 0.0, 0.0),
        taper: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        """Put a box with its base centre at `at`."""
        self.put("box", material, size, at, rpy, taper)

    def beam(self, material: int, start: Vector, end: Vector, width: float) -> None:
        """Put a thin square bar from one point of the current frame to another."""
        offset = np.subtract(end, start)
        length = float(np.linalg.norm(offset))
        pitch = float(np.arctan2(np.hypot(offset[0], offset[1]), offset[2]))
        yaw = float(np.arctan2(offset[1], offset[0]))
        self.put("box", material, (width, width, length), start, (0.0, pitch, yaw))

    def triangles(self, corners: ArrayF64, material: int) -> None:
        """Put (n, 3, 3) triangles of the current frame."""
        pose = self._world_poses()[self._stack[-1]]
        self._raw.append((flat(corners @ pose[:3, :3].T + pose[:3, 3]), material))

    def build(self) -> Scene:
        """Compose the scene."""
        poses = self._world_poses()
        parts = [self._compose(name, rows, poses) for name, rows in self._instances.items() if rows]
        tiles = np.array(self._fit)
        for mesh, material in self._raw:
            tile = max(tiles[material], 1e-3)
            uv = _project(mesh.corners, face_normals(mesh.corners)) / tile
            density = np.full(len(uv), SIZE / tile)
            numbers = np.full(len(uv), material)
            parts.append((mesh.corners, mesh.normals, uv, density, numbers))
        corners, normals, uv, density, material_of = (
            np.concatenate([part[i] for part in parts]) for i in range(5)
        )
        if self.warp is not None:
            corners = self.warp(corners)
        table = np.array(self._materials)
        return Scene(
            corners=np.ascontiguousarray(corners, np.float32),
            normals=np.ascontiguousarray(normals, np.float32),
            uv=np.ascontiguousarray(uv, np.float32),
            density=density.astype(np.float32),
            material=material_of.astype(np.int32),
            materials=Materials(
                table[:, 0].astype(np.int32),
                table[:, 1:10].reshape(-1, 3, 3).astype(np.float32),
                *(table[:, i].astype(np.float32) for i in range(10, 14)),
            ),
            lights=tuple(self.lights),
            sky=self.sky,
            box=(self.box_low, self.box_high),
        )

    def _world_poses(self) -> ArrayF64:
        world = [np.eye(4)]
        for parent, local in self._poses[1:]:
            world.append(world[parent] @ local)
        return np.array(world)

    def _compose(
        self, name: str, rows: list[tuple[float, ...]], poses: ArrayF64
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        mesh = unit_mesh(name)
        table = np.array(rows, np.float32)
        count, triangles = len(table), len(mesh.corners)
        size, taper = table[:, None, None, 3:6], table[:, None, None, 9:11]
        material, pose = table[:, 11].astype(int), poses[table[:, 12].astype(int)]
        rotation = (pose[:, :3, :3] @ _euler(table[:, 6:9].astype(np.float64))).astype(np.float32)
        offset = (pose[:, :3, :3] @ table[:, :3, None])[..., 0] + pose[:, :3, 3]
        offset = offset.astype(np.float32)

        local = mesh.corners[None] * size
        narrow = 1 + (taper - 1) * mesh.corners[None, ..., 2:]
        local[..., :2] *= narrow
        normal = mesh.normals[None] / size
        if np.any(taper != 1):  # walls that lean inwards look up a little
            lean = np.abs(mesh.corners[None, ..., :2]) * (1 - taper) * size[..., :2]
            inward = (np.abs(normal[..., :2]) * lean).sum(-1) / size[..., 2]
            normal = normal + np.concatenate(
                [np.zeros_like(normal[..., :2]), inward[..., None]], -1
            )
        normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)

        tile = np.array(self._fit, np.float32)[material][:, None, None, None]
        faces = normal.mean(axis=2).reshape(-1, 3)
        metres = _project(local.reshape(-1, 3, 3), faces).reshape(count, triangles, 3, 2)
        unit = np.broadcast_to(mesh.corners[None], local.shape).reshape(-1, 3, 3)
        fitted = _project(unit, faces).reshape(count, triangles, 3, 2) + np.array(
            [0.5, 1.0], np.float32
        )
        shift = self.rng.random((count, 1, 1, 2), np.float32)
        uv = np.where(tile > 0, metres / np.maximum(tile, 1e-3) + shift, fitted)
        longest = np.maximum(table[:, 3:6].max(axis=1), 1e-3)
        density = SIZE / np.where(tile[:, 0, 0, 0] > 0, tile[:, 0, 0, 0], longest)

        world = (
            np.matmul(local.reshape(count, -1, 3), np.swapaxes(rotation, 1, 2)).reshape(local.shape)
            + offset[:, None, None]
        )
        turned = np.matmul(normal.reshape(count, -1, 3), np.swapaxes(rotation, 1, 2))
        return (
            world.reshape(-1, 3, 3),
            turned.reshape(-1, 3, 3),
            uv.reshape(-1, 3, 2),
            np.repeat(density, triangles),
            np.repeat(material, triangles),
        )


def _frame(x: float, y: float, z: float, yaw: float, tilt: float) -> ArrayF64:
    cy, sy, ct, st = np.cos(yaw), np.sin(yaw), np.cos(tilt), np.sin(tilt)
    return np.array(
        [[cy * ct, -sy, cy * st, x], [sy * ct, cy, sy * st, y], [-st, 0, ct, z], [0, 0, 0, 1]]
    )


def _euler(rpy: ArrayF64) -> ArrayF64:
    """Rotations Rz(yaw) Ry(pitch) Rx(roll) of (n, 3) angles, (n, 3, 3)."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy).T, np.sin(rpy).T
    rows = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def _project(points: NDArray[Any], normals: NDArray[Any]) -> ArrayF64:
    """Drop the axis nearest to each triangle's normal: (n, 3, 3) points to (n, 3, 2), v down."""
    axis = np.abs(normals).argmax(axis=1)
    u = np.where((axis == 0)[:, None], points[..., 1], points[..., 0])
    v = np.where((axis == 2)[:, None], points[..., 1], points[..., 2])
    return np.stack([u, -v], axis=-1)
