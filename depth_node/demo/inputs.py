"""From what the user names with `--input` to the camera's parameters."""

from __future__ import annotations

from pathlib import Path

from depth_node.cameras.folder import SUFFIXES as IMAGE_SUFFIXES
from depth_node.cameras.video import SUFFIXES as VIDEO_SUFFIXES


def camera_parameters(source: str) -> dict[str, str]:
    """Parameters of the node for a video, a folder, a URL or a webcam.

    A folder may hold images, one video, or one subfolder with images (as data sets do, beside their
    LiDAR and calibration).
    """
    path = Path(source).expanduser()
    if path.is_dir():
        path = _what_is_in(path)
    if path.is_dir():
        return {"camera.source": "folder", "camera.path": str(path.resolve())}
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return {"camera.source": "video", "camera.path": str(path.resolve())}
    if "://" in source:
        return {"camera.source": "url", "camera.path": source}
    # Quoted for the yaml parser of ROS arguments: a bare 0 would be an integer.
    return {"camera.source": "webcam", "camera.device": f'"{source}"'}


def _what_is_in(folder: Path) -> Path:
    """The folder itself, or the only video or image folder in it."""
    entries = sorted(folder.iterdir())
    if _has_images(folder):
        return folder
    videos = [entry for entry in entries if entry.suffix.lower() in VIDEO_SUFFIXES]
    folders = [entry for entry in entries if entry.is_dir() and _has_images(entry)]
    found = videos + folders
    return found[0] if len(found) == 1 else folder


def _has_images(folder: Path) -> bool:
    return any(entry.suffix.lower() in IMAGE_SUFFIXES for entry in folder.iterdir())
