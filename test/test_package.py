"""The package builds with colcon and with pip, and says truly what it needs."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from catkin_pkg.package import Package, parse_package

from depth_node import __version__

ONLY_IN_A_DISTRIBUTION = {
    "ament_index_python",
    "cv_bridge",
    "launch",
    "launch_ros",
    "tf2_msgs",
    "tf2_ros_py",
}
"""ROS packages that have no wheel, or come with rclpy's."""
ROSDEP_KEYS = {
    "matplotlib": "python3-matplotlib",
    "numpy": "python3-numpy",
    "opencv-python-headless": "python3-opencv",
    "PyYAML": "python3-yaml",
    "rich": "python3-rich",
    "scipy": "python3-scipy",
    "tqdm": "python3-tqdm",
}
"""pip's name to rosdep's, for what both have."""
NOT_IN_ROSDEP = {
    "cuda-python",
    "embreex",
    "huggingface_hub",
    "nncf",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxscript",
    "openvino",
    "rosbags",
    "safetensors",
    "torch",
    "transformers",
}
"""Engines and tools without a distribution package: rosdep knows them not at all, or only through
pip, which Ubuntu 24.04 refuses to run."""
DISTRIBUTIONS = {
    "cuda": "cuda-python",
    "cv2": "opencv-python-headless",
    "tf2_ros": "tf2_ros_py",
    "yaml": "PyYAML",
}
"""Module to pip's or ROS' name where they differ."""
FROM_THE_SYSTEM = {"tensorrt"}


@pytest.fixture(scope="module")
def manifest(repo_root: Path) -> Package:
    warnings: list[str] = []
    package = parse_package(str(repo_root / "package.xml"), warnings=warnings)
    assert warnings == []
    return package


