"""From a network's name to its files: what `auto` takes, sizes, variants and refusals."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from depth_node.network.errors import ModelError
from depth_node.network.registry import Entry, add_entry
from depth_node.network.resolve import resolve_model
from depth_node.network.store import graph_path, replace_graph
from depth_node.parameters import ModelSettings

pytest.importorskip("onnx")
from onnx_stubs import save_stub

pytestmark = pytest.mark.usefixtures("own_cache")


def test_a_named_network_that_is_not_here_says_how_to_get_it():
    with pytest.raises(ModelError, match="depth-node models export depth-anything-v2-base"):
        resolve_model(ModelSettings(name="depth-anything-v2-base"), lambda _: None)


def test_auto_takes_the_exported_network_with_its_variants(own_cache):
    lines: list[str] = []
    name = "depth-anything-v2-small"
    for precision in ("fp32", "int8"):
        path = graph_path(name, "252", precision)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_stub(path)
    files = resolve_model(ModelSettings(), lines.append)
    assert files.name == name
    assert set(files.graphs) == {"fp32", "int8"}
    assert name in lines[0]


@pytest.mark.parametrize(
    ("name", "size", "precision", "command"),
    [
        ("depth-anything-v2-small", "518", "fp16", "depth-anything-v2-small --size 518"),
        ("mine", "given", "fp16", "mine"),
        ("student", "", "int8", "student"),
    ],
)
def test_a_precision_that_is_missing_is_made_at_the_size_that_is_in_use(
    tmp_path, name, size, precision, command
):
    if name == "mine":
        added(tmp_path / "mine.onnx", size)
    elif size:
        path = graph_path(name, size, "fp32")
        path.parent.mkdir(parents=True)
        save_stub(path)
    cure = resolve_model(ModelSettings(name=name), lambda _: None).how_to_make(precision)
    made = f"make one with: depth-node models export {command} --precision {precision}"
    assert cure == made + (" --calibrate FOLDER_OF_IMAGES" if precision == "int8" else "")


def test_a_size_that_was_not_exported_names_those_that_were(own_cache):
    path = graph_path("depth-anything-v2-small", "252x336", "fp32")
    path.parent.mkdir(parents=True)
    save_stub(path)
    settings = ModelSettings(name="depth-anything-v2-small", size="518")
    with pytest.raises(ModelError, match=r"only at 252x336.*--size 518"):
        resolve_model(settings, lambda _: None)
    assert resolve_model(ModelSettings(), lambda _: None).graphs["fp32"] == path


def added(path: Path, size: str = "") -> Entry:
    """A network that is known as an ONNX file only, of which the graph is here at `size`."""
    entry = Entry("mine", "MIT", "relative", "disparity", str(path))
    add_entry(entry)
    if size:
        graph = graph_path(entry.name, size, "fp32")
        graph.parent.mkdir(parents=True)
        save_stub(graph)
    return entry


def test_a_network_that_is_only_a_graph_is_added_again_not_exported(tmp_path):
    added(tmp_path / "my net.onnx")
    with pytest.raises(ModelError) as caught:
        resolve_model(ModelSettings(name="mine"), lambda _: None)
    assert str(caught.value).endswith(
        f"it is not here; run: depth-node models add mine '{tmp_path}/my net.onnx'"
    )


@pytest.mark.parametrize(
    ("here", "cure"),
    [
        ("252", r"at 518 \(only at 252\); run: depth-node models add mine \S+ --size 518"),
        ("given", r"at 518 \(only at given\); its own front decides its size: give none"),
    ],
)
def test_a_graph_of_another_size_names_what_brings_it(tmp_path, here, cure):
    added(tmp_path / "mine.onnx", here)
    with pytest.raises(ModelError, match=f"known as an ONNX file only, .* {cure}$"):
        resolve_model(ModelSettings(name="mine", size="518"), lambda _: None)
    resolve_model(ModelSettings(name="mine"), lambda _: None)


def test_auto_names_the_size_that_is_missing():
    lines: list[str] = []
    path = graph_path("depth-anything-v2-small", "252", "fp32")
    path.parent.mkdir(parents=True)
    save_stub(path)
    assert resolve_model(ModelSettings(size="518"), lines.append).name == "student"
    assert "not been exported here at 518 (only at 252)" in lines[-1]
    assert lines[-1].endswith("depth-node models export depth-anything-v2-small --size 518")


def test_auto_fetches_the_size_that_is_wanted(monkeypatch):
    path = graph_path("depth-anything-v2-small", "518", "fp32")

    def export(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[-3:] == ["depth-anything-v2-small", "--size", "518"]
        path.parent.mkdir(parents=True)
        save_stub(path)
        return subprocess.CompletedProcess(command, 0, "", "wrote it")

    monkeypatch.setattr("depth_node.network.resolve.subprocess.run", export)
    files = resolve_model(ModelSettings(size="518", fetch_s=60.0), lambda _: None)
    assert files.graphs == {"fp32": path}


def test_a_graph_of_other_weights_takes_the_variants_of_the_old_one_with_it(own_cache):
    path = graph_path("net", "252", "fp32")
    variants = [graph_path("net", "252", precision) for precision in ("fp16", "int8")]
    other_size = graph_path("net", "518", "fp16")
    replace_graph(path, b"weights")
    for variant in (*variants, other_size):
        variant.write_bytes(b"made of them")
    assert replace_graph(path, b"weights") == []
    assert all(variant.is_file() for variant in variants)
    assert replace_graph(path, b"other weights") == variants
    assert not any(variant.is_file() for variant in variants)
    assert other_size.is_file()


def test_auto_gives_fetching_no_more_time_than_it_has_and_says_why(monkeypatch):
    lines: list[str] = []
    resolve_model(ModelSettings(fetch_s=0.05), lines.append)
    assert "within 0.05 s" in lines[-1]
    assert "the shipped student" in lines[-1]


def test_auto_asks_no_network_unless_it_may(monkeypatch):
    monkeypatch.setattr("depth_node.network.resolve.subprocess.run", None)  # calling it would fail
    files = resolve_model(ModelSettings(), lambda _: None)
    assert files.name == "student"
