"""What docs/security.md promises: the policy fits the node, and no foreign code is run."""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from depth_node.parameters import describe

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
# Not on every graph: the camera is raw or compressed, and get_type_description came after Humble.
OPTIONAL = {
    "/camera/image_raw",
    "/camera/image_raw/compressed",
    "/camera/camera_info",
    "/tf",
    "/tf_static",
    "/depth_node/get_type_description",
}


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


def allowed(root: Path, kind: str, verb: str) -> set[str]:
    """The full names that the policy lets the node use in one way."""
    policy = ET.parse(root / "config" / "sros2_policy.xml")  # noqa: S314 - our own file
    (profile,) = policy.getroot().iter("profile")
    namespace = profile.attrib["ns"].rstrip("/")
    names = set()
    for group in profile.findall(kind):
        if group.attrib.get(verb) == "ALLOW":
            for item in group:
                name = str(item.text).replace("~", f"{namespace}/{profile.attrib['node']}", 1)
                names.add(name if name.startswith("/") else f"{namespace}/{name}")
    return names


@pytest.mark.ros
def test_the_policy_allows_exactly_what_the_running_node_uses(repo_root: Path) -> None:
    pytest.importorskip("rclpy")
    from faults import start_node, wait_for_metres
    from ros_graph import CameraDriver, private_graph
    from test_node_outputs import frame

    with private_graph() as graph:
        start_node(graph, use_sim_time=True)
        CameraDriver(graph, frame)
        wait_for_metres(graph)
        uses = {
            ("topics", "publish"): graph.node.get_publisher_names_and_types_by_node,
            ("topics", "subscribe"): graph.node.get_subscriber_names_and_types_by_node,
            ("services", "reply"): graph.node.get_service_names_and_types_by_node,
            ("services", "request"): graph.node.get_client_names_and_types_by_node,
        }
        sources = {
            "/" + str(parameter.default)
            for parameter in describe()
            if parameter.name.endswith("topic") and parameter.default not in ("", "image")
        }
        assert sources <= allowed(repo_root, "topics", "subscribe")
        for (kind, verb), names_and_types in uses.items():
            used = {name for name, _ in names_and_types("depth_node", "/")}
            policy = allowed(repo_root, kind, verb)
            assert used - policy == set(), f"the policy does not let the node {verb} these"
            assert policy - used <= OPTIONAL | sources, f"the node does not {verb} these"
