"""The registry of networks: what each is, where its weights are and under which licence."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from depth_node.network.errors import ModelError
from depth_node.network.store import user_registry, write_atomically
from depth_node.resources import model_path

_FAMILIES = ("depth_anything", "transformers")
_RESEARCH_ONLY = ("apple-amlr",)
"""Licences without the two letters NC that forbid commercial use all the same."""


@dataclass(frozen=True)
class Entry:
    """One network of the registry.

    Attributes:
        name: the name that `model.name` takes.
        licence: the weights' licence, as their model card states it.
        kind: `relative` or `metric`.
        output: what the network gives: `disparity` (1/m for a metric network) or `depth`
            (metres).
        family: `depth_anything`, built from `variant`, or `transformers`, built from the
            repository's config.json.
        variant: generation and size within the family, such as `v2-small`.
        repository: hub repository, empty for a checkpoint of the user's own.
        revision: commit (or branch) of the repository.
        file: file in the repository, or the path of the user's own checkpoint.
        sha256: hash of the file in hexadecimal, or empty when none is known.
        max_depth_m: metres that a metric network's output ends at, 0 where it does not end.
        input_size: short side that the network was trained at, pixels.
        input_width: width that it was trained at, pixels, or 0 where that is `input_size` too.
        multiple: what the network's sides are multiples of, pixels.
        mean: RGB mean of the normalisation, of values in 0..1.
        std: RGB standard deviation of the normalisation.
        interpolation: how its reference resizes images, `cubic` or `linear`.
        padded: whether its reference reflects the image's border, resizes the whole with aligned
            corners and crops the depth, as that of ZoeDepth does.
    """

    name: str
    licence: str
    kind: str
    output: str
    file: str
    family: str = "depth_anything"
    variant: str = ""
    repository: str = ""
    revision: str = ""
    sha256: str = ""
    max_depth_m: float = 0.0
    input_size: int = 518
    input_width: int = 0
    multiple: int = 14
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "cubic"
    padded: bool = False

    @property
    def default_size(self) -> str:
        """The size of a network that runs at one only, as height x width; else empty."""
        fixed = self.family == "transformers"
        return f"{self.input_size}x{self.input_width or self.input_size}" if fixed else ""

    @property
    def only_graph(self) -> bool:
        """Whether it was added as an ONNX file, so that there is no checkpoint to export."""
        return self.file.endswith(".onnx")

    @property
    def non_commercial(self) -> bool:
        """Whether the licence, or the one it descends from, forbids commercial use."""
        return "-NC" in self.licence.upper() or self.licence in _RESEARCH_ONLY


def load_registry() -> dict[str, Entry]:
    """Every network by name: the shipped ones, then the user's own, which may replace them.

    Raises:
        ModelError: a registry file is missing or malformed.
        ResourceError: the shipped registry is missing.
    """
    entries = _read(model_path("registry.yaml"))
    own = user_registry()
    return {**entries, **(_read(own) if own.is_file() else {})}


def find_entry(name: str) -> Entry:
    """The network of this name.

    Raises:
        ModelError: there is none.
    """
    entries = load_registry()
    if name not in entries:
        raise ModelError(
            f"there is no network {name!r} in the registry; it has {', '.join(sorted(entries))}"
        )
    return entries[name]


def add_entry(entry: Entry) -> None:
    """Write a network into the user's registry, replacing one of the same name.

    Raises:
        ModelError: the registry cannot be read or written.
    """
    path = user_registry()
    entries = {**(_read(path) if path.is_file() else {}), entry.name: entry}
    text = yaml.safe_dump({"networks": {name: _plain(item) for name, item in entries.items()}})
    write_atomically(path, text.encode())


def _plain(entry: Entry) -> dict[str, Any]:
    values = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in dataclasses.asdict(entry).items()
    }
    del values["name"]
    return values


def _read(path: Path) -> dict[str, Entry]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        defaults = content.get("defaults", {})
        networks = content["networks"].items()
        return {name: _entry(name, {**defaults, **values}) for name, values in networks}
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise ModelError(f"the registry {path} cannot be read: {error}") from error


def _entry(name: str, values: dict[str, Any]) -> Entry:
    for key in ("mean", "std"):
        if key in values:
            values[key] = tuple(float(v) for v in values[key])
    values["sha256"] = values.get("sha256") or ""
    entry = Entry(name=name, **values)
    if entry.family not in _FAMILIES or entry.kind not in ("relative", "metric"):
        raise TypeError(f"{name}: family {entry.family!r} or kind {entry.kind!r} is unknown")
    if entry.output not in ("disparity", "depth") or (
        entry.output == "depth" and entry.kind != "metric"
    ):
        raise TypeError(f"{name}: a {entry.kind} network cannot give {entry.output!r}")
    if entry.interpolation not in ("cubic", "linear"):
        raise TypeError(f"{name}: interpolation {entry.interpolation!r} is unknown")
    return entry
