"""The TensorRT engine where CUDA or a build fails: nothing is used or freed twice, or leaked."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import tensorrt_fake as fake
from cuda_fake import CudaRuntime
from onnx_stubs import save_stub
from test_tensorrt import VERSIONS, expected, open_engine, picture

from depth_node.engines.base import EngineError

NO_MEMORY, UNKNOWN = 2, 35
"""Of the errors that the fake runtime knows."""


@pytest.fixture
def cuda() -> CudaRuntime:
    return CudaRuntime()


@pytest.fixture
def trt(cuda, repo_root, monkeypatch, own_cache):
    """The fake libraries in place of the real ones, and a cache of the test's own."""
    api = fake.load_api(repo_root, VERSIONS[0])
    return fake.install(api, VERSIONS[0], cuda, monkeypatch)


def failing(
    cuda: CudaRuntime, patch: pytest.MonkeyPatch, name: str, error: int, *, done: bool = False
) -> None:
    """Let a function of CUDA fail, having done nothing, or what it does (an earlier error)."""
    right = getattr(cuda, name)

    def call(*arguments: object):
        if done:
            right(*arguments)
        return cuda.cudaError_t(error), None

    patch.setattr(cuda, name, call)


@pytest.mark.parametrize(
    ("name", "done"),
    [
        ("cudaMalloc", False),
        ("cudaMallocHost", False),
        ("cudaFree", False),
        ("cudaFree", True),
        ("cudaFreeHost", False),
        ("cudaFreeHost", True),
        ("cudaGraphExecDestroy", True),
    ],
)
def test_memory_that_was_given_back_is_not_used_when_cuda_fails_on_the_way(
    trt, cuda, tmp_path, monkeypatch, name, done
):
    engine = open_engine(save_stub(tmp_path / "net.onnx", size=(42, 56)))
    engine.infer(picture(100, 100))
    with monkeypatch.context() as patch:
        failing(cuda, patch, name, NO_MEMORY, done=done)
        with pytest.raises(EngineError, match=f"{name} failed: cudaErrorMemoryAllocation"):
            engine.infer(picture())
    image = picture()
    np.testing.assert_array_equal(engine.infer(image).values, expected(image))
    np.testing.assert_array_equal(
        engine.infer(picture(100, 100)).values, expected(picture(100, 100))
    )
    engine.close()
    refused = name.startswith("cudaFree") and not done
    assert cuda.left() == refused  # what CUDA itself has not taken back


def test_memory_that_stays_short_costs_frames_and_no_more(trt, cuda, tmp_path, monkeypatch):
    engine = open_engine(save_stub(tmp_path / "net.onnx", size=(42, 56)))
    engine.infer(picture(100, 100))
    failing(cuda, monkeypatch, "cudaMalloc", NO_MEMORY)
    for _ in range(3):
        with pytest.raises(EngineError, match="cudaMalloc failed"):
            engine.infer(picture())
    engine.close()
    assert cuda.left() == 0


@pytest.mark.parametrize(
    ("name", "kind", "left"),
    [
        ("cudaFree", "device", 4),
        ("cudaFreeHost", "host", 4),
        ("cudaGraphExecDestroy", "graphs", 2),
        ("cudaStreamDestroy", "streams", 2),
    ],
)
def test_what_cuda_does_not_take_back_keeps_nothing_else_from_it(
    trt, cuda, tmp_path, monkeypatch, name, kind, left
):
    engine = open_engine(save_stub(tmp_path / "net.onnx", size=None))
    for shape in [(480, 640), (240, 320)]:
        engine.infer(picture(*shape))
    with monkeypatch.context() as patch:
        failing(cuda, patch, name, UNKNOWN)
        with pytest.raises(EngineError, match=f"{name} failed"):
            engine.close()
    assert len(getattr(cuda, kind)) == cuda.left() == left
    assert engine._runtime is None


def test_the_first_failure_is_the_one_that_is_told(trt, cuda, tmp_path, monkeypatch):
    engine = open_engine(save_stub(tmp_path / "net.onnx"))
    engine.infer(picture())
    for name in ("cudaGraphExecDestroy", "cudaFree", "cudaFreeHost", "cudaStreamDestroy"):
        failing(cuda, monkeypatch, name, UNKNOWN)
    with pytest.raises(EngineError, match="cudaGraphExecDestroy failed"):
        engine.close()


def test_a_want_of_device_memory_is_told_also_where_the_host_memory_cannot_be_given_back(
    trt, cuda, tmp_path, monkeypatch
):
    engine = open_engine(save_stub(tmp_path / "net.onnx"))
    failing(cuda, monkeypatch, "cudaMalloc", NO_MEMORY)
    failing(cuda, monkeypatch, "cudaFreeHost", UNKNOWN)
    with pytest.raises(EngineError, match="cudaMalloc failed"):
        engine.infer(picture())


def test_a_build_that_fails_is_not_started_again_with_every_frame(trt, tmp_path, monkeypatch):
    engine = open_engine(save_stub(tmp_path / "net.onnx", size=None))
    builds: list[object] = []
    monkeypatch.setattr(
        trt.Builder, "build_serialized_network", lambda *arguments: builds.append(arguments)
    )
    for _ in range(3):
        with pytest.raises(EngineError, match="tensorrt could not compile the graph"):
            engine.infer(picture(240, 320))
    assert len(builds) == 1
    np.testing.assert_array_equal(engine.infer(picture()).values, expected(picture(), size=None))


def test_nothing_is_compiled_for_an_image_that_the_network_would_be_too_large_for(trt, tmp_path):
    engine = open_engine(save_stub(tmp_path / "net.onnx", size=None))
    with pytest.raises(EngineError, match=r"resized to 32000x5.*set model.size to a fixed"):
        engine.infer(picture(10, 64000))
    assert len(trt.builds) == 1
    fixed = open_engine(save_stub(tmp_path / "fixed.onnx", size=(42, 56)))
    assert fixed.infer(picture(10, 64000)).values.shape == (42, 56)
