"""Where the package keeps files between runs, and how it tells them apart."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

ABANDONED_S = 3600.0
"""Age from which a folder that was begun and not completed is nobody's any more."""


def cache_directory() -> Path:
    """The root of all that this package keeps: fetched networks, engines, rendered drives.

    `$DEPTH_NODE_CACHE`, else `depth_node` under `$XDG_CACHE_HOME`, which the XDG Base Directory
    Specification wants absolute, or under `~/.cache`.
    """
    own = os.environ.get("DEPTH_NODE_CACHE")
    if own:
        return Path(own).expanduser()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "depth_node"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
