"""From the parameter `model.name` to the files of a network."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from depth_node.files import sha256_of
from depth_node.network.errors import ModelError
from depth_node.network.registry import Entry, find_entry
from depth_node.network.store import GIVEN, exported_sizes, graph_path, variant_path
from depth_node.parameters import ModelSettings
from depth_node.resources import model_path

STUDENT = "student"
AUTO = "depth-anything-v2-small"
"""The network that `model.name: auto` wants; the student is what it falls back to."""
DEFAULT_SIZE = "252"
"""Short side that networks are exported at unless another is asked for, pixels."""


@dataclass(frozen=True)
class ModelFiles:
    """The graphs of one network.

    Attributes:
        name: the network's name.
        graphs: ONNX files by precision; `fp32` is always there and is what others are held to.
        size: what they were exported at; empty where nothing can be chosen, None for a file that
            is no network of the registry.
    """

    name: str
    graphs: dict[str, Path]
    size: str | None = ""

    def how_to_make(self, precision: str) -> str:
        """What to do so that there is a graph of another precision."""
        if self.size is None:
            file = self.graphs["fp32"]
            add = shlex.join(["depth-node", "models", "add", "NAME", str(file)])
            export = f"depth-node models export NAME --precision {precision}"
            beside = file.with_name(f"{file.stem}.{precision}.onnx")
            return f"put it at {beside}, or run {add}, then {export}, and set model.name to NAME"
        size = ["--size", self.size] if self.size else []
        command = ["depth-node", "models", "export", self.name, *size, "--precision", precision]
        if precision == "int8":
            command += ["--calibrate", "FOLDER_OF_IMAGES"]
        return f"make one with: {shlex.join(command)}"


def resolve_model(settings: ModelSettings, log: Callable[[str], None]) -> ModelFiles:
    """Find the files of a network.

    Args:
        settings: its name is `auto`, a name from the registry, or the path of an ONNX file.
        log: takes one line that says what `auto` took and why.

    Raises:
        ModelError: there is no such network, or its files are not here.
        ResourceError: the package's own files are not where they should be.
    """
    name = settings.name
    if name.endswith(".onnx") or "/" in name:
        path = Path(name).expanduser()
        if not path.is_file():
            raise ModelError(f"model.name is {name!r}, but there is no such file")
        return ModelFiles(path.stem, precisions_of(path), size=None)
    if name == "auto":
        exported = _exported(AUTO, settings.size)
        if exported is None and settings.fetch_s > 0.0:
            log(f"model auto: fetching {AUTO}, for at most {settings.fetch_s:g} s")
            why = _fetch(settings)
            exported = _exported(AUTO, settings.size)
        else:
            why = f"it {_not_exported(AUTO, settings.size)}"
        if exported is not None:
            log(f"model auto: {AUTO}, exported at {exported.stem}")
            return _files_of(AUTO, exported)
        log(f"model auto: the shipped {STUDENT}, not {AUTO}: {why}")
        name = STUDENT
    if name == STUDENT:
        return ModelFiles(STUDENT, precisions_of(model_path(f"{STUDENT}.onnx")))
    return _files_of(name, find_graph(find_entry(name), settings.size))


def _files_of(name: str, graph: Path) -> ModelFiles:
    size = "" if graph.stem == GIVEN else graph.stem
    return ModelFiles(name, precisions_of(graph), size)


def find_graph(entry: Entry, wanted: str) -> Path:
    """The fp32 graph of a network of the registry.

    Args:
        entry: the network.
        wanted: its size, as the parameter `model.size` names it.

    Raises:
        ModelError: it is not here at that size; the message has the command that brings it.
    """
    graph = _exported(entry.name, wanted)
    if graph is None:
        why = _not_added(entry, wanted) if entry.only_graph else _not_exported(entry.name, wanted)
        raise ModelError(f"the network {entry.name} {why}")
    return graph


def _exported(name: str, wanted: str) -> Path | None:
    sizes = exported_sizes(name)
    if wanted == "auto" and sizes:
        wanted = DEFAULT_SIZE if DEFAULT_SIZE in sizes else sizes[0]
    return graph_path(name, wanted, "fp32") if wanted in sizes else None


def _not_exported(name: str, wanted: str) -> str:
    """What is missing, and the command that makes it."""
    command = shlex.join(["depth-node", "models", "export", name, *_size_option(wanted)])
    return f"has not been exported here{_at(name, wanted)}; run: {command}"


def _not_added(entry: Entry, wanted: str) -> str:
    """What is missing of a network that is only an ONNX file, and how it comes back."""
    what = f"is known as an ONNX file only, and it is not here{_at(entry.name, wanted)}"
    if GIVEN in exported_sizes(entry.name):
        return f"{what}; its own front decides its size: give none"
    size = [] if wanted == GIVEN else _size_option(wanted)
    command = shlex.join(["depth-node", "models", "add", entry.name, entry.file, *size])
    return f"{what}; run: {command}"


def _at(name: str, wanted: str) -> str:
    sizes = exported_sizes(name)
    return f" at {wanted} (only at {', '.join(sizes)})" if sizes else ""


def _size_option(wanted: str) -> list[str]:
    return [] if wanted == "auto" else ["--size", wanted]


def _fetch(settings: ModelSettings) -> str:
    """Fetch and export what `auto` wants, in a process that can be ended; say why it failed."""
    seconds = settings.fetch_s
    command = [sys.executable, "-m", "depth_node.cli", "models", "export", AUTO]
    command += _size_option(settings.size)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return f"it could not be fetched and exported within {seconds:g} s"
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"its export ended with code {done.returncode}"


def precisions_of(path: Path) -> dict[str, Path]:
    """A network's graphs by precision.

    Variants lie beside the fp32 graph, as `NAME.fp16.onnx`, or in the cache, if they were made
    here of exactly this fp32 graph.
    """
    graphs = {"fp32": path}
    sha256 = sha256_of(path)
    for precision in ("fp16", "int8"):
        beside = path.with_name(f"{path.stem}.{precision}.onnx")
        made_here = variant_path(sha256, precision)
        for variant in (beside, made_here):
            if variant.is_file():
                graphs.setdefault(precision, variant)
    return graphs
