"""Engines on the CPU: same disparity as the whole graph, own results, clear refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from depth_node.engines import cpu, ort_cuda, select
from depth_node.engines.base import EngineError
from depth_node.engines.cache import EngineCache
from depth_node.engines.openvino import OpenVino
from depth_node.engines.ort import OnnxRuntimeCpu
from depth_node.engines.result import as_disparity
from depth_node.engines.select import Candidate, Loader, candidates, load_engine
from depth_node.network.graph import read_graph
from depth_node.network.resolve import ModelFiles
from depth_node.parameters import ModelSettings
from depth_node.resources import share_directory

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
from onnx_stubs import save_stub, stub_model

pytestmark = pytest.mark.usefixtures("own_cache")

ENGINES = ("openvino", "onnxruntime")


@pytest.fixture
def image() -> np.ndarray:
    """A smooth 480x640 picture with noise."""
    y, x = np.mgrid[0:480, 0:640]
    wave = np.stack([np.sin(x / 30), np.cos(y / 25), np.sin((x + y) / 40)], axis=-1)
    noise = np.random.default_rng(3).integers(-20, 20, wave.shape)
    return np.clip(128 + 100 * wave + noise, 0, 255).astype(np.uint8)


def load(path: Path, engine: str, precision: str = "fp32", lines: list[str] | None = None):
    settings = ModelSettings(name=str(path), engine=engine, precision=precision, threads=1)
    return load_engine(settings, (lines if lines is not None else []).append)


def whole_graph(image: np.ndarray, **options) -> np.ndarray:
    session = onnxruntime.InferenceSession(stub_model(**options).SerializeToString())
    return session.run(None, {"image": image})[0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [(42, 56), None])
def test_disparity_is_that_of_the_whole_graph(tmp_path, image, engine, size):
    loaded = load(save_stub(tmp_path / "net.onnx", size=size), engine)
    for view in (image, image[:240, :300], image[:, ::-1], image[::2, ::2]):
        expected = whole_graph(np.ascontiguousarray(view), size=size)
        values = loaded.infer(view).values
        assert values.dtype == np.float32
        assert values.shape == expected.shape
        assert np.linalg.norm(values - expected) <= 1e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_front_that_opencv_cannot_do_is_run_whole(tmp_path, image, engine):
    # The size of the image is read a second time, so that the resize may not be taken out.
    body = """pooled = ReduceMean <axes = [1]> (pixels)
              count = Size (image)  scale = Cast <to = 1> (count)
              raw = Div (pooled, scale)"""
    path = save_stub(tmp_path / "net.onnx", body=body, opset=13)
    session = onnxruntime.InferenceSession(path)
    expected = session.run(None, {"image": image})[0]
    np.testing.assert_allclose(load(path, engine).infer(image).values, expected, rtol=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
def test_results_belong_to_the_caller(tmp_path, image, engine):
    loaded = load(save_stub(tmp_path / "net.onnx"), engine)
    first = loaded.infer(image).values
    kept = first.copy()
    second = loaded.infer(255 - image).values
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, kept)
    assert first.flags.writeable


@pytest.mark.parametrize("engine", ENGINES)
def test_the_image_is_not_written_to(tmp_path, image, engine):
    image.flags.writeable = False
    kept = image.copy()
    load(save_stub(tmp_path / "net.onnx"), engine).infer(image)
    np.testing.assert_array_equal(image, kept)


@pytest.mark.parametrize("engine", ENGINES)
def test_output_that_is_not_finite_is_an_error(tmp_path, image, engine):
    body = "log = Log (pixels)  raw = ReduceMean <axes = [1]> (log)"  # log(0) = -inf
    path = save_stub(tmp_path / "net.onnx", body=body, opset=13)
    graph = read_graph(path)
    loaded = (
        OpenVino(graph, "fp32", 1, EngineCache())
        if engine == "openvino"
        else OnnxRuntimeCpu(graph, 1)
    )
    loaded.infer(np.full_like(image, 200))
    with pytest.raises(EngineError, match="not finite"):
        loaded.infer(np.zeros_like(image))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_closed_engine_says_so(tmp_path, image, engine):
    loaded = load(save_stub(tmp_path / "net.onnx"), engine)
    loaded.close()
    with pytest.raises(EngineError, match="closed"):
        loaded.infer(image)


def test_negative_disparity_becomes_zero():
    raw = np.array([[-1e-6, 0.5]], np.float32)
    np.testing.assert_array_equal(as_disparity(raw, "x", "relative").values, [[0.0, 0.5]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_counted(bad):
    raw = np.ones((3, 4), np.float32)
    raw[1, 2] = bad
    with pytest.raises(EngineError, match="1 of 12"):
        as_disparity(raw, "x", "relative")


def test_metadata_names_the_network_and_its_kind(tmp_path, image):
    path = save_stub(tmp_path / "net.onnx", name="mine", kind="metric")
    loaded = load(path, "onnxruntime")
    assert loaded.model == "mine"
    assert loaded.infer(image).kind == "metric"


def test_auto_says_one_line_for_each_candidate(tmp_path):
    lines: list[str] = []
    loaded = load(save_stub(tmp_path / "net.onnx"), "auto", "auto", lines)
    assert loaded.name in ENGINES
    assert [line.split()[1].rstrip(":") for line in lines][:4] == [
        "tensorrt",
        "onnxruntime-tensorrt",
        "onnxruntime-cuda",
        "torch",
    ]
    assert all("not taken: " in line for line in lines[:-1])
    assert f"engine {loaded.name} {loaded.precision}: taken" in lines[-1]


@pytest.mark.parametrize("precisions", [("fp32",), ("fp32", "int8")])
@pytest.mark.parametrize("small", [False, True])
def test_on_the_cpu_a_small_network_in_fp32_goes_to_onnxruntime_first(small, precisions):
    files = ModelFiles("net", {name: Path(f"net.{name}.onnx") for name in precisions})
    order = candidates(ModelSettings(engine="auto", precision="auto"), files, small=small)
    names = [str(candidate) for candidate in order]
    openvino, ort = names.index("openvino fp32"), names.index("onnxruntime fp32")
    assert (ort < openvino) == small
    assert names.index("torch fp32") < names.index("openvino bf16") < min(openvino, ort)
    if "int8" in precisions:
        assert names.index("openvino int8") < names.index("openvino bf16")
        assert names.index("onnxruntime int8") < ort


def test_auto_takes_what_suits_the_size_of_the_network(tmp_path, monkeypatch):
    path = save_stub(tmp_path / "net.onnx")
    assert load(path, "auto").name == "onnxruntime"
    monkeypatch.setattr(select, "SMALL_BYTES", path.stat().st_size - 1)
    assert load(path, "auto").name == "openvino"


def test_a_named_engine_that_is_not_here_fails_with_the_reason(tmp_path):
    with pytest.raises(EngineError, match=r"no engine can run net: tensorrt: .*not installed"):
        load(save_stub(tmp_path / "net.onnx"), "tensorrt")


def break_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let TensorRT fail as it does on a driver that is too old for it."""
    right = Loader.open

    def broken_open(self: Loader, candidate: Candidate):
        if candidate.engine == "tensorrt":
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return right(self, candidate)

    monkeypatch.setattr(Loader, "open", broken_open)


