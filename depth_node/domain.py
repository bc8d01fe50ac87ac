"""A ROS domain of one's own on this machine, for the demo, the benchmarks and the tests."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from depth_node.resources import fastdds_environment

DOMAINS = range(1, 102)
"""Domains whose ports lie below those that Linux hands out to others (ROS 2's domain ID page)."""


@contextlib.contextmanager
def private_domain() -> Iterator[int]:
    """Put this process and its children on a ROS domain that no other user of this function has.

    Discovery stays on this machine, and the Fast DDS profile of the package is set unless the user
    has named another one. The environment stays as it is afterwards; the domain is free again.

    Raises:
        RuntimeError: all domains are taken.
    """
    folder = Path(tempfile.gettempdir()) / f"depth_node_domains_{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for domain in random.SystemRandom().sample(DOMAINS, len(DOMAINS)):
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
