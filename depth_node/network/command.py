"""The command `depth-node models`: the registry of networks, and what is here of it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

from depth_node.network.errors import ModelError
from depth_node.network.hub import fetch_weights, local_weights
from depth_node.network.registry import Entry, add_entry, find_entry, load_registry
from depth_node.network.resolve import DEFAULT_SIZE, STUDENT, find_graph, precisions_of
from depth_node.network.store import exported_sizes, graph_path
from depth_node.resources import model_path

_FRAMES = 64
_PRECISIONS = ("fp32", "fp16", "int8")
_TAKEN = ("auto", STUDENT, "variants")
"""Names that `model.name` gives another meaning, or the cache another content."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments on `parser`."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    def action(name: str, run: Any, summary: str) -> argparse.ArgumentParser:
        sub = actions.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        sub.add_argument("--json", action="store_true", help="print JSON")
        sub.set_defaults(action=run)
        return sub

    action("list", _list, "list the networks of the registry and what is here of each")
    info = action("info", _info, "show all that is known of one network")
    info.add_argument("name", help="a network of the registry")

    fetch = action("fetch", _fetch, "download a network's weights and check them")
    fetch.add_argument("name", help="a network of the registry")
    _licence(fetch)

    export = action("export", _export, "write a network's graphs, fetching its weights if needed")
    export.add_argument("name", help="a network of the registry")
    export.add_argument(
        "--size",
        default="",
        help="short side with the aspect kept, as 252, or height x width, as 252x336 "
        f"(default {DEFAULT_SIZE}, or what the network was trained at where it takes no other)",
    )
    export.add_argument(
        "--precision",
        action="append",
        choices=_PRECISIONS,
        help="repeat for several; fp32 is always written",
    )
    export.add_argument(
        "--calibrate",
        metavar="FOLDER|VIDEO|BAG|TOPIC|world",
        help="images to calibrate int8 and to judge precisions on; BAG is a rosbag2 folder or file "
        "(BAG:/TOPIC where it has several cameras), TOPIC an image topic that is published now",
    )
    _licence(export)

    add = action("add", _add, "take in an ONNX file or a checkpoint")
    add.add_argument("name", help="the name that model.name is to take")
    add.add_argument("file", type=Path, help=".onnx, .safetensors or .pth")
    add.add_argument(
        "--like",
        default="depth-anything-v2-small",
        help="the entry whose architecture, normalisation, kind and hash it has "
        "(default %(default)s; the hash only counts when it is the same name)",
    )
    add.add_argument("--size", default="", help="as for export; only for a plain ONNX file")


def run(arguments: argparse.Namespace) -> int:
    """Do what the action says and return the exit code.

    Raises:
        ModelError: it cannot be done.
    """
    return int(arguments.action(arguments))


def _licence(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--accept-license",
        action="store_true",
        help="accept a licence that forbids commercial use",
    )


def _list(arguments: argparse.Namespace) -> int:
    rows = [_row(entry) for entry in load_registry().values()]
    rows.append({"name": STUDENT, "kind": "relative", "licence": "Apache-2.0", "here": "shipped"})
    if arguments.json:
        print(json.dumps(rows))
        return 0
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        print(f"{row['name']:{width}}  {row['kind']:8}  {row['here']:28}  {row['licence']}")
    return 0


def _row(entry: Entry) -> dict[str, str]:
    sizes = exported_sizes(entry.name)
    if sizes:
        here = f"exported at {', '.join(sizes)}"
    else:
        here = "fetched" if local_weights(entry) else "-"
    return {"name": entry.name, "kind": entry.kind, "licence": entry.licence, "here": here}


def _info(arguments: argparse.Namespace) -> int:
    if arguments.name == STUDENT:
        raise ModelError(f"the {STUDENT} is shipped, not in the registry; see models/student.md")
    entry = find_entry(arguments.name)
    weights = local_weights(entry)
    values: dict[str, Any] = {
        **dataclasses.asdict(entry),
        "weights": str(weights) if weights else None,
        "graphs": {
            size: {p: str(path) for p, path in _graphs(entry.name, size).items()}
            for size in exported_sizes(entry.name)
        },
    }
    if arguments.json:
        print(json.dumps(values))
        return 0
    for key, value in values.items():
        print(f"{key:12}  {value}")
    return 0


