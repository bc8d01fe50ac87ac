"""Networks from checkpoints, on random weights: exported graphs against `transformers`."""

from __future__ import annotations

import dataclasses
import io
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from depth_node.network import architecture, build
from depth_node.network.adopt import add_checkpoint
from depth_node.network.build import export_graphs, normalised
from depth_node.network.compose import Size, compose
from depth_node.network.errors import ModelError
from depth_node.network.export import export_core, load_module
from depth_node.network.precision import to_fp16
from depth_node.network.registry import Entry, find_entry
from depth_node.network.resolve import resolve_model
from depth_node.network.store import graph_path
from depth_node.network.weights import (
    load_weights,
    read_checkpoint,
    to_transformers_names,
)
from depth_node.parameters import ModelSettings

TINY = Entry("tiny", "Apache-2.0", "relative", "disparity", "tiny.pth", variant="v2-tiny")
METRIC = dataclasses.replace(TINY, kind="metric", output="depth", max_depth_m=20.0)


@pytest.fixture(autouse=True)
def tiny_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Depth Anything of 4 narrow layers, and a cache of its own."""
    size = {"hidden": 48, "heads": 3, "layers": 4, "neck": [8, 16, 32, 32], "fusion": 16}
    monkeypatch.setitem(architecture._SIZES, "tiny", size)
    monkeypatch.setitem(architecture._TAPS, "v2-tiny", (1, 2, 3, 4))
    monkeypatch.setenv("DEPTH_NODE_CACHE", str(tmp_path / "cache"))


def random_network(entry: Entry, seed: int = 0):
    """A network whose random weights keep the signal alive through all layers."""
    torch.manual_seed(seed)
    module = architecture.build_module(entry)
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    torch.nn.init.normal_(module.backbone.embeddings.position_embeddings, std=0.5)
    with torch.no_grad():
        module.head.conv3.weight.mul_(0.02)  # keeps a metric head's sigmoid off its ends
    return module


def run(model, **inputs: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)[0]


def relative_error(seen: np.ndarray, wanted: np.ndarray) -> float:
    assert seen.shape == wanted.shape
    assert np.std(wanted) > 0
    return float(np.linalg.norm(seen - wanted) / np.linalg.norm(wanted))


def predict(module, pixels: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.from_numpy(pixels)).predicted_depth.numpy()


SIZES = [(518, 518), (252, 336), (392, 518), (210, 686)]


def check_sizes(entry: Entry) -> None:
    module = random_network(entry)
    model = export_core(entry, module, Size(short=252))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for height, width in SIZES:
        pixels = np.random.default_rng(1).standard_normal((1, 3, height, width), dtype=np.float32)
        seen = session.run(None, {"pixels": pixels})[0]
        assert relative_error(seen, predict(module, pixels)) <= 1e-4


@pytest.mark.parametrize("entry", [TINY, METRIC], ids=["relative", "metric"])
def test_an_exported_graph_of_any_size_equals_transformers(entry):
    check_sizes(entry)


@pytest.mark.slow
def test_depth_anything_v2_small_exported_equals_transformers():
    check_sizes(find_entry("depth-anything-v2-small"))


def test_a_graph_of_a_fixed_size_equals_transformers():
    module = random_network(TINY)
    pixels = np.random.default_rng(1).standard_normal((1, 3, 252, 336), dtype=np.float32)
    model = export_core(TINY, module, Size(height=252, width=336))
    assert relative_error(run(model, pixels=pixels), predict(module, pixels)) <= 1e-4


def photograph(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX)


@pytest.mark.parametrize("entry", [TINY, METRIC], ids=["relative", "metric"])
def test_from_camera_bytes_the_disparity_is_that_of_the_reference(entry):
    module = random_network(entry)
    size = Size(short=252)
    model = compose(export_core(entry, module, size), entry, size, "fp32")
    wanted = predict(module, normalised(entry, size, photograph()))[0]
    if entry is METRIC:
        wanted = 1.0 / np.maximum(wanted, 1e-3)
    assert relative_error(run(model, image=photograph()), wanted) <= 1e-3


def official_names(state: dict) -> dict:
    """A state of `transformers` under the names of the official repository, from its sources."""
    official = {}
    for name, tensor in state.items():
        new = name
        for old, theirs in (
            ("backbone.embeddings.position_embeddings", "pretrained.pos_embed"),
            ("backbone.embeddings.patch_embeddings.projection", "pretrained.patch_embed.proj"),
            ("backbone.embeddings", "pretrained"),
            ("backbone.layernorm", "pretrained.norm"),
            ("backbone.encoder.layer", "pretrained.blocks"),
            ("attention.output.dense", "attn.proj"),
            ("layer_scale1.lambda1", "ls1.gamma"),
            ("layer_scale2.lambda1", "ls2.gamma"),
            ("head.conv1", "depth_head.scratch.output_conv1"),
            ("head.conv2", "depth_head.scratch.output_conv2.0"),
            ("head.conv3", "depth_head.scratch.output_conv2.2"),
        ):
            new = new.replace(old, theirs)
        for i in range(4):
            new = new.replace(f"neck.convs.{i}.", f"depth_head.scratch.layer{i + 1}_rn.")
            stage = f"neck.reassemble_stage.layers.{i}."
            new = new.replace(f"{stage}projection", f"depth_head.projects.{i}")
            new = new.replace(f"{stage}resize", f"depth_head.resize_layers.{i}")
            fuse = f"depth_head.scratch.refinenet{4 - i}."
            new = new.replace(f"neck.fusion_stage.layers.{i}.", fuse)
        new = new.replace("refinenet", "refinenet").replace(".projection.", ".out_conv.")
        for i in (1, 2):
            for j in (1, 2):
                new = new.replace(f"residual_layer{i}.convolution{j}", f"resConfUnit{i}.conv{j}")
        official[new] = tensor
    for name in [n for n in official if ".attention.attention.query." in n]:
        parts = [official.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        official[name.replace("attention.attention.query", "attn.qkv")] = torch.cat(parts)
    return official


def test_official_names_load_into_the_same_network():
    module = random_network(TINY)
    state = module.state_dict()
    official = official_names(state)
    assert all(name.startswith(("pretrained.", "depth_head.")) for name in official)
    assert "pretrained.blocks.0.attn.qkv.weight" in official
    assert "depth_head.scratch.refinenet1.resConfUnit2.conv1.bias" in official
    back = to_transformers_names(official)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_checkpoints_of_both_forms_give_the_same_disparity(tmp_path, form):
    module = random_network(TINY)
    path = tmp_path / f"tiny.{form}"
    if form == "pth":
        torch.save(official_names(module.state_dict()), path)
    else:
        from safetensors.torch import save_file

        save_file(module.state_dict(), path)
    loaded = load_module(TINY, path)
    pixels = np.ones((1, 3, 56, 70), np.float32)
    np.testing.assert_array_equal(predict(loaded, pixels), predict(module, pixels))


def test_a_checkpoint_of_another_architecture_names_the_first_tensor():
    state = random_network(TINY).state_dict()
    other = architecture.build_module(dataclasses.replace(TINY, variant="v2-small"))
    with pytest.raises(
        ModelError, match=r"cls_token has shape \(1, 1, 48\), expected \(1, 1, 384\)"
    ):
        load_weights(other, state, Path("tiny.pth"))


def test_a_checkpoint_with_a_tensor_too_few_or_too_many_is_refused():
    module = random_network(TINY)
    state = module.state_dict()
    del state["head.conv3.bias"]
    with pytest.raises(ModelError, match=r"lacks head.conv3.bias of shape \(1,\)"):
        load_weights(module, state, Path("tiny.pth"))
    extra = {**module.state_dict(), "optimizer.step": torch.zeros(1)}
    with pytest.raises(ModelError, match=r"it has optimizer.step"):
        load_weights(module, extra, Path("tiny.pth"))


class Evil:
    """Would run code if it were unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("evil"),))


