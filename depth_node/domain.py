"""A ROS domain of one's own on this machine, for the demo, the benchmarks and the tests."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from depth_node.resources import fastdds_environment

DOMAINS = range(1, 102)
"""Domains whose ports lie below those that Linux hands out to others (ROS 2's domain ID page)."""
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Fast DDS keeps its ports, not a file of ours
_FIRST_PORT, _PORTS_A_DOMAIN = 7400, 250  # RTPS 2.3, 9.6.1.1
# Fast DDS 3 (Kilted) and 2 (Jazzy) name their files differently: a port that processes read from,
# or the segment of one process; locks (exclusive, shared) and a mutex stand beside them.
_PORT = re.compile(r"((?:fastdds|fastrtps)_port(\d+))(?:_el|_sl)?")
_SEGMENT = re.compile(r"((?:fastdds|fastrtps)_[0-9a-f]{16})(?:_el)?")
_START_S = 5.0  # a process that has just made its segment may not have locked it yet


@contextlib.contextmanager
def private_domain() -> Iterator[int]:
    """Put this process and its children on a ROS domain that nobody else is seen to use.

    Discovery stays on this machine, and the Fast DDS profile of the package is set unless the user
    has named another one. The environment stays as it is afterwards; the domain is free again, and
    what processes that were killed on it had left in shared memory is removed.

    Raises:
        RuntimeError: all domains are taken.
    """
    folder = Path(tempfile.gettempdir()) / f"depth_node_domains_{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    used = _domains_in_shared_memory()
    domains = random.SystemRandom().sample(DOMAINS, len(DOMAINS))
    for domain in sorted(domains, key=lambda domain: domain in used):
        with (folder / f"{domain}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            _remove_what_the_dead_left(domain)
            os.environ["ROS_DOMAIN_ID"] = str(domain)
            os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
            os.environ.update(fastdds_environment())
            try:
                yield domain
            finally:
                _remove_what_the_dead_left(domain)
            return
    raise RuntimeError(f"all ROS domains of {DOMAINS} are taken; is something still running?")


def _domains_in_shared_memory() -> set[int]:
    """Domains whose ports Fast DDS has in shared memory: somebody is, or was, on them."""
    if not _SHARED_MEMORY.is_dir():
        return set()
    matches = (_PORT.match(path.name) for path in _SHARED_MEMORY.iterdir())
    return {_domain_of(match) for match in matches if match}


def _domain_of(port: re.Match[str]) -> int:
    return (int(port[2]) - _FIRST_PORT) // _PORTS_A_DOMAIN


def _remove_what_the_dead_left(domain: int) -> None:
    """Remove segments of Fast DDS and ports of a domain that no living process holds.

    A process that is killed leaves its segment (35 MB with our profile) and its ports; one that
    takes such a port over can wait forever on a lock that nobody will open. Ports of other domains
    stay: to look at a port's lock is to hold it for a moment, just when its process may want it.
    """
    if not _SHARED_MEMORY.is_dir():
        return
    for path in list(_SHARED_MEMORY.iterdir()):
        port, segment = _PORT.fullmatch(path.name), _SEGMENT.fullmatch(path.name)
        found = segment or (port if port and _domain_of(port) == domain else None)
        if found is None:
            continue
        name = found[1]
        locks = [_SHARED_MEMORY / f"{name}_el", _SHARED_MEMORY / f"{name}_sl"]
        with contextlib.suppress(FileNotFoundError, PermissionError):  # another's, or gone by now
            young = segment and time.time() - path.stat().st_ctime < _START_S
            if young or any(map(_is_held, locks)):
                continue
            for leftover in (name, f"{name}_el", f"{name}_sl", f"sem.{name}_mutex"):
                (_SHARED_MEMORY / leftover).unlink(missing_ok=True)


def _is_held(lock: Path) -> bool:
    """Whether a living process holds a lock file of Fast DDS; one that is not there is free."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
