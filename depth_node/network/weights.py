"""Reading checkpoints, and loading them into the architecture of `transformers`.

No pickle is ever executed: safetensors, and `torch.load(weights_only=True)` for `.pth` files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from depth_node.imports import pip_install
from depth_node.network.errors import ModelError

State = dict[str, Any]

# Official names (DepthAnything/Depth-Anything-V2, `dpt.py` and `dinov2.py`) to those of
# `transformers`. `{i}` stands for a number that is copied.
_NAMES = (
    (r"pretrained\.cls_token", "backbone.embeddings.cls_token"),
    (r"pretrained\.mask_token", "backbone.embeddings.mask_token"),
    (r"pretrained\.pos_embed", "backbone.embeddings.position_embeddings"),
    (r"pretrained\.patch_embed\.proj\.(.+)", r"backbone.embeddings.patch_embeddings.projection.\1"),
    (r"pretrained\.blocks\.(\d+)\.attn\.proj\.(.+)",
     r"backbone.encoder.layer.\1.attention.output.dense.\2"),
    (r"pretrained\.blocks\.(\d+)\.ls(\d)\.gamma",
     r"backbone.encoder.layer.\1.layer_scale\2.lambda1"),
    (r"pretrained\.blocks\.(\d+)\.(norm\d|mlp\.fc\d)\.(.+)", r"backbone.encoder.layer.\1.\2.\3"),
    (r"pretrained\.norm\.(.+)", r"backbone.layernorm.\1"),
    (r"depth_head\.projects\.(\d)\.(.+)", r"neck.reassemble_stage.layers.\1.projection.\2"),
    (r"depth_head\.resize_layers\.(\d)\.(.+)", r"neck.reassemble_stage.layers.\1.resize.\2"),
    (r"depth_head\.scratch\.output_conv1\.(.+)", r"head.conv1.\1"),
    (r"depth_head\.scratch\.output_conv2\.0\.(.+)", r"head.conv2.\1"),
    (r"depth_head\.scratch\.output_conv2\.2\.(.+)", r"head.conv3.\1"),
)  # fmt: skip
_LAYER_RN = re.compile(r"depth_head\.scratch\.layer(\d)_rn\.(.+)")
_REFINE = re.compile(r"depth_head\.scratch\.refinenet(\d)\.(.+)")
_QKV = re.compile(r"pretrained\.blocks\.(\d+)\.attn\.qkv\.(weight|bias)")
_DPT_UNUSED = "neck.fusion_stage.layers.0.residual_layer1."
"""Adds a second input to a fusion layer; the first layer has but one, and never calls it
(`DPTFeatureFusionStage.forward`). Intel/dpt-large was published without it."""


def read_checkpoint(path: Path) -> State:
    """Read a checkpoint's tensors by name, onto the CPU.

    Raises:
        ModelError: the file is missing, of another format, damaged, or holds more than tensors.
    """
    if not path.is_file():
        raise ModelError(f"there is no checkpoint {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        elif path.suffix in (".pth", ".pt"):
            import torch

            state = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise ModelError(f"{path} is no checkpoint; expected .safetensors, .pth or .pt")
    except ImportError as error:
        raise ModelError(
            f"reading a checkpoint needs {error.name}; {pip_install('export')}"
        ) from error
    except ModelError:
        raise
    except Exception as error:  # safetensors, zipfile and pickle each raise their own
        raise ModelError(
            f"{path} is damaged, or holds more than tensors and is not loaded: {error}"
        ) from error
    if not isinstance(state, Mapping) or not all(hasattr(v, "shape") for v in state.values()):
        raise ModelError(f"{path} holds no plain table of tensors; expected a state_dict")
    return dict(state)


def to_transformers_names(state: State) -> State:
    """Rename a checkpoint of the official repository; one of the hub's -hf is returned as it is."""
    if not any(name.startswith(("pretrained.", "depth_head.")) for name in state):
        return state
    renamed: State = {}
    for name, tensor in state.items():
        qkv = _QKV.fullmatch(name)
        if qkv:
            layer, leaf = qkv.groups()
            for part, chunk in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[f"backbone.encoder.layer.{layer}.attention.attention.{part}.{leaf}"] = (
                    chunk.contiguous()
                )
        else:
            renamed[_new_name(name)] = tensor
    return renamed


def load_weights(module: Any, state: State, source: Path) -> None:
    """Load a checkpoint into a module of `transformers`.

    Args:
        module: the network.
        state: tensors by name, in either naming.
        source: where they came from, for the message.

    Raises:
        ModelError: the checkpoint belongs to another architecture; names the first tensor.
    """
    state = to_transformers_names(state)
    expected = module.state_dict()
    if module.config.model_type == "dpt":
        unused = {name: tensor for name, tensor in expected.items() if name.startswith(_DPT_UNUSED)}
        state = {**unused, **state}
    for name, tensor in expected.items():
        if name not in state:
            raise _mismatch(source, f"it lacks {name} of shape {tuple(tensor.shape)}")
        if state[name].shape != tensor.shape:
            seen, wanted = tuple(state[name].shape), tuple(tensor.shape)
            raise _mismatch(source, f"{name} has shape {seen}, expected {wanted}")
    for name in state:
        if name not in expected:
            raise _mismatch(source, f"it has {name}, which the network has not")
    module.load_state_dict(state)


def _mismatch(source: Path, what: str) -> ModelError:
    return ModelError(
        f"{source} is a checkpoint of another architecture: {what}. "
        "Choose the registry entry that it belongs to"
    )


def _new_name(name: str) -> str:
    layer = _LAYER_RN.fullmatch(name)
    if layer:
        return f"neck.convs.{int(layer[1]) - 1}.{layer[2]}"
    refine = _REFINE.fullmatch(name)
    if refine:  # the official head counts from fine to coarse, transformers the other way
        rest = refine[2].replace("out_conv.", "projection.")
        rest = re.sub(r"resConfUnit(\d)\.conv(\d)", r"residual_layer\1.convolution\2", rest)
        return f"neck.fusion_stage.layers.{4 - int(refine[1])}.{rest}"
    for pattern, replacement in _NAMES:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    return name
