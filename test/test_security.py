"""What docs/security.md promises: the policy fits the node, and no foreign code is run."""

from __future__ import annotations

import ast
import importlib.util
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

UNSAFE_MODULES = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {
    "eval",
    "exec",
    "os.popen",
    "os.system",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "torch.hub.load",
    "yaml.full_load",
    "yaml.load",
    "yaml.unsafe_load",
}
UNSAFE_ARGUMENTS = {("shell", True), ("allow_pickle", True), ("trust_remote_code", True)}


def modules(root: Path) -> Iterator[tuple[Path, ast.AST]]:
    for path in sorted((root / "depth_node").rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def unsafe(tree: ast.AST) -> Iterator[str]:
    """What could run code that arrives in a file, a message or a parameter."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] in UNSAFE_MODULES)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in UNSAFE_MODULES:
                yield str(node.module)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {
                (keyword.arg, keyword.value.value)
                for keyword in node.keywords
                if isinstance(keyword.value, ast.Constant)
            }
            if name in UNSAFE_CALLS or given & UNSAFE_ARGUMENTS:
                yield ast.unparse(node)
            if name == "torch.load" and ("weights_only", True) not in given:
                yield ast.unparse(node)


def test_no_code_runs_what_a_file_or_a_message_brings(repo_root: Path) -> None:
    found = {str(path): list(unsafe(tree)) for path, tree in modules(repo_root)}
    assert found
    assert {path: calls for path, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from dill import load",
        "eval(text)",
        "subprocess.run(line, shell=True)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "yaml.load(text)",
    ],
)
def test_the_check_above_finds_what_it_looks_for(code: str) -> None:
    assert list(unsafe(ast.parse(code)))


USES = {
    ("topics", "publish"): "get_publisher_names_and_types_by_node",
    ("topics", "subscribe"): "get_subscriber_names_and_types_by_node",
    ("services", "reply"): "get_service_names_and_types_by_node",
    ("services", "request"): "get_client_names_and_types_by_node",
}
"""What a policy allows, and how the graph is asked what a node does; actions show among these."""
Names = dict[tuple[str, str], set[str]]
# get_type_description came after Humble.
NEWER = "{node}/get_type_description"
# tf2_ros.Buffer offers it on the node that it is given; the wheels of ROS have no tf2_ros.
OF_TF2_ROS = "/tf2_frames"
SENSORS = {"lidar", "scan", "range", "landmarks", "ground"}


def allowed(root: Path, namespace: str = "", name: str = "depth_node") -> Names:
    """The full names that the policy lets a node use, by the way in which."""
    policy = ET.parse(root / "config" / "sros2_policy.xml")  # noqa: S314 - our own file
    (profile,) = policy.getroot().iter("profile")
    assert (profile.attrib["ns"], profile.attrib["node"]) == ("/", "depth_node")
    names: Names = {use: set() for use in USES}
    for group in profile:
        for verb, rule in group.attrib.items():
            assert rule == "ALLOW"
            for item in group:
                text = str(item.text).replace("~", f"{namespace}/{name}", 1)
                full = text if text.startswith("/") else f"{namespace}/{text}"
                names[group.tag, verb].add(full)
    return names


def used(graph: Any, namespace: str = "", name: str = "depth_node") -> Names:
    """The names that a node uses after its next report."""
    graph.diagnostics(30.0)
    whose = (name, namespace or "/")
    if whose not in graph.node.get_node_names_and_namespaces():  # known later than its topics
        return {use: set() for use in USES}
    return {
        use: {topic for topic, _ in getattr(graph.node, ask)(*whose)} for use, ask in USES.items()
    }


def assert_fits(graph: Any, policy: Names, spare: set[str], *where: str) -> Names:
    """Wait until the node uses all that is allowed but for `spare`, and nothing else; its uses."""

    def idle() -> set[str]:
        uses = used(graph, *where)
        return set().union(*(policy[use] - uses[use] for use in USES))

    graph.wait_until(lambda: idle() <= spare, 30.0)
    uses = used(graph, *where)
    for use, names in uses.items():
        assert names <= policy[use], f"the policy does not let the node {use[1]} these"
    return uses


def test_the_policy_allows_the_service_that_comes_with_tf2_ros(repo_root: Path) -> None:
    for namespace in ("", "/robot"):
        assert f"{namespace}{OF_TF2_ROS}" in allowed(repo_root, namespace)["services", "reply"]


@pytest.mark.ros
@pytest.mark.parametrize("camera", ["raw", "compressed", "own"])
def test_with_every_camera_the_policy_allows_what_the_node_uses(
    repo_root: Path, tmp_path: Path, camera: str
) -> None:
    pytest.importorskip("rclpy")
    from faults import start_node
    from ros_graph import private_graph
    from sensor_msgs.msg import CompressedImage, Image

    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((48, 64, 3), np.uint8))
    own = {"camera__source": "folder", "camera__path": str(tmp_path)} if camera == "own" else {}
    policy = allowed(repo_root)
    topics = {"/camera/image_raw", "/camera/image_raw/compressed", "/camera/camera_info"}
    needed = {"raw": "/camera/image_raw", "compressed": "/camera/image_raw/compressed"}
    with private_graph() as graph:
        start_node(graph, use_sim_time=True, **own)
        if camera == "raw":
            graph.node.create_publisher(Image, needed[camera], 1)
        elif camera == "compressed":
            graph.node.create_publisher(CompressedImage, needed[camera], 1)
        sensors = {"/lidar/points", "/scan", "/range", "/landmarks", "/imu/data", "/tf"}
        spare = {*sensors, "/tf_static", OF_TF2_ROS, NEWER.format(node="/depth_node"), *topics}
        spare -= {needed.get(camera)}
        heard = assert_fits(graph, policy, spare)["topics", "subscribe"] & topics
        assert heard == (set() if camera == "own" else {needed[camera], "/camera/camera_info"})


@pytest.mark.ros
def test_with_every_source_of_scale_in_a_namespace_the_policy_allows_exactly_what_the_node_uses(
    repo_root: Path, tmp_path: Path
) -> None:
    pytest.importorskip("rclpy")
    from ros_graph import private_graph
    from sensor_msgs.msg import Image, Imu, LaserScan, PointCloud2, Range
    from tf2_messages import tf2_messages

    where = ("/robot", "eye")
    published = {
        "camera/image_raw": Image,
        "lidar/points": PointCloud2,
        "scan": LaserScan,
        "range": Range,
        "landmarks": PointCloud2,
        "imu/data": Imu,
    }
    policy = allowed(repo_root, *where)
    spare = {"/clock", "/robot/camera/image_raw/compressed", NEWER.format(node="/robot/eye")}
    if importlib.util.find_spec("tf2_ros") is None:
        spare.add(f"/robot{OF_TF2_ROS}")
    with private_graph() as graph:
        for topic, kind in published.items():
            graph.node.create_publisher(kind, f"/robot/{topic}", 1)
        graph.depth_node(
            *("-r", "image:=camera/image_raw", "-r", "__ns:=/robot", "-r", "__node:=eye"),
            program="node_with_engine.py",
            env=tf2_messages(tmp_path, graph.environment()),
            ground__direction="imu",
            **{f"{sensor}__enabled": True for sensor in SENSORS},
        )
        assert_fits(graph, policy, spare, *where)
