"""Engines of one session for many sizes: tests at further ones, bounds, and a cache that is bad."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from depth_node.engines.base import EngineError
from depth_node.engines.by_shape import ByShape
from depth_node.engines.cache import EngineCache
from depth_node.engines.openvino import OpenVino
from depth_node.engines.ort import OnnxRuntimeCpu
from depth_node.engines.ort_cuda import OnnxRuntimeCuda
from depth_node.engines.select import load_engine
from depth_node.engines.selftest import SelfTest
from depth_node.network.graph import read_graph
from depth_node.parameters import ModelSettings

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
from onnx_stubs import save_stub, stub_model

pytestmark = pytest.mark.usefixtures("own_cache")

MEAN = "mean = ReduceMean <axes = [1]> (pixels)"
WRONG_AT_120_ROWS = f"""{MEAN}  sides = Shape (pixels)
    at = Constant <value = int64 {{2}}> ()  rows = Gather (sides, at)
    few = Constant <value = int64 {{120}}> ()  same = Equal (rows, few)
    again = Cast <to = 1> (same)  more = Mul (mean, again)  raw = Add (mean, more)"""
"""Twice the disparity where the network has 120 rows."""
READS_THE_SIZE = f"""{MEAN}  count = Size (image)
    few = Constant <value = int64 {{NUMBER}}> ()  same = Equal (count, few)
    again = Cast <to = 1> (same)  more = Mul (mean, again)  raw = Add (mean, more)"""
"""The front is not understood, as something else reads the image."""


@pytest.fixture
def cuda_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's CUDA provider, played by its CPU provider."""
    monkeypatch.setattr(OnnxRuntimeCuda, "_provider", "CPUExecutionProvider")
    monkeypatch.setattr(OnnxRuntimeCuda, "_fallbacks", ())
    monkeypatch.setattr(OnnxRuntimeCuda, "_memory", "cpu")


def saved(
    folder: Path, half: str, *, fp32: str = MEAN.replace("mean =", "raw ="), size=None
) -> Path:
    """An fp32 graph of these bodies, and its fp16 variant."""
    save_stub(folder / "net.fp16.onnx", body=half, opset=13, size=size, precision="fp16")
    return save_stub(folder / "net.onnx", body=fp32, opset=13, size=size)


def load(path: Path, lines: list[str], engine: str, precision: str = "fp16"):
    settings = ModelSettings(name=str(path), engine=engine, precision=precision, threads=1)
    return load_engine(settings, lines.append)


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def told(lines: list[str], engine: str, size: str) -> list[str]:
    return [line for line in lines if f"{engine} fp16: tested for images of {size}" in line]


ENGINES = ("onnxruntime", "onnxruntime-cuda")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "half",
    [WRONG_AT_120_ROWS, READS_THE_SIZE.replace("NUMBER", str(240 * 320 * 3))],
    ids=["split", "whole"],
)
def test_a_size_at_which_a_variant_is_wrong_gets_no_depth(
    tmp_path, lines, cuda_on_the_cpu, engine, half
):
    loaded = load(saved(tmp_path, half), lines, engine)
    for _ in range(2):
        with pytest.raises(EngineError, match=r"not used for images of 320x240: .* by 100.00%"):
            loaded.infer(picture(240, 320))
        assert loaded.infer(picture(480, 640)).values.shape == (240, 320)
    assert loaded.infer(picture(360, 640)).values.shape == (180, 320)
    assert len(told(lines, engine, "640x360")) == 1
    loaded.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_further_size_is_tested_once_for_all_starts(tmp_path, lines, cuda_on_the_cpu, engine):
    path = saved(tmp_path, MEAN.replace("mean =", "raw ="))
    for _ in range(2):
        loaded = load(path, lines, engine)
        for size in [(240, 320), (480, 640), (240, 320)]:
            loaded.infer(picture(*size))
        loaded.close()
    assert len(told(lines, engine, "320x240")) == 1
    assert not told(lines, engine, "640x480")  # that is what it was taken for


@pytest.mark.parametrize("engine", ENGINES)
def test_a_network_of_a_fixed_size_is_tested_once_for_images_of_all(
    tmp_path, lines, cuda_on_the_cpu, engine
):
    path = saved(tmp_path, MEAN.replace("mean =", "raw ="), size=(42, 56))
    loaded = load(path, lines, engine)
    assert loaded.infer(picture(240, 320)).values.shape == (42, 56)
    assert not [line for line in lines if "tested for images" in line]


