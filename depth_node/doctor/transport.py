"""The environment that decides which nodes and which messages reach each other.

Only this process's environment can be seen; that of the other nodes shows by what arrives.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from xml.etree import ElementTree

from depth_node.doctor.findings import Finding, error, ok, warn
from depth_node.resources import (
    FASTDDS_VARIABLES,
    ResourceError,
    fastdds_profile,
    fastdds_variable,
)

LARGE_BYTES = 500_000
"""Best-effort messages above this are lost by Fast DDS' default shared-memory segment of 512 KiB:
measured on Kilted, 640x480 rgb8 (0.92 MB) arrives 0%, 320x240 (0.23 MB) 100%."""
LEAST_SEGMENT_BYTES = 8 << 20
"""The smallest segment that carries the full 640x480 cloud (4.9 MB) without loss."""
_SHM = Path("/dev/shm")  # noqa: S108 - where Fast DDS puts its segments


def check_transport(rmw: str) -> list[Finding]:
    """Whether messages of camera size pass, as far as this environment tells.

    Args:
        rmw: the middleware's name, such as `rmw_fastrtps_cpp`.
    """
    if "fastrtps" not in rmw:
        return [ok("transport", f"{rmw}: the Fast DDS profile of this package is not for it")]
    if os.environ.get("FASTDDS_BUILTIN_TRANSPORTS") == "LARGE_DATA":
        return [ok("transport", "FASTDDS_BUILTIN_TRANSPORTS is LARGE_DATA: large messages pass")]
    return [_check_profile(), *_check_shared_memory()]


def large_messages_pass() -> bool:
    """Whether this environment lets Fast DDS carry messages of camera size."""
    return all(finding.level == 0 for finding in check_transport("rmw_fastrtps_cpp"))


def profile_cure() -> str:
    """How to give every process the shared-memory segment that large messages need."""
    try:
        profile = str(fastdds_profile())
    except ResourceError:
        profile = "config/fastdds.xml of this package"
    return (
        f"export {fastdds_variable()}={profile} where the camera driver, the node and every "
        "consumer start (the launch files do), and restart them"
    )


def _check_profile() -> Finding:
    named = {name: os.environ[name] for name in FASTDDS_VARIABLES if os.environ.get(name)}
    reads = fastdds_variable()
    if not named:
        seen = (
            "no Fast DDS profile is named in this environment: the shared-memory segment is the "
            "default 512 KiB, and best-effort messages over 0.5 MB (a 640x480 image has 0.92) do "
            "not arrive from processes that start like this"
        )
        return warn("transport", seen, profile_cure())
    if reads not in named and reads == FASTDDS_VARIABLES[1]:
        seen = f"only {', '.join(named)} is set, which this version of Fast DDS does not read"
        return error("transport", seen, profile_cure())
    name, path = (reads, named[reads]) if reads in named else next(iter(named.items()))
    try:
        size = _segment_bytes(Path(path))
    except (OSError, ElementTree.ParseError) as problem:
        seen = f"{name} is {path}, which cannot be read ({problem}); Fast DDS then uses defaults"
        return error("transport", seen, profile_cure())
    if size < LEAST_SEGMENT_BYTES:
        seen = (
            f"{path} ({name}) gives a shared-memory segment of {size >> 10} KiB; the 640x480 cloud "
            f"needs {LEAST_SEGMENT_BYTES >> 20} MiB"
        )
        return warn("transport", seen, f"raise segment_size in it, or {profile_cure()}")
    return ok("transport", f"{name} gives a shared-memory segment of {size >> 20} MiB")


def _segment_bytes(profile: Path) -> int:
    """The largest shared-memory segment of a profiles file; 512 KiB where it names none."""
    root = ElementTree.parse(profile).getroot()  # noqa: S314 - a file of the user's own
    sizes = [e.text for e in root.iter() if e.tag.rpartition("}")[2] == "segment_size"]
    return max([int(text) for text in sizes if text and text.strip().isdecimal()] + [512 << 10])


def _check_shared_memory() -> list[Finding]:
    """Containers often have 64 MiB: two participants with the profile's segment."""
    if not _SHM.is_dir():
        seen = f"{_SHM} does not exist: messages take the network stack, slower, large ones not"
        return [warn("transport", seen, "mount it, or docker run --shm-size=256m")]
    free = shutil.disk_usage(_SHM).free
    if free < 2 * (32 << 20):
        seen = f"{_SHM} has {free >> 20} MiB free; each process with the profile takes 32 MiB"
        return [warn("transport", seen, "docker run --shm-size=256m, or --ipc=host")]
    return []


def check_discovery() -> list[Finding]:
    """Which domain this process is in and how far it sees."""
    domain = os.environ.get("ROS_DOMAIN_ID") or "0"
    reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE") or "SUBNET"
    seen = f"domain {domain} (ROS_DOMAIN_ID), range {reach} (ROS_AUTOMATIC_DISCOVERY_RANGE)"
    if not domain.isdecimal() or int(domain) > 232:
        cure = "set ROS_DOMAIN_ID to the same number from 0 to 101 everywhere, or unset it"
        return [error("discovery", f"ROS_DOMAIN_ID is {domain!r}; expected a number", cure)]
    if os.environ.get("ROS_DISTRO") == "humble":  # it knows the older variable alone
        reach = "LOCALHOST" if os.environ.get("ROS_LOCALHOST_ONLY") == "1" else "SUBNET"
        return [ok("discovery", f"domain {domain} (ROS_DOMAIN_ID), {reach} (ROS_LOCALHOST_ONLY)")]
    if reach == "OFF":
        cure = "set ROS_AUTOMATIC_DISCOVERY_RANGE to LOCALHOST or SUBNET"
        return [error("discovery", f"{seen}: no other process can be discovered", cure)]
    if os.environ.get("ROS_LOCALHOST_ONLY") == "1":
        cure = "use ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST (Iron and later)"
        return [warn("discovery", f"{seen}; ROS_LOCALHOST_ONLY is deprecated", cure)]
    return [ok("discovery", seen)]
