"""The PyTorch engine on the CPU, and networks of the registry from checkpoint to engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnxruntime")

from test_network_torch import METRIC, TINY, photograph, random_network

from depth_node.engines.base import BatchEngine, EngineError
from depth_node.engines.select import load_engine
from depth_node.network import architecture
from depth_node.network.adopt import add_checkpoint
from depth_node.network.build import export_graphs
from depth_node.network.compose import Size
from depth_node.parameters import ModelSettings


@pytest.fixture(autouse=True)
def tiny_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Depth Anything of 4 narrow layers, and a cache of its own."""
    size = {"hidden": 48, "heads": 3, "layers": 4, "neck": [8, 16, 32, 32], "fusion": 16}
    monkeypatch.setitem(architecture._SIZES, "tiny", size)
    monkeypatch.setitem(architecture._TAPS, "v2-tiny", (1, 2, 3, 4))
    monkeypatch.setenv("DEPTH_NODE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("entry", [TINY, METRIC], ids=["relative", "metric"])
def test_a_network_goes_from_checkpoint_to_engine(tmp_path, entry):
    path = tmp_path / "tiny.pth"
    torch.save(random_network(entry).state_dict(), path)
    own = add_checkpoint(entry, path)
    export_graphs(own, path, Size(height=112, width=140), [], [], lambda _: None)
    lines: list[str] = []
    engines = {
        name: load_engine(
            ModelSettings(name="tiny", engine=name, precision="fp32", threads=1), lines.append
        )
        for name in ("torch", "onnxruntime")
    }
    results = [engine.infer(photograph()) for engine in engines.values()]
    assert engines["torch"].model == "tiny"
    assert {result.kind for result in results} == {entry.kind}
    seen, wanted = (result.values for result in results)
    assert seen.shape == (112, 140)
    assert np.linalg.norm(seen - wanted) <= 1e-3 * np.linalg.norm(wanted)
    assert any("engine torch fp32: taken" in line for line in lines)


def test_without_a_gpu_auto_does_not_take_torch(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    path = tmp_path / "tiny.pth"
    torch.save(random_network(TINY).state_dict(), path)
    own = add_checkpoint(TINY, path)
    export_graphs(own, path, Size(height=112, width=140), [], [], lambda _: None)
    lines: list[str] = []
    load_engine(ModelSettings(name="tiny", precision="fp32", threads=1), lines.append)
    assert "engine torch: not taken: torch sees no CUDA device" in lines


def test_an_altered_checkpoint_is_not_loaded(tmp_path):
    path = tmp_path / "tiny.pth"
    torch.save(random_network(TINY).state_dict(), path)
    own = add_checkpoint(TINY, path)
    export_graphs(own, path, Size(height=112, width=140), [], [], lambda _: None)
    torch.save(random_network(TINY, seed=1).state_dict(), path)
    with pytest.raises(EngineError, match="truncated or altered"):
        load_engine(ModelSettings(name="tiny", engine="torch"), lambda _: None)


def test_frames_in_a_batch_come_out_as_they_do_alone(tmp_path):
    path = tmp_path / "tiny.pth"
    torch.save(random_network(TINY).state_dict(), path)
    own = add_checkpoint(TINY, path)
    export_graphs(own, path, Size(height=112, width=140), [], [], lambda _: None)
    settings = ModelSettings(name="tiny", engine="torch", precision="fp32", threads=1)
    engine = load_engine(settings, lambda _: None)
    assert isinstance(engine, BatchEngine)
    images = [photograph(), photograph()[::-1], photograph()[:, ::-1]]
    for result, image in zip(engine.infer_batch(images), images, strict=True):
        alone = engine.infer(image).values
        assert np.linalg.norm(result.values - alone) <= 1e-5 * np.linalg.norm(alone)


def test_an_image_that_the_network_would_be_too_large_for_costs_itself_alone(tmp_path, monkeypatch):
    path = tmp_path / "tiny.pth"
    torch.save(random_network(TINY).state_dict(), path)
    own = add_checkpoint(TINY, path)
    export_graphs(own, path, Size(short=112), [], [], lambda _: None)
    settings = ModelSettings(name="tiny", engine="torch", precision="fp32", threads=1)
    engine = load_engine(settings, lambda _: None)
    narrow = np.zeros((10, 64000, 3), np.uint8)
    reason = r"^an image of 64000x10 would be resized to 716800x112.*set model.size to a fixed"
    with monkeypatch.context() as patch:
        patch.setattr(type(engine), "forward", None)  # nothing is begun for it
        with pytest.raises(EngineError, match=reason):
            engine.infer(narrow)
    assert engine.infer(photograph()).values.shape[0] == 112
