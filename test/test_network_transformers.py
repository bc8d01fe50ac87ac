"""Networks that `transformers` describes, on random weights: exported graphs against its own."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx

from depth_node.network import architecture, front, large
from depth_node.network.build import normalised
from depth_node.network.compose import Size, compose
from depth_node.network.errors import ModelError
from depth_node.network.export import export_core
from depth_node.network.registry import Entry, find_entry
from depth_node.network.weights import load_weights

NARROW = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
NECK = {"neck_hidden_sizes": [8, 16, 16, 16], "fusion_hidden_size": 16}


def dpt() -> dict[str, Any]:
    from transformers import DPTConfig

    config = DPTConfig(
        **NARROW, **NECK, intermediate_size=64, image_size=64, backbone_out_indices=[0, 1, 2, 3]
    )
    return config.to_dict()


def dpt_hybrid() -> dict[str, Any]:
    """As Intel/dpt-hybrid-midas: a BiT in front, whose first two stages go straight to the neck."""
    from transformers import DPTConfig

    backbone = {
        "model_type": "bit",
        "embedding_size": 16,
        "hidden_sizes": [16, 32, 64],
        "depths": [1, 1, 1],
        "num_groups": 4,
        "global_padding": "same",
        "layer_type": "bottleneck",
        "out_features": ["stage1", "stage2", "stage3"],
        "embedding_dynamic_padding": True,
    }
    config = DPTConfig(
        **NARROW,
        intermediate_size=64,
        image_size=64,
        is_hybrid=True,
        backbone_config=backbone,
        backbone_featmap_shape=[1, 64, 4, 4],
        backbone_out_indices=[0, 1, 2, 3],
        reassemble_factors=[1, 1, 1, 0.5],
        neck_hidden_sizes=[16, 32, 32, 32],
        neck_ignore_stages=[0, 1],
        fusion_hidden_size=16,
    )
    return config.to_dict()


def zoedepth() -> dict[str, Any]:
    """As Intel/zoedepth-kitti: one head, whose published range is that of NYU."""
    from transformers import BeitConfig, ZoeDepthConfig

    backbone = BeitConfig(
        **NARROW,
        image_size=64,
        intermediate_size=64,
        use_relative_position_bias=True,
        use_mask_token=False,
        reshape_hidden_states=False,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = ZoeDepthConfig(
        backbone_config=backbone,
        backbone_hidden_size=32,
        **NECK,
        bottleneck_features=16,
        num_out_features=[16, 16, 16, 16],
        bin_embedding_dim=16,
        num_relative_features=8,
        bin_centers_type="normed",
        bin_configurations=[{"name": "nyu", "n_bins": 64, "min_depth": 0.001, "max_depth": 10.0}],
    )
    return config.to_dict()


def depth_pro() -> dict[str, Any]:
    """As apple/DepthPro-hf, an eighth as wide: three scales of patches, and a field of view."""
    from transformers import DepthProConfig

    encoder = {"model_type": "dinov2", **NARROW, "image_size": 32, "patch_size": 8}
    config = DepthProConfig(
        patch_size=32,
        fusion_hidden_size=16,
        intermediate_hook_ids=[3, 1],
        intermediate_feature_dims=[16, 16],
        scaled_images_feature_dims=[32, 32, 16],
        merge_padding_value=1,
        use_fov_model=True,
        image_model_config=encoder,
        patch_model_config=encoder,
        fov_model_config=encoder,
    )
    return config.to_dict()


ENTRIES = {
    "dpt": Entry("dpt", "MIT", "relative", "disparity", "", "transformers", multiple=32),
    "dpt_hybrid": Entry("dpt", "MIT", "relative", "disparity", "", "transformers", multiple=32),
    "zoedepth": Entry(
        "zoe", "MIT", "metric", "depth", "", "transformers", max_depth_m=80.0, multiple=32,
        mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="linear", padded=True,
    ),
    "depth_pro": Entry(
        "pro", "apple-amlr", "metric", "disparity", "", "transformers", multiple=128,
        input_size=128, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="linear",
    ),
}  # fmt: skip
SIDES = {"depth_pro": 128}


def network(folder: Path, name: str) -> Any:
    """A small network with random weights, from a config.json as its repository has one."""
    config = folder / "config.json"
    config.write_text(json.dumps(globals()[name]()))
    torch.manual_seed(0)
    module = architecture.build_module(ENTRIES[name], config)
    if name == "zoedepth":  # metres that follow the image
        for weight in module.parameters():
            if weight.ndim > 1:
                torch.nn.init.xavier_normal_(weight, gain=1.5)
    if name == "depth_pro":  # a field of view of some 60 degrees
        torch.nn.init.normal_(module.fov_model.head.layers[-1].weight, std=1e-3)
        torch.nn.init.constant_(module.fov_model.head.layers[-1].bias, 60.0)
    return module


def run(model: Any, **inputs: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)[0]


def predict(name: str, module: Any, pixels: np.ndarray) -> np.ndarray:
    """What the network means: disparity, metres, or for Depth Pro what its own code makes of it."""
    with torch.no_grad():
        seen = module(torch.from_numpy(pixels))
    if name != "depth_pro":
        return seen.predicted_depth.numpy()
    # `DepthProImageProcessor.post_process_depth_estimation`, for an image of any width.
    width, degrees = 640.0, float(seen.field_of_view)
    assert 50.0 < degrees < 70.0
    focal_length = 0.5 * width / math.tan(0.5 * math.radians(degrees))
    return (seen.predicted_depth * width / focal_length).numpy()


def relative_error(seen: np.ndarray, wanted: np.ndarray) -> float:
    assert seen.shape == wanted.shape
    assert np.std(wanted) > 0
    return float(np.linalg.norm(seen - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("name", ENTRIES)
def test_an_exported_graph_equals_transformers(tmp_path, name):
    module, side = network(tmp_path, name), SIDES.get(name, 64)
    pixels = np.random.default_rng(1).standard_normal((1, 3, side, side), dtype=np.float32)
    wanted = predict(name, module, pixels)
    model = export_core(ENTRIES[name], module, Size(height=side, width=side))
    assert relative_error(run(model, pixels=pixels), wanted) <= 1e-4


def test_a_network_of_one_size_names_it(tmp_path):
    with pytest.raises(ModelError, match="fixed size; give --size 518x518"):
        export_core(ENTRIES["dpt"], network(tmp_path, "dpt"), Size(short=64))


def test_the_hybrid_standardises_its_weights_before_it_is_exported(tmp_path):
    model = export_core(
        ENTRIES["dpt_hybrid"], network(tmp_path, "dpt_hybrid"), Size(height=64, width=64)
    )
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)


def test_depth_pro_gives_inverse_metres_from_camera_bytes(tmp_path):
    entry, module = ENTRIES["depth_pro"], network(tmp_path, "depth_pro")
    size = Size(height=128, width=128)
    noise = np.random.default_rng(0).integers(0, 256, (96, 160, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(noise, (0, 0), 2)
    model = compose(export_core(entry, module, size), entry, size, "fp32")
    wanted = predict("depth_pro", module, normalised(entry, size, image))[0]
    assert relative_error(run(model, image=image), wanted) <= 1e-3


def photograph(height: int, width: int) -> np.ndarray:
    """A smooth picture: bytes, RGB, brighter to the lower right, so that a shift of it shows."""
    noise = np.random.default_rng(0).integers(0, 128, (height, width, 3), dtype=np.uint8)
    slope = np.linspace(0, 63, height)[:, None] + np.linspace(0, 63, width)
    picture = cv2.GaussianBlur(noise, (0, 0), 5) + slope[..., None]
    return picture.astype(np.uint8)


def zoedepth_metres(module: Any, side: int, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixels (1x3xhxw) and metres (HxW) that transformers makes of an image.

    Its cubic resize may overshoot at edges; no nearer than the nearest that the network gave.
    """
    pytest.importorskip("PIL")  # its image processors do not start without
    from transformers import ZoeDepthImageProcessor

    processor = ZoeDepthImageProcessor(size={"height": side, "width": side * 4 // 3})
    pixels = processor(images=image, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        seen = module(pixels)
    (result,) = processor.post_process_depth_estimation(seen, source_sizes=[image.shape[:2]])
    return pixels.numpy(), result["predicted_depth"].clamp(min=seen.predicted_depth.min()).numpy()


@pytest.mark.parametrize(
    ("shape", "size"), [((120, 160), "96x128"), ((144, 256), "96x160"), ((512, 288), "224x128")]
)
def test_zoedepth_gives_the_metres_of_transformers_from_camera_bytes(tmp_path, shape, size):
    entry, module = ENTRIES["zoedepth"], network(tmp_path, "zoedepth")
    image, fixed = photograph(*shape), Size.parse(size, 32)
    pixels, metres = zoedepth_metres(module, 96, image)
    assert pixels.shape[2:] == (fixed.height, fixed.width)
    np.testing.assert_allclose(normalised(entry, fixed, image), pixels, atol=1e-5)
    model = compose(export_core(entry, module, fixed), entry, fixed, "fp32")
    onnx.checker.check_model(model, full_check=True)
    assert front.split_front(model) is None  # OpenCV's resize is another one
    disparity = run(model, image=image)
    assert disparity.shape == shape
    end = 0.98 * entry.max_depth_m  # from there on the network says no more than "far"
    seen = disparity > 0
    clear = np.abs(metres - end) > 0.1
    np.testing.assert_array_equal(seen[clear], metres[clear] < end)
    assert seen.mean() > 0.9
    assert relative_error(1.0 / disparity[seen], metres[seen]) <= 1e-4
    assert 1.0 / disparity.max() == pytest.approx(metres.min(), rel=1e-3)


def test_openvino_pads_and_crops_as_onnx_runtime(tmp_path):
    openvino = pytest.importorskip("openvino")
    entry, size = ENTRIES["zoedepth"], Size(height=96, width=128)
    model = compose(export_core(entry, network(tmp_path, "zoedepth"), size), entry, size, "fp32")
    image = photograph(120, 160)
    core = openvino.Core()
    network_there = core.read_model(model.SerializeToString())
    network_there.reshape({"image": list(image.shape)})
    seen = core.compile_model(network_there, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image)[0]
    assert relative_error(seen, run(model, image=image)) <= 1e-3


def test_the_range_of_the_entry_takes_the_place_of_the_published_one(tmp_path):
    from transformers import ZoeDepthConfig, ZoeDepthForDepthEstimation

    module, image = network(tmp_path, "zoedepth"), photograph(120, 160)
    published = ZoeDepthForDepthEstimation(ZoeDepthConfig(**zoedepth())).eval()
    published.load_state_dict(module.state_dict())
    far, near = (zoedepth_metres(m, 96, image)[1] for m in (module, published))
    nearest = 0.001
    wanted = nearest + (near - nearest) * (80.0 - nearest) / (10.0 - nearest)
    assert relative_error(far, wanted) <= 1e-4


def test_the_shipped_zoedepths_run_at_the_size_of_their_reference():
    for name, farthest in (("zoedepth-nyu", 10.0), ("zoedepth-kitti", 80.0)):
        entry = find_entry(name)
        assert (entry.default_size, entry.max_depth_m) == ("384x512", farthest)
        assert (entry.padded, entry.output, entry.non_commercial) == (True, "depth", False)


def test_depth_pro_is_for_research_only_and_runs_at_one_size():
    entry = find_entry("depth-pro")
    assert entry.non_commercial
    assert (entry.kind, entry.output, entry.default_size) == ("metric", "disparity", "1536x1536")


def test_a_network_beyond_an_onnx_file_stores_halves_that_lose_nothing(tmp_path, monkeypatch):
    module = network(tmp_path, "dpt")
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(weight.half().float())
    size = Size(height=64, width=64)
    pixels = np.random.default_rng(1).standard_normal((1, 3, 64, 64), dtype=np.float32)
    model = export_core(ENTRIES["dpt"], module, size)
    wanted, limit = run(model, pixels=pixels), int(0.7 * model.ByteSize())
    monkeypatch.setattr(large, "LARGEST_BYTES", limit)
    stored = large.storable(model)
    assert stored.ByteSize() < limit
    np.testing.assert_array_equal(run(stored, pixels=pixels), wanted)


def test_a_network_beyond_an_onnx_file_whose_weights_need_fp32_is_refused(tmp_path, monkeypatch):
    model = export_core(ENTRIES["dpt"], network(tmp_path, "dpt"), Size(height=64, width=64))
    monkeypatch.setattr(large, "LARGEST_BYTES", 1000)
    with pytest.raises(ModelError, match=r"an ONNX file holds .* does not fit into fp16"):
        large.storable(model)


def test_a_network_beyond_an_onnx_file_even_in_fp16_is_refused(tmp_path, monkeypatch):
    module = network(tmp_path, "dpt")
    with torch.no_grad():
        for weight in module.parameters():
            weight.zero_()
    model = export_core(ENTRIES["dpt"], module, Size(height=64, width=64))
    monkeypatch.setattr(large, "LARGEST_BYTES", 1000)
    with pytest.raises(ModelError, match="fp16 is not small enough"):
        large.storable(model)


def test_dpt_loads_without_the_layer_that_it_never_calls(tmp_path):
    """As Intel/dpt-large was published."""
    module, side = network(tmp_path, "dpt"), 64
    pixels = np.random.default_rng(1).standard_normal((1, 3, side, side), dtype=np.float32)
    wanted = predict("dpt", module, pixels)
    unused = "neck.fusion_stage.layers.0.residual_layer1."
    state = {name: t for name, t in module.state_dict().items() if not name.startswith(unused)}
    assert len(state) < len(module.state_dict())
    torch.manual_seed(1)
    fresh = architecture.build_module(ENTRIES["dpt"], tmp_path / "config.json")
    load_weights(fresh, state, Path("model.safetensors"))
    np.testing.assert_array_equal(predict("dpt", fresh, pixels), wanted)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("dpt", "neck.fusion_stage.layers.1.residual_layer1.convolution1.weight"),
        ("dpt", "neck.fusion_stage.layers.0.residual_layer2.convolution1.weight"),
        ("zoedepth", "neck.fusion_stage.layers.0.residual_layer1.convolution1.weight"),
    ],
)
def test_any_other_layer_that_is_missing_is_named(tmp_path, name, missing):
    module = network(tmp_path, name)
    state = module.state_dict()
    del state[missing]
    with pytest.raises(ModelError, match=f"it lacks {missing}"):
        load_weights(module, state, Path("model.safetensors"))


def test_a_config_that_describes_no_depth_network_is_refused(tmp_path):
    config = tmp_path / "config.json"
    config.write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="describes no depth network"):
        architecture.build_module(ENTRIES["dpt"], config)


def test_a_zoedepth_of_two_heads_is_refused_since_a_graph_would_keep_one(tmp_path):
    config = tmp_path / "config.json"
    values = zoedepth()
    values["bin_configurations"] *= 2
    config.write_text(json.dumps(values))
    with pytest.raises(ModelError, match=r"2 heads.*by the image. Take zoedepth-nyu"):
        architecture.build_module(ENTRIES["zoedepth"], config)


def test_a_zoedepth_is_refused_by_an_entry_that_does_not_pad(tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(zoedepth()))
    with pytest.raises(ModelError, match=r"dpt lacks the padding.*--like zoedepth-nyu"):
        architecture.build_module(ENTRIES["dpt"], config)


def test_a_config_that_is_missing_is_told_from_a_bad_one(tmp_path):
    with pytest.raises(ModelError, match=r"cannot read .*config.json \(No such file.*beside the"):
        architecture.build_module(ENTRIES["dpt"], tmp_path / "config.json")
