"""Putting the front and the end around a network: camera bytes in, disparity out.

The front resizes as the reference preprocessing of Depth Anything V2 does (its `util/transform.py`
and `infer_image`: cubic on the float image, aspect kept, the short side at the network's size,
sides rounded to a multiple of the patch; other networks may be linear), and normalises. It stays in
fp32 whatever the network's precision is.

For ZoeDepth they do what `ZoeDepthImageProcessor` of transformers does, after
`zoedepth/models/depth_model.py` of isl-org/ZoeDepth: the front reflects the image's border by
int(3 sqrt(side / 2)) pixels and resizes with aligned corners, the end resizes the depth to the
padded image (cubic) and cuts the padding off, so that the disparity has the image's size. Where the
cubic overshoots at an edge it is kept from going below all that the network gave: the reference may
end below 0 m there, which would be an obstacle at the lens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from depth_node.network.errors import ModelError
from depth_node.network.front import bounded
from depth_node.network.graph import INPUT, OUTPUT, write_metadata
from depth_node.network.registry import Entry

OPSET = 18
"""Old enough for TensorRT 10.3, new enough for LayerNormalization and `Resize`'s options."""
PIXELS = "pixels"
RAW = "raw"
_NEAREST_M, _NO_END_M = 1e-3, 1e30
_END_SHARE = 0.98
"""Of the depth that a metric network ends at, from which on its answer is that end."""
_BORDERS = ("pad_hw", "stop_hw", "whole_hw")
"""(rows, columns) of the padding on one side, of it and the image, and of the padded image: int64,
computed by the front and read by the end of a padded network."""
_PADDING = """
          side = Shape (image)
          side_hw = Slice (side, zero, two)
          side_float = Cast <to = 1> (side_hw)
          halves = Constant <value = float {2.0}> ()
          factor = Constant <value = float {3.0}> ()
          half = Div (side_float, halves)
          root = Sqrt (half)
          border = Mul (root, factor)
          pad_hw = Cast <to = 7> (border)
          stop_hw = Add (pad_hw, side_hw)
          whole_hw = Add (stop_hw, pad_hw)
          none = Constant <value = int64[2] {0, 0}> ()
          pads = Concat <axis = 0> (none, pad_hw, none, pad_hw)
          padded = Pad <mode = "reflect"> (planes_4d, pads)"""
_CROP = f"""
          one_plane = Constant <value = int64[2] {{1, 1}}> ()
          rows_columns = Constant <value = int64[2] {{2, 3}}> ()
          outer = Constant <value = int64[2] {{0, 1}}> ()
          whole_size = Concat <axis = 0> (one_plane, whole_hw)
          raw_4d = Unsqueeze ({RAW}, first)
          whole = Resize <mode = "cubic", cubic_coeff_a = -0.75,
                          coordinate_transformation_mode = "half_pixel"> (raw_4d, , , whole_size)
          inner = Slice (whole, pad_hw, stop_hw, rows_columns)
          cropped = Squeeze (inner, outer)
          lowest = ReduceMin <keepdims = 0> ({RAW})
          depth = Max (cropped, lowest)"""


@dataclass(frozen=True)
class Size:
    """The size that a network runs at.

    Attributes:
        short: short side in pixels when the aspect of the image is kept, else 0.
        height: fixed height in pixels, or 0.
        width: fixed width in pixels, or 0.
    """

    short: int = 0
    height: int = 0
    width: int = 0

    @classmethod
    def parse(cls, text: str, multiple: int) -> Size:
        """Read `252` (short side, aspect kept) or `252x336` (height x width, fixed).

        Raises:
            ModelError: another form, or a side that is no multiple of the network's patch.
        """
        match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
        if match is None:
            raise ModelError(
                f"the size is {text!r}; give the short side as 252, or height x width as 252x336"
            )
        sides = [int(side) for side in match.groups() if side]
        for side in sides:
            if side % multiple or not side:
                near = max(round(side / multiple), 1) * multiple
                raise ModelError(
                    f"the size is {text}; its sides must be multiples of {multiple}, such as {near}"
                )
        return cls(short=sides[0]) if len(sides) == 1 else cls(height=sides[0], width=sides[1])

    def __str__(self) -> str:
        return str(self.short) if self.short else f"{self.height}x{self.width}"

    def of(self, height: int, width: int, multiple: int) -> tuple[int, int]:
        """(h, w) of the network for an image of (height, width), as the graph computes it.

        Raises:
            ModelError: the aspect is kept, and the network would be too large.
        """
        if not self.short:
            return self.height, self.width
        step = multiple * min(height, width)
        size = (
            round(self.short * height / step) * multiple,
            round(self.short * width / step) * multiple,
        )
        return bounded((height, width), size)


