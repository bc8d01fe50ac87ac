"""ONNX Runtime's TensorRT provider, played by its CPU provider behind a strict stand-in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from depth_node.engines import ort_cuda, select
from depth_node.engines.base import EngineError, EngineUnavailable
from depth_node.engines.cache import EngineCache
from depth_node.engines.ort import OnnxRuntimeCpu
from depth_node.engines.ort_tensorrt import OnnxRuntimeTensorRt
from depth_node.engines.select import load_engine
from depth_node.engines.selftest import SelfTest
from depth_node.network.errors import ModelError
from depth_node.network.graph import read_graph
from depth_node.parameters import ModelSettings

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from onnx_stubs import save_stub, stub_model

PROVIDER = "TensorrtExecutionProvider"
# From onnxruntime.ai, "TensorRT Execution Provider": what is used here, and what must not be.
KNOWN = {
    "device_id",
    "trt_max_workspace_size",
    "trt_engine_cache_enable",
    "trt_engine_cache_path",
}
PRECISION_SWITCHES = {"trt_fp16_enable", "trt_bf16_enable", "trt_int8_enable"}


class Provider:
    """Does what ONNX Runtime does with the provider's options, and computes on the CPU.

    Attributes:
        compiled: shapes that were compiled, and not found in the folder.
        broken: engines in the folder cannot be read.
        loads: whether TensorRT's libraries can be loaded.
        wrong: shape that is compiled to something that computes twice the disparity.
        refused: shape that is not compiled, and how often that was asked for.
    """

    def __init__(self) -> None:
        self.compiled: list[tuple[int, ...]] = []
        self.broken = False
        self.loads = True
        self.wrong: tuple[int, ...] = ()
        self.refused: tuple[tuple[int, ...], int] = ((), 0)

    def open_session(self, ort, proto, settings, providers, graph):
        (name, options), *fallbacks = providers
        assert name == PROVIDER
        assert fallbacks == ["CUDAExecutionProvider", "CPUExecutionProvider"]
        assert options.keys() == KNOWN
        assert not options.keys() & PRECISION_SWITCHES
        assert all(isinstance(value, str) for value in options.values())
        session = ort.InferenceSession(
            proto.SerializeToString(), settings, providers=["CPUExecutionProvider"]
        )
        session.get_providers = lambda: [name] if self.loads else ["CPUExecutionProvider"]
        if not self.loads:
            return session
        shape = tuple(session.get_inputs()[0].shape)
        assert all(isinstance(side, int) for side in shape), "it would compile at the first frame"
        folder = Path(options["trt_engine_cache_path"])
        assert folder.stat().st_mode & 0o777 == 0o700
        engine = folder / "TensorrtExecutionProvider_TRTKernel_graph_0_0_sm90.engine"
        if engine.is_file() and self.broken:
            self.broken = False
            raise EngineError("could not deserialize engine from cache")
        if shape == self.refused[0]:
            self.refused = (shape, self.refused[1] + 1)
            raise EngineError("no implementation for a node")
        if not engine.is_file():
            self.compiled.append(shape)
            engine.write_bytes(b"engine of " + str(shape).encode())
        if shape == self.wrong:
            (scale,) = (item for item in proto.graph.initializer if item.name == "kernel")
            doubled = onnx.numpy_helper.to_array(scale) * 2
            scale.CopyFrom(onnx.numpy_helper.from_array(doubled, "kernel"))
            self.wrong = ()
            return self.open_session(ort, proto, settings, providers, graph)
        return session


@pytest.fixture(autouse=True)
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Provider:
    """A machine whose ONNX Runtime has the provider, and a cache of its own."""
    fake = Provider()
    monkeypatch.setenv("DEPTH_NODE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [PROVIDER])
    monkeypatch.setattr(ort_cuda, "open_session", fake.open_session)
    monkeypatch.setattr(OnnxRuntimeTensorRt, "_memory", "cpu")
    return fake


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save_stub(tmp_path / "net.onnx", size=None)


def opened(path: Path, lines: list[str]) -> OnnxRuntimeTensorRt:
    cache = EngineCache(log=lines.append)
    self_test = SelfTest(cache, lambda: read_graph(path), lambda graph: OnnxRuntimeCpu(graph, 1))
    return OnnxRuntimeTensorRt(read_graph(path), cache, self_test)


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_each_size_of_image_is_compiled_once_and_gives_the_graphs_disparity(path, lines, provider):
    engine = opened(path, lines)
    whole = onnxruntime.InferenceSession(stub_model(size=None).SerializeToString())
    for _ in range(2):
        for image in (picture(480, 640), picture(240, 320)):
            (wanted,) = whole.run(None, {"image": image})
            np.testing.assert_allclose(engine.infer(image).values, wanted, rtol=1e-5)
    assert provider.compiled == [(480, 640, 3), (240, 320, 3)]
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(picture(480, 640))


def test_a_size_that_is_compiled_wrongly_is_refused_frame_by_frame(path, lines, provider):
    engine = opened(path, lines)
    provider.wrong = (240, 320, 3)
    whole = onnxruntime.InferenceSession(stub_model(size=None).SerializeToString())
    for _ in range(2):
        with pytest.raises(EngineError, match=r"not used for images of 320x240: .* by 100.00%"):
            engine.infer(picture(240, 320))
        (wanted,) = whole.run(None, {"image": picture(480, 640)})
        np.testing.assert_allclose(engine.infer(picture(480, 640)).values, wanted, rtol=1e-5)
    assert provider.compiled == [(480, 640, 3), (240, 320, 3)]


def test_a_size_that_cannot_be_compiled_is_not_compiled_for_every_frame(path, lines, provider):
    engine = opened(path, lines)
    provider.refused = ((240, 320, 3), 0)
    for _ in range(3):
        with pytest.raises(EngineError, match="no implementation for a node"):
            engine.infer(picture(240, 320))
    assert provider.refused[1] == 1
    assert engine.infer(picture(480, 640)).values.shape == (240, 320)


def test_nothing_is_compiled_for_an_image_that_the_network_would_be_too_large_for(
    path, lines, provider
):
    engine = opened(path, lines)
    with pytest.raises(EngineError, match=r"resized to 32000x5.*set model.size to a fixed"):
        engine.infer(picture(10, 64000))
    assert provider.compiled == [(480, 640, 3)]


def test_int8_with_zero_points_is_refused_before_it_is_compiled(tmp_path, lines, provider):
    body = """scale = Constant <value = float {0.01}> ()  zero = Constant <value = uint8 {0}> ()
              q = QuantizeLinear (pixels, scale, zero)  d = DequantizeLinear (q, scale, zero)
              raw = ReduceMean <axes = [1]> (d)"""
    path = save_stub(tmp_path / "net.int8.onnx", body=body, opset=13, precision="int8")
    with pytest.raises(ModelError, match="TensorRT takes symmetric int8 only"):
        opened(path, lines)
    assert not provider.compiled


def test_the_next_start_compiles_nothing(path, lines, provider):
    opened(path, lines).close()
    opened(path, lines).close()
    assert len(provider.compiled) == 1
    assert [line for line in lines if "compiles" in line] == [
        "TensorRT compiles net for 480x640; minutes"
    ]


@pytest.mark.parametrize("damage", ["altered", "added", "removed"])
def test_engines_that_were_altered_are_never_given_to_the_runtime(path, lines, provider, damage):
    opened(path, lines).close()
    (engine,) = EngineCache().folder.glob("*.files/*.engine")
    if damage == "altered":
        engine.write_bytes(b"an engine of somebody else")
    elif damage == "added":
        engine.with_name("other.engine").write_bytes(b"one more")
    else:
        engine.unlink()
    opened(path, lines).close()
    assert len(provider.compiled) == 2
    assert any("they were altered" in line for line in lines)
    assert engine.read_bytes() == b"engine of (480, 640, 3)"
    assert [file.name for file in engine.parent.iterdir()] == [engine.name]


def test_an_engine_that_the_runtime_refuses_is_compiled_again(path, lines, provider):
    opened(path, lines).close()
    provider.broken = True
    opened(path, lines).close()
    assert len(provider.compiled) == 2
    assert any("could not deserialize" in line for line in lines)


def test_libraries_that_cannot_be_loaded_leave_the_cache_alone(path, lines, provider):
    opened(path, lines).close()
    provider.loads = False
    with pytest.raises(EngineUnavailable, match="cannot load TensorRT, CUDA and cuDNN"):
        opened(path, lines)
    provider.loads = True
    opened(path, lines).close()
    assert len(provider.compiled) == 1


def test_an_onnxruntime_without_the_provider_names_the_package(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(EngineUnavailable, match="has no TensorrtExecutionProvider; install"):
        OnnxRuntimeTensorRt.require()


def test_auto_takes_it_after_its_self_test(path, lines, provider, monkeypatch):
    monkeypatch.setitem(select.PRECISIONS, "tensorrt", ())
    settings = ModelSettings(name=str(path), engine="auto", precision="auto", threads=1)
    engine = load_engine(settings, lines.append)
    assert (engine.name, engine.precision) == ("onnxruntime-tensorrt", "fp32")
    assert any("onnxruntime-tensorrt fp16: not taken: net has no fp16 graph" in x for x in lines)
    assert "engine onnxruntime-tensorrt fp32: taken" in lines[-1]
    assert [kept.size_bytes > 0 for kept in EngineCache().entries()] == [True]
