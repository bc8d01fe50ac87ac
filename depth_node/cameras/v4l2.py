"""Which cameras Video4Linux knows, and how one is named."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from depth_node.cameras.base import CameraError

SYSFS = Path("/sys/class/video4linux")
DEV = Path("/dev")


@dataclass(frozen=True)
class Device:
    """A V4L2 device node.

    Attributes:
        path: the device file, such as `/dev/video0`.
        name: the driver's name of it, or empty when unknown.
    """

    path: Path
    name: str = ""

    def __str__(self) -> str:
        return f"{self.path} ({self.name})" if self.name else str(self.path)


def list_devices() -> list[Device]:
    """The capture devices of this machine in the order of their numbers.

    A USB camera has a second node, with metadata instead of images: its sysfs `index` is not 0.
    """
    found = []
    entries = [e for e in SYSFS.glob("video*") if e.name.removeprefix("video").isdecimal()]
    for entry in sorted(entries, key=lambda e: int(e.name.removeprefix("video"))):
        if _attribute(entry / "index") in ("", "0"):
            found.append(Device(DEV / entry.name, _attribute(entry / "name")))
    return found


def find_device(wanted: str) -> Device:
    """Find a camera by index (`0`), by path (`/dev/video2`, `/dev/v4l/by-id/...`) or by name.

    A name matches when it is part of the device's name, in any case.

    Raises:
        CameraError: no device or several match, or it may not be opened; the cameras that exist are
            listed.
    """
    wanted = wanted.strip()
    if wanted.isdecimal():
        device = _at(DEV / f"video{int(wanted)}", f"there is no camera with index {int(wanted)}")
    elif wanted.startswith("/"):
        device = _at(Path(wanted), f"there is no device {wanted}")
    else:
        device = _named(wanted)
    if not os.access(device.path, os.R_OK | os.W_OK):
        raise CameraError(
            f"no permission to open {device}; add the user to the group that owns it, usually "
            "`sudo usermod -aG video $USER`, and log in again"
        )
    return device


def _at(path: Path, complaint: str) -> Device:
    if not path.exists():
        raise CameraError(f"{complaint}; {_existing()}")
    node = path.resolve().name  # /dev/v4l/by-id/... are links to /dev/videoN
    return Device(path, _attribute(SYSFS / node / "name"))


def _named(wanted: str) -> Device:
    matches = [d for d in list_devices() if wanted and wanted.casefold() in d.name.casefold()]
    if not matches:
        raise CameraError(f"no camera's name contains {wanted!r}; {_existing()}")
    if len(matches) > 1:
        raise CameraError(
            f"{len(matches)} cameras match {wanted!r}: {', '.join(map(str, matches))}; set "
            "camera.device to the path of one"
        )
    return matches[0]


def _existing() -> str:
    devices = list_devices()
    if not devices:
        return f"this machine has none (nothing in {SYSFS}); is it plugged in, or in a container?"
    return f"this machine has {', '.join(map(str, devices))}"


def _attribute(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # older kernels lack some; a device may vanish while it is listed
        return ""
