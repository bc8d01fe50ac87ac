"""Small networks for tests, as ONNX files that keep the contract of `depth_node.network.graph`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import parser

from depth_node.network.graph import write_metadata


def stub_model(
    size: tuple[int, int] | None = (42, 56), *, body: str = "", opset: int = 18, **metadata: str
) -> Any:
    """A network of one layer: mean of the colours after a 3x3 box, at a fixed or following size.

    Args:
        size: (h, w), or None for half of the image's size.
        body: ONNX text that makes `raw` from `pixels`, instead of the layer.
        opset: the opset that the model asks for.
        metadata: entries of the model's metadata.
    """
    if size is None:
        sizes = """shape = Shape (image)  hw = Slice (shape, zero, two)
                   target_hw = Div (hw, two)"""
    else:
        sizes = f"target_hw = Constant <value = int64[2] {{{size[0]}, {size[1]}}}> ()"
    body = body or "summed = Conv <pads = [1, 1, 1, 1]> (pixels, kernel)  raw = Relu (summed)"
    kernel = ", ".join(["0.037"] * 27)
    model = parser.parse_model(f"""
        <ir_version: 9, opset_import: ["" : {opset}]>
        stub (uint8[H, W, 3] image) => (float[h, w] disparity)
        <int64[1] zero = {{0}}, int64[1] two = {{2}}, int64[2] batch = {{1, 3}},
         int64[2] planes = {{0, 1}}, float full = {{255.0}},
         float[1, 3, 3, 3] kernel = {{{kernel}}}>
        {{
          colours = Cast <to = 1> (image)
          chw = Transpose <perm = [2, 0, 1]> (colours)
          nchw = Unsqueeze (chw, zero)
          {sizes}
          target = Concat <axis = 0> (batch, target_hw)
          resized = Resize <mode = "cubic", cubic_coeff_a = -0.75> (nchw, , , target)
          pixels = Div (resized, full)
          {body}
          disparity = Squeeze (raw, planes)
        }}""")
    write_metadata(model, **metadata)
    return model


def save_stub(path: Path, **options: Any) -> Path:
    """Write `stub_model(**options)` to a file and return its path."""
    onnx.save(stub_model(**options), path)
    return path
