"""Where fetched and exported networks are kept, under `files.cache_directory`."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from depth_node.files import cache_directory, sha256_of
from depth_node.network.errors import ModelError

GIVEN = "given"
"""What stands for the size of an ONNX file that was added with a front of its own."""


def user_registry() -> Path:
    """The yaml file of the networks that the user has added."""
    return cache_directory() / "registry.yaml"


def graph_path(name: str, size: str, precision: str) -> Path:
    """Where the exported graph of a network lies, for a size such as `252` or `252x336`."""
    suffix = "" if precision == "fp32" else f".{precision}"
    return cache_directory() / "models" / name / f"{size}{suffix}.onnx"


def variant_path(fp32_sha256: str, precision: str) -> Path:
    """Where a variant lies that was made here of exactly the fp32 graph of this hash."""
    return cache_directory() / "models" / "variants" / f"{fp32_sha256[:40]}.{precision}.onnx"


def replace_graph(fp32: Path, content: bytes) -> list[Path]:
    """Write an fp32 graph, and delete the variants beside it if they were made of another one.

    Returns:
        What was deleted.

    Raises:
        ModelError: it cannot be written.
    """
    same = fp32.is_file() and sha256_of(fp32) == hashlib.sha256(content).hexdigest()
    write_atomically(fp32, content)
    stale = [] if same else sorted(fp32.parent.glob(f"{fp32.stem}.*.onnx"))
    for variant in stale:
        variant.unlink(missing_ok=True)
    return stale


def delete_graphs(name: str) -> list[Path]:
    """Delete all graphs of a network, and return those that there were.

    Raises:
        ModelError: one cannot be deleted.
    """
    graphs = sorted((cache_directory() / "models" / name).glob("*.onnx"))
    try:
        for graph in graphs:
            graph.unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(f"cannot delete an old graph of {name}: {error}; delete it") from error
    return graphs


def exported_sizes(name: str) -> list[str]:
    """The sizes that a network has been exported at, as `graph_path` names them."""
    folder = cache_directory() / "models" / name
    return sorted(p.stem for p in folder.glob("*.onnx") if "." not in p.stem)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file, mode 0600, so that other processes see all of it or nothing.

    Raises:
        ModelError: it cannot be written, for instance because the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ModelError(
            f"cannot write {path}: {error.strerror or error}; free some space, or name another "
            "folder in DEPTH_NODE_CACHE"
        ) from error
