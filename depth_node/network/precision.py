"""Changing a network's precision: a property of the graph, not of the engine."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_node.imports import pip_install
from depth_node.network.compose import PIXELS
from depth_node.network.errors import ModelError
from depth_node.network.front import front_nodes
from depth_node.network.graph import INPUT, Graph, write_metadata
from depth_node.types import ImageU8

FP32_OPS = ("LayerNormalization", "Softmax", "ReduceMean", "Pow")
"""What stays in fp32 in an fp16 graph: sums of squares and exponentials leave fp16's range of
65,504 long before the activations themselves do."""

_FIRST, _LAST = 3, 8


def to_fp16(core: Any, front: Sequence[str] = ()) -> Any:
    """Convert a network to fp16 with explicit casts around what stays in fp32.

    The result is strongly typed: TensorRT 10 and 11 compute it exactly as it is written. Input
    and output stay float32.

    Args:
        core: fp32 `onnx.ModelProto`; it is not changed.
        front: names of nodes that stay as they are.

    Raises:
        ModelError: the converter is missing.
    """
    import onnx

    try:
        from onnxruntime.transformers.float16 import (
            DEFAULT_OP_BLOCK_LIST,
            convert_float_to_float16,
        )
        from onnxruntime.transformers.onnx_model import OnnxModel
    except ImportError as error:
        raise ModelError(f"converting to fp16 needs {error.name}; {pip_install('cpu')}") from error
    copy = onnx.ModelProto()
    copy.CopyFrom(core)
    _unshare_initializers(copy.graph)
    for number, node in enumerate(copy.graph.node):  # ONNX Runtime 1.23 names its casts by them
        node.name = node.name or f"unnamed_{number}_{node.op_type}"
    converted = convert_float_to_float16(
        copy,
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *FP32_OPS],
        node_block_list=list(front),
    )
    OnnxModel.graph_topological_sort(converted.graph)  # its casts are appended at the end
    return converted


def to_int8(
    core: Any, inputs: Sequence[NDArray[Any]], name: str = PIXELS, front: Sequence[str] = ()
) -> Any:
    """Quantise a network to int8 with Q/DQ nodes, by NNCF.

    Args:
        core: fp32 `onnx.ModelProto`; it is not changed.
        inputs: what it will see, a few dozen or more.
        name: the input that takes them.
        front: names of nodes that stay as they are.

    Raises:
        ModelError: NNCF is missing, there are no frames, or it cannot quantise the network.
    """
    if not inputs:
        raise ModelError(
            "int8 needs frames to calibrate on; name a folder of images with --calibrate"
        )
    try:
        import nncf
    except ImportError as error:
        raise ModelError(f"int8 needs nncf; {pip_install('export')}") from error
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(core)
    logging.getLogger("nncf").setLevel(logging.ERROR)
    dataset = nncf.Dataset([{name: np.ascontiguousarray(item)} for item in inputs])
    try:
        with contextlib.redirect_stdout(sys.stderr):  # its progress bars; stdout may be JSON
            return nncf.quantize(
                copy,
                dataset,
                model_type=nncf.ModelType.TRANSFORMER,
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(inputs),
                ignored_scope=nncf.IgnoredScope(names=[*front, *_ends(copy)]),
            )
    except Exception as error:  # NNCF and ONNX Runtime below it raise many classes
        raise ModelError(f"the network cannot be quantised: {error}") from error


def require_symmetric(graph: Graph) -> None:
    """Refuse an int8 graph that TensorRT does not take.

    NVIDIA's documentation, "Working with Quantized Types": quantisation is symmetric and int8. Its
    ONNX parser asserts that all zero points are 0.

    Raises:
        ModelError: the graph has others.
    """
    from onnx import TensorProto, numpy_helper

    constants = {item.name: item for item in graph.proto.graph.initializer}
    for node in graph.proto.graph.node:
        if node.op_type == "Constant":
            constants.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
    for node in graph.proto.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.input) < 3:
            continue
        zero_point = constants.get(node.input[2])
        if (
            zero_point is None
            or zero_point.data_type == TensorProto.UINT8
            or numpy_helper.to_array(zero_point).any()
        ):
            raise ModelError(
                f"{graph.path} is quantised with zero points, as depth-node models export does it "
                "for CPUs; TensorRT takes symmetric int8 only. Take fp16"
            )


def _ends(model: Any) -> list[str]:
    """The names of the convolutions that stay in fp32.

    The one that reads the pixels costs next to nothing and is the most sensitive. A purely
    convolutional network also loses at both of its fine ends: with the first three and the last
    eight in fp32, the shipped student loses 1.5% of AbsRel at most, else 5% (docs/engines.md).
    Where that would be more than a third of a network, the first is all.
    """
    nodes = list(model.graph.node)
    names = [node.name for node in nodes if node.op_type == "Conv" and node.name]
    attends = any(node.op_type in ("MatMul", "Gemm") for node in nodes)
    if attends or len(names) < 3 * (_FIRST + _LAST):
        return names[:1]
    return names[:_FIRST] + names[-_LAST:]


def variant_of(graph: Graph, precision: str, frames: Sequence[ImageU8]) -> Any:
    """Convert a whole graph, front included; the front stays in fp32.

    Args:
        graph: an fp32 graph that keeps the node's contract.
        precision: `fp16` or `int8`.
        frames: HxWx3 uint8 RGB images to calibrate int8 on.

    Returns:
        An `onnx.ModelProto` that keeps the contract.

    Raises:
        ModelError: the front is not understood, or the conversion fails.
    """
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(graph.proto)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    front = front_nodes(model)
    if not front:
        raise ModelError(f"{graph.path} has a front that is not understood; it has to stay fp32")
    if precision == "fp16":
        converted = to_fp16(model, front)
    else:
        converted = to_int8(model, frames, INPUT, front)
    write_metadata(converted, name=graph.name, kind=graph.kind, precision=precision)
    return converted


def _unshare_initializers(graph: Any) -> None:
    """Give each fp32 node initializers of its own; the converter names its casts after them."""
    initializers = {item.name: item for item in graph.initializer}
    used: set[str] = set()
    for node in graph.node:
        if node.op_type not in FP32_OPS:
            continue
        for position, name in enumerate(node.input):
            if name in initializers and name in used:
                own = graph.initializer.add()
                own.CopyFrom(initializers[name])
                own.name = f"{name}/{node.output[0]}"
                node.input[position] = own.name
            used.add(name)
