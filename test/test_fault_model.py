"""The network's file spoilt under the running node, and a cache that cannot be read or written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("onnxruntime")

from faults import DEPTH, settle, start_camera
from lifecycle_msgs.msg import Transition
from onnx_stubs import save_stub
from ros_graph import Graph, image_array, private_graph
from sensor_msgs.msg import Image

from depth_node.engines.cache import EngineCache

pytestmark = pytest.mark.ros
UP = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
DOWN = (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
TWICE = "summed = Conv <pads = [1, 1, 1, 1]> (pixels, kernel)  raw = Add (summed, summed)"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8 : len(data) // 2] = bytes(len(data) // 2 - 8)
    path.write_bytes(bytes(data))


def replace_by_another_kind_of_file(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(2000))


SPOIL: tuple[Callable[[Path], None], ...] = (
    cut,
    alter,
    replace_by_another_kind_of_file,
    Path.unlink,
)


def near_and_far(graph: Graph) -> np.ndarray:
    """Metres in the middle of the two halves of the picture."""
    with graph.collect(Image, DEPTH) as depths:
        depth = image_array(depths.wait(3, 30.0)[-1])
    return depth[160, [80, 240]]


def test_a_running_node_keeps_its_network_and_configure_takes_only_a_whole_one(
    tmp_path: Path,
) -> None:
    path = save_stub(tmp_path / "net.onnx")
    good = path.read_bytes()
    with private_graph() as graph:
        node = graph.depth_node(
            "-r", "image:=/camera/image_raw",
            env={"DEPTH_NODE_CACHE": str(tmp_path / "cache")},
            model__name=str(path), model__engine="onnxruntime",
            scale__source="fixed", scale__fixed_scale=1.0,
        )  # fmt: skip
        start_camera(graph)
        before = near_and_far(graph)
        for spoil in SPOIL:
            spoil(path)
            np.testing.assert_array_equal(near_and_far(graph), before)
            assert all(map(graph.change_state, DOWN))
            assert not graph.change_state(Transition.TRANSITION_CONFIGURE)
            assert path.name in graph.wait_for_problem("cannot configure").text
            assert graph.state() == "unconfigured"
            path.write_bytes(good)
            assert all(map(graph.change_state, UP))
            np.testing.assert_array_equal(near_and_far(graph), before)
        save_stub(path, body=TWICE)  # another whole network, which the cache does not know
        assert all(map(graph.change_state, (*DOWN, *UP)))
        np.testing.assert_allclose(near_and_far(graph), 0.5 * before, rtol=1e-3)
        assert "Traceback" not in node.output
        settle(graph)


def test_a_cache_that_cannot_be_read_or_written_costs_only_the_cache(tmp_path: Path) -> None:
    signature = {"graph": "any"}
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    lines: list[str] = []
    assert EngineCache(blocked, lines.append).get_or_build(signature, lambda: b"built") == b"built"
    assert "not kept" in lines[-1]

    cache = EngineCache(tmp_path / "cache", lines.append)
    cache.store(signature, b"built")
    (engine,) = cache.folder.glob("*.engine")
    engine.unlink()
    engine.mkdir()  # unreadable to every user, also to root
    assert cache.get_or_build(signature, lambda: b"again") == b"again"
    assert "not kept" in lines[-1]
