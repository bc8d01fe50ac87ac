"""`depth-node models add` and `export` for networks that are ONNX files, without PyTorch."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from depth_node.cli import main
from depth_node.network.resolve import resolve_model
from depth_node.network.store import graph_path
from depth_node.parameters import ModelSettings

onnx = pytest.importorskip("onnx")
from onnx import parser
from onnx_stubs import save_stub

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A network of any size, without front."""
    model = parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 17]>
        plain (float[1, 3, h, w] pixels) => (float[1, 1, h, w] raw)
        { raw = ReduceMean <axes = [1]> (pixels) }""")
    path = tmp_path / "plain.onnx"
    onnx.save(model, path)
    return path


def models(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """Exit code, and both streams, of `depth-node models ...`."""
    code = main(["models", *map(str, words)])
    return code, "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "name",
    ["student", "auto", "variants", "../../escaped", "a/b", "..", ".", "", "net.onnx", "-net", "ä"],
)
def test_a_name_that_model_name_cannot_select_is_refused(tmp_path, own_cache, capsys, name):
    code, said = models(capsys, "add", "--", name, save_stub(tmp_path / "mine.onnx"))
    assert code == 1
    assert f"a network cannot be named {name!r}; take letters" in said
    assert not own_cache.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.onnx"]


@pytest.mark.parametrize("name", ["mine", "my_net-2.1", "7"])
def test_an_added_graph_is_the_one_that_its_name_selects(tmp_path, capsys, name):
    assert models(capsys, "add", name, save_stub(tmp_path / "mine.onnx"))[0] == 0
    files = resolve_model(ModelSettings(name=name), lambda _: None)
    assert files.graphs == {"fp32": graph_path(name, "given", "fp32")}


def test_an_added_graph_that_another_size_shadows_says_so(tmp_path, capsys):
    shadow = graph_path("depth-anything-v2-small", "252", "fp32")
    shadow.parent.mkdir(parents=True)
    save_stub(shadow)
    code, said = models(capsys, "add", "depth-anything-v2-small", save_stub(tmp_path / "mine.onnx"))
    assert code == 0
    assert f"auto takes {shadow}; for this one set model.size: given" in said


def test_a_graph_that_is_gone_is_named_with_the_file_that_brings_it_back(
    tmp_path, own_cache, capsys
):
    elsewhere = save_stub(tmp_path / "elsewhere.onnx")
    for file in (save_stub(tmp_path / "mine.onnx"), elsewhere):
        models(capsys, "add", "mine", file)
    shutil.rmtree(own_cache / "models")
    code, said = models(capsys, "export", "mine")
    assert code == 1
    assert f"it is not here; run: depth-node models add mine {elsewhere}" in said
    assert models(capsys, *said.split("depth-node models ")[-1].split())[0] == 0
    assert models(capsys, "export", "mine")[0] == 0


def test_export_takes_the_size_that_is_asked_for(plain, capsys):
    for size in ("56", "28"):
        assert models(capsys, "add", "mine", plain, "--size", size)[0] == 0
    for size in ("56", "28"):
        code, said = models(capsys, "export", "mine", "--size", size)
        assert (code, said) == (0, f"fp32: {graph_path('mine', size, 'fp32')}\n")
    code, said = models(capsys, "export", "mine", "--size", "42")
    assert code == 1
    assert f"only at 28, 56); run: depth-node models add mine {plain} --size 42" in said


def test_a_graph_with_its_own_front_has_no_other_size(tmp_path, capsys):
    file = save_stub(tmp_path / "mine.onnx")
    code, said = models(capsys, "add", "mine", file, "--size", "518")
    assert code == 1
    assert "its front decides its size; it was to be added at 518: leave --size away" in said
    models(capsys, "add", "mine", file)
    code, said = models(capsys, "export", "mine", "--size", "518")
    assert code == 1
    assert "only at given); its own front decides its size: give none" in said


def test_the_student_has_no_other_size(capsys):
    code, said = models(capsys, "export", "student", "--size", "518")
    assert code == 1
    assert "the student is shipped as a finished graph; leave --size away" in said
