"""Drives rendered ahead: a private cache of memory-mapped frames, keyed by settings and code.

One entry is a folder named by its key. It is written under another name and renamed when it is
complete, so a reader sees all of it or nothing, and every file's size and checksum are checked
before it is used.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_node.files import ABANDONED_S, cache_directory
from depth_node.types import ArrayF32, ArrayF64, CameraModel
from depth_node.world.drive import DriveSettings

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""There is a worker a core already."""
_KEPT = 4
"""Entries kept in the cache, newest first; a 640x480 drive of 8 s takes 0.5 GB."""
_NOT_KEYED = {
    "__init__.py",
    "cache.py",
    "camera.py",
    "command.py",
    "publish.py",
    "messages.py",
    "sheet.py",
}
SETTINGS_FILE = "settings.json"
_ARRAYS = ("rgb", "depth", "poses", "scans", "ranges", "accelerations", "lidar", "lidar_start")
Progress = Callable[[int, int], None]
"""Called with frames done and frames in all."""


class CacheError(RuntimeError):
    """A cached drive is damaged or cannot be written; the message says what to do."""


@dataclass(frozen=True, eq=False)
class CachedDrive:
    """A drive with everything measured on it, ready to be replayed.

    Attributes:
        settings: what it was rendered from.
        rgb: (frames, H, W, 3) uint8, memory-mapped.
        depth: (frames, H, W) float32 metres along Z, +inf for the sky; memory-mapped.
        poses: (frames, 4, 4) float64 T_odom_base.
        scans: (sweeps, beams) float32 metres, +inf no return.
        ranges: (frames,) float32 metres, +inf no return.
        accelerations: (frames, 3) float64 m/s^2 in the IMU's frame.
        lidar: (points,) records x, y, z, intensity, ring, time of all sweeps, memory-mapped.
        lidar_start: (sweeps + 1,) int64, where each sweep begins in `lidar`.
    """

    settings: DriveSettings
    rgb: NDArray[np.uint8]
    depth: ArrayF32
    poses: ArrayF64
    scans: ArrayF32
    ranges: ArrayF32
    accelerations: ArrayF64
    lidar: NDArray[Any]
    lidar_start: NDArray[np.int64]

    @property
    def camera(self) -> CameraModel:
        """Calibration of the frames."""
        return self.settings.camera

    def lidar_sweep(self, frame: int) -> NDArray[Any]:
        """Records of the sweep that belongs to a frame."""
        sweep = frame // self.settings.lidar_every
        return self.lidar[self.lidar_start[sweep] : self.lidar_start[sweep + 1]]


def cache_folder() -> Path:
    """The cache, readable by the user alone: `world` under `files.cache_directory`.

    Raises:
        CacheError: it cannot be made, or belongs to somebody else.
    """
    folder = cache_directory() / "world"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        owner = folder.stat().st_uid
        if owner == os.getuid():
            folder.chmod(0o700)
    except OSError as error:
        raise CacheError(
            f"the world's cache cannot be written at {folder} ({error}); set "
            "DEPTH_NODE_CACHE to a folder that you own"
        ) from error
    if owner != os.getuid():
        raise CacheError(
            f"the world's cache {folder} belongs to user {owner}, not to you; set "
            "DEPTH_NODE_CACHE to a folder that you own"
        )
    return folder


def cache_key(settings: DriveSettings) -> str:
    """Changes with every setting and with the code that decides what a drive looks like."""
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(settings), sort_keys=True).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        if source.name not in _NOT_KEYED:
            digest.update(source.read_bytes())
    return digest.hexdigest()[:20]


def load_drive(settings: DriveSettings) -> CachedDrive | None:
    """The cached drive of these settings, or None when there is none.

    Raises:
        CacheError: the entry is damaged.
    """
    folder = cache_folder() / cache_key(settings)
    return _open_entry(folder, settings) if folder.is_dir() else None


