"""Building a network's PyTorch module, and running it without what tracing cannot follow."""

from __future__ import annotations

import json
import math
import types
from pathlib import Path
from typing import Any

from depth_node.imports import pip_install
from depth_node.network.errors import ModelError
from depth_node.network.registry import Entry

# Widths and depths of Depth Anything, from `metric_depth/depth_anything_v2/dpt.py` of
# DepthAnything/Depth-Anything-V2 and the configurations of its -hf repositories. The first
# generation reads the last four layers of the backbone.
_SIZES: dict[str, dict[str, Any]] = {
    "small": {"hidden": 384, "heads": 6, "layers": 12, "neck": [48, 96, 192, 384], "fusion": 64},
    "base": {"hidden": 768, "heads": 12, "layers": 12, "neck": [96, 192, 384, 768], "fusion": 128},
    "large": {
        "hidden": 1024,
        "heads": 16,
        "layers": 24,
        "neck": [256, 512, 1024, 1024],
        "fusion": 256,
    },
}
_TAPS = {
    "v1-small": (9, 10, 11, 12),
    "v2-small": (3, 6, 9, 12),
    "v2-base": (3, 6, 9, 12),
    "v2-large": (5, 12, 18, 24),
}


def build_module(entry: Entry, config: Path | None = None) -> Any:
    """Build the untrained `torch.nn.Module` of a network, in evaluation mode.

    Args:
        entry: the network.
        config: its `config.json`, for the family `transformers` only.

    Raises:
        ModelError: PyTorch or transformers is missing, or the description is not understood.
    """
    transformers = _import_transformers()
    if entry.family == "depth_anything":
        model = transformers.DepthAnythingForDepthEstimation(_depth_anything(entry, transformers))
        return model.eval()
    if config is None:
        raise ModelError(f"{entry.name} is described by a config.json, and none was given")
    try:
        content = config.read_bytes()
    except OSError as error:
        raise ModelError(
            f"cannot read {config} ({error.strerror or error}); copy the config.json of the "
            f"network's repository beside the checkpoint of {entry.name}"
        ) from error
    try:
        values = json.loads(content)
        described = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
        if described.model_type == "zoedepth":
            _fit_zoedepth(described, entry, config)
        return transformers.AutoModelForDepthEstimation.from_config(described).eval()
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{config} describes no depth network: {error}") from error


def _fit_zoedepth(described: Any, entry: Entry, config: Path) -> None:
    """Refuse a ZoeDepth that no graph can follow, and give it the range of its entry.

    Intel/zoedepth-kitti is published with the range of NYU, 10 m, which makes its metres eight
    times too small (its discussion 1; isl-org/ZoeDepth, issues 28 and 139): it was trained up to
    80 m (`zoedepth/utils/config.py` there).

    Raises:
        ModelError: it has several heads, or the entry is not of a ZoeDepth.
    """
    heads = described.bin_configurations
    if len(heads) != 1:
        # `forward` takes the head for rooms or for streets by what the image shows, and tracing
        # keeps the one that it took once.
        raise ModelError(
            f"{config} describes a ZoeDepth of {len(heads)} heads, which no graph can follow: it "
            "chooses its head by the image. Take zoedepth-nyu (indoors) or zoedepth-kitti"
        )
    if not entry.padded:
        raise ModelError(
            f"{config} describes a ZoeDepth, and {entry.name} lacks the padding of one; add it "
            "with --like zoedepth-nyu or zoedepth-kitti"
        )
    heads[0]["max_depth"] = entry.max_depth_m or heads[0]["max_depth"]


def traceable(entry: Entry, module: Any) -> Any:
    """Wrap a module so that it maps pixels to the network's raw output.

    Args:
        entry: the network.
        module: its PyTorch module, whose weights may be brought into another, equal form.

    Returns:
        A module from float32 Nx3xhxw normalised pixels to Nxhxw disparity or depth.
    """
    import torch
    from torch import nn

    class DepthAnything(nn.Module):
        """The forward of `transformers`, with the output size as a number that can be traced."""

        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, pixels: Any) -> Any:
            patch = self.model.config.patch_size
            rows, columns = pixels.shape[2] // patch, pixels.shape[3] // patch
            features = self.model.backbone(pixels).feature_maps
            head = self.model.head
            x = head.conv1(self.model.neck(features, rows, columns)[head.head_in_index])
            size = (pixels.shape[2], pixels.shape[3])
            x = nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=True)
            x = head.conv3(head.activation1(head.conv2(x)))
            return (head.activation2(x) * head.max_depth).squeeze(1)

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, pixels: Any) -> Any:
            seen = self.model(pixels)
            depth = seen.predicted_depth.reshape(pixels.shape[0], *seen.predicted_depth.shape[-2:])
            degrees = getattr(seen, "field_of_view", None)
            if degrees is None:
                return depth
            # Depth Pro (Bochkovskii et al. 2024, section 3.1) gives the inverse depth that a camera
            # whose focal length is the image's width would see; its own estimate of the horizontal
            # field of view makes 1/m of it: 1/Z = C w / f = 2 C tan(fov / 2).
            return 2.0 * torch.tan(degrees * (math.pi / 360.0))[:, None, None] * depth

    if entry.family == "transformers":
        _standardise_weights(module)
    wrapped = DepthAnything() if entry.family == "depth_anything" else Plain()
    return wrapped.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)


def _standardise_weights(module: Any) -> None:
    """Do once what the backbone of DPT's hybrid does to its weights in every frame.

    There it is a BatchNorm in training mode, which TensorRT does not have.
    """
    from torch import nn
    from transformers.models.bit.modeling_bit import WeightStandardizedConv2d

    def convolve(self: Any, pixels: Any) -> Any:
        return nn.Conv2d.forward(self, pixels if self.pad is None else self.pad(pixels))

    for layer in module.modules():
        if isinstance(layer, WeightStandardizedConv2d):
            rows = layer.weight.detach().reshape(1, layer.out_channels, -1)
            standard = nn.functional.batch_norm(rows, None, None, training=True, eps=layer.eps)
            layer.weight.data = standard.reshape_as(layer.weight)
            layer.forward = types.MethodType(convolve, layer)


def _depth_anything(entry: Entry, transformers: Any) -> Any:
    if entry.variant not in _TAPS:
        raise ModelError(
            f"{entry.name}: variant {entry.variant!r} is unknown; choose one of {sorted(_TAPS)}"
        )
    size = _SIZES[entry.variant.partition("-")[2]]
    backbone = transformers.Dinov2Config(
        image_size=518,
        patch_size=14,
        hidden_size=size["hidden"],
        num_attention_heads=size["heads"],
        num_hidden_layers=size["layers"],
        out_indices=list(_TAPS[entry.variant]),
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    return transformers.DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=size["hidden"],
        neck_hidden_sizes=size["neck"],
        fusion_hidden_size=size["fusion"],
        head_in_channels=size["fusion"],
        head_hidden_size=32,
        depth_estimation_type=entry.kind,
        max_depth=entry.max_depth_m or None,
    )


def _import_transformers() -> Any:
    try:
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        raise ModelError(
            f"building a network needs {error.name}; {pip_install('export')}"
        ) from error
    return transformers
