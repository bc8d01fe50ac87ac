"""A ROS domain of one's own on this machine, for the demo, the benchmarks and the tests."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from depth_node.resources import fastdds_environment

DOMAINS = range(1, 102)
"""Domains whose ports lie below those that Linux hands out to others (ROS 2's domain ID page)."""
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Fast DDS keeps its ports, not a file of ours
_FIRST_PORT, _PORTS_A_DOMAIN = 7400, 250  # RTPS 2.3, 9.6.1.1


@contextlib.contextmanager
def private_domain() -> Iterator[int]:
    """Put this process and its children on a ROS domain that nobody else is seen to use.

    Discovery stays on this machine, and the Fast DDS profile of the package is set unless the user
    has named another one. The environment stays as it is afterwards; the domain is free again.

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
            os.environ["ROS_DOMAIN_ID"] = str(domain)
            os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
            os.environ.update(fastdds_environment())
            yield domain
            return
    raise RuntimeError(f"all ROS domains of {DOMAINS} are taken; is something still running?")


def _domains_in_shared_memory() -> set[int]:
    """Domains whose ports Fast DDS has in shared memory.

    Either somebody is on them now, or a process that was killed has left its ports, with locks that
    nobody will open; a newcomer can hang on those.
    """
    if not _SHARED_MEMORY.is_dir():
        return set()
    matches = (re.match(r"fastdds_port(\d+)", path.name) for path in _SHARED_MEMORY.iterdir())
    return {(int(match[1]) - _FIRST_PORT) // _PORTS_A_DOMAIN for match in matches if match}
