"""A scene: triangles with materials, lights and a sky.

The world frame is REP 103's: x forward, y left, z up, metres. The floor is at z = 0 unless a
generator says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from depth_node.types import ArrayF32
from depth_node.world.lighting import Openness

Colour = tuple[float, float, float]
Vector = tuple[float, float, float]
SceneKind = Literal["room", "corridor", "street", "clutter"]


@dataclass(frozen=True)
class Light:
    """A light with shadows.

    Attributes:
        position: metres; for a sun, the unit vector towards it.
        colour: linear RGB radiance at 1 m, or the irradiance of a sun.
        sun: whether it is infinitely far.
    """

    position: Vector
    colour: Colour
    sun: bool = False


@dataclass(frozen=True)
class Sky:
    """What is seen where no surface is hit, and the light that comes from everywhere.

    Attributes:
        zenith: linear RGB overhead.
        horizon: linear RGB at the horizon.
        ambient: linear RGB irradiance on surfaces that look up.
        bounce: linear RGB irradiance on surfaces that look down.
        clouds: share of the sky that clouds cover, 0 to 1.
        cloud_phase: shifts the clouds, any two numbers.
    """

    zenith: Colour = (0.25, 0.42, 0.8)
    horizon: Colour = (0.75, 0.82, 0.9)
    ambient: Colour = (0.5, 0.5, 0.5)
    bounce: Colour = (0.3, 0.3, 0.3)
    clouds: float = 0.3
    cloud_phase: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Materials:
    """The materials of a scene, one row each.

    Attributes:
        texture: (m,) int32, number in the texture bank.
        colours: (m, 3, 3) float32, the three linear RGB colours that the texture mixes.
        gloss: (m,) float32, strength of the highlight.
        mirror: (m,) float32, share of light reflected as by a mirror.
        clear: (m,) float32, share of light that passes straight through, as through glass.
        glow: (m,) float32, emitted light as a multiple of the colour.
    """

    texture: NDArray[np.int32]
    colours: ArrayF32
    gloss: ArrayF32
    mirror: ArrayF32
    clear: ArrayF32
    glow: ArrayF32


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything that can be rendered or measured.

    Attributes:
        corners: (n, 3, 3) float32 triangle corners in the world frame, metres.
        normals: (n, 3, 3) float32 shading normals at the corners.
        uv: (n, 3, 2) float32 texture coordinates at the corners, in tiles.
        density: (n,) float32, finest texels per metre of surface.
        material: (n,) int32, row of `materials`.
        materials: the materials.
        lights: lights that cast shadows.
        sky: sky and ambient light.
        box: lowest and highest corner of the part in which ambient light is shaded, metres.
    """

    corners: ArrayF32
    normals: ArrayF32
    uv: ArrayF32
    density: ArrayF32
    material: NDArray[np.int32]
    materials: Materials
    lights: tuple[Light, ...]
    sky: Sky
    box: tuple[Vector, Vector]

    @cached_property
    def caster(self) -> Any:
        """The embree scene, built on first use in each process."""
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        scene = EmbreeScene(robust=True)
        TriangleMesh(scene, self.corners)
        return scene

    @cached_property
    def openness(self) -> Openness:
        """Shade of the ambient light, sampled on first use in each process."""
        low, high = (np.array(corner, np.float32) for corner in self.box)
        return Openness.sample(self.caster, low, high)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state.pop("caster", None)  # an embree scene cannot cross to another process
        return state
