"""Intrinsics for images of any size: from a calibration, from an assumption, or none."""

from __future__ import annotations

from depth_node.cameras.calibration import CalibrationError, fit_to_size, read_calibration
from depth_node.parameters import CameraSettings
from depth_node.types import CameraModel


class Intrinsics:
    """Gives every image size its camera model and tells what that rests on.

    Args:
        calibration: the calibrated camera, or None.
        assumed_fov_deg: horizontal field of view in degrees that is assumed without a calibration;
            0 assumes none.
    """

    def __init__(self, calibration: CameraModel | None, assumed_fov_deg: float) -> None:
        self._calibration = calibration
        self._assumed_fov_deg = assumed_fov_deg
        self._size: tuple[int, int] | None = None
        self._camera: CameraModel | None = None
        self._notice = ""

    @classmethod
    def from_settings(cls, settings: CameraSettings) -> Intrinsics:
        """Read the calibration that the settings name, if any.

        Raises:
            CalibrationError: it cannot be used.
        """
        calibration = read_calibration(settings.calibration) if settings.calibration else None
        return cls(calibration, settings.assumed_fov_deg)

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user must know about the intrinsics of the newest image."""
        return (self._notice,) if self._notice else ()

    def for_size(self, width: int, height: int) -> CameraModel | None:
        """The camera model of an image size in pixels, or None when nothing is known or assumed.

        Raises:
            CalibrationError: the calibration is for images of other proportions.
        """
        if self._size != (width, height):  # one is kept: there may be any number of sizes
            self._camera, self._notice = self._make(width, height)
            self._size = (width, height)
        return self._camera

    def fitting(self, width: int, height: int) -> CameraModel | None:
        """As `for_size`, but None where the calibration does not fit: `notices` say so."""
        try:
            return self.for_size(width, height)
        except CalibrationError as error:
            seen, _, cure = str(error).partition("; ")
            self._notice = f"camera.calibration: {seen}, only relative depth is published; {cure}"
            self._size = None
            return None

    def _make(self, width: int, height: int) -> tuple[CameraModel | None, str]:
        calibration = self._calibration
        if calibration is not None:
            camera = fit_to_size(calibration, width, height)
            if camera is calibration:
                return camera, ""
            return camera, (
                f"the calibration for {calibration.width}x{calibration.height} is scaled to "
                f"{width}x{height}; that is right if the camera shrinks the whole picture and "
                "wrong if it cuts a part out of it"
            )
        if self._assumed_fov_deg > 0.0:
            camera = CameraModel.from_field_of_view(width, height, self._assumed_fov_deg)
            return camera, (
                f"NOT CALIBRATED: a horizontal field of view of {self._assumed_fov_deg:g} deg is "
                f"ASSUMED (fx = {camera.K[0, 0]:.1f} px at {width}x{height}), and metres are as "
                "wrong as this assumption; give the camera's own in camera.calibration"
            )
        return None, (
            "NOT CALIBRATED, and camera.assumed_fov_deg is 0: nothing can be published in metres; "
            "give the camera's intrinsics in camera.calibration"
        )