@pytest.fixture(scope="module")
def metadata(repo_root: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(repo_root / "setup.cfg")
    return parser


def requirements(text: str) -> set[str]:
    """The names in a list of requirements, without versions and extras."""
    lines = (line.strip() for line in text.splitlines())
    return {re.split(r"[\[<>=~!;]", line)[0].strip() for line in lines if line}


def exec_depends(manifest: Package) -> set[str]:
    return {dependency.name for dependency in manifest.exec_depends}


def test_package_xml_is_a_valid_ament_python_package(manifest: Package) -> None:
    manifest.validate()
    assert manifest.package_format == 3
    assert manifest.get_build_type() == "ament_python"
    assert manifest.licenses == ["Apache-2.0"]


def test_one_version_stands_everywhere(
    manifest: Package, metadata: configparser.ConfigParser
) -> None:
    assert manifest.name == metadata["metadata"]["name"]
    assert manifest.version == __version__
    assert metadata["metadata"]["version"] == "attr: depth_node.__version__"


@pytest.mark.parametrize(("extra", "prefix"), [("ros", "ros-"), ("jazzy", "ros-jazzy-")])
def test_ros_extras_bring_what_package_xml_names(
    manifest: Package, metadata: configparser.ConfigParser, extra: str, prefix: str
) -> None:
    wheels = requirements(metadata["options.extras_require"][extra])
    assert all(name.startswith(prefix) for name in wheels)
    packages = {name.removeprefix(prefix).replace("-", "_") for name in wheels}
    of_ros = {name for name in exec_depends(manifest) if not name.startswith("python3-")}
    assert packages == of_ros - ONLY_IN_A_DISTRIBUTION
    assert of_ros >= ONLY_IN_A_DISTRIBUTION


def test_python_libraries_of_pip_and_rosdep_agree(
    manifest: Package, metadata: configparser.ConfigParser
) -> None:
    extras = metadata["options.extras_require"]
    named = requirements(metadata["options"]["install_requires"])
    for extra in extras:
        if extra not in ("ros", "jazzy", "test"):
            named |= requirements(extras[extra])
    assert named == ROSDEP_KEYS.keys() | NOT_IN_ROSDEP
    keys = {name for name in exec_depends(manifest) if name.startswith("python3-")}
    assert keys == set(ROSDEP_KEYS.values())


def test_a_plain_install_brings_neither_torch_nor_ros(metadata: configparser.ConfigParser) -> None:
    assert requirements(metadata["options"]["install_requires"]) == {
        "numpy",
        "PyYAML",
        "scipy",
        "tqdm",
    }


def imported_modules(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.partition(".")[0]


def test_every_imported_library_is_declared(
    manifest: Package, metadata: configparser.ConfigParser, repo_root: Path
) -> None:
    modules = set(imported_modules(repo_root / "depth_node"))
    foreign = modules - set(sys.stdlib_module_names) - {"depth_node"} - FROM_THE_SYSTEM
    needed = {DISTRIBUTIONS.get(module, module) for module in foreign}
    assert needed - exec_depends(manifest) <= ROSDEP_KEYS.keys() | NOT_IN_ROSDEP


def test_the_pip_line_of_the_readme_brings_what_its_demo_imports(
    metadata: configparser.ConfigParser, repo_root: Path
) -> None:
    readme = (repo_root / "README.md").read_text()
    section = readme.partition("## Without ROS: pip")[2].partition("\n## ")[0]
    assert "depth-node demo" in section
    lines = re.findall(r"\[([a-z,]+)\]", section)
    assert {line.split(",")[0] for line in lines} == {"ros", "jazzy"}
    foreign = set(imported_modules(repo_root / "depth_node/demo"))
    foreign -= {*sys.stdlib_module_names, "depth_node"}
    needed = {DISTRIBUTIONS.get(module, module).replace("_", "-") for module in foreign}
    for line in lines:
        brought = requirements(metadata["options"]["install_requires"])
        for extra in line.split(","):
            brought |= requirements(metadata["options.extras_require"][extra])
        names = {re.sub("^ros-(jazzy-)?", "", name) for name in brought}
        assert needed <= names, line


def test_pip_on_a_robot_keeps_the_numpy_of_the_distribution(repo_root: Path) -> None:
    readme = (repo_root / "README.md").read_text()
    section = readme.partition("## On a robot")[2].partition("\n## ")[0]
    lines = re.findall(r"pip install [^`\n#]*\bonnx\b[^`\n#]*", section)
    assert len(lines) == 2, "one for CPUs, one for NVIDIA GPUs"
    assert all("'numpy<2'" in line for line in lines)


def test_the_documentation_index_lists_every_page(repo_root: Path) -> None:
    index = (repo_root / "docs/index.md").read_text()
    for page in (repo_root / "docs").glob("*.md"):
        assert page.name == "index.md" or f"]({page.name})" in index, page


def clean_environment(**changes: str) -> dict[str, str]:
    """The environment without what the ROS wheels and a sourced ROS would pass on."""
    passed_on = ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "AMENT_PREFIX_PATH", "COLCON_PREFIX_PATH")
    kept = {name: value for name, value in os.environ.items() if name not in passed_on}
    return {**kept, **changes}


def run(*command: object, cwd: Path, **changes: str) -> str:
    """Run a command and return what it printed; a failure shows everything it said."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        cwd=cwd,
        env=clean_environment(**changes),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def source(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, so that a build leaves nothing in the checkout."""
    copy = tmp_path_factory.mktemp("source") / "depth_node"
    skipped = shutil.ignore_patterns(".*", "build", "install", "log", "*.egg-info", "__pycache__")
    shutil.copytree(repo_root, copy, ignore=skipped)
    return copy


def colcon_build(source: Path, workspace: Path, *options: str) -> Path:
    """Build the package in a workspace of its own; returns its prefix."""
    colcon = [sys.executable, "-m", "colcon", "build", "--base-paths", source]
    run(*colcon, *options, cwd=workspace)
    return workspace / "install" / "depth_node"


@pytest.fixture(scope="module")
def colcon_prefix(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colcon_build(source, tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def symlink_prefix(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colcon_build(source, tmp_path_factory.mktemp("symlinks"), "--symlink-install")


@pytest.fixture(scope="module")
def pip_prefix(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    prefix = tmp_path_factory.mktemp("pip") / "prefix"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--prefix", prefix]
    # Nothing is loaded from anywhere: the environment's own setuptools builds the wheel.
    run(
        *pip,
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--ignore-installed",
        source,
        cwd=source,
    )
    return prefix


@pytest.fixture(params=["colcon_prefix", "pip_prefix"])
def prefix(request: pytest.FixtureRequest) -> Path:
    """The prefix that the package was installed into, once by each tool."""
    path = request.getfixturevalue(request.param)
    assert isinstance(path, Path)
    return path


def site_packages(prefix: Path) -> Path:
    [package] = prefix.glob("lib/python3*/*-packages/depth_node")
    return package.parent


def test_an_installation_registers_the_package(prefix: Path) -> None:
    assert (prefix / "share/ament_index/resource_index/packages/depth_node").is_file()
    assert parse_package(str(prefix / "share/depth_node/package.xml")).name == "depth_node"


@pytest.mark.parametrize("folder", ["launch", "config", "models"])
def test_an_installation_holds_every_data_file(prefix: Path, repo_root: Path, folder: str) -> None:
    expected = {path.name for path in (repo_root / folder).glob("*.*")}
    assert expected, f"{folder}/ is empty"
    assert {path.name for path in (prefix / "share/depth_node" / folder).glob("*.*")} == expected


def test_ros_finds_the_executables(prefix: Path) -> None:
    for name in ("depth_node", "depth-node"):
        executable = prefix / "lib" / "depth_node" / name
        assert os.access(executable, os.X_OK), executable
    tool = prefix / "lib" / "depth_node" / "depth-node"
    printed = run(tool, "--version", cwd=prefix, PYTHONPATH=str(site_packages(prefix)))
    assert printed == f"depth-node {__version__}\n"


@pytest.mark.parametrize("built", ["colcon_prefix", "symlink_prefix"])
def test_a_sourced_workspace_has_the_command(built: str, request: pytest.FixtureRequest) -> None:
    prefix = request.getfixturevalue(built)
    workspace = prefix.parent.parent
    where = run("sh", "-c", ". install/setup.sh && command -v depth-node", cwd=workspace)
    assert where.strip() == str(prefix / "bin" / "depth-node")
    printed = run("sh", "-c", ". install/setup.sh && depth-node --help", cwd=workspace)
    assert "doctor" in printed


def test_pip_installs_the_command_once(pip_prefix: Path) -> None:
    command = pip_prefix / "bin" / "depth-node"
    assert "python" in command.read_text().partition("\n")[0], "the script of pip itself"
    printed = run(command, "--version", cwd=pip_prefix, PYTHONPATH=str(site_packages(pip_prefix)))
    assert printed == f"depth-node {__version__}\n"


def test_an_installation_finds_its_own_files(prefix: Path) -> None:
    code = "import depth_node.resources as r; print(r.share_directory(), r.fastdds_profile())"
    printed = run(sys.executable, "-c", code, cwd=prefix, PYTHONPATH=str(site_packages(prefix)))
    share = prefix / "share" / "depth_node"
    assert printed.split() == [str(share), str(share / "config" / "fastdds.xml")]
