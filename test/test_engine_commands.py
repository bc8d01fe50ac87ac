"""The commands `depth-node models` and `depth-node engines`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from depth_node.cli import main

pytest.importorskip("onnxruntime")
from onnx_stubs import save_stub


@pytest.fixture(autouse=True)
def own_hub(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep everything out of the user's caches."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def stub(tmp_path: Path) -> Path:
    return save_stub(tmp_path / "net.onnx")


def call(capsys: pytest.CaptureFixture[str], *words: object):
    code = main([str(word) for word in words])
    return code, json.loads(capsys.readouterr().out)


def test_models_list_shows_what_is_here(capsys):
    code, rows = call(capsys, "models", "list", "--json")
    by_name = {row["name"]: row for row in rows}
    assert code == 0
    assert by_name["depth-anything-v2-small"]["here"] == "-"
    assert by_name["depth-anything-v2-base"]["licence"] == "CC-BY-NC-4.0"
    assert by_name["student"]["here"] == "shipped"


def test_models_info_shows_where_weights_come_from(capsys):
    _, info = call(capsys, "models", "info", "depth-anything-v2-metric-outdoor-small", "--json")
    assert info["max_depth_m"] == 80.0
    assert len(info["revision"]) == 40
    assert info["weights"] is None


def test_a_refused_licence_ends_with_its_cure(capsys):
    assert main(["models", "fetch", "depth-anything-v2-large"]) == 1
    assert "--accept-license" in capsys.readouterr().err


def test_an_added_network_is_listed_and_runs(capsys, stub):
    _, added = call(capsys, "models", "add", "mine", stub, "--json")
    assert Path(added["path"]).is_file()
    _, rows = call(capsys, "models", "list", "--json")
    assert any(row["name"] == "mine" and "exported" in row["here"] for row in rows)
    code, tested = call(
        capsys, "engines", "selftest", "--model", "mine", "--engine", "onnxruntime",
        "--precision", "fp32", "--json",
    )  # fmt: skip
    assert code == 0
    assert tested[0]["passed"]


def test_a_graph_gets_its_fp16_variant_without_pytorch(capsys, stub):
    call(capsys, "models", "add", "mine", stub, "--json")
    _, written = call(capsys, "models", "export", "mine", "--precision", "fp16", "--json")
    assert [row["precision"] for row in written] == ["fp32", "fp16"]
    assert 0.0 < written[1]["relative_l2_from_fp32"] < 0.01
    _, info = call(capsys, "models", "info", "mine", "--json")
    assert set(info["graphs"]["given"]) == {"fp32", "fp16"}


def test_int8_without_images_says_what_is_missing(capsys):
    assert main(["models", "export", "student", "--precision", "int8"]) == 1
    assert "--calibrate" in capsys.readouterr().err


def test_engines_build_then_list(capsys, stub):
    pytest.importorskip("openvino")
    how = ("--engine", "openvino", "--precision", "fp32", "--json")
    code, rows = call(capsys, "engines", "build", "--model", stub, *how)
    assert code == 0
    assert [row["engine"] for row in rows] == ["openvino"]
    assert rows[0]["passed"]
    _, kept = call(capsys, "engines", "list", "--json")
    assert kept[0]["self_test"] == "passed"
    assert kept[0]["bytes"] > 0


def test_engines_build_ends_with_1_when_none_works(capsys, stub):
    code, rows = call(capsys, "engines", "build", "--model", stub, "--engine", "tensorrt", "--json")
    assert code == 1
    assert all("tensorrt is not installed" in row["error"] for row in rows)


def test_engines_bench_measures_what_is_here(capsys, stub):
    _, rows = call(
        capsys, "engines", "bench", "--model", stub, "--engine", "onnxruntime",
        "--precision", "fp32", "--frames", 3, "--json",
    )  # fmt: skip
    assert rows[0]["p50_ms"] > 0
    assert rows[0]["first_ms"] > 0
