"""From a checkpoint to ONNX graphs."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

from depth_node.network.architecture import build_module, traceable
from depth_node.network.compose import OPSET, PIXELS, RAW, Size
from depth_node.network.errors import ModelError
from depth_node.network.front import LARGEST_SIDE
from depth_node.network.hub import fetch_config
from depth_node.network.registry import Entry
from depth_node.network.weights import load_weights, read_checkpoint

_TRACED_ASPECT = (3, 4)


def load_module(entry: Entry, weights: Path) -> Any:
    """Build a network and load its weights.

    Args:
        entry: the network.
        weights: its checkpoint, already checked against its hash.

    Returns:
        A `torch.nn.Module` in evaluation mode.

    Raises:
        ModelError: PyTorch is missing, or the checkpoint is damaged or of another architecture.
    """
    config = fetch_config(entry) if entry.family == "transformers" else None
    module = build_module(entry, config)
    load_weights(module, read_checkpoint(weights), weights)
    return module


def export_core(entry: Entry, module: Any, size: Size) -> Any:
    """Export a network, without front and end, to ONNX.

    Args:
        entry: the network.
        module: its PyTorch module.
        size: fixed, or the short side: the graph then takes any size.

    Returns:
        `onnx.ModelProto` from `pixels` (float32 1x3xhxw) to `raw` (float32 1xhxw).

    Raises:
        ModelError: the exporter cannot follow the network.
    """
    import onnx
    import torch

    multiple = entry.multiple
    dynamic = bool(size.short)
    if dynamic and entry.family != "depth_anything":
        raise ModelError(
            f"{entry.name} can only be exported at a fixed size; give --size {entry.default_size}"
        )
    height, width = size.of(*_TRACED_ASPECT, multiple) if dynamic else (size.height, size.width)
    shapes = None
    if dynamic:
        most = LARGEST_SIDE // multiple
        rows, columns = (torch.export.Dim(name, min=2, max=most) for name in ("rows", "columns"))
        shapes = {PIXELS: {2: multiple * rows, 3: multiple * columns}}
    wrapped = traceable(entry, module)
    example = torch.zeros(1, 3, height, width)
    loud = logging.getLogger("torch.onnx")
    level = loud.level
    loud.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            torch.no_grad(),
            tempfile.TemporaryDirectory() as folder,  # beyond 2 GiB it writes files beside it
        ):
            warnings.simplefilter("ignore")  # its remarks on its own internals
            path = Path(folder) / "core.onnx"
            if entry.family == "depth_anything":
                program = torch.onnx.export(
                    wrapped, (example,), input_names=[PIXELS], output_names=[RAW],
                    opset_version=OPSET, dynamo=True, dynamic_shapes=shapes, verbose=False,
                )  # fmt: skip
                program.save(path, external_data=False)
            else:  # torch.export cannot follow BEiT's and the hybrid's backbones; tracing can
                torch.onnx.export(
                    wrapped, (example,), str(path), input_names=[PIXELS], output_names=[RAW],
                    opset_version=OPSET, dynamo=False,
                )  # fmt: skip
            return onnx.load(path)
    except Exception as error:  # torch.export raises many classes of its own
        raise ModelError(f"{entry.name} cannot be exported at {size}: {error}") from error
    finally:
        loud.setLevel(level)