def render_drive(
    settings: DriveSettings, progress: Progress | None = None, workers: int | None = None
) -> CachedDrive:
    """The cached drive of these settings, rendered first when it is not there or damaged.

    Args:
        settings: the drive.
        progress: is told how far rendering is; not called when the drive is already there.
        workers: processes; None takes all cores.

    Raises:
        CacheError: the cache cannot be written.
    """
    folder = cache_folder() / cache_key(settings)
    if folder.is_dir():
        try:
            return _open_entry(folder, settings)
        except CacheError:
            shutil.rmtree(folder)
    _drop_left_overs(folder.parent)  # first, for they may be what fills the disk
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _render_entry(partial, settings, progress, workers or len(os.sched_getaffinity(0)))
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
            # another process finished the same drive first: take its entry, ours is the same
    except OSError as error:
        raise CacheError(f"the drive cannot be written to {folder}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _prune(folder)
    return _open_entry(folder, settings)


def _drop_left_overs(root: Path) -> None:
    """Delete what killed processes left half rendered, not what others render now."""
    for partial in root.glob(".*"):
        try:
            newest = max(path.stat().st_mtime for path in (partial, *partial.iterdir()))
        except OSError:  # no folder, or finished or dropped by another process
            continue
        if time.time() - newest > ABANDONED_S:
            shutil.rmtree(partial, ignore_errors=True)


def _prune(newest: Path) -> None:
    """Drop the oldest entries, and never the one just written."""
    entries = [path for path in newest.parent.iterdir() if path.is_dir() and path != newest]
    complete = [path for path in entries if not path.name.startswith(".")]
    complete.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in complete[_KEPT - 1 :]:
        shutil.rmtree(path, ignore_errors=True)


def _array_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.npy"


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            value = zlib.crc32(block, value)
    return value


def _open_entry(folder: Path, settings: DriveSettings) -> CachedDrive:
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        for name in _ARRAYS:
            path = _array_path(folder, name)
            expected = manifest[name]
            if path.stat().st_size != expected["bytes"] or _checksum(path) != expected["crc32"]:
                raise CacheError(f"{path} is damaged; delete {folder} to have it rendered again")
        arrays = {name: np.load(_array_path(folder, name), mmap_mode="r") for name in _ARRAYS}
    except (OSError, ValueError, KeyError) as error:
        raise CacheError(
            f"the cached drive {folder} is damaged ({error}); delete it to have it rendered again"
        ) from error
    return CachedDrive(settings=settings, **arrays)


def _render_entry(
    folder: Path, settings: DriveSettings, progress: Progress | None, workers: int
) -> None:
    count, height, width = settings.frames, settings.height, settings.width
    new = np.lib.format.open_memmap
    new(_array_path(folder, "rgb"), "w+", np.uint8, (count, height, width, 3)).flush()
    new(_array_path(folder, "depth"), "w+", np.float32, (count, height, width)).flush()
    (folder / SETTINGS_FILE).write_text(json.dumps(dataclasses.asdict(settings)))
    _run_workers(folder, count, min(workers, count), progress)
    manifest = {
        name: {
            "bytes": _array_path(folder, name).stat().st_size,
            "crc32": _checksum(_array_path(folder, name)),
        }
        for name in _ARRAYS
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _run_workers(folder: Path, count: int, workers: int, progress: Progress | None) -> None:
    """Render in interpreters of their own, which share a pipe that carries a byte a frame.

    Plain sub-processes and not multiprocessing: nothing of the caller's main module is imported
    again, and no thread's lock is forked in an unknown state.
    """
    package_root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH", "")]))
    reader, writer = os.pipe()
    running: list[subprocess.Popen[str]] = []
    try:
        with os.fdopen(reader, "rb") as ticks:
            with os.fdopen(writer, "wb") as pipe:
                for k in range(workers):
                    command = [sys.executable, "-m", "depth_node.world.worker", str(folder)]
                    process = subprocess.Popen(
                        [*command, str(k), str(workers)],
                        stdin=subprocess.DEVNULL,
                        stdout=pipe,
                        stderr=subprocess.PIPE,
                        text=True,
                        env={**os.environ, **_ONE_THREAD, "PYTHONPATH": path},
                        start_new_session=True,  # Ctrl-C is this process's to handle
                    )
                    running.append(process)
            done = 0
            while block := ticks.read1(4096):
                done += len(block)
                if progress is not None:
                    progress(done, count)
        for process in running:
            _, errors = process.communicate()
            if process.returncode:
                reason = errors.strip().splitlines()[-1:] or ["no reason given"]
                raise CacheError(
                    f"rendering the drive failed (exit status {process.returncode}): {reason[0]}"
                )
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()
