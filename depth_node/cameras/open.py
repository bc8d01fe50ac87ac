"""From the parameters to an open camera."""

from __future__ import annotations

from typing import get_args

from depth_node.cameras.base import Camera, CameraError
from depth_node.parameters import CameraSettings


def open_camera(settings: CameraSettings) -> Camera:
    """Open the camera that `settings.source` names; what it needs is imported only then.

    Args:
        settings: the camera's parameters, already checked.

    Raises:
        CameraError: it cannot be opened; the message says what was seen and what to do.
        CalibrationError: its calibration cannot be used (a `CameraError`, too).
        ValueError: the source is `topic`, which is a subscription and not a camera.
    """
    source = settings.source
    if source == "webcam":
        from depth_node.cameras.webcam import open_webcam

        return open_webcam(settings)
    if source == "url":
        from depth_node.cameras.stream import open_stream

        return open_stream(settings)
    if source == "video":
        from depth_node.cameras.playback import Playback
        from depth_node.cameras.video import VideoFile

        return Playback(VideoFile(settings.path), settings)
    if source == "folder":
        from depth_node.cameras.folder import ImageFolder
        from depth_node.cameras.playback import Playback

        return Playback(ImageFolder(settings.path), settings)
    if source == "world":
        return _open_world(settings)
    raise ValueError(
        f"camera.source {source!r} is not a camera that can be opened; it must be webcam, url, "
        "video, folder or world"
    )


def _open_world(settings: CameraSettings) -> Camera:
    """Replay the drive that `settings.path` names as `kind:seed`, such as `street:3`.

    It is rendered first, for up to a minute, when it is not in the cache.
    """
    try:
        from depth_node.world.cache import CacheError, render_drive
        from depth_node.world.camera import WorldCamera
        from depth_node.world.drive import DriveSettings
        from depth_node.world.scene import SceneKind
    except ImportError as error:
        raise CameraError(
            f"the synthetic world needs a package that is not installed: {error}; install it with "
            "pip, as the README says"
        ) from error
    kinds = get_args(SceneKind)
    kind, _, seed = settings.path.partition(":")
    if (kind or kinds[0]) not in kinds or not (seed or "0").isdecimal():
        raise CameraError(
            f"camera.path is {settings.path!r}; a world drive is named kind:seed, such as "
            f"{kinds[0]}:3, and a kind is one of {list(kinds)}"
        )
    asked = {
        name: value for name in ("width", "height", "fps") if (value := getattr(settings, name))
    }
    try:
        drive = DriveSettings(kind=kind or kinds[0], seed=int(seed or 0), **asked)
        rendered = render_drive(drive)
    except (CacheError, ValueError) as error:
        raise CameraError(str(error)) from error
    return WorldCamera(rendered, loop=settings.loop, frame_id=settings.frame_id)
