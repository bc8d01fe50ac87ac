"""Compiled engines, kept between runs and trusted only when nothing about them has changed.

An engine's key is the hash of everything that it depends on (its signature). Files belong to the
user, are written atomically with mode 0600, and are refused when anybody else could have written
them or when their content is not what was written.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from depth_node.engines.base import EngineError
from depth_node.engines.retention import prune
from depth_node.files import cache_directory, sha256_of
from depth_node.network.errors import ModelError
from depth_node.network.store import write_atomically

Log = Callable[[str], None]
Signature = Mapping[str, str]
_MAGIC = b"depth_node engine 1\n"


@dataclass(frozen=True)
class Verdict:
    """The outcome of an engine's self-test.

    Attributes:
        passed: whether the engine may be used.
        error: largest relative L2 difference from the fp32 reference.
        tolerance: what it was held to.
        reason: why it failed, or empty.
        reference: hash of the fp32 graph that it was held to.
    """

    passed: bool
    error: float
    tolerance: float
    reason: str = ""
    reference: str = ""


@dataclass(frozen=True)
class Cached:
    """One engine in the cache, as `depth-node engines list` shows it."""

    path: Path
    signature: dict[str, str]
    size_bytes: int
    verdict: Verdict | None


@dataclass
class EngineCache:
    """The folder of compiled engines.

    Attributes:
        folder: where they are; created when the first one is stored.
        log: takes a line when an engine is refused or waited for.
    """

    folder: Path = field(default_factory=lambda: cache_directory() / "engines")
    log: Log = lambda _: None
    _not_kept: set[str] = field(default_factory=set, init=False, repr=False)

    def load(self, signature: Signature) -> bytes | None:
        """The compiled engine of this signature, or None when there is none to be trusted."""
        path = self._path(signature)
        if key_of(signature) in self._not_kept:
            return None
        try:
            data = _read_own(path)
            header, payload = _unpack(data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self.log(f"cached engine {path} is refused and built again: {error}")
            return None
        if header["signature"] != dict(signature):
            self.log(f"cached engine {path} is refused and built again: it is of another signature")
            return None
        with contextlib.suppress(OSError):  # a home that may only be read
            os.utime(path)  # the oldest by this time are the first to go
        return payload

    def store(self, signature: Signature, payload: bytes) -> None:
        """Keep a compiled engine; a full disk costs only the next start's time and is logged."""
        header = {
            "signature": dict(signature),
            "payload_sha256": hashlib.sha256(payload).hexdigest(),
            "payload_bytes": len(payload),
        }
        line = json.dumps(header, sort_keys=True).encode()
        try:
            self._verdict_path(signature).unlink(missing_ok=True)  # it judged another engine
            write_atomically(self._path(signature), _MAGIC + line + b"\n" + payload)
            self._not_kept.discard(key_of(signature))
        except (ModelError, OSError) as error:
            self._not_kept.add(key_of(signature))
            self.log(f"the compiled engine is not kept: {error}")
        self._prune(signature)

    def get_or_build(self, signature: Signature, build: Callable[[], bytes]) -> bytes:
        """Load an engine, or build and keep it; of several processes one builds, others wait.

        Args:
            signature: what the engine depends on.
            build: compiles it; raises EngineError when it cannot.
        """
        payload = self.load(signature)
        if payload is not None:
            return payload
        with self.building(signature):
            payload = self.load(signature)  # another process may have built it meanwhile
            if payload is None:
                payload = build()
                self.store(signature, payload)
        return payload

    def open_folder(self, signature: Signature) -> tuple[Path, bool]:
        """A folder for a runtime that reads and writes its compiled engines itself.

        Call it while `building` is held.

        Returns:
            The folder, and whether it holds exactly the engines that were sealed; else it is empty.

        Raises:
            EngineError: it cannot be made.
        """
        folder = self._files(signature)
        sealed = self.load(signature)
        if sealed is not None:
            if folder.is_dir() and _manifest(folder) == sealed:
                return folder, True
            self.log(f"cached engines in {folder} are refused and built again: they were altered")
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, mode=0o700)
        except OSError as error:
            raise EngineError(f"engines cannot be kept in {folder}: {error.strerror}") from error
        return folder, False

    def seal_folder(self, signature: Signature) -> None:
        """Keep the hashes of the engines that the runtime has just written into its folder."""
        self.store(signature, _manifest(self._files(signature)))

    @contextlib.contextmanager
    def building(self, signature: Signature) -> Iterator[None]:
        """Hold the lock of one engine; it is released when the process ends, however it ends."""
        lock = self._path(signature).with_suffix(".lock")
        try:
            lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(lock, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:  # a read-only home: build without company and without keeping
            self.log(f"engines cannot be kept in {self.folder}: {error.strerror}")
            yield
            return
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.log("another process is building this engine; waiting for it")
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def verdict(self, signature: Signature) -> Verdict | None:
        """What the self-test of exactly this engine said, or None when it was never tested."""
        try:
            record = json.loads(_read_own(self._verdict_path(signature)))
            if record["signature"] != dict(signature):
                return None
            if record["payload_sha256"] != self._payload_hash(signature):
                return None
            return Verdict(**record["verdict"])
        except (OSError, ValueError, KeyError, TypeError):
            return None  # absent or not ours: the test is simply run again

    def keep_verdict(self, signature: Signature, verdict: Verdict) -> None:
        """Remember what the self-test said of the engine that is stored now.

        Of one that could not be kept nothing is: the next start compiles another.
        """
        if key_of(signature) in self._not_kept:
            return
        record = {
            "signature": dict(signature),
            "payload_sha256": self._payload_hash(signature),
            "verdict": asdict(verdict),
        }
        try:
            write_atomically(self._verdict_path(signature), json.dumps(record).encode())
        except ModelError as error:
            self.log(f"the self-test's result is not kept: {error}")
        self._prune(signature)

    def forget(self, signature: Signature) -> None:
        """Delete an engine and its verdict; what cannot be deleted is not loaded again."""
        for path in (self._path(signature), self._verdict_path(signature)):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:  # a home that may only be read
                self._not_kept.add(key_of(signature))
                self.log(f"{path} cannot be deleted: {error.strerror}")
        shutil.rmtree(self._files(signature), ignore_errors=True)

    def entries(self) -> list[Cached]:
        """Every engine or verdict in the cache that can be trusted, newest first."""
        found = []
        listed: set[str] = set()
        paths = [*self.folder.glob("*.verdict"), *self.folder.glob("*.engine")]
        for path in sorted(paths, key=_modified, reverse=True):
            try:
                signature = _read_header(path)["signature"]
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if path.stem != key_of(signature) or path.stem in listed:
                continue
            listed.add(path.stem)
            engine = self._path(signature)
            files = [engine, *self._files(signature).glob("*")]
            size = sum(file.stat().st_size for file in files if file.is_file())
            found.append(Cached(engine, signature, size, self.verdict(signature)))
        return found

    def _prune(self, signature: Signature) -> None:
        with contextlib.suppress(OSError):  # a read-only home, or another process is at it too
            prune(self.folder, signature, key_of(signature), self.log)

    def _path(self, signature: Signature) -> Path:
        return self.folder / f"{key_of(signature)}.engine"

    def _verdict_path(self, signature: Signature) -> Path:
        return self.folder / f"{key_of(signature)}.verdict"

    def _files(self, signature: Signature) -> Path:
        return self.folder / f"{key_of(signature)}.files"

    def _payload_hash(self, signature: Signature) -> str:
        try:
            return str(_read_header(self._path(signature))["payload_sha256"])
        except (OSError, ValueError, KeyError):
            return ""  # engines that compile at every start have no file


def key_of(signature: Signature) -> str:
    """The hash that an engine is filed under."""
    text = json.dumps(dict(signature), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def _manifest(folder: Path) -> bytes:
    """Names and hashes of a folder's engines; other files in it, such as timings, may change."""
    return json.dumps({f.name: sha256_of(f) for f in sorted(folder.glob("*.engine"))}).encode()


def _read_own(path: Path) -> bytes:
    """Read a file that only this user can have written.

    Raises:
        OSError: it is absent, unreadable, or writable by others.
    """
    with path.open("rb") as file:
        _require_own(file)
        return file.read()


def _read_header(path: Path) -> dict[str, Any]:
    """What stands in a verdict, or before an engine, whose own bytes are not read.

    Raises:
        OSError: as `_read_own`.
        ValueError: it is damaged.
    """
    with path.open("rb") as file:
        _require_own(file)
        if path.suffix == ".engine" and file.readline() != _MAGIC:
            raise ValueError("it is not an engine file")
        return dict(json.loads(file.readline()))


def _require_own(file: BinaryIO) -> None:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
        raise PermissionError(f"it belongs to user {status.st_uid}, not to this one")
    if status.st_mode & 0o077:
        raise PermissionError(f"its mode is {stat.S_IMODE(status.st_mode):o}, expected 600")


def _unpack(data: bytes) -> tuple[dict[str, dict[str, str]], bytes]:
    if not data.startswith(_MAGIC):
        raise ValueError("it is not an engine file")
    line, separator, payload = data[len(_MAGIC) :].partition(b"\n")
    header = json.loads(line)
    if not separator or header.keys() != {"signature", "payload_sha256", "payload_bytes"}:
        raise ValueError("its header is damaged")
    if hashlib.sha256(payload).hexdigest() != header["payload_sha256"]:
        raise ValueError("its content is truncated or altered")
    return header, payload


def _modified(path: Path) -> float:
    return path.stat().st_mtime
