"""Start a training from an exported student instead of from random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from depth_node.network.errors import ModelError
from depth_node.network.graph import read_graph
from depth_node.training.export import fused
from depth_node.training.network import ConvNorm, Student

DENSE_SIZE, DEPTHWISE_SIZE = 0.08, 0.4
"""Root mean square of kernels at which updates and a weight decay of 0.02 balance.

It is sqrt(learning rate / (2 weight decay)) for AdamW's updates of about the learning rate, and a
fifth of that for Muon's, here at a learning rate of 0.006.
"""


class StartError(ValueError):
    """A file cannot be what the training starts from; the message says why."""


@dataclass(frozen=True)
class StartConfig:
    """An exported student whose weights a run starts from.

    Attributes:
        weights: path of its ONNX file; empty starts from random weights.
        sha256: of that file, in hex; empty takes any.
        keep: share of its weights in those that are exported at the end; the run's have the rest.
    """

    weights: str = ""
    sha256: str = ""
    keep: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.keep < 1.0:
            raise ValueError(f"start.keep is {self.keep}; it must lie in [0, 1)")
        if self.keep and not self.weights:
            raise ValueError(f"start.keep is {self.keep}, but start.weights names no file to keep")


def load_start(config: StartConfig, student: Student, images: Tensor) -> None:
    """Give a student the weights of an exported one.

    The export folds every batch normalisation into its convolution. Here each gets one back that
    undoes itself on `images`: the kernel is brought to the size that kernels have in a training,
    so that the learning rate means the same, and the normalisation scales and shifts its outputs
    back. In eval mode the student computes what the file does.

    Args:
        config: the file.
        student: changed in place; of the size that the file has.
        images: B x 3 x H x W float32 from `normalised`, typical of the training; all statistics
            come from this one batch, so it should hold some dozens of images.

    Raises:
        StartError: the file cannot be read, is another one than expected, or no student of this
            size.
    """
    file = read_weights(config)
    hooks: list[torch.utils.hooks.RemovableHandle] = []
    training = student.training
    try:
        with torch.no_grad():
            student.head.weight.copy_(file.like("head.weight", student.head.weight))
            student.head.bias.copy_(file.like("head.bias", student.head.bias))
            for name, pair in student.named_modules():
                if isinstance(pair, ConvNorm):
                    kernel = file.like(f"{name}.0.weight", pair[0].weight)
                    hooks.append(_unfold(pair, kernel, file.like(f"{name}.0.bias", pair[1].bias)))
            student.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
        student.train(training)


def blended(student: Student, config: StartConfig) -> Student:
    """What a run exports: its student, with a share of the weights that it started from.

    Wortsman et al., "Robust fine-tuning of zero-shot models" (CVPR 2022): where a run stays in the
    valley of its start, the mean of the two errs less on images unlike the run's own.

    Args:
        student: as the run left it; not changed.
        config: the file, and the share of its weights.

    Returns:
        A student without batch normalisations, as the file has none.

    Raises:
        StartError: as `load_start`.
    """
    student = fused(student)
    file = read_weights(config)
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            parameter.lerp_(file.like(name, parameter), config.keep)
    return student


def _unfold(pair: ConvNorm, kernel: Tensor, bias: Tensor) -> torch.utils.hooks.RemovableHandle:
    """Set the kernel, and the normalisation as soon as the convolution has seen images."""
    convolution, norm = pair[0], pair[1]
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    size = DENSE_SIZE if convolution.groups == 1 else DEPTHWISE_SIZE
    shrink = kernel.square().mean().sqrt().clamp(min=1e-6) / size
    convolution.weight.copy_(kernel / shrink)

    def measure(_: nn.Module, __: tuple[Tensor], output: Tensor) -> None:
        variance, mean = torch.var_mean(output, dim=(0, 2, 3), correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_(shrink * (variance + norm.eps).sqrt())
        norm.bias.copy_(bias + shrink * mean)

    return convolution.register_forward_hook(measure)


@dataclass(frozen=True)
class Weights:
    """The weights in an exported student.

    Attributes:
        path: its file.
        arrays: the weights by name, as the file has them.
    """

    path: Path
    arrays: dict[str, NDArray[Any]]

    def like(self, name: str, parameter: Tensor) -> Tensor:
        """The weights of that name with a parameter's type and device.

        Raises:
            StartError: there are none of its shape.
        """
        array = self.arrays.get(name)
        if array is None or array.shape != tuple(parameter.shape):
            has = "nothing" if array is None else f"{array.shape}"
            raise StartError(
                f"{self.path} is no student of this size: for {name} it has {has}, and the network "
                f"of this run has {tuple(parameter.shape)}"
            )
        return torch.tensor(array, dtype=parameter.dtype, device=parameter.device)


def read_weights(config: StartConfig) -> Weights:
    """Read the file that a run starts from.

    Raises:
        StartError: it cannot be read, or is another one than expected.
    """
    path = Path(config.weights).expanduser()
    try:
        graph = read_graph(path)
    except ModelError as error:
        raise StartError(str(error)) from error
    if config.sha256 and graph.sha256 != config.sha256:
        raise StartError(
            f"{path} has the SHA-256 {graph.sha256}, and this run starts from {config.sha256}: "
            "give the file that the yaml describes, or correct `start`"
        )
    entries = graph.proto.graph.initializer
    return Weights(path, {entry.name: numpy_helper.to_array(entry) for entry in entries})
