"""What the doctor says of machines and environments; no ROS is needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from doctor_run import ROOT, doctor, fill_cache

from depth_node.doctor.findings import Finding
from depth_node.doctor.machine import Probe, judge_engines, run_probes
from depth_node.doctor.transport import check_discovery, check_transport
from depth_node.health import Level
from depth_node.resources import FASTDDS_VARIABLES

PROFILE = ROOT / "config" / "fastdds.xml"
NO_GPU = Probe(missing="there is no NVIDIA driver")
FASTDDS = "rmw_fastrtps_cpp"


def test_a_machine_without_ros_is_looked_at_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('rclpy', 'sensor_msgs', 'diagnostic_msgs'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    cache = fill_cache(tmp_path / "cache")
    report = doctor(env={**os.environ, "DEPTH_NODE_CACHE": str(cache), "PYTHONPATH": path})
    assert "setup.bash" in report.find("error", "ros", "only the machine")["cure"]
    assert report.code == 1
    report.find("ok", "engine", "onnxruntime: onnxruntime 1.")
    report.find("ok", "model", "depth-anything-v2-small")
    assert report.levels("graph") == set()


def test_a_library_that_numpy_2_has_broken_is_named_with_its_cure(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text(
        "raise ImportError('numpy.core.multiarray failed to import')\n"  # what OpenCV says
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    report = doctor(env={**os.environ, "PYTHONPATH": path})
    assert report.code == 1
    problem = report.find("error", "python", "`import cv2` fails: numpy.core.multiarray failed")
    assert "'numpy<2'" in problem["cure"]


def test_a_damaged_network_and_a_domain_that_is_no_number_are_errors(tmp_path: Path) -> None:
    damaged = tmp_path / "models" / "depth-anything-v2-small"
    damaged.mkdir(parents=True)
    (damaged / "252.onnx").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    env = {**os.environ, "DEPTH_NODE_CACHE": str(tmp_path), "ROS_DOMAIN_ID": "none"}
    report = doctor("--seconds", "0.2", env=env)
    report.find("error", "model", "not an ONNX file")
    report.find("error", "discovery", "ROS_DOMAIN_ID is 'none'")


def seen(findings: list[Finding], topic: str) -> list[tuple[Level, str]]:
    return [(finding.level, finding.seen) for finding in findings if finding.topic == topic]


def test_no_engine_at_all_is_an_error() -> None:
    missing = Probe(missing="it is not installed")
    findings = judge_engines({"openvino": missing, "onnxruntime": missing}, NO_GPU)
    (problem,) = [finding for finding in findings if finding.level == Level.ERROR]
    assert "pip install" in problem.cure


def test_a_gpu_that_no_engine_uses_is_a_warning() -> None:
    engines = {"tensorrt": Probe(missing="it is not installed"), "openvino": Probe("openvino 2026")}
    findings = judge_engines(engines, Probe("NVIDIA Orin"))
    assert seen(findings, "gpu")[0][0] == Level.WARN
    findings = judge_engines({**engines, "tensorrt": Probe("tensorrt 10.3")}, Probe("NVIDIA Orin"))
    assert seen(findings, "gpu") == [(Level.OK, "NVIDIA Orin")]


def test_a_gpu_engine_without_a_gpu_does_not_count() -> None:
    findings = judge_engines({"tensorrt": Probe("tensorrt 10.3")}, NO_GPU)
    assert any(finding.level == Level.ERROR for finding in findings)
    assert "cannot run: there is no NVIDIA driver" in findings[0].seen


def test_a_gpu_engine_that_nothing_can_test_is_an_error() -> None:
    missing = Probe(missing="it is not installed")
    engines = {"tensorrt": Probe("tensorrt 10.3"), "openvino": missing, "onnxruntime": missing}
    findings = judge_engines(engines, Probe("NVIDIA Orin"))
    (problem,) = [finding for finding in findings if finding.level == Level.ERROR]
    assert "self-test's reference" in problem.seen
    assert problem.cure == "pip install onnxruntime"
    findings = judge_engines({**engines, "openvino": Probe("openvino 2026")}, Probe("NVIDIA Orin"))
    assert not [finding for finding in findings if finding.level == Level.ERROR]


def test_a_runtime_that_crashes_on_import_takes_only_its_probe_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt.py").write_text("import os; os.abort()")
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.12: cannot open')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    probes = run_probes(["tensorrt", "torch", "onnx"])
    assert "exit code -6" in probes["tensorrt"].missing
    assert "libcudart.so.12" in probes["torch"].missing
    assert probes["onnx"].found.startswith("onnx 1.")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def put(**values: str) -> None:
        for name in (*FASTDDS_VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS", "ROS_DISTRO"):
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


def test_the_shipped_profile_is_found_good(environment: Callable[..., None]) -> None:
    environment(ROS_DISTRO="kilted", FASTDDS_DEFAULT_PROFILES_FILE=str(PROFILE))
    assert "32 MiB" in check_transport(FASTDDS)[0].seen
    assert check_transport(FASTDDS)[0].level == Level.OK


@pytest.mark.parametrize(
    ("distribution", "name"), [("kilted", FASTDDS_VARIABLES[0]), ("jazzy", FASTDDS_VARIABLES[1])]
)
def test_a_missing_profile_is_a_warning_that_names_the_variable_of_this_distribution(
    environment: Callable[..., None], distribution: str, name: str
) -> None:
    environment(ROS_DISTRO=distribution)
    finding = check_transport(FASTDDS)[0]
    assert finding.level == Level.WARN
    assert f"export {name}={PROFILE}" in finding.cure


def test_a_variable_that_this_fast_dds_does_not_read_is_an_error(
    environment: Callable[..., None],
) -> None:
    environment(ROS_DISTRO="jazzy", FASTDDS_DEFAULT_PROFILES_FILE=str(PROFILE))
    assert check_transport(FASTDDS)[0].level == Level.ERROR


@pytest.mark.parametrize(
    ("content", "level"),
    [
        (None, Level.ERROR),
        ("<dds", Level.ERROR),
        ("<dds xmlns='x'><segment_size>1048576</segment_size></dds>", Level.WARN),
        ("<dds/>", Level.WARN),
        ("<dds xmlns='x'><segment_size>16777216</segment_size></dds>", Level.OK),
    ],
)
def test_the_profile_itself_is_read(
    environment: Callable[..., None], tmp_path: Path, content: str | None, level: Level
) -> None:
    profile = tmp_path / "profile.xml"
    if content is not None:
        profile.write_text(content)
    environment(ROS_DISTRO="kilted", FASTDDS_DEFAULT_PROFILES_FILE=str(profile))
    assert check_transport(FASTDDS)[0].level == level


def test_another_middleware_needs_no_profile(environment: Callable[..., None]) -> None:
    environment()
    assert [finding.level for finding in check_transport("rmw_cyclonedds_cpp")] == [Level.OK]


@pytest.mark.parametrize(("only", "reach"), [("1", "LOCALHOST"), ("0", "SUBNET")])
def test_humble_knows_the_older_variable_alone(
    monkeypatch: pytest.MonkeyPatch, only: str, reach: str
) -> None:
    monkeypatch.setenv("ROS_DISTRO", "humble")
    monkeypatch.setenv("ROS_LOCALHOST_ONLY", only)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF")
    (finding,) = check_discovery()
    assert finding.level == Level.OK
    assert f"{reach} (ROS_LOCALHOST_ONLY)" in finding.seen


def test_a_discovery_range_that_hides_everybody_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF")
    assert check_discovery()[0].level == Level.ERROR
