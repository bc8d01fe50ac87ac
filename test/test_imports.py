"""Libraries that cannot be imported are explained; no installation leaves NumPy 1 behind."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from functools import partial
from importlib import metadata
from pathlib import Path

import pytest

from depth_node.imports import REQUIRED, explain, pip_install

LIBRARIES = ("onnx>=1.16", "onnxruntime", "opencv-python-headless>=4.5")


def version_of(known: dict[str, str], name: str) -> str:
    if name not in known:
        raise metadata.PackageNotFoundError(name)
    return known[name]


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
def test_what_is_missing_is_installed_by_name_without_leaving_numpy_1(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    # An index does not know this package, and a robot's OpenCV is not known to pip.
    known = {"numpy": version, "openvino": "2026.0"}
    required = ["numpy>=1.21", *(f'{name}; extra == "cpu"' for name in (*LIBRARIES, "openvino"))]
    monkeypatch.setattr(metadata, "requires", lambda _: required)
    monkeypatch.setattr(metadata, "version", lambda name: version_of(known, name))
    monkeypatch.setattr("depth_node.imports.find_spec", lambda _: object())
    absent = explain(ModuleNotFoundError(name="onnx"))
    assert absent is not None
    for command in (pip_install("cpu"), absent[1]):
        assert command.startswith("pip install 'onnx>=1.16' onnxruntime")
        assert "opencv" not in command
        assert "openvino" not in command
        assert ("'numpy<2'" in command) == version.startswith("1.")


def test_what_is_required_without_any_extra_is_installed_by_name(
    repo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = configparser.ConfigParser()
    setup.read(repo_root / "setup.cfg")
    lines = setup["options"]["install_requires"].split()
    required = [*lines, *(f'{name}; extra == "cpu"' for name in LIBRARIES)]
    monkeypatch.setattr(metadata, "requires", lambda _: required)
    libraries = {re.split("[<>=]", line)[0]: line for line in lines}
    assert set(REQUIRED.values()) == set(libraries)
    for module, library in REQUIRED.items():
        there = {name: "2.2" for name in libraries if name != library}
        monkeypatch.setattr(metadata, "version", partial(version_of, there))
        absent = explain(ModuleNotFoundError(name=f"{module}.part"))
        wanted = libraries[library]
        assert absent is not None
        assert absent[1] == f"pip install {repr(wanted) if '>' in wanted else wanted}"
    # Without a record of what the package requires, its name has to do.
    monkeypatch.setattr(metadata, "requires", lambda name: version_of({}, name))
    absent = explain(ModuleNotFoundError(name="yaml"))
    assert absent is not None
    assert absent[1] == "pip install PyYAML"


def test_ros_is_sourced_or_installed_from_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = explain(ModuleNotFoundError(name="rclpy.node"))
    assert absent is not None
    assert absent[1].startswith("source the setup.bash of a ROS 2 installation")
    assert absent[1].endswith("pip install '.[ros]' in the source checkout")


def test_pytorch_is_not_installed_with_cuda_by_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "requires", lambda _: ['torch>=2.6; extra == "train"'])
    monkeypatch.setattr(metadata, "version", lambda name: version_of({"numpy": "2.0"}, name))
    assert "PyTorch's CPU wheels first" in pip_install("train")


def test_a_module_that_no_extra_brings_is_not_explained() -> None:
    assert explain(ModuleNotFoundError(name="depth_node.nothing")) is None
    assert explain(ImportError("no such name", name="depth_node.types")) is None


def test_the_node_says_in_one_line_that_a_library_does_not_load(tmp_path: Path) -> None:
    pytest.importorskip("rclpy")
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: no such file')\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "depth_node.ros.main"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("depth_node: `import cv2` fails: libGL.so.1: no such file; ")
