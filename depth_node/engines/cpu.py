"""The processor: how many threads a network may take, and its name."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_CPU_INFO = Path("/proc/cpuinfo")
MOST_THREADS = 8
"""More bring networks of this size little and take them from the rest of the robot."""
SMALL_BYTES = 16 << 20
"""Size of a graph up to which a network leaves a core to the node: its layers are so short that a
further thread costs more in waiting than it gains, and the node's own work runs beside it."""


def thread_count(wanted: int, graph_bytes: int) -> int:
    """CPU threads for a network.

    The cores that a container or `taskset` withholds are not counted: threads beyond them only
    wait for each other.

    Args:
        wanted: this many; for 0 every core that this process may use, at most 8, and one fewer
            for a small network.
        graph_bytes: size of the network's graph.
    """
    if wanted > 0:
        return wanted
    cores = usable_cores() - (1 if graph_bytes <= SMALL_BYTES else 0)
    return max(1, min(cores, MOST_THREADS))


def usable_cores() -> int:
    """Cores that this process may run on, by its affinity and its cgroup's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = _CGROUP_QUOTA.read_text(encoding="ascii").split()
        limit = max(1, int(quota) // int(period)) if quota != "max" else 0
    except (OSError, ValueError):  # no cgroup v2 here
        limit = 0
    return min(cores or 1, limit) if limit else cores or 1


def cpu_name() -> str:
    """The processor's name in words, such as `AMD EPYC 9354`."""
    try:
        for line in _CPU_INFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux: Python's own answer below
    return platform.processor() or platform.machine()


def device_name(threads: int) -> str:
    """The CPU as a device, such as `CPU (AMD EPYC, 2 threads)`."""
    return f"CPU ({cpu_name()}, {threads} thread{'s' if threads > 1 else ''})"