def test_a_pickle_with_code_is_not_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    torch.save({"weights": Evil()}, buffer)
    for content in (buffer.getvalue(), pickle.dumps(Evil())):
        (tmp_path / "evil.pth").write_bytes(content)
        with pytest.raises(ModelError, match="not loaded"):
            read_checkpoint(tmp_path / "evil.pth")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pth", "readme.txt"])
def test_a_damaged_or_foreign_file_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ModelError, match=r"damaged|no checkpoint"):
        read_checkpoint(tmp_path / name)


def test_fp16_survives_activations_at_its_edge():
    """Residuals up to half of fp16's largest number: their squares overflow it by far."""
    module = random_network(TINY)
    embeddings = module.backbone.embeddings
    largest = 0.0

    def watch(_module, _inputs, output):
        nonlocal largest
        largest = max(largest, float(output.abs().max()))

    embeddings.register_forward_hook(watch)
    pixels = np.random.default_rng(1).standard_normal((1, 3, 112, 140), dtype=np.float32)
    predict(module, pixels)
    with torch.no_grad():
        factor = 30000.0 / largest
        for parameter in embeddings.parameters():
            parameter.mul_(factor)
    largest = 0.0
    wanted = predict(module, pixels)
    assert 20000 < largest < 65504
    half = to_fp16(export_core(TINY, module, Size(height=112, width=140)))
    seen = run(half, pixels=pixels)
    assert np.isfinite(seen).all()
    assert relative_error(seen, wanted) <= 0.01


