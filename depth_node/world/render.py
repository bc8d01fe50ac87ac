"""Ray casting: a camera's view of a scene as linear RGB and exact depth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from depth_node.types import ArrayF32, ArrayF64, CameraModel
from depth_node.world.scene import Light, Scene, Sky
from depth_node.world.textures import texture_bank

_BAND = 16384
"""Rays shaded at a time: their intermediate arrays then stay in the processor's caches."""
_NUDGE = np.float32(2e-3)
"""Metres that secondary rays start away from their surface."""


class Hits(NamedTuple):
    """Where rays met surfaces; rows are rays.

    Attributes:
        distance: (n,) float32 in lengths of the ray's direction, +inf where nothing was met.
        triangle: (n,) int32, -1 where nothing was met.
        u: (n,) float32 barycentric coordinate of the second corner.
        v: (n,) float32 barycentric coordinate of the third corner.
        normal: (n, 3) float32 normal of the triangle, of any length and on either side.
    """

    distance: ArrayF32
    triangle: NDArray[np.int32]
    u: ArrayF32
    v: ArrayF32
    normal: ArrayF32

    def where(self, chosen: NDArray[np.bool_]) -> Hits:
        """The chosen rays' hits."""
        return Hits(
            self.distance[chosen],
            self.triangle[chosen],
            self.u[chosen],
            self.v[chosen],
            self.normal[chosen],
        )


def pixel_rays(camera: CameraModel, rows: range | None = None) -> ArrayF32:
    """Directions of the pixel centres of the rectified camera, (rows * width, 3) float32.

    In the optical frame, with z = 1, so that the distance along a ray is Z depth. All rows when
    `rows` is None.
    """
    fx, fy, cx, cy = camera.intrinsics
    rows = range(camera.height) if rows is None else rows
    rays = np.ones((len(rows), camera.width, 3), np.float32)
    rays[..., 0] = (np.arange(camera.width) - cx) / fx
    rays[..., 1] = ((np.array(rows) - cy) / fy)[:, None]
    return rays.reshape(-1, 3)


def cast(scene: Scene, origins: ArrayF32, directions: ArrayF32) -> Hits:
    """Find the nearest surface along (n, 3) float32 rays; directions need not be unit vectors."""
    found = scene.caster.run(origins, directions, query="INTERSECT", output=True)
    distance = np.where(found["primID"] >= 0, found["tfar"], np.float32(np.inf))
    return Hits(distance, found["primID"], found["u"], found["v"], found["Ng"])


def render_depth(scene: Scene, camera: CameraModel, pose: ArrayF64) -> ArrayF32:
    """Exact Z depth in metres, HxW float32, +inf where no surface is; `pose` is T_world_camera."""
    rays = pixel_rays(camera) @ pose[:3, :3].T.astype(np.float32)
    origins = np.broadcast_to(pose[:3, 3].astype(np.float32), rays.shape)
    distance = cast(scene, np.ascontiguousarray(origins), rays).distance
    return distance.reshape(camera.height, camera.width)


