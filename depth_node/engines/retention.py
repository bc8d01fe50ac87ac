"""What leaves the engine cache: what another version has replaced, and what was long unused."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

LIMIT_BYTES = 4 << 30
"""Size that the cache is kept under. The largest network has 1.3 GB of weights in fp32 and half of
that in fp16: it stays in both, for two image sizes, and a robot's small disk is spared."""
_VERSIONS = ("runtime", "driver", "capability")
"""Parts of a signature that change with an update of the machine and not with what is asked for."""
_PARTS = (".engine", ".verdict", ".files", ".lock")


def prune(
    folder: Path,
    signature: Mapping[str, str],
    key: str,
    log: Callable[[str], None],
    limit_bytes: int = LIMIT_BYTES,
) -> None:
    """Delete what a new engine replaces, then the longest unused until the limit holds.

    Engines that a process is building stay.

    Args:
        folder: the cache.
        signature: of the engine that has just been kept; it stays.
        key: its key.
        log: takes a line for each engine that is deleted.
        limit_bytes: size that the cache is kept under.
    """
    keys = {path.name.partition(".")[0] for path in folder.iterdir() if path.suffix in _PARTS}
    keys.discard(key)
    for other in sorted(keys):
        if _replaced_by(_signature_of(folder, other), signature):
            _delete(folder, other, "it is of another version of its runtime", log)
    sizes = {each: _size(folder, each) for each in (key, *keys)}
    total = sum(sizes.values())
    for other in sorted(keys, key=lambda each: _last_used(folder, each)):
        if total <= limit_bytes:
            return
        total -= sizes[other]
        if sizes[other]:  # a verdict alone weighs nothing
            _delete(folder, other, f"the cache is kept under {limit_bytes / 1e9:.1f} GB", log)


def _replaced_by(old: Mapping[str, str], new: Mapping[str, str]) -> bool:
    """Whether two signatures differ, and in versions only."""

    def lasting(signature: Mapping[str, str]) -> dict[str, str]:
        return {name: value for name, value in signature.items() if name not in _VERSIONS}

    return bool(old) and dict(old) != dict(new) and lasting(old) == lasting(new)


def _signature_of(folder: Path, key: str) -> Mapping[str, str]:
    """What an entry was made for, from its verdict or its engine's header; empty if unknown."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return dict(json.loads((folder / f"{key}.verdict").read_bytes())["signature"])
    with (
        contextlib.suppress(OSError, ValueError, KeyError, TypeError),
        (folder / f"{key}.engine").open("rb") as file,
    ):
        file.readline()  # the format's name
        return dict(json.loads(file.readline())["signature"])
    return {}


def _delete(folder: Path, key: str, why: str, log: Callable[[str], None]) -> None:
    lock = folder / f"{key}.lock"
    with _free(lock) as free:
        if not free:
            return
        held = _size(folder, key)
        shutil.rmtree(folder / f"{key}.files", ignore_errors=True)
        for suffix in (".engine", ".verdict", ".lock"):
            (folder / f"{key}{suffix}").unlink(missing_ok=True)
    if held:
        log(f"cached engine {folder / key} ({held / 1e6:.1f} MB) is deleted: {why}")


@contextlib.contextmanager
def _free(lock: Path) -> Iterator[bool]:
    """Hold an engine's lock, if no process is building it."""
    handle = os.open(lock, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        yield free
    finally:
        os.close(handle)


def _size(folder: Path, key: str) -> int:
    files = [folder / f"{key}.engine", *(folder / f"{key}.files").glob("*")]
    return sum(file.stat().st_size for file in files if file.is_file())


def _last_used(folder: Path, key: str) -> float:
    """Seconds; engines are touched when they are loaded."""
    engine = folder / f"{key}.engine"
    return engine.stat().st_mtime if engine.is_file() else 0.0
