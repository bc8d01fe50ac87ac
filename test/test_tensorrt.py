"""The TensorRT engine against the official API as data, and against a strict fake made of it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

import tensorrt_fake as fake
from cuda_fake import CudaRuntime
from onnx_stubs import save_stub, stub_model

from depth_node.engines import tensorrt, tensorrt_build
from depth_node.engines.base import EngineError, EngineUnavailable
from depth_node.engines.cache import EngineCache
from depth_node.engines.ort import OnnxRuntimeCpu
from depth_node.engines.select import load_engine
from depth_node.engines.selftest import SelfTest
from depth_node.network.errors import ModelError
from depth_node.network.graph import read_graph
from depth_node.parameters import ModelSettings

VERSIONS = ("10.3.0", "10.14.1", "11.4.0")

# What the modules call their objects of TensorRT's classes.
OBJECTS = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "shapes": "IOptimizationProfile",
    "e": "ParserError",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "self._context": "IExecutionContext",
    "self._runtime": "Runtime",
    "timings": "ITimingCache",
}
MODULES = ("trt", "self._trt", "tensorrt")
SUBCLASSES = {"Logger": "ILogger", "Monitor": "IProgressMonitor"}
OURS = (
    "self", "cuda", "np", "image", "profile", "progress", "contextlib", "os", "path", "lines",
    "graph", "cache", "buffer", "split", "timing_cache", "plan", "session", "_Session",
)  # fmt: skip


@pytest.fixture(params=VERSIONS)
def version(request) -> str:
    return request.param


@pytest.fixture
def api(version: str, repo_root: Path) -> dict[str, dict[str, str]]:
    return fake.load_api(repo_root, version)


def attributes(tree: ast.AST):
    """Every attribute access as (text of the object, attribute)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node.value), node.attr


@pytest.mark.parametrize("module", [tensorrt, tensorrt_build])
def test_every_name_of_tensorrt_exists_in_the_official_api(api, module):
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    checked = 0
    for target, attribute in attributes(tree):
        base, _, rest = target.partition(".")
        if target in OBJECTS:
            assert attribute in api[OBJECTS[target]], f"{target}.{attribute}"
        elif target in MODULES:
            assert attribute in api or attribute.startswith("__"), f"{target}.{attribute}"
        elif base in MODULES:
            cls = rest.split(".")[0]
            assert attribute in api[cls] or attribute == "__init__", f"{target}.{attribute}"
        else:
            known = target.startswith(OURS) or base in OURS or target[0] in "\"'(f"
            assert known, f"{target}.{attribute}: of which class is {target}?"
            continue
        checked += 1
    assert checked > 5


def test_what_is_overridden_exists_in_the_official_api(api):
    tree = ast.parse(Path(tensorrt_build.__file__).read_text(encoding="utf-8"))
    classes = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name in SUBCLASSES]
    assert len(classes) == 2
    for cls in classes:
        methods = {n.name for n in cls.body if isinstance(n, ast.FunctionDef)} - {"__init__"}
        assert methods == methods & set(api[SUBCLASSES[cls.name]])


def test_the_names_that_cuda_python_must_have():
    runtime = pytest.importorskip("cuda.bindings.runtime")
    source = Path(tensorrt.__file__).with_name("cuda.py").read_text(encoding="utf-8")
    names = {
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith("cuda")
        and node.value.isidentifier()
    }
    assert len(names) > 10
    assert not [name for name in names if not hasattr(runtime, name)]


@pytest.fixture
def cuda() -> CudaRuntime:
    return CudaRuntime()


@pytest.fixture
def trt(api, version, cuda, monkeypatch, tmp_path):
    """The fake libraries in place of the real ones, and a cache of the test's own."""
    monkeypatch.setenv("DEPTH_NODE_CACHE", str(tmp_path / "cache"))
    return fake.install(api, version, cuda, monkeypatch)


def open_engine(path: Path, lines: list[str] | None = None, progress=lambda *_: None):
    cache = EngineCache(log=(lines if lines is not None else []).append)
    self_test = SelfTest(cache, lambda: read_graph(path), lambda graph: OnnxRuntimeCpu(graph, 1))
    return tensorrt.TensorRt(read_graph(path), cache, progress, self_test)


def picture(height: int = 480, width: int = 640, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def expected(image: np.ndarray, **options) -> np.ndarray:
    session = onnxruntime.InferenceSession(stub_model(**options).SerializeToString())
    return session.run(None, {"image": np.ascontiguousarray(image)})[0]


@pytest.mark.parametrize("size", [(42, 56), None])
def test_images_of_changing_size_give_the_networks_disparity(trt, cuda, tmp_path, size):
    engine = open_engine(save_stub(tmp_path / "net.onnx", size=size))
    for seed, shape in enumerate([(480, 640), (480, 640), (240, 320), (720, 1280), (480, 640)]):
        image = picture(*shape, seed)[:, ::-1]
        np.testing.assert_array_equal(engine.infer(image).values, expected(image, size=size))
    engine.close()
    assert cuda.left() == 0
    with pytest.raises(EngineError, match="closed"):
        engine.infer(picture())


def test_after_the_first_frame_each_one_is_a_single_launch(trt, cuda, tmp_path):
    engine = open_engine(save_stub(tmp_path / "net.onnx"))
    results = [engine.infer(picture(seed=seed)).values for seed in range(5)]
    assert cuda.launched == 5
    assert cuda.executed == 6  # one to warm up
    assert not np.array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], expected(picture(seed=0)))