def _graphs(name: str, size: str) -> dict[str, Path]:
    return precisions_of(graph_path(name, size, "fp32"))


def _fetch(arguments: argparse.Namespace) -> int:
    entry = find_entry(arguments.name)
    print(f"{entry.name}: {entry.licence}", file=sys.stderr)
    path = fetch_weights(entry, accept_licence=arguments.accept_license)
    result = {"name": entry.name, "licence": entry.licence, "path": str(path)}
    print(json.dumps(result) if arguments.json else f"{entry.name} is at {path}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from depth_node.engines.selftest import golden_frames
    from depth_node.network.build import export_graphs, export_variants
    from depth_node.network.compose import Size
    from depth_node.network.frames import read_frames

    precisions = arguments.precision or ["fp32"]
    if "int8" in precisions and not arguments.calibrate:
        raise ModelError(
            "int8 needs images to calibrate on; give --calibrate FOLDER, TOPIC, BAG or world"
        )
    only_graph = _only_graph(arguments.name, arguments.size)
    frames = (
        read_frames(arguments.calibrate, _FRAMES) if arguments.calibrate else list(golden_frames())
    )
    if only_graph is not None:
        written = export_variants(only_graph, precisions, frames, _say)
    else:
        entry = find_entry(arguments.name)
        size = Size.parse(arguments.size or entry.default_size or DEFAULT_SIZE, entry.multiple)
        _say(f"{entry.name}: {entry.licence}")
        weights = fetch_weights(entry, accept_licence=arguments.accept_license)
        written = export_graphs(entry, weights, size, precisions, frames, _say)
    if arguments.json:
        print(
            json.dumps(
                [
                    {
                        "precision": g.precision,
                        "path": str(g.path),
                        "relative_l2_from_fp32": g.error,
                        "images": g.images,
                        "judged_on": arguments.calibrate or "golden frames",
                    }
                    for g in written
                ]
            )
        )
        return 0
    for graph in written:
        against = (
            ""
            if graph.precision == "fp32"
            else (f", differs from fp32 by {graph.error:.2%} over {graph.images} images")
        )
        print(f"{graph.precision}: {graph.path}{against}")
    return 0


def _only_graph(name: str, size: str) -> Path | None:
    """The fp32 graph of a network that has no checkpoint: the student, or one that was added."""
    if name == STUDENT:
        if size:
            raise ModelError(f"the {STUDENT} is shipped as a finished graph; leave --size away")
        return model_path(f"{STUDENT}.onnx")
    entry = find_entry(name)
    return find_graph(entry, size or "auto") if entry.only_graph else None


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _add(arguments: argparse.Namespace) -> int:
    from depth_node.network.adopt import add_checkpoint

    _require_name(arguments.name)
    like = find_entry(arguments.like)
    same = arguments.name == arguments.like
    licence = like.licence if same else "of its owner"
    sha256 = like.sha256 if same else ""
    entry = dataclasses.replace(like, name=arguments.name, licence=licence, sha256=sha256)
    if arguments.file.suffix == ".onnx":
        path = _add_graph(entry, arguments.file, arguments.size)
    else:
        path = Path(add_checkpoint(entry, arguments.file, _say).file)
    result = {"name": arguments.name, "path": str(path)}
    print(json.dumps(result) if arguments.json else f"added {arguments.name}: {path}")
    return 0


def _require_name(name: str) -> None:
    """Refuse a name that `model.name` could not select, or that leads out of its folder."""
    plain = re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]*", name)
    if not plain or name.endswith(".onnx") or name in _TAKEN:
        raise ModelError(
            f"a network cannot be named {name!r}; take letters, digits, '.', '_' and '-', not "
            f"ending in .onnx, and none of {', '.join(_TAKEN)}"
        )


def _add_graph(entry: Entry, file: Path, size: str) -> Path:
    """Take in an ONNX file, and register it unless its name is that of a checkpoint."""
    from depth_node.network.adopt import add_graph

    path = add_graph(entry, file, size)
    known = load_registry().get(entry.name)
    own = dataclasses.replace(entry, repository="", revision="", file=str(file.resolve()))
    if known is None or known.only_graph:
        add_entry(own)
    taken = find_graph(own, "auto")
    if taken != path:
        _say(f"model.size: auto takes {taken}; for this one set model.size: {path.stem}")
    return path
