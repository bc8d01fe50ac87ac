"""Where the package's own files lie: models, presets, launch files and the Fast DDS profile."""

from __future__ import annotations

import importlib.metadata
import os
import site
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "depth_node"
FASTDDS_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""The variables that name a Fast DDS profiles file, the newer one first."""
_BEFORE_FASTDDS_3 = ("humble", "iron", "jazzy")


class ResourceError(RuntimeError):
    """A file that belongs to the package is not where it should be; the message says what to do."""


def source_checkout() -> Path | None:
    """The root of the source checkout that this code runs from, or None for an installed package.

    Editable installs (pip) and symlink installs (colcon) run from their checkout.
    """
    root = Path(__file__).resolve().parent.parent
    return root if (root / "package.xml").is_file() else None


def share_directory() -> Path:
    """The folder that holds `models/`, `config/` and `launch/`.

    It is the source checkout when the code runs from one; else `share/depth_node` of the prefix
    that the code is installed in (colcon, pip, pip --user, pip --target, a Debian package), of a
    prefix on AMENT_PREFIX_PATH, or of this Python.

    Raises:
        ResourceError: none of them has it.
    """
    checkout = source_checkout()
    if checkout is not None:
        return checkout
    shares = list(dict.fromkeys(prefix / "share" / PACKAGE for prefix in _prefixes()))
    for share in shares:
        if (share / "package.xml").is_file():
            return share
    raise ResourceError(
        f"the package's files (models, config, launch) are in none of {[str(s) for s in shares]}; "
        "install the package again, or source the workspace that it was built in"
    )


def _prefixes() -> Iterator[Path]:
    yield from Path(__file__).resolve().parent.parents
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        if prefix:
            yield Path(prefix)
    yield Path(sys.prefix)
    yield Path(site.getuserbase())


def model_path(name: str) -> Path:
    """The path of a shipped model file, such as `student.onnx`.

    Raises:
        ResourceError: no such file is shipped.
    """
    return _existing(share_directory() / "models" / name)


def config_path(name: str) -> Path:
    """The path of a shipped file of `config/`, such as `depth_node.yaml`.

    Raises:
        ResourceError: no such file is shipped.
    """
    return _existing(share_directory() / "config" / name)


def _existing(path: Path) -> Path:
    if not path.is_file():
        there = sorted(p.name for p in path.parent.glob("*")) if path.parent.is_dir() else []
        raise ResourceError(f"{path} is missing; the folder has {there}. Install the package again")
    return path


def fastdds_profile() -> Path:
    """The Fast DDS profile with a 32 MiB shared-memory segment.

    Raises:
        ResourceError: it is missing.
    """
    return config_path("fastdds.xml")


def fastdds_environment() -> dict[str, str]:
    """The variables that make a child process use the shipped profile.

    Empty when the user has named a profile.

    Raises:
        ResourceError: the profile is missing.
    """
    if any(name in os.environ for name in FASTDDS_VARIABLES):
        return {}
    return {fastdds_variable(): str(fastdds_profile())}


def fastdds_variable() -> str:
    """The variable that this installation's Fast DDS takes its profiles file from.

    Fast DDS 3 (Kilted and later) reads FASTDDS_DEFAULT_PROFILES_FILE and warns about the older
    name; Fast DDS 2 reads only FASTRTPS_DEFAULT_PROFILES_FILE.
    """
    return FASTDDS_VARIABLES[1 if _is_fastdds_2() else 0]


def _is_fastdds_2() -> bool:
    distribution = os.environ.get("ROS_DISTRO")
    if distribution is not None:
        return distribution in _BEFORE_FASTDDS_3
    try:
        return int(importlib.metadata.version("ros-rclpy").split(".")[0]) < 8
    except importlib.metadata.PackageNotFoundError:
        return False
