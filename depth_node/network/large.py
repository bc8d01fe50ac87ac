"""Networks beyond the 2 GiB that protobuf allows an ONNX file."""

from __future__ import annotations

from typing import Any

import numpy as np

from depth_node.network.errors import ModelError

LARGEST_BYTES = 2_000_000_000
"""Protobuf ends at 2 GiB; the rest is for front, end and quantisers."""
_SMALLEST_WEIGHT = 1024
"""Elements; biases and constants are not worth a node each."""


def storable(model: Any) -> Any:
    """Make a network fit into one file without changing what it computes.

    Weights that were published in fp16 lose nothing when they are stored in it again: each gets a
    cast to fp32 behind it, which the engines fold away when they load the graph.

    Args:
        model: fp32 `onnx.ModelProto`; it is changed where it is too large.

    Returns:
        The same model.

    Raises:
        ModelError: it is too large, and its weights use more than fp16 holds.
    """
    from onnx import TensorProto, helper, numpy_helper

    size = _weights_bytes(model)
    if size <= LARGEST_BYTES:
        return model
    too_large = (
        f"the network's weights are {size / 1e9:.1f} GB, an ONNX file holds "
        f"{LARGEST_BYTES / 1e9:.1f} GB"
    )
    casts = []
    for item in model.graph.initializer:
        if item.data_type != TensorProto.FLOAT or _bytes(item) < 4 * _SMALLEST_WEIGHT:
            continue
        values = numpy_helper.to_array(item)
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if not np.array_equal(halves.astype(np.float32), values):
            raise ModelError(f"{too_large}, and {item.name} does not fit into fp16")
        name = item.name
        item.CopyFrom(numpy_helper.from_array(halves, f"{name}/half"))
        casts.append(helper.make_node("Cast", [item.name], [name], f"{name}/cast", to=1))
    if _weights_bytes(model) > LARGEST_BYTES:
        raise ModelError(f"{too_large}, and fp16 is not small enough")
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _weights_bytes(model: Any) -> int:
    return sum(_bytes(item) for item in model.graph.initializer)


def _bytes(item: Any) -> int:
    from onnx import helper

    return int(np.prod(item.dims)) * helper.tensor_dtype_to_np_dtype(item.data_type).itemsize
