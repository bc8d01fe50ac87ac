"""From trained weights to the file that ships: camera bytes in, disparity out, one ONNX graph."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper, version_converter
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from depth_node.training.network import MEAN, STD, ConvNorm, Student

OPSET = 17
IR_VERSION = 8
"""Both are those of ONNX 1.12 (2022): TensorRT 8.6, OpenVINO 2022.3 and ORT 1.12 read them."""


def fused(student: Student) -> Student:
    """Copy a student with every batch normalisation folded into its convolution, in eval mode.

    One whose normalisations are folded already is only copied.
    """
    student = copy.deepcopy(student).cpu().float().eval()
    for module in student.modules():
        if isinstance(module, ConvNorm) and isinstance(module[1], nn.BatchNorm2d):
            module[0] = fuse_conv_bn_eval(module[0], module[1])
            module[1] = nn.Identity()
    return student


def export_student(
    student: Student, path: Path, *, name: str, version: str, licence: str = "Apache-2.0"
) -> None:
    """Write the student as ONNX: `image` HxWx3 uint8 RGB of any size to `disparity` hxw float32.

    Inside: a linear resize to twice the network's size and a 2x2 mean (together close to an area
    average at the usual camera sizes, and cheap in every runtime), the normalisation (folded into
    the first convolution is impossible because of its padding, so it is one multiply and one add),
    the network and the ReLU. Disparity is relative, larger is nearer, 0 is saturated.

    Args:
        student: trained weights; not changed.
        path: the file to write, whole or not at all.
        name: the network's name, kept in the file's metadata.
        version: likewise.
        licence: SPDX identifier of the weights, likewise.
    """
    config = student.config
    network = _network_graph(fused(student), config.width, config.height)
    graph = network.graph
    front, constants = _front(config.width, config.height, graph.input[0].name)
    back, back_constants = _back(graph.output[0].name)
    merged = helper.make_graph(
        [*front, *graph.node, *back],
        "student",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["height", "width", 3])],
        [
            helper.make_tensor_value_info(
                "disparity", TensorProto.FLOAT, [config.height, config.width]
            )
        ],
        [*graph.initializer, *constants, *back_constants],
    )
    model = helper.make_model(merged, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    model.producer_name = "depth_node"
    helper.set_model_props(
        model, {"name": name, "kind": "relative", "licence": licence, "version": version}
    )
    onnx.checker.check_model(model, full_check=True)
    partial = path.with_suffix(".partial")
    onnx.save(model, partial)
    partial.replace(path)


def _network_graph(student: Student, width: int, height: int) -> onnx.ModelProto:
    """The network alone, from 1x3xHxW float32 to 1x1xHxW float32."""
    program = torch.onnx.export(
        student,
        (torch.zeros(1, 3, height, width),),
        input_names=["normalised"],
        output_names=["raw"],
        opset_version=OPSET + 1,  # the oldest that the exporter writes
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = version_converter.convert_version(program.model_proto, OPSET)
    for entry in (*model.graph.node, *model.graph.initializer):
        del entry.metadata_props[:]  # stack traces of this machine
        entry.doc_string = ""
    return model


def _front(
    width: int, height: int, output: str
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """From `image` to the network's input."""
    scale = 1.0 / (255.0 * np.asarray(STD, np.float32))
    shift = -np.asarray(MEAN, np.float32) / np.asarray(STD, np.float32)
    constants = [
        numpy_helper.from_array(np.asarray([0], np.int64), "batch_axis"),
        numpy_helper.from_array(np.asarray([1, 3, 2 * height, 2 * width], np.int64), "fine_size"),
        numpy_helper.from_array(scale.reshape(1, 3, 1, 1), "inverse_deviation"),
        numpy_helper.from_array(shift.reshape(1, 3, 1, 1), "negative_mean"),
    ]
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=[2, 0, 1]),
        helper.make_node("Cast", ["planes"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["floats", "batch_axis"], ["batch"]),
        helper.make_node(
            "Resize",
            ["batch", "", "", "fine_size"],
            ["fine"],
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        ),
        helper.make_node("AveragePool", ["fine"], ["pixels"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Mul", ["pixels", "inverse_deviation"], ["scaled"]),
        helper.make_node("Add", ["scaled", "negative_mean"], [output]),
    ]
    return nodes, constants


def _back(raw: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """From the network's output to `disparity`."""
    constants = [numpy_helper.from_array(np.asarray([0, 1], np.int64), "map_axes")]
    nodes = [
        helper.make_node("Relu", [raw], ["saturated"]),
        helper.make_node("Squeeze", ["saturated", "map_axes"], ["disparity"]),
    ]
    return nodes, constants
