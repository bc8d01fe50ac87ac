"""Libraries that cannot be imported are explained; no installation leaves NumPy 1 behind."""

from __future__ import annotations

from importlib import metadata

import pytest

from depth_node.imports import explain, pip_install


def set_numpy(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: version)


def test_a_library_built_for_another_numpy_is_told_from_other_faults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_numpy(monkeypatch, "2.2.6")
    seen, cure = explain(ImportError("numpy.core.multiarray failed to import")) or ("", "")
    assert "built for NumPy 1, and NumPy 2.2.6 is found" in seen
    assert "'numpy<2'" in cure
    for version, said in (("1.26.4", "numpy.core.multiarray failed"), ("2.2.6", "libGL.so.1")):
        set_numpy(monkeypatch, version)
        seen, cure = explain(ImportError(said)) or ("", "")
        assert said in seen
        assert "numpy<2" not in cure


@pytest.mark.parametrize("version", ["1.26.4", "2.2.6"])
def test_an_extra_is_installed_without_leaving_numpy_1(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    set_numpy(monkeypatch, version)
    absent = explain(ModuleNotFoundError(name="onnx"))
    assert absent is not None
    for command in (pip_install("cpu"), absent[1]):
        assert command.startswith("pip install 'depth_node[cpu]'")
        assert ("'numpy<2'" in command) == version.startswith("1.")


def test_a_module_that_no_extra_brings_is_not_explained() -> None:
    assert explain(ModuleNotFoundError(name="depth_node.nothing")) is None
    assert explain(ImportError("no such name", name="depth_node.types")) is None