def test_a_network_of_a_fixed_size_is_compiled_once_for_usual_images(trt, tmp_path):
    engine = open_engine(save_stub(tmp_path / "net.onnx", size=(42, 56)))
    for shape in [(480, 640), (720, 1280), (100, 100), (64, 64)]:
        engine.infer(picture(*shape))
    assert len(trt.builds) == 1


def test_usual_sizes_are_from_64x64_to_4k():
    assert all(size in tensorrt._ANY_SIZE for size in [(64, 64), (1080, 1920), (2160, 3840)])
    assert not any(size in tensorrt._ANY_SIZE for size in [(63, 64), (3840, 2160), (3000, 4000)])


@pytest.mark.parametrize("shape", [(600, 800), (640, 480), (48, 64)])
def test_an_image_beyond_the_usual_sizes_is_compiled_for_by_itself(
    trt, tmp_path, shape, monkeypatch
):
    few = tensorrt_build.Profile((64, 64), (480, 640), (500, 700))
    monkeypatch.setattr(tensorrt, "_ANY_SIZE", few)
    engine = open_engine(save_stub(tmp_path / "net.onnx", size=(42, 56)))
    for _ in range(2):
        np.testing.assert_array_equal(
            engine.infer(picture(*shape)).values, expected(picture(*shape), size=(42, 56))
        )
    assert len(trt.builds) == 2
    engine.infer(picture())
    assert len(trt.builds) == 2


def test_a_network_that_follows_the_image_is_compiled_for_each_size(trt, tmp_path):
    engine = open_engine(save_stub(tmp_path / "net.onnx", size=None))
    for shape in [(480, 640), (240, 320), (480, 640)]:
        engine.infer(picture(*shape))
    assert len(trt.builds) == 2


def test_the_second_start_takes_the_engine_from_the_cache(trt, tmp_path):
    path = save_stub(tmp_path / "net.onnx")
    open_engine(path).close()
    open_engine(path).close()
    assert len(trt.builds) == 1


def test_an_engine_of_another_version_or_driver_is_built_again(trt, cuda, tmp_path):
    path = save_stub(tmp_path / "net.onnx")
    open_engine(path).close()
    trt.__version__ += ".1"
    open_engine(path).close()
    cuda.driver = 13000
    open_engine(path).close()
    assert len(trt.builds) == 3


def test_a_cached_engine_that_tensorrt_refuses_is_built_again(trt, tmp_path):
    path = save_stub(tmp_path / "net.onnx")
    lines: list[str] = []
    engine = open_engine(path)
    EngineCache().store(engine.signature, b"of another kind")
    engine = open_engine(path, lines)
    assert any("built again" in line for line in lines)
    np.testing.assert_array_equal(engine.infer(picture()).values, expected(picture()))


def test_every_error_of_the_parser_is_shown(trt, tmp_path):
    body = "raw0 = Relu (pixels)  det = Det (raw0)  raw = ReduceMean <axes = [1]> (pixels)"
    path = save_stub(tmp_path / "net.onnx", body=body, opset=13)
    with pytest.raises(EngineError, match=r"no importer for Det \(node culprit\); and another"):
        open_engine(path)


def test_the_build_tells_its_progress(trt, tmp_path):
    told: list[tuple[str, float]] = []
    open_engine(save_stub(tmp_path / "net.onnx"), progress=lambda *step: told.append(step))
    assert {phase for phase, _ in told} == {"Building"}
    assert [part for _, part in told] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


def test_fp32_is_compiled_without_tf32_and_timings_are_kept(trt, tmp_path):
    open_engine(save_stub(tmp_path / "net.onnx"))
    open_engine(save_stub(tmp_path / "half.onnx", precision="fp16"))
    first, second = trt.builds
    assert first._cleared == [trt.BuilderFlag.TF32]
    assert second._cleared == []
    assert bytes(second._cache.serialize()).endswith(b": timed timed ")


@pytest.mark.parametrize("kept", [b"no timings at all", b"timings of 8.6: timed "])
def test_timings_that_tensorrt_refuses_are_replaced(trt, tmp_path, kept):
    folder = EngineCache().folder
    folder.mkdir(parents=True)
    (folder / "tensorrt.timing").write_bytes(kept)
    open_engine(save_stub(tmp_path / "net.onnx"))
    timings = (folder / "tensorrt.timing").read_bytes()
    assert timings == f"timings of {trt.__version__}: timed ".encode()


def test_a_build_without_any_timings_still_gives_an_engine(trt, tmp_path, monkeypatch):
    path = save_stub(tmp_path / "net.onnx")
    open_engine(path)
    config = type(trt.builds[0])
    monkeypatch.setattr(config, "set_timing_cache", lambda *_, **__: False)
    open_engine(save_stub(tmp_path / "other.onnx", name="other")).infer(picture())
    assert len(trt.builds) == 2