def test_auto_passes_over_an_engine_that_fails_in_an_unforeseen_way(tmp_path, monkeypatch):
    break_tensorrt(monkeypatch)
    lines: list[str] = []
    loaded = load(save_stub(tmp_path / "net.onnx"), "auto", "auto", lines)
    assert loaded.name in ENGINES
    assert lines[0] == (
        "engine tensorrt fp16: not taken: "
        "TypeError: pybind11::init(): factory function returned nullptr"
    )


def test_without_a_library_of_onnxruntime_openvino_is_taken_and_is_the_reference(
    tmp_path, monkeypatch
):
    class Finder:
        def find_spec(self, name, *_):
            if name == "onnxruntime":
                raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.delitem(sys.modules, "onnxruntime")
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    lines: list[str] = []
    assert load(save_stub(tmp_path / "net.onnx"), "auto", lines=lines).name == "openvino"
    assert any("onnxruntime is not installed, or not whole (libgomp" in line for line in lines)


def test_a_named_engine_that_fails_in_an_unforeseen_way_says_how(tmp_path, monkeypatch):
    break_tensorrt(monkeypatch)
    with pytest.raises(EngineError, match="can run net: tensorrt fp32: TypeError: pybind11"):
        load(save_stub(tmp_path / "net.onnx"), "tensorrt")


def test_an_engine_whose_self_test_ends_in_an_unforeseen_way_is_closed(tmp_path, monkeypatch):
    closed: list[OpenVino] = []

    def infer(self: OpenVino, image: np.ndarray):
        raise MemoryError

    def close(self: OpenVino):
        closed.append(self)

    monkeypatch.setattr(select, "SMALL_BYTES", 0)  # so that it comes first
    monkeypatch.setattr(OpenVino, "infer", infer)
    monkeypatch.setattr(OpenVino, "close", close)
    loaded = load(save_stub(tmp_path / "net.onnx"), "auto")
    assert loaded.name == "onnxruntime"
    assert closed


def test_a_precision_without_a_graph_names_the_commands_that_make_one(tmp_path):
    cure = r"models add NAME \S+/net\.onnx, then depth-node models export NAME --precision int8"
    with pytest.raises(EngineError, match=cure):
        load(save_stub(tmp_path / "net.onnx"), "onnxruntime", "int8")


