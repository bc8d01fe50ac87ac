"""Taking the resize out of a graph, so that OpenCV can do it on the CPU.

The CPU kernels of ONNX Runtime and OpenVINO need 50 and 4 ms for the cubic resize of a 640x480
image that OpenCV does in well under 1 to 4. Cubic and linear resizing commute with what usually
stands between a graph's input and its resize (casts, changes of layout, arithmetic with constants:
the weights of an output pixel add up to 1), so that the resize can be done first, on the camera's
image, with the same result.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from depth_node.network.errors import ModelError
from depth_node.network.graph import INPUT
from depth_node.types import ArrayF32, ImageU8

LARGEST_SIDE = 2048
"""Largest side of a network whose size follows the image, pixels: what exports are made for. An
image of 64000x10 would else be 1.6 million pixels wide at the short side of 252, and the node be
killed for its memory."""
_SizeOf = Callable[[int, int], tuple[int, int]]
_COMMUTING_OPS = {"Cast", "Transpose", "Unsqueeze", "Identity", "Add", "Sub", "Mul", "Div"}
_INTERPOLATIONS = {b"cubic": cv2.INTER_CUBIC, b"linear": cv2.INTER_LINEAR}


@dataclass(frozen=True, eq=False)
class SizePolicy:
    """How the size that a network runs at follows from the image's.

    Attributes:
        size_of: (h, w) that the graph resizes an image of (height, width) to, pixels; raises
            ModelError for an image that `bounded` refuses.
        follows_image: whether it does at all; else it is fixed.
    """

    size_of: _SizeOf
    follows_image: bool


@dataclass(frozen=True, eq=False)
class SplitGraph:
    """A network whose resize is done outside.

    Attributes:
        proto: `onnx.ModelProto`; its input `image` is float32 [h, w, 3] at network resolution with
            values in 0..255.
        fixed_size: (h, w) of the network, or None when it follows the image.
        size_of: (h, w) that the graph would resize an image of (height, width) to; raises
            ModelError for an image that `bounded` refuses.
        interpolation: OpenCV's name for the graph's interpolation.
    """

    proto: Any
    fixed_size: tuple[int, int] | None
    size_of: _SizeOf
    interpolation: int

    def resize(self, image: ImageU8) -> ArrayF32:
        """Resize an HxWx3 uint8 image to float32 hxwx3 (0..255), as the graph would.

        Raises:
            ModelError: the network would be too large for it.
        """
        h, w = self.size_of(image.shape[0], image.shape[1])
        pixels = image.astype(np.float32)
        if pixels.shape[:2] == (h, w):
            return pixels
        resized = cv2.resize(pixels, (w, h), interpolation=self.interpolation)
        return np.asarray(resized, dtype=np.float32)


def split_front(proto: Any) -> SplitGraph | None:
    """Take the resize out of a graph whose front is understood.

    Args:
        proto: an `onnx.ModelProto` that keeps the contract of `depth_node.network.graph`; it is
            not changed.

    Returns:
        The split graph, or None when the front does something that OpenCV's resize does not
        reproduce: the graph then has to be run whole.
    """
    from onnx import NodeProto, TensorProto, helper

    chain, resize = _walk_to_resize(proto.graph)
    interpolation = None if resize is None else _interpolation_of(resize)
    policy = None if interpolation is None else _size_policy(proto, chain, resize)
    if interpolation is None or policy is None:
        return None
    fixed = None if policy.follows_image else policy.size_of(480, 640)

    bypass = helper.make_node("Identity", [resize.input[0]], [resize.output[0]], resize.name)
    nodes: Iterable[NodeProto] = [bypass if n is resize else n for n in proto.graph.node]
    nodes, initializers = _needed(nodes, proto.graph.initializer, [proto.graph.output[0].name])
    before = {INPUT} | {n.output[0] for n in chain}
    front = {n.output[0] for n in chain} | {resize.output[0]}
    if any(_reads(n) & before and n.output[0] not in front for n in nodes):
        return None  # something else reads the image or its size, and would now read another
    image = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [*(fixed or ("h", "w")), 3])
    split = _model_like(proto, nodes, initializers, [image], list(proto.graph.output))
    return SplitGraph(split, fixed, policy.size_of, interpolation)


def size_policy(proto: Any) -> SizePolicy | None:
    """What size a graph resizes images to, also where OpenCV cannot do that for it.

    Args:
        proto: as for `split_front`.

    Returns:
        None when the front is not understood up to its resize, or that takes no plain size.
    """
    chain, resize = _walk_to_resize(proto.graph)
    if resize is None:
        return None
    with contextlib.suppress(Exception):  # onnx evaluates fewer operators than engines run
        policy = _size_policy(proto, chain, resize)
        if policy is not None:
            with contextlib.suppress(ModelError):  # it works, and refuses this size
                policy.size_of(480, 640)
        return policy
    return None


def bounded(image: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The size of a network that follows the image, unless it is beyond what networks run at.

    Args:
        image: (height, width) of the image, pixels.
        size: (h, w) that the network would have for it, pixels.

    Raises:
        ModelError: a side is 0, or larger than `LARGEST_SIDE`.
    """
    if not 0 < min(size) <= max(size) <= LARGEST_SIDE:
        raise ModelError(
            f"an image of {image[1]}x{image[0]} would be resized to {size[1]}x{size[0]} for the "
            f"network (width x height), which takes sides of 1 to {LARGEST_SIDE}; check the "
            "camera's images, or set model.size to a fixed height x width, as 252x336"
        )
    return size


