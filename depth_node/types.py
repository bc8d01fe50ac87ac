"""What passes from room to room: frames, cameras, disparity, scale and metric depth.

All of these are frozen. Arrays inside them are shared, not copied: whoever receives one reads it
and never writes to it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ImageU8 = NDArray[np.uint8]
ArrayF32 = NDArray[np.float32]
ArrayF64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CameraModel:
    """A pinhole camera with lens distortion, as `sensor_msgs/CameraInfo` defines it.

    The optical frame is REP 103's: z forward, x right, y down. Pixel centres are integers.

    Attributes:
        width: image width in pixels.
        height: image height in pixels.
        K: 3x3 float64, intrinsics of the raw (distorted) image, pixels.
        D: (n,) float64, distortion coefficients in the order of `distortion_model`; empty when the
            image has no distortion, or zero, except that zeros of `equidistant` are a fisheye.
        R: 3x3 float64, rectification rotation (identity for a monocular camera).
        P: 3x4 float64, projection of the rectified image, pixels.
        distortion_model: `plumb_bob`, `rational_polynomial`, `equidistant` or empty.
        assumed: true when the numbers come from an assumed field of view, not from a calibration.
    """

    width: int
    height: int
    K: ArrayF64
    D: ArrayF64 = field(default_factory=lambda: np.zeros(0))
    R: ArrayF64 = field(default_factory=lambda: np.eye(3))
    P: ArrayF64 = field(default_factory=lambda: np.zeros((3, 4)))
    distortion_model: str = ""
    assumed: bool = False

    def __post_init__(self) -> None:
        if not self.P.any():  # drivers of raw monocular cameras leave P at zero
            object.__setattr__(self, "P", np.hstack([self.K, np.zeros((3, 1))]))

    @classmethod
    def pinhole(
        cls, width: int, height: int, fx: float, fy: float, cx: float, cy: float, **kwargs: Any
    ) -> CameraModel:
        """Build a camera without distortion from its focal lengths and principal point, pixels."""
        K = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
        return cls(width=width, height=height, K=K, **kwargs)

    @classmethod
    def from_field_of_view(cls, width: int, height: int, horizontal_fov_deg: float) -> CameraModel:
        """Assume square pixels, a central principal point and a horizontal field of view."""
        f = 0.5 * width / float(np.tan(0.5 * np.radians(horizontal_fov_deg)))
        centre = (0.5 * (width - 1), 0.5 * (height - 1))
        return cls.pinhole(width, height, f, f, *centre, assumed=True)

    @property
    def distorted(self) -> bool:
        """Whether the raw image differs from the rectified one (lens distortion or rotation)."""
        # With zeros, equidistant is r = f theta: no pinhole.
        lens = np.any(self.D) or (self.distortion_model == "equidistant" and self.D.size == 4)
        return bool(lens) or not np.allclose(self.R, np.eye(3), atol=1e-9)

    @property
    def intrinsics(self) -> tuple[float, float, float, float]:
        """(fx, fy, cx, cy) of the rectified image in pixels, from P."""
        return (
            float(self.P[0, 0]),
            float(self.P[1, 1]),
            float(self.P[0, 2]),
            float(self.P[1, 2]),
        )

    def rectified(self) -> CameraModel:
        """The camera of the rectified image: K from P, no distortion, no rotation."""
        return replace(
            self, K=self.P[:, :3].copy(), D=np.zeros(0), R=np.eye(3), distortion_model=""
        )

    def resized(self, width: int, height: int) -> CameraModel:
        """The same camera with another image size, in pixels; K and P are both scaled.

        Pixel centres are integers, so x' + 0.5 = (x + 0.5) * width' / width.
        """
        if (width, height) == (self.width, self.height):
            return self
        sx, sy = width / self.width, height / self.height
        scale = np.array([[sx, 0.0, 0.5 * sx - 0.5], [0.0, sy, 0.5 * sy - 0.5], [0.0, 0.0, 1.0]])
        return replace(self, width=width, height=height, K=scale @ self.K, P=scale @ self.P)


@dataclass(frozen=True, eq=False)
class Frame:
    """One camera image.

    Attributes:
        image: HxWx3 uint8, RGB. Rows may be padded (strided), pixels are contiguous.
        stamp_ns: acquisition time in nanoseconds of the camera's clock (ROS time on a graph).
        frame_id: the camera's optical frame.
        camera: calibration for exactly this image size, or None when it is unknown.
        received_ns: `time.monotonic_ns()` when the image reached this process.
        rectified: whether `image` obeys `camera.P` (true) or `camera.K` and `camera.D` (false).
    """

    image: ImageU8
    stamp_ns: int
    frame_id: str
    camera: CameraModel | None
    received_ns: int
    rectified: bool = False


@dataclass(frozen=True, eq=False)
class Disparity:
    """What the network sees.

    Attributes:
        values: hxw float32 at network resolution, non-negative, larger is nearer. 0 is saturated
            (sky, very far): not measured.
        kind: `relative`, an unknown affine function of inverse depth, 1/Z = scale * d + shift, with
            another scale and shift in every frame; or `metric`, inverse depth itself in 1/m.
    """

    values: ArrayF32
    kind: Literal["relative", "metric"] = "relative"


class ScaleState(enum.Enum):
    """What the metres rest on."""

    METRIC = "metric"
    """Measured now, by the named source."""
    HELD = "held"
    """Carried forward from an earlier measurement, less certain with every frame, or measured too
    coarsely to be called metric."""
    RELATIVE = "relative"
    """There is no metric scale: nothing may be published as metres."""


@dataclass(frozen=True)
class PointCounts:
    """What became of one source's points on one frame.

    Attributes:
        given: points inside the image.
        saturated: on disparity 0, where nothing was measured.
        refused: contradicted by the global fit or by their neighbours (seen through an edge,
            glass, wet floor, something that moved); all of them where that fit was refused.
        used: the rest.
    """

    given: int = 0
    saturated: int = 0
    refused: int = 0
    used: int = 0


@dataclass(frozen=True, eq=False)
class ScaleEstimate:
    """How to turn one frame's disparity d into metres: Z = exp(-field) / (scale * d + shift).

    Attributes:
        state: metric, held or relative.
        source: what the scale was measured with (`fixed`, `network`, `lidar`, ...), or `none`.
        scale: 1/m per unit of disparity, positive.
        shift: 1/m.
        covariance: 2x2 float64, of (scale, shift).
        age_s: the image's stamp minus that of the newest measurement that was accepted, seconds, at
            least 0.
        inliers: measurements that the fit accepted.
        residual: median of |predicted - measured| / measured inverse depth over the inliers.
        reason: why the state is not metric, or empty.
        log_field: gh x gw float32 local correction in log inverse depth over the whole image, or
            None for a purely global fit.
        log_sigma: gh x gw float32 standard deviation of log inverse depth after the correction, or
            None: then covariance and residual say all that is known. `depth_node.scale.apply`
            turns either into pixels.
        in_front: (n, 3) float32 column and row on the disparity and inverse depth in 1/m of rays
            that measured a surface in front of what the network sees; or None. What lies behind
            them is not free.
        counts: by source, what became of the points measured for this frame.
    """

    state: ScaleState
    source: str = "none"
    scale: float = 1.0
    shift: float = 0.0
    covariance: ArrayF64 = field(default_factory=lambda: np.zeros((2, 2)))
    age_s: float = 0.0
    inliers: int = 0
    residual: float = 0.0
    reason: str = ""
    log_field: ArrayF32 | None = None
    log_sigma: ArrayF32 | None = None
    in_front: ArrayF32 | None = None
    counts: Mapping[str, PointCounts] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class MetricDepth:
    """Depth in metres for one frame.

    Attributes:
        depth: HxW float32, metres along the optical axis. NaN is invalid (edge, unseen, behind a
            measured surface, or too near, where REP 117 has -Inf), +Inf is sky or beyond the range
            (REP 117); never 0, never negative.
        camera: the rectified camera of exactly this size.
        stamp_ns: copied from the frame.
        frame_id: copied from the frame.
        scale: the estimate that the metres rest on; `scale.apply.log_sigma` has their uncertainty.
    """

    depth: ArrayF32
    camera: CameraModel
    stamp_ns: int
    frame_id: str
    scale: ScaleEstimate