def test_a_size_that_is_compiled_wrongly_is_refused_and_not_compiled_again(
    trt, cuda, tmp_path, monkeypatch
):
    engine = open_engine(save_stub(tmp_path / "net.onnx", size=None))
    engine.infer(picture())
    context = type(next(iter(engine._sessions._sessions.values()))._context)
    right = context._run
    monkeypatch.setattr(
        context, "_run", lambda self, image: right(self, image) * (1 + (len(image) == 720))
    )
    for _ in range(3):
        with pytest.raises(EngineError, match=r"not used for images of 1280x720.*by 100.00%"):
            engine.infer(picture(720, 1280))
    assert len(trt.builds) == 2
    np.testing.assert_array_equal(engine.infer(picture()).values, expected(picture(), size=None))
    engine.close()
    assert cuda.left() == 0


def test_a_failed_frame_leaves_no_recording_behind(trt, cuda, tmp_path, monkeypatch):
    engine = open_engine(save_stub(tmp_path / "net.onnx"))
    session = engine._sessions.get(tensorrt._ANY_SIZE, lambda: None)
    real = session._context.execute_async_v3
    calls: list[int] = []

    def second_fails(handle: int) -> bool:
        calls.append(handle)
        return len(calls) != 2 and real(handle)

    monkeypatch.setattr(type(session._context), "execute_async_v3", lambda _, h: second_fails(h))
    with pytest.raises(EngineError, match="failed on a frame"):
        engine.infer(picture())
    np.testing.assert_array_equal(engine.infer(picture()).values, expected(picture()))
    engine.close()
    assert cuda.left() == 0


QUANTISED = """scale = Constant <value = float {0.01}> ()
               zero_point = Constant <value = int8 {ZERO_POINT}> ()
               q = QuantizeLinear (pixels, scale, zero_point)
               d = DequantizeLinear (q, scale, zero_point)  raw = ReduceMean <axes = [1]> (d)"""


def test_int8_with_zero_points_is_refused_before_it_is_compiled(trt, tmp_path):
    options = {"opset": 13, "precision": "int8"}
    body = QUANTISED.replace("ZERO_POINT", "15")
    path = save_stub(tmp_path / "net.int8.onnx", body=body, **options)
    with pytest.raises(ModelError, match="TensorRT takes symmetric int8 only"):
        open_engine(path)
    assert not trt.builds
    body = QUANTISED.replace("ZERO_POINT", "0")
    open_engine(save_stub(tmp_path / "net.int8.onnx", body=body, **options))
    assert len(trt.builds) == 1


def test_without_a_device_the_engine_is_not_available(trt, cuda, tmp_path):
    cuda.count = 0
    with pytest.raises(EngineUnavailable, match="no CUDA device"):
        open_engine(save_stub(tmp_path / "net.onnx"))


def test_a_cuda_python_that_is_too_new_for_the_driver_is_named_with_its_cure(trt, cuda, tmp_path):
    cuda.driver, cuda.runtime = 12060, 13000  # JetPack 6, and what pip brings today
    with pytest.raises(EngineUnavailable, match=r"InsufficientDriver \(35\).*'cuda-python<13'"):
        open_engine(save_stub(tmp_path / "net.onnx"))
    cuda.driver, cuda.runtime = 0, 12080
    with pytest.raises(EngineUnavailable, match=r"no NVIDIA driver$"):
        open_engine(save_stub(tmp_path / "net.onnx"))
    cuda.driver = 13000
    open_engine(save_stub(tmp_path / "net.onnx"))  # a newer driver takes it


def auto(path: Path) -> ModelSettings:
    return ModelSettings(name=str(path), threads=1)


def test_nothing_is_compiled_where_its_self_test_has_no_reference(trt, tmp_path, monkeypatch):
    path = save_stub(tmp_path / "net.onnx")
    for runtime in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, runtime, None)
    lines: list[str] = []
    reason = "tensorrt: its self-test needs onnxruntime or openvino on the CPU .*pip install onnx"
    with pytest.raises(EngineError, match=reason):
        load_engine(auto(path), lines.append)
    assert not trt.builds
    assert not [line for line in lines if "engine tensorrt: not taken: openvino" in line]


def test_a_reference_of_an_earlier_start_is_enough(trt, tmp_path, monkeypatch):
    path = save_stub(tmp_path / "net.onnx")
    load_engine(auto(path), print).close()
    for runtime in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, runtime, None)
    engine = load_engine(auto(path), print)
    assert engine.name == "tensorrt"
    engine.close()


def test_auto_takes_tensorrt_first_and_tests_it(trt, tmp_path):
    lines: list[str] = []
    settings = ModelSettings(name=str(save_stub(tmp_path / "net.onnx")), precision="fp32")
    engine = load_engine(settings, lines.append)
    assert engine.name == "tensorrt"
    assert engine.device == "Test GPU (compute 9.0)"
    assert "differs from fp32 by 0.00% in its self-test" in lines[-1]