def front_nodes(proto: Any) -> list[str]:
    """Names of the nodes from the input to the resize, and of those that compute its size.

    Empty when the front is not understood.
    """
    chain, resize = _walk_to_resize(proto.graph)
    if resize is None:
        return []
    wanted = [name for name in resize.input[1:] if name]
    sizes, _ = _needed(proto.graph.node, [], wanted)
    return list(dict.fromkeys(node.name for node in (*chain, *sizes, resize)))


def _walk_to_resize(graph: Any) -> tuple[list[Any], Any]:
    """The nodes between the input and the resize, and the resize (None if not understood)."""
    constants = {item.name for item in graph.initializer}
    constants |= {n.output[0] for n in graph.node if n.op_type == "Constant"}
    chain: list[Any] = []
    tensor = INPUT
    while True:
        readers = [n for n in graph.node if tensor in n.input and n.op_type != "Shape"]
        if len(readers) != 1:
            return chain, None
        node = readers[0]
        if node.op_type == "Resize":
            return chain, node if node.input[0] == tensor else None
        others = {name for name in node.input if name and name != tensor}
        if node.op_type not in _COMMUTING_OPS or not others <= constants:
            return chain, None
        chain.append(node)
        tensor = node.output[0]


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def _interpolation_of(resize: Any) -> int | None:
    attributes = _attributes(resize)
    plain = (
        attributes.get("coordinate_transformation_mode", b"half_pixel")
        in (b"half_pixel", b"pytorch_half_pixel")
        and not attributes.get("antialias", 0)
        and not attributes.get("exclude_outside", 0)
        and abs(attributes.get("cubic_coeff_a", -0.75) + 0.75) < 1e-6  # OpenCV's constant
    )
    return _INTERPOLATIONS.get(attributes.get("mode", b"nearest")) if plain else None


def _size_policy(proto: Any, chain: list[Any], resize: Any) -> SizePolicy | None:
    """See `size_policy`; None for a resize by factors, or whose sizes are not the result's."""
    from onnx import TensorProto
    from onnx.reference import ReferenceEvaluator

    attributes = _attributes(resize)
    stretches = attributes.get("keep_aspect_ratio_policy", b"stretch") == b"stretch"
    if len(resize.input) < 4 or not resize.input[3] or "axes" in attributes or not stretches:
        return None
    shape = (5, 7, 3)  # three numbers that tell the axes apart in the resize's layout
    if chain:
        layout = _part(proto, chain[-1].output[0], TensorProto.FLOAT)
        probe = np.zeros(shape, np.uint8)
        shape = ReferenceEvaluator(layout).run(None, {INPUT: probe})[0].shape
    rows, columns = shape.index(5), shape.index(7)
    sizes = _part(proto, resize.input[3], TensorProto.INT64)
    follows_image = bool(sizes.graph.input)
    evaluator = ReferenceEvaluator(sizes)

    @functools.lru_cache(maxsize=16)
    def size_of(height: int, width: int) -> tuple[int, int]:
        image = np.zeros((height, width, 3), np.uint8)
        result = evaluator.run(None, {INPUT: image} if follows_image else {})[0]
        size = int(result[rows]), int(result[columns])
        return bounded((height, width), size) if follows_image else size

    return SizePolicy(size_of, follows_image)


def _part(proto: Any, output: str, element: int) -> Any:
    """The part of a model that computes one tensor, as a model of its own."""
    from onnx import helper

    nodes, initializers = _needed(proto.graph.node, proto.graph.initializer, [output])
    reads_image = any(INPUT in _reads(n) for n in nodes)
    inputs = [item for item in proto.graph.input if item.name == INPUT and reads_image]
    if not nodes:  # the tensor is an initializer
        nodes = [helper.make_node("Identity", [output], [f"{output}_value"])]
        output = f"{output}_value"
    outputs = [helper.make_tensor_value_info(output, element, None)]
    return _model_like(proto, nodes, initializers, inputs, outputs)


def _needed(
    nodes: Iterable[Any], initializers: Iterable[Any], outputs: list[str]
) -> tuple[list[Any], list[Any]]:
    """The nodes, in their (topological) order, and initializers that `outputs` depend on."""
    names = set(outputs)
    kept = []
    for node in reversed(list(nodes)):
        if names & set(node.output):
            kept.append(node)
            names |= _reads(node)
    kept.reverse()
    return kept, [item for item in initializers if item.name in names]


def _reads(node: Any) -> set[str]:
    """The tensors that a node reads, those that its inner graphs take from outside included."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names |= _reads(inner)
    return names


def _model_like(
    proto: Any, nodes: list[Any], initializers: list[Any], inputs: list[Any], outputs: list[Any]
) -> Any:
    from onnx import helper

    graph = helper.make_graph(nodes, proto.graph.name, inputs, outputs, initializers)
    return helper.make_model(
        graph,
        opset_imports=list(proto.opset_import),
        ir_version=proto.ir_version,
        functions=list(proto.functions),
    )