@pytest.mark.parametrize(
    "engine", ["tensorrt", "onnxruntime-tensorrt", "onnxruntime-cuda", "onnxruntime"]
)
def test_an_engine_without_bf16_does_not_run_fp32_in_its_place(tmp_path, engine):
    with pytest.raises(EngineError, match=rf"{engine} bf16: it has no bf16; openvino and torch"):
        load(save_stub(tmp_path / "net.onnx"), engine, "bf16")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_openvino_takes_a_precision_only_where_the_processor_has_it(
    tmp_path, monkeypatch, precision
):
    import openvino

    class Core(openvino.Core):
        def get_property(self, device: str, name: str) -> list[str]:
            assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
            return ["FP32", "INT8"]

    monkeypatch.setattr(openvino, "Core", Core)
    path = save_stub(tmp_path / "net.onnx")
    save_stub(tmp_path / "net.fp16.onnx", precision="fp16")
    with pytest.raises(EngineError, match=f"this CPU has no {precision} instructions"):
        load(path, "openvino", precision)


def test_threads_follow_the_affinity_and_the_container(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _: set(range(16)))
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(cpu, "_CGROUP_QUOTA", quota)
    large = cpu.SMALL_BYTES + 1
    assert cpu.thread_count(0, large) == 8
    assert cpu.thread_count(12, large) == 12
    for quota_text, threads in (
        ("300000 100000\n", 3),
        ("50000 100000\n", 1),
        ("max 100000\n", 8),
    ):
        quota.write_text(quota_text)
        assert cpu.thread_count(0, large) == threads


def test_a_small_network_leaves_a_core_to_the_node(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "_CGROUP_QUOTA", tmp_path / "none")
    for cores, threads in ((1, 1), (2, 1), (4, 3)):
        monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _, n=cores: set(range(n)))
        assert cpu.thread_count(0, 4 << 20) == threads


class Driver:
    """libcuda.so.1 of a computer with two GPUs, of which CUDA sees the second alone."""

    def cuInit(self, flags):  # noqa: N802 - the names are CUDA's
        return 0 if flags == 0 else 1

    def cuDriverGetVersion(self, version):  # noqa: N802
        version._obj.value = 12080
        return 0

    def cuDeviceGet(self, device, ordinal):  # noqa: N802
        device._obj.value = 1
        return 0 if ordinal == 0 else 101  # CUDA_ERROR_INVALID_DEVICE

    def cuDeviceGetName(self, name, size, device):  # noqa: N802
        assert (size, device.value) == (256, 1)
        name.value = b"Second GPU"
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):  # noqa: N802
        assert device.value == 1
        value._obj.value = {75: 8, 76: 7}[attribute]
        return 0


def test_the_gpu_is_the_one_that_cuda_runs_on(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"  # which lists all GPUs, in its own order
    tool.write_text("#!/bin/sh\necho First GPU, 9.0, 570.86.15\necho Second GPU, 8.7, 570.86.15\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setattr(ort_cuda, "_KERNEL_MODULE", tmp_path / "version", raising=False)
    monkeypatch.setattr("ctypes.CDLL", lambda name: {"libcuda.so.1": Driver()}[name])
    assert ort_cuda._gpu() == ("Second GPU (compute 8.7)", "CUDA 12080")
    (tmp_path / "version").write_text("570.86.15\n")
    assert ort_cuda._gpu()[1] == "CUDA 12080, module 570.86.15"


def test_a_driver_that_fails_leaves_the_gpu_without_a_name(monkeypatch):
    class Failing(Driver):
        def cuInit(self, flags):  # noqa: N802
            return 100  # CUDA_ERROR_NO_DEVICE

    monkeypatch.setattr("ctypes.CDLL", lambda _: Failing())
    assert ort_cuda._gpu() == ("CUDA device 0", "unknown")


def test_the_shipped_student_runs_in_every_cpu_engine(image):
    if "student.onnx" not in {p.name for p in (share_directory() / "models").glob("*")}:
        pytest.skip("there is no student in this checkout")
    results = {}
    for engine in ENGINES:
        settings = ModelSettings(name="student", engine=engine, threads=1)
        results[engine] = load_engine(settings, lambda _: None).infer(image).values
    wanted = results["onnxruntime"]
    assert np.ptp(wanted) > 0
    assert np.linalg.norm(results["openvino"] - wanted) <= 0.03 * np.linalg.norm(wanted)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_process_ends_cleanly_while_a_frame_is_inside(tmp_path, engine):
    """A daemon thread in a runtime's C++ code would abort the interpreter at its exit."""
    code = """
import sys, threading
import numpy as np
from depth_node.engines.base import EngineError
from depth_node.engines.select import load_engine
from depth_node.parameters import ModelSettings

settings = ModelSettings(name=sys.argv[1], engine=sys.argv[2], precision="fp32", threads=1)
engine = load_engine(settings, lambda _: None)
running = threading.Event()

def work():
    image = np.zeros((480, 640, 3), np.uint8)
    while True:
        try:
            engine.infer(image)
        except EngineError:
            return
        running.set()

threading.Thread(target=work, daemon=True).start()
running.wait()
"""
    path = save_stub(tmp_path / "net.onnx", size=(480, 640))
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), engine],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