def compose(core: Any, entry: Entry, size: Size, precision: str) -> Any:
    """Put front and end around a network.

    Args:
        core: `onnx.ModelProto` from `pixels` (1x3xhxw, float32) to `raw` (1xhxw, float32).
        entry: the network, for its normalisation and the meaning of its output.
        size: the size that the front resizes to.
        precision: what the core is in.

    Returns:
        An `onnx.ModelProto` that keeps the contract of `depth_node.network.graph`.
    """
    from onnx import compose as merge

    core = merge.add_prefix(core, "core/", rename_inputs=False, rename_outputs=False)
    opset = next(item.version for item in core.opset_import if item.domain in ("", "ai.onnx"))
    header = f'<ir_version: {core.ir_version}, opset_import: ["" : {opset}]>'
    front, end = _front(entry, size, header), _end(entry, header)
    model = merge.merge_models(front, core, io_map=[(PIXELS, PIXELS)])
    shared = (RAW, *_BORDERS) if entry.padded else (RAW,)
    model = merge.merge_models(model, end, io_map=[(name, name) for name in shared])
    model.producer_name = "depth_node"
    model.ClearField("metadata_props")
    write_metadata(
        model,
        name=entry.name,
        kind=entry.kind,
        precision=precision,
        size=str(size),
        licence=entry.licence,
    )
    return model


def _front(entry: Entry, size: Size, header: str) -> Any:
    from onnx import parser

    if size.short:
        # hw * short / (multiple * min(hw)), rounded half to even as numpy.round, times multiple
        sizes = f"""
          shape = Shape (image)
          hw = Slice (shape, zero, two)
          hw_float = Cast <to = 1> (hw)
          shorter = ReduceMin <keepdims = 0> (hw_float)
          short = Constant <value = float {{{size.short}}}> ()
          multiple = Constant <value = float {{{entry.multiple}}}> ()
          scaled = Mul (hw_float, short)
          step = Mul (shorter, multiple)
          patches = Div (scaled, step)
          rounded = Round (patches)
          sides = Mul (rounded, multiple)
          target_hw = Cast <to = 7> (sides)"""
    else:
        sizes = f"""
          target_hw = Constant <value = int64[2] {{{size.height}, {size.width}}}> ()"""
    planes, corners, outputs, padding = "planes_4d", "half_pixel", "", ""
    if entry.padded:
        planes, corners = "padded", "align_corners"
        outputs = "".join(f", int64[2] {name}" for name in _BORDERS)
        padding = _PADDING
    mean = ", ".join(f"{255.0 * m:.9g}" for m in entry.mean)
    std = ", ".join(f"{255.0 * s:.9g}" for s in entry.std)
    return parser.parse_model(f"""
        {header}
        front (uint8[height, width, 3] {INPUT}) => (float[1, 3, h, w] {PIXELS}{outputs})
        <int64[1] zero = {{0}}, int64[1] two = {{2}}, int64[2] batch = {{1, 3}},
         float[1, 3, 1, 1] mean = {{{mean}}}, float[1, 3, 1, 1] std = {{{std}}}>
        {{
          colours = Cast <to = 1> ({INPUT})
          planes = Transpose <perm = [2, 0, 1]> (colours)
          planes_4d = Unsqueeze (planes, zero)
          {padding}
          {sizes}
          target = Concat <axis = 0> (batch, target_hw)
          resized = Resize <mode = "{entry.interpolation}", cubic_coeff_a = -0.75,
                            coordinate_transformation_mode = "{corners}">
                           ({planes}, , , target)
          centred = Sub (resized, mean)
          {PIXELS} = Div (centred, std)
        }}""")


def _end(entry: Entry, header: str) -> Any:
    from onnx import parser

    inputs, shape, crop = "", "h, w", f"depth = Squeeze ({RAW}, first)"
    if entry.padded:
        inputs = "".join(f", int64[2] {name}" for name in _BORDERS)
        shape = "height, width"
        crop = _CROP
    if entry.output == "depth":
        # The node works on inverse depth throughout: 1/m is affine in what LiDAR and planes see.
        # A network that ends at 20 m says 20 of all that is farther, the sky included: that is 0.
        farthest = _END_SHARE * entry.max_depth_m or _NO_END_M
        invert = f"""
          nearest = Constant <value = float {{{_NEAREST_M}}}> ()
          farthest = Constant <value = float {{{farthest}}}> ()
          bounded = Max (depth, nearest)
          inverse = Reciprocal (bounded)
          within = Less (depth, farthest)
          seen = Cast <to = 1> (within)
          {OUTPUT} = Mul (inverse, seen)"""
    else:
        invert = f"{OUTPUT} = Identity (depth)"
    return parser.parse_model(f"""
        {header}
        end (float[1, h, w] {RAW}{inputs}) => (float[{shape}] {OUTPUT})
        <int64[1] first = {{0}}>
        {{
          {crop}
          {invert}
        }}""")
