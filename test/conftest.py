"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from ros_graph import CameraDriver, Graph, Process

ROOT = Path(__file__).resolve().parent.parent

# What a machine that does other things needs for one example is no property of the code.
settings.register_profile("unhurried", parent=settings.default, deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Recorded real images, LiDAR and ground truth, which are not part of the repository."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the recorded data is not on this machine (looked for ../shared/data)")
    return folder


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that keeps compiled engines, graphs and the registry out of the user's cache."""
    monkeypatch.setenv("DEPTH_NODE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def lines() -> list[str]:
    """What was logged, for tests that give `lines.append` as the log."""
    return []


@pytest.fixture(scope="module")
def graph() -> Iterator[Graph]:
    """A ROS graph that the tests of one module share.

    A test that kills a process makes one of its own: what was killed leaves its shared memory
    behind, and who comes after it on the same domain may wait for that for ever.
    """
    from ros_graph import private_graph

    with private_graph() as made:
        yield made


@pytest.fixture(scope="module")
def node(graph: Graph) -> Process:
    """The node on `graph`, with the test's engine and a fixed scale."""
    from faults import start_node

    return start_node(graph)


@pytest.fixture
def camera(graph: Graph, node: Process) -> Iterator[CameraDriver]:
    """A camera whose images have become depth; unplugged after the test."""
    from faults import start_camera, unplug

    yield start_camera(graph)
    unplug(graph)


@pytest.fixture
def one_torch_thread() -> Iterator[None]:
    """Tiny networks wait for a second thread longer than they compute."""
    torch = pytest.importorskip("torch", reason="training needs PyTorch (extra [train])")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
