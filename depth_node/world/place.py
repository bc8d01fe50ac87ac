"""A scene together with the ground on which a robot can stand."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from depth_node.types import ArrayF64
from depth_node.world.scene import Scene, SceneKind

Rectangle = tuple[float, float, float, float]
"""x0, y0, x1, y1 in metres."""


@dataclass(frozen=True, eq=False)
class Place:
    """A scene with its walkable ground.

    Attributes:
        scene: the scene.
        bounds: walkable rectangle.
        obstacles: (n, 4) float64 rectangles that stand on it.
        axis: heading in radians in which the place stretches, or None when it has none.
        kind: what sort of place it is.
    """

    scene: Scene
    bounds: Rectangle
    obstacles: ArrayF64
    axis: float | None
    kind: SceneKind

    def clearance(self, x: ArrayF64, y: ArrayF64) -> ArrayF64:
        """Distance in metres from points to the nearest obstacle or bound; negative inside."""
        x0, y0, x1, y1 = self.bounds
        free = np.minimum(np.minimum(x - x0, x1 - x), np.minimum(y - y0, y1 - y))
        if not len(self.obstacles):
            return free
        left, near, right, far = self.obstacles.T[:, :, None]
        dx = np.maximum(left - x.ravel(), x.ravel() - right)
        dy = np.maximum(near - y.ravel(), y.ravel() - far)
        inside = np.minimum(np.maximum(dx, dy), 0)
        distance = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + inside
        return np.minimum(free, distance.min(axis=0).reshape(x.shape))


@dataclass
class Ground:
    """Keeps things on the floor apart while a scene is composed."""

    bounds: Rectangle
    taken: list[Rectangle] = field(default_factory=list)

    def claim(self, x: float, y: float, width: float, depth: float, gap: float = 0.05) -> bool:
        """Take a rectangle centred at (x, y); false when it does not fit or is taken."""
        x0, y0, x1, y1 = self.bounds
        left, right = x - width / 2 - gap, x + width / 2 + gap
        near, far = y - depth / 2 - gap, y + depth / 2 + gap
        if left < x0 - 0.1 or right > x1 + 0.1 or near < y0 - 0.1 or far > y1 + 0.1:
            return False
        for a0, b0, a1, b1 in self.taken:
            if left < a1 and right > a0 and near < b1 and far > b0:
                return False
        self.taken.append((left, near, right, far))
        return True

    def rectangles(self) -> ArrayF64:
        """What is taken, (n, 4)."""
        return np.array(self.taken, float).reshape(-1, 4)
