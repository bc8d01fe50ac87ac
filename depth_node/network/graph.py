"""The contract of a network's ONNX graph: camera bytes in, disparity out.

Input `image`: uint8 HxWx3, RGB, any H and W. Output `disparity`: float32 hxw, larger is nearer.
Everything else that the node knows of a graph stands in its metadata: `name`, `kind` (`relative`
or `metric`, the latter in 1/m) and `precision` (`fp32`, `fp16` or `int8`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from depth_node.imports import pip_install
from depth_node.network.errors import ModelError

INPUT = "image"
OUTPUT = "disparity"
_KINDS = ("relative", "metric")
_PRECISIONS = ("fp32", "fp16", "int8")
_CONTRACT = f"`{INPUT}` uint8 [H, W, 3] in, `{OUTPUT}` float32 [h, w] out"


@dataclass(frozen=True, eq=False)
class Graph:
    """A network's ONNX file, read and checked against the contract.

    Attributes:
        path: the file.
        name: the network's name in the registry, or the file's stem.
        kind: what the disparity means, as in `depth_node.types.Disparity`.
        precision: `fp32`, `fp16` or `int8`, a property of the graph.
        sha256: hash in hexadecimal of the file, or of what it is together with its weights where
            they lie in files of their own.
        size_bytes: size of what is hashed.
        proto: the parsed `onnx.ModelProto`.
    """

    path: Path
    name: str
    kind: Literal["relative", "metric"]
    precision: str
    sha256: str
    size_bytes: int
    proto: Any


def read_graph(path: Path) -> Graph:
    """Read an ONNX file and check that it is a network that this node can run.

    Raises:
        ModelError: the file is missing, not ONNX, of an opset too new, or of another interface.
    """
    try:
        import onnx
    except ImportError as error:
        raise ModelError(f"reading a network needs onnx; {pip_install('cpu')}") from error
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read the network {path}: {error.strerror or error}") from error
    try:
        proto = onnx.load_model_from_string(data)
        if proto.graph.node and _has_external_data(proto):
            onnx.load_external_data_for_model(proto, str(path.parent))
            data = proto.SerializeToString()  # what runs: with other weights it is another network
    except Exception as error:  # protobuf raises its own classes, which differ by version
        raise ModelError(f"{path} is not an ONNX file, or it is damaged ({error})") from error
    if not proto.graph.node:
        raise ModelError(f"{path} is not an ONNX file: it holds no graph")
    _check_opset(path, proto)
    _check_interface(path, proto)
    metadata = {item.key: item.value for item in proto.metadata_props}
    kind = metadata.get("kind", "relative")
    precision = metadata.get("precision", "fp32")
    if kind not in _KINDS or precision not in _PRECISIONS:
        raise ModelError(
            f"{path} says kind={kind!r}, precision={precision!r} in its metadata; "
            f"the node knows kinds {_KINDS} and precisions {_PRECISIONS}"
        )
    return Graph(
        path=path,
        name=metadata.get("name") or path.stem,
        kind="metric" if kind == "metric" else "relative",
        precision=precision,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        proto=proto,
    )


def describe_interface(proto: Any) -> str:
    """A graph's inputs and outputs in words, such as `pixels float32 [1, 3, h, w]`."""
    initialised = {item.name for item in proto.graph.initializer}
    inputs = [_describe(item) for item in proto.graph.input if item.name not in initialised]
    outputs = [_describe(item) for item in proto.graph.output]
    return f"{', '.join(inputs) or 'nothing'} in, {', '.join(outputs) or 'nothing'} out"


def write_metadata(proto: Any, **values: str) -> None:
    """Set entries of a model's metadata, leaving the others."""
    kept = {item.key: item.value for item in proto.metadata_props}
    del proto.metadata_props[:]
    for key, value in {**kept, **values}.items():
        proto.metadata_props.add(key=key, value=value)


def _check_opset(path: Path, proto: Any) -> None:
    from onnx import defs

    newest = defs.onnx_opset_version()
    for item in proto.opset_import:
        if item.domain in ("", "ai.onnx") and item.version > newest:
            raise ModelError(
                f"{path} uses opset {item.version}; the onnx package here knows up to {newest}. "
                "Export the network again with an older opset (20 suits every engine)"
            )


def _check_interface(path: Path, proto: Any) -> None:
    from onnx import TensorProto

    initialised = {item.name for item in proto.graph.initializer}
    inputs = [item for item in proto.graph.input if item.name not in initialised]
    outputs = list(proto.graph.output)
    matches = (
        len(inputs) == 1
        and len(outputs) == 1
        and inputs[0].name == INPUT
        and outputs[0].name == OUTPUT
        and inputs[0].type.tensor_type.elem_type == TensorProto.UINT8
        and outputs[0].type.tensor_type.elem_type == TensorProto.FLOAT
        and _dims(inputs[0])[2:] == [3]
        and len(_dims(outputs[0])) == 2
    )
    if not matches:
        raise ModelError(
            f"{path} takes and gives other tensors than the node's: it has "
            f"{describe_interface(proto)}; expected {_CONTRACT}. "
            "`depth-node models add NAME FILE` puts the missing front before a plain network"
        )


def _dims(value: Any) -> list[int | str]:
    shape = value.type.tensor_type.shape
    return [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in shape.dim]


def _describe(value: Any) -> str:
    from onnx import helper

    element = value.type.tensor_type.elem_type
    kind = str(helper.tensor_dtype_to_np_dtype(element)) if element else "unknown"
    return f"`{value.name}` {kind} [{', '.join(map(str, _dims(value)))}]"


def _has_external_data(proto: Any) -> bool:
    return any(item.external_data for item in proto.graph.initializer)