def test_what_is_the_reference_itself_is_not_held_to_itself(tmp_path, lines):
    loaded = load(save_stub(tmp_path / "net.onnx", size=None), lines, "onnxruntime", "fp32")
    assert loaded.infer(picture(240, 320)).values.shape == (120, 160)
    assert not [line for line in lines if "tested for images" in line]


def opened(engine: str, path: Path):
    graph, cache = read_graph(path), EngineCache()
    self_test = SelfTest(cache, lambda: read_graph(path), lambda graph: OnnxRuntimeCpu(graph, 1))
    if engine == "openvino":
        return OpenVino(graph, "fp32", 1, cache, self_test)
    if engine == "onnxruntime":
        return OnnxRuntimeCpu(graph, 1, self_test)
    return OnnxRuntimeCuda(graph, self_test)


@pytest.mark.parametrize("engine", ["openvino", *ENGINES])
def test_an_image_that_the_network_would_be_too_large_for_costs_itself_alone(
    tmp_path, cuda_on_the_cpu, monkeypatch, engine
):
    loaded = opened(engine, save_stub(tmp_path / "net.onnx", size=None))
    opens: list[object] = []
    load_shape = ByShape.load
    monkeypatch.setattr(
        ByShape, "load", lambda self, shape: opens.append(shape) or load_shape(self, shape)
    )
    for _ in range(2):
        with pytest.raises(EngineError, match=r"resized to 32000x5.*set model.size to a fixed"):
            loaded.infer(picture(10, 64000))
    assert not opens
    assert loaded.infer(picture(480, 640)).values.shape == (240, 320)


@pytest.mark.parametrize("engine", ["openvino", *ENGINES])
def test_a_network_of_a_fixed_size_takes_any_image(tmp_path, cuda_on_the_cpu, engine):
    loaded = opened(engine, save_stub(tmp_path / "net.onnx"))
    assert loaded.infer(picture(10, 64000)).values.shape == (42, 56)


@pytest.mark.parametrize("size", [(42, 56), None])
def test_bound_buffers_are_used_again_and_follow_the_images_size(tmp_path, cuda_on_the_cpu, size):
    engine = OnnxRuntimeCuda(read_graph(save_stub(tmp_path / "net.onnx", size=size)))
    whole = onnxruntime.InferenceSession(stub_model(size=size).SerializeToString())
    image, small = picture(480, 640), picture(240, 320)
    kept = {image.shape: set(), small.shape: set()}
    for view in (image, 255 - image, small, image[:, ::-1], small[::-1], image):
        (wanted,) = whole.run(None, {"image": np.ascontiguousarray(view)})
        before = view.copy()
        np.testing.assert_array_equal(engine.infer(view).values, wanted)
        np.testing.assert_array_equal(view, before)  # which the CPU's binding must not be
        kept[view.shape].add(engine._shapes.get(view.shape))
    (first,), (second,) = kept.values()
    assert first.session is second.session
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(image)


def test_a_cached_network_that_openvino_refuses_is_compiled_again_and_kept(tmp_path, lines):
    path = save_stub(tmp_path / "net.onnx")
    wanted = load(path, lines, "openvino", "fp32").infer(picture(480, 640)).values
    (kept,) = (entry for entry in EngineCache().entries() if entry.size_bytes)
    EngineCache().store(kept.signature, b"of another build of OpenVINO")
    for starts in (1, 1):  # the second start finds it whole
        again = load(path, lines, "openvino", "fp32")
        np.testing.assert_array_equal(again.infer(picture(480, 640)).values, wanted)
        assert len([line for line in lines if "is compiled again" in line]) == starts


def test_a_network_that_openvino_refuses_twice_is_given_up(tmp_path, monkeypatch):
    import openvino

    compiled: list[object] = []

    class Core(openvino.Core):
        def compile_model(self, *arguments):
            compiled.append(arguments)
            return super().compile_model(*arguments)

        def import_model(self, *_):
            raise RuntimeError("requirements do not match")

    monkeypatch.setattr(openvino, "Core", Core)
    graph = read_graph(save_stub(tmp_path / "net.onnx"))
    reason = "refuses the network that it has just compiled: requirements do not match"
    with pytest.raises(EngineError, match=reason):
        OpenVino(graph, "fp32", 1, EngineCache())
    assert len(compiled) == 2
    assert not EngineCache().entries()