def test_export_writes_every_precision_and_its_error(tmp_path, monkeypatch):
    path = tmp_path / "tiny.pth"
    torch.save(random_network(TINY).state_dict(), path)
    lines: list[str] = []
    frames = [photograph(seed) for seed in range(4)]
    written = export_graphs(TINY, path, Size(height=112, width=140), ["fp16"], frames, lines.append)
    assert [g.precision for g in written] == ["fp32", "fp16"]
    assert written[0].error == 0.0
    assert 0.0 < written[1].error <= 0.01
    assert written[1].images == 2
    assert all(g.path.is_file() for g in written)


def test_a_further_export_keeps_variants_of_the_same_weights_only(tmp_path):
    frames = [np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)]
    lines: list[str] = []
    kept = []
    for seed, precisions in ((0, ["fp16"]), (0, ["fp32"]), (1, ["fp32"])):
        path = tmp_path / f"tiny_{seed}.pth"
        torch.save(random_network(TINY, seed).state_dict(), path)
        export_graphs(TINY, path, Size(height=112, width=140), precisions, frames, lines.append)
        kept.append(graph_path("tiny", "112x140", "fp16").is_file())
    assert kept == [True, True, False]
    assert [line for line in lines if "deleted" in line] == [
        f"deleted {graph_path('tiny', '112x140', 'fp16')}: "
        "it was made of other weights, or by another export"
    ]


@pytest.mark.slow
def test_int8_carries_quantisers_and_stays_close(tmp_path):
    pytest.importorskip("nncf")
    path = tmp_path / "tiny.pth"
    torch.save(random_network(TINY).state_dict(), path)
    frames = [photograph(seed) for seed in range(6)]
    written = export_graphs(
        TINY, path, Size(height=112, width=140), ["int8"], frames, lambda _: None
    )
    import onnx

    graph = onnx.load(written[1].path).graph
    assert sum(node.op_type == "QuantizeLinear" for node in graph.node) > 10
    assert written[1].error < 0.2
    assert build.graph_path("tiny", "112x140", "int8") == written[1].path


def test_int8_without_frames_is_refused():
    from depth_node.network.precision import to_int8

    with pytest.raises(ModelError, match="frames to calibrate on"):
        to_int8(None, [])


def test_a_checkpoint_copied_by_hand_takes_the_place_of_the_fetched_one(tmp_path):
    path = tmp_path / "copied.pth"
    torch.save(random_network(TINY).state_dict(), path)
    own = add_checkpoint(TINY, path)
    assert find_entry("tiny") == own
    with pytest.raises(ModelError, match="truncated or altered"):
        add_checkpoint(dataclasses.replace(TINY, sha256="0" * 64), path)


def test_other_weights_under_an_old_name_take_its_graphs_with_them(tmp_path):
    lines: list[str] = []
    paths = [tmp_path / f"tiny_{seed}.pth" for seed in range(2)]
    for seed, path in enumerate(paths):
        torch.save(random_network(TINY, seed).state_dict(), path)
    copy = tmp_path / "copy.pth"
    copy.write_bytes(paths[0].read_bytes())
    add_checkpoint(TINY, paths[0])
    graphs = [graph_path("tiny", "252", precision) for precision in ("fp16", "fp32")]
    graphs[0].parent.mkdir(parents=True)
    for graph in graphs:
        graph.write_bytes(b"made of the first")
    add_checkpoint(TINY, copy, lines.append)
    assert all(graph.is_file() for graph in graphs)
    assert not lines
    add_checkpoint(TINY, paths[1], lines.append)
    assert lines == [
        f"deleted {graph}: it was made of other weights; export tiny again" for graph in graphs
    ]
    with pytest.raises(ModelError, match="depth-node models export tiny"):
        resolve_model(ModelSettings(name="tiny"), lines.append)


def test_an_old_graph_of_another_meaning_goes_though_the_weights_are_the_same(tmp_path):
    path = tmp_path / "tiny.pth"
    torch.save(random_network(TINY).state_dict(), path)
    graph = graph_path("tiny", "252", "fp32")
    graph.parent.mkdir(parents=True)
    add_checkpoint(TINY, path)
    graph.write_bytes(b"disparity")
    add_checkpoint(METRIC, path)
    assert not graph.is_file()