def render(
    scene: Scene, camera: CameraModel, pose: ArrayF64, *, smooth: bool = False
) -> tuple[ArrayF32, ArrayF32]:
    """Render a view.

    Args:
        scene: what is there.
        camera: pinhole camera; its rectified intrinsics are used.
        pose: 4x4 float64 T_world_camera; the camera's axes are REP 103's optical frame.
        smooth: filter textures bilinearly, for images seen at full size.

    Returns:
        HxWx3 float32 linear RGB radiance, and HxW float32 Z depth in metres: of glass and mirrors
        the depth of their own surface, +inf for the sky.
    """
    colour = np.empty((camera.height, camera.width, 3), np.float32)
    depth = np.empty((camera.height, camera.width), np.float32)
    footprint = np.float32(1.0 / camera.intrinsics[0])
    rotation = pose[:3, :3].T.astype(np.float32)
    step = max(1, _BAND // camera.width)
    for top in range(0, camera.height, step):
        rows = range(top, min(top + step, camera.height))
        rays = pixel_rays(camera, rows) @ rotation
        origins = np.empty_like(rays)
        origins[:] = pose[:3, 3]
        hits = cast(scene, origins, rays)
        band = (len(rows), camera.width)
        shaded = _shade(scene, origins, rays, hits, footprint, smooth, bounces=1)
        colour[rows.start : rows.stop] = shaded.reshape(*band, 3)
        depth[rows.start : rows.stop] = hits.distance.reshape(band)
    return colour, depth


def sky_radiance(sky: Sky, directions: ArrayF32) -> ArrayF32:
    """Linear RGB of the sky along (n, 3) float32 directions, (n, 3) float32."""
    length = np.sqrt(_dot(directions, directions))
    up = np.clip(directions[:, 2] / length, 0.02, 1).astype(np.float32)
    blend = np.sqrt(up)[:, None]
    colour = _vector(sky.horizon) * (1 - blend) + _vector(sky.zenith) * blend
    if sky.clouds > 0:
        uv = 0.04 * directions[:, :2] / (length * (up + 0.08))[:, None]
        uv += _vector(sky.cloud_phase)
        bank = texture_bank()
        number = np.full(len(uv), bank.numbers["blotches"][0], np.int32)
        texels = bank.lookup_smooth(number, uv.astype(np.float32), np.ones(len(uv), np.float32))
        cover = np.clip((texels[:, :1] / 255 - (1 - sky.clouds)) * 4, 0, 1)
        colour += (np.float32(1.1) * np.float32(max(sky.horizon)) - colour) * cover
    return colour.astype(np.float32)


def _shade(
    scene: Scene,
    origins: ArrayF32,
    rays: ArrayF32,
    hits: Hits,
    footprint: np.float32,
    smooth: bool,
    bounces: int,
    shadows: bool = True,
) -> ArrayF32:
    """Linear RGB of every ray, (n, 3) float32."""
    met = hits.triangle >= 0
    if not met.all():
        colour = np.empty_like(rays)
        colour[~met] = sky_radiance(scene.sky, rays[~met])
        if met.any():
            seen = (origins[met], rays[met], hits.where(met))
            colour[met] = _shade(scene, *seen, footprint, smooth, bounces, shadows)
        return colour

    triangle = hits.triangle
    points = origins + rays * hits.distance[:, None]
    view, flat = _unit(rays), _unit(hits.normal)
    normals = _interpolate(scene.normals[triangle], hits)
    facing = _dot(flat, view)
    flat *= np.where(facing > 0, np.float32(-1), np.float32(1))[:, None]  # surfaces have two sides
    facing = np.abs(facing)
    normals *= np.where(_dot(normals, flat) < 0, np.float32(-1), np.float32(1))[:, None]

    material = scene.material[triangle]
    uv = _interpolate(scene.uv[triangle], hits)
    texels = hits.distance * footprint * scene.density[triangle] / np.sqrt(facing + 0.05)
    albedo = _albedo(scene, material, uv, texels, smooth)

    light = _ambient(scene, points, normals, flat)
    table = scene.materials
    gloss = table.gloss[material]
    shine = np.zeros_like(light)
    lifted: ArrayF32 = points + flat * _NUDGE
    for lamp in scene.lights:
        direct, glint = _direct(scene, lamp, lifted, normals, view, gloss > 0, shadows)
        tint = _vector(lamp.colour)
        light += direct[:, None] * tint
        shine += (glint * gloss)[:, None] * tint
    light += table.glow[material][:, None]
    lit: ArrayF32 = albedo * light + shine
    if bounces > 0:
        _see_through(scene, lit, points, view, flat, material, footprint, smooth)
    return lit


def _vector(values: tuple[float, ...]) -> ArrayF32:
    return np.array(values, np.float32)


def _dot(a: ArrayF32, b: ArrayF32) -> ArrayF32:
    return np.asarray(np.einsum("ij,ij->i", a, b))


def _unit(vectors: ArrayF32) -> ArrayF32:
    length = np.sqrt(_dot(vectors, vectors)) + np.float32(1e-30)
    return np.asarray(vectors / length[:, None], np.float32)


def _interpolate(corners: ArrayF32, hits: Hits) -> ArrayF32:
    """Values at the hits from values at the triangles' corners, (n, 3, k) to (n, k)."""
    value: ArrayF32 = corners[:, 0] * (1 - hits.u - hits.v)[:, None]
    value += corners[:, 1] * hits.u[:, None]
    value += corners[:, 2] * hits.v[:, None]
    return value


def _albedo(
    scene: Scene, material: NDArray[np.int32], uv: ArrayF32, texels: ArrayF32, smooth: bool
) -> ArrayF32:
    bank = texture_bank()
    number = scene.materials.texture[material]
    lookup = bank.lookup_smooth if smooth else bank.lookup
    mix = lookup(number, uv, texels) * np.float32(1 / 255)
    colours = scene.materials.colours[material]
    a, b, c = colours[:, 0], colours[:, 1], colours[:, 2]
    blend = a + (b - a) * mix[:, :1]
    blend += (c - blend) * mix[:, 1:2]
    blend *= 2 * mix[:, 2:]
    return blend


def _ambient(scene: Scene, points: ArrayF32, normals: ArrayF32, flat: ArrayF32) -> ArrayF32:
    """Irradiance from all around, less in corners, (n, 3) float32."""
    sky = scene.sky
    up = 0.5 + 0.5 * normals[:, 2:]
    light = _vector(sky.bounce) * (1 - up) + _vector(sky.ambient) * up
    return np.asarray(light * scene.openness.at(points, flat)[:, None], np.float32)


def _direct(
    scene: Scene,
    lamp: Light,
    points: ArrayF32,
    normals: ArrayF32,
    view: ArrayF32,
    glossy: NDArray[np.bool_],
    shadows: bool,
) -> tuple[ArrayF32, ArrayF32]:
    """Share of a light's colour that arrives, and that glints, shadows included: (n,) float32."""
    position = _vector(lamp.position)
    towards = np.broadcast_to(position, points.shape) if lamp.sun else position - points
    towards = np.ascontiguousarray(towards, np.float32)
    square = _dot(towards, towards)
    cosine = _dot(normals, towards) / np.sqrt(square)
    lit = np.flatnonzero(cosine > 0)
    if shadows:
        reach = np.full(len(lit), 1e30 if lamp.sun else 1.0, np.float32)
        lit = lit[scene.caster.run(points[lit], towards[lit], dists=reach, query="OCCLUDED") < 0]
    strength = np.zeros(len(points), np.float32)
    strength[lit] = cosine[lit] if lamp.sun else cosine[lit] / (square[lit] + np.float32(0.2))
    glint = np.zeros(len(points), np.float32)
    shiny = lit[glossy[lit]]
    if len(shiny):
        half = _unit(towards[shiny]) - view[shiny]
        lobe = np.clip(_dot(_unit(half), normals[shiny]), 0, 1)
        glint[shiny] = strength[shiny] * lobe**40
    return strength, glint


def _see_through(
    scene: Scene,
    colour: ArrayF32,
    points: ArrayF32,
    view: ArrayF32,
    flat: ArrayF32,
    material: NDArray[np.int32],
    footprint: np.float32,
    smooth: bool,
) -> None:
    """Add, in place, what glass lets through and what mirrors show, one bounce deep."""
    table = scene.materials
    for share, reflect in ((table.clear[material], False), (table.mirror[material], True)):
        at = np.flatnonzero(share > 0)
        if not len(at):
            continue
        rays, normal = view[at], flat[at]
        if reflect:
            rays = rays - 2 * _dot(rays, normal)[:, None] * normal
            origins = points[at] + normal * _NUDGE
        else:
            origins = points[at] + rays * np.float32(0.02)
        rays = np.ascontiguousarray(rays, np.float32)
        origins = np.ascontiguousarray(origins, np.float32)
        behind = cast(scene, origins, rays)
        # faint reflections do without shadows, which cost a ray a light
        shadows = not reflect
        seen = _shade(scene, origins, rays, behind, footprint, smooth, 0, shadows)
        weight = share[at][:, None]
        colour[at] = colour[at] * (1 - weight) + seen * weight
