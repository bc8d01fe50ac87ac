"""Taking in a network that the user has: an ONNX file, or a checkpoint of a known architecture."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from depth_node.files import sha256_of
from depth_node.network.compose import PIXELS, RAW, Size, compose
from depth_node.network.errors import ModelError
from depth_node.network.export import load_module
from depth_node.network.graph import describe_interface, read_graph, write_metadata
from depth_node.network.hub import check_hash
from depth_node.network.registry import Entry, add_entry, load_registry
from depth_node.network.store import GIVEN, delete_graphs, graph_path, replace_graph

_OLDEST_OPSET = 13
"""From here on `Squeeze` and `Unsqueeze` take their axes as inputs, as front and end write them."""


def add_checkpoint(entry: Entry, path: Path, log: Callable[[str], None] = lambda _: None) -> Entry:
    """Register a checkpoint of the user's own, or one of the hub that was copied by hand.

    Graphs of its name that were made of anything else are deleted: nothing in them tells of which
    weights they are, and the node would go on with the old ones.

    Args:
        entry: the network, with the name, architecture and licence that the file is to have. If
            it has a hash, the file must be that very file.
        path: the checkpoint.
        log: takes one line for each graph that was deleted.

    Returns:
        The entry as it was registered: with the file's path and hash.

    Raises:
        ModelError: the file is damaged, another one, or of another architecture;
            or an old graph cannot be deleted.
    """
    if not path.is_file():
        raise ModelError(f"there is no checkpoint {path}")
    check_hash(path, entry.sha256)
    own = dataclasses.replace(
        entry, repository="", revision="", file=str(path.resolve()), sha256=sha256_of(path)
    )
    load_module(own, path)  # names the first tensor that does not fit
    if not _same_network(load_registry().get(own.name), own):
        for graph in delete_graphs(own.name):
            log(f"deleted {graph}: it was made of other weights; export {own.name} again")
    add_entry(own)
    return own


def _same_network(known: Entry | None, own: Entry) -> bool:
    """Whether a known network is the same but for the place of its file."""
    return known is not None and own == dataclasses.replace(
        known, repository=own.repository, revision=own.revision, file=own.file
    )


def add_graph(entry: Entry, path: Path, size: str = "") -> Path:
    """Take in an ONNX file, putting front and end around it where they are missing.

    Args:
        entry: the network; its kind, normalisation and patch multiple describe a plain network.
        path: an ONNX file: either with the node's own interface, or plain, from float32 1x3xhxw
            normalised pixels to 1xhxw or 1x1xhxw.
        size: the size to run a plain network of any size at; empty for one of a fixed size, or
            with the node's own interface.

    Returns:
        Where the graph is kept.

    Raises:
        ModelError: the file is no such network, or it does not run at that size.
    """
    import onnx

    try:
        model = read_graph(path).proto
    except ModelError as refusal:
        try:
            plain = onnx.load(path)
        except Exception:  # the message of read_graph says it better
            raise refusal from None
        core, fixed = _as_core(plain, path)
        chosen = Size.parse(size or fixed, entry.multiple)
        text = str(chosen)
        model = compose(core, entry, chosen, "fp32")
    else:
        if size:
            raise ModelError(
                f"{path} has the node's own interface, and its front decides its size; "
                f"it was to be added at {size}: leave --size away"
            )
        write_metadata(model, name=entry.name)
        text = GIVEN
    target = graph_path(entry.name, text, "fp32")
    replace_graph(target, model.SerializeToString())
    read_graph(target)
    return target


def _as_core(model: Any, path: Path) -> tuple[Any, str]:
    """Rename a plain network's input and output, and find the size that it is fixed to."""
    from onnx import TensorProto, compose, helper

    initialised = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in initialised]
    outputs = list(model.graph.output)
    opset = next((i.version for i in model.opset_import if i.domain in ("", "ai.onnx")), 0)
    shape = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim] if inputs else []
    plain = (
        len(inputs) == 1
        and len(outputs) >= 1
        and inputs[0].type.tensor_type.elem_type == TensorProto.FLOAT
        and len(shape) == 4
        and shape[1] in (0, 3)
        and outputs[0].type.tensor_type.elem_type == TensorProto.FLOAT
    )
    if not plain or opset < _OLDEST_OPSET:
        raise ModelError(
            f"{path} (opset {opset}) has {describe_interface(model)}; expected float32 "
            f"[1, 3, h, w] in and float32 [1, h, w] or [1, 1, h, w] out, opset {_OLDEST_OPSET} or "
            "more, or the node's own interface"
        )
    model = compose.add_prefix(model, "net/")
    model.graph.node.insert(0, helper.make_node("Identity", [PIXELS], [f"net/{inputs[0].name}"]))
    # 1xhxw and 1x1xhxw alike become 1xhxw: the last two sides stay, the others are folded.
    name = f"net/{outputs[0].name}"
    nodes = [
        helper.make_node("Shape", [name], ["net/whole_shape"]),
        helper.make_node("Slice", ["net/whole_shape", "net/back2", "net/end"], ["net/hw"]),
        helper.make_node("Concat", ["net/batch", "net/hw"], ["net/raw_shape"], axis=0),
        helper.make_node("Reshape", [name, "net/raw_shape"], [RAW]),
    ]
    model.graph.node.extend(nodes)
    for key, value in (("net/back2", -2), ("net/end", 1 << 30), ("net/batch", 1)):
        model.graph.initializer.append(helper.make_tensor(key, TensorProto.INT64, [1], [value]))
    del model.graph.input[:], model.graph.output[:]
    h, w = shape[2] or "h", shape[3] or "w"
    model.graph.input.append(helper.make_tensor_value_info(PIXELS, TensorProto.FLOAT, [1, 3, h, w]))
    model.graph.output.append(helper.make_tensor_value_info(RAW, TensorProto.FLOAT, [1, "y", "x"]))
    return model, f"{h}x{w}" if shape[2] and shape[3] else ""
