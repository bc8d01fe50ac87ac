"""Undistort and rectify camera images with maps that are computed once per calibration."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.geometry.calibration import checked_distortion
from depth_node.types import ArrayF32, ArrayF64, CameraModel, Disparity, Frame, ImageU8

Maps: TypeAlias = tuple[NDArray[np.int16], NDArray[np.uint16]]

_OUTSIDE = np.float32(-10.0)
"""A raw coordinate outside of every image, farther than interpolation reaches."""


def needs_rectification(camera: CameraModel) -> bool:
    """Whether the raw image differs from the rectified one: distortion, rotation, or P != K."""
    return camera.distorted or not np.allclose(camera.K, camera.P[:, :3], rtol=1e-9, atol=1e-6)


def leave_raw(frame: Frame) -> Frame:
    """The raw frame with the pinhole camera that its pixels obey: K, whatever P says.

    Lens distortion stays in the image; the rotation R belongs to the rectified image alone.
    """
    camera = frame.camera
    assert camera is not None
    P = np.hstack([camera.K, np.zeros((3, 1))])
    return replace(frame, camera=replace(camera, P=P).rectified(), rectified=True)


class Rectifier:
    """Rectifies frames; one instance serves one camera stream, from one thread."""

    def __init__(self) -> None:
        self._camera: CameraModel | None = None
        self._rectified: CameraModel | None = None
        self._maps: Maps | None = None
        self._border: ImageU8 | None = None
        self._unseen: ImageU8 | None = None

    @property
    def unseen(self) -> ImageU8 | None:
        """Where the latest frame shows nothing: the black border that a wide P leaves.

        HxW uint8, 255 where the camera saw nothing, or None when it saw every pixel. The network
        invents depth there. Beyond the radius where the distortion polynomial stops growing
        nothing was seen either: there it leads back into the image, to ghosts.
        """
        return self._unseen

    def rectify(self, frame: Frame) -> Frame:
        """Return the frame with an image that obeys `camera.P`.

        The image is interpolated bilinearly into a new array, black where it is `unseen`. A frame
        that is rectified already is returned as it is; one whose camera has no distortion keeps its
        array, uncopied. Stamp, frame_id and receipt time are the frame's own.

        Raises:
            ValueError: the camera is unknown or of another size than the image, its K, R or P is
                singular or not finite, or its distortion cannot be understood.
        """
        if frame.rectified:
            self._unseen = None
            return frame
        camera = frame.camera
        if camera is None:
            raise ValueError("the frame has no calibration, so it cannot be rectified")
        height, width = frame.image.shape[:2]
        if (camera.width, camera.height) != (width, height):
            raise ValueError(
                f"the calibration is for {camera.width}x{camera.height} but the image is "
                f"{width}x{height}; both must come from the same camera mode"
            )
        self._prepare(camera)
        self._unseen = self._border
        assert self._rectified is not None
        image = frame.image
        if self._maps is not None:
            image = _remap(image, self._maps)
        return replace(frame, image=image, camera=self._rectified, rectified=True)

    def _prepare(self, camera: CameraModel) -> None:
        if self._camera is not None and _same_calibration(camera, self._camera):
            self._camera = camera  # a driver sends a new object with equal numbers every frame
            return
        maps, border = None, None
        if needs_rectification(camera):
            maps = _maps(camera)
            white = np.full((camera.height, camera.width), 255, np.uint8)
            missing = np.asarray(cv2.bitwise_not(_remap(white, maps)), np.uint8)
            border = missing if missing.any() else None
        self._camera, self._rectified = camera, camera.rectified()
        self._maps, self._border = maps, border


class Blinder:
    """Takes out of disparity what the camera did not see; one instance serves one camera stream.

    The network invents disparity in the black border of a rectified image. A scale that is fitted
    there, to a LiDAR that sees further than the camera does, was 36% off.
    """

    def __init__(self) -> None:
        self._border: ImageU8 | None = None
        self._unseen = np.zeros((0, 0), np.bool_)

    def blind(self, disparity: Disparity, unseen: ImageU8 | None) -> Disparity:
        """The disparity with NaN where nothing was seen; the same object where all of it was.

        Args:
            disparity: of the whole image, hxw.
            unseen: `Rectifier.unseen` of that image, or None.
        """
        if unseen is None:
            return disparity
        height, width = disparity.values.shape
        if unseen is not self._border or self._unseen.shape != (height, width):
            # As depth is blanked: by the nearest pixel.
            small = cv2.resize(unseen, (width, height), interpolation=cv2.INTER_NEAREST)
            self._border, self._unseen = unseen, np.asarray(small, np.bool_)
        values = disparity.values.copy()
        values[self._unseen] = np.nan
        return replace(disparity, values=values)


def _remap(image: ImageU8, maps: Maps) -> ImageU8:
    rectified = cv2.remap(image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(rectified, np.uint8)


def _same_calibration(a: CameraModel, b: CameraModel) -> bool:
    return a is b or (
        (a.width, a.height, a.distortion_model, a.assumed)
        == (b.width, b.height, b.distortion_model, b.assumed)
        and np.array_equal(a.D, b.D)
        and np.array_equal(a.K, b.K)
        and np.array_equal(a.R, b.R)
        and np.array_equal(a.P, b.P)
    )


def _maps(camera: CameraModel) -> Maps:
    """Fixed-point maps (1/32 pixel) from the rectified to the raw image; folded pixels lead out."""
    D = checked_distortion(camera.distortion_model, np.asarray(camera.D, np.float64).ravel())
    K, R, P = camera.K, camera.R, camera.P[:, :3]
    for name, matrix in (("K", K), ("P", P), ("R", R)):
        if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-9:
            raise ValueError(
                f"{name} of the calibration is {matrix.tolist()}; it must be finite and invertible"
            )
    library = cv2.fisheye if D.size and camera.distortion_model == "equidistant" else cv2
    D = D if D.size else np.zeros(4)  # only rotated or re-centred
    size = (camera.width, camera.height)
    exact = library.initUndistortRectifyMap(K, D, R, P, size, cv2.CV_32FC1)
    x, y = (np.asarray(coordinate, np.float32) for coordinate in exact)
    folded = _folded(x, y, P @ R[:, 2])
    x[folded], y[folded] = _OUTSIDE, _OUTSIDE
    xy, fraction = cv2.convertMaps(x, y, cv2.CV_16SC2)
    return np.asarray(xy, np.int16), np.asarray(fraction, np.uint16)


def _folded(x: ArrayF32, y: ArrayF32, axis: ArrayF64) -> NDArray[np.bool_]:
    """Say which rectified pixels lie beyond a fold of the map, where it shows the image again.

    The map is one-to-one as far round the optical axis as the determinant of its Jacobian keeps the
    sign that it has there. Beyond a second fold the sign returns, so one connected region counts.

    Args:
        x: HxW float32, column in the raw image of each rectified pixel.
        y: HxW float32, its row.
        axis: (3,) float64, the raw camera's optical axis in homogeneous rectified pixels.

    Returns:
        HxW bool.
    """
    height, width = x.shape
    if min(height, width) < 2:  # a line has no Jacobian
        return np.zeros(x.shape, np.bool_)
    with np.errstate(invalid="ignore", over="ignore"):  # a pole of the rational model
        x_row, x_column = np.gradient(x)
        y_row, y_column = np.gradient(y)
        determinant = x_column * y_row - x_row * y_column
    # A P that is shifted far leaves the axis outside the picture: its nearest pixel stands for it.
    column, row = axis[:2] / max(axis[2], 1e-9)
    seed = int(np.clip(row, 0, height - 1)), int(np.clip(column, 0, width - 1))
    alike = (determinant > 0.0) == (determinant[seed] > 0.0)
    _, region = cv2.connectedComponents(alike.astype(np.uint8), connectivity=4)
    return np.asarray(region != region[seed])
