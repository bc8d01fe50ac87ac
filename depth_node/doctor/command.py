"""`depth-node doctor`: why does nothing arrive?"""

from __future__ import annotations

import argparse
import importlib
import json
import os
from collections.abc import Iterator

from depth_node.doctor.findings import Finding, all_well, error
from depth_node.doctor.transport import check_discovery, check_transport
from depth_node.health import Level
from depth_node.imports import explain

_NEEDED = (
    "rclpy",
    "diagnostic_msgs.msg",
    "lifecycle_msgs.srv",
    "rcl_interfaces.srv",
    "rosgraph_msgs.msg",
    "sensor_msgs.msg",
)
_DEFAULT_RMW = "rmw_fastrtps_cpp"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options of `depth-node doctor`."""
    parser.add_argument(
        "--image", default="", metavar="TOPIC", help="image topic; default: what the node expects"
    )
    parser.add_argument(
        "--camera-info",
        default="",
        metavar="TOPIC",
        help="CameraInfo topic; default: what the node expects, or beside --image",
    )
    parser.add_argument(
        "--node", default="", metavar="NAME", help="the depth node's name; default: depth_node"
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=3.0,
        help="how long to listen to the graph once the node is found (default 3)",
    )
    parser.add_argument(
        "--json", action="store_true", help='print one object {"findings": [...], "ok": bool}'
    )


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.0 < value <= 600.0:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 600")
    return value


def run(args: argparse.Namespace) -> int:
    """Print what was found; 1 when something is wrong, else 0."""
    findings = []
    for finding in _examine(args):
        findings.append(finding)
        if not args.json:
            print(finding.line(), flush=True)
    well = all_well(findings)
    if args.json:
        print(json.dumps({"findings": [finding.as_dict() for finding in findings], "ok": well}))
    else:
        print(_verdict(findings))
    return 0 if well else 1


def _examine(args: argparse.Namespace) -> Iterator[Finding]:
    """The findings as they are made: the machine at once, the graph after listening."""
    try:
        from depth_node.doctor.machine import check_machine
    except ImportError as problem:  # NumPy or OpenCV, which everything here rests on
        explained = explain(problem)
        if explained is None:
            raise
        yield error("python", *explained)
        return
    yield from check_machine()
    yield from check_discovery()
    yield from _check_ros(args)


def _verdict(findings: list[Finding]) -> str:
    errors, warnings = (
        sum(finding.level == level for finding in findings) for level in (Level.ERROR, Level.WARN)
    )
    if not errors and not warnings:
        return "nothing is wrong"
    return f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"


def _check_ros(args: argparse.Namespace) -> list[Finding]:
    """The graph and the transport below it, where ROS is installed."""
    missing = _missing_ros()
    if missing is not None:
        return [missing]
    from depth_node.doctor.check_camera import check_camera
    from depth_node.doctor.check_node import check_graph, check_node, check_outputs
    from depth_node.doctor.check_tf import check_tf
    from depth_node.doctor.observation import Question
    from depth_node.doctor.observe import GraphError, observe

    question = Question(args.image, args.camera_info, args.node, args.seconds)
    try:
        seen = observe(question)
    except GraphError as problem:
        rmw = os.environ.get("RMW_IMPLEMENTATION") or _DEFAULT_RMW
        cure = "check ROS_DOMAIN_ID and RMW_IMPLEMENTATION in this shell"
        return [*check_transport(rmw), error("graph", str(problem), cure)]
    return [
        *check_transport(seen.rmw),
        *check_graph(seen),
        *check_node(seen, args.node),
        *check_camera(seen),
        *check_tf(seen),
        *check_outputs(seen),
    ]


def _missing_ros() -> Finding | None:
    """Why the graph cannot be looked at, or None when it can."""
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except ImportError as problem:
            seen = f"not usable in this Python, so only the machine was looked at ({problem})"
            cure = (
                "source /opt/ros/<distribution>/setup.bash, or on a machine without ROS "
                "pip install '.[ros]' in the source checkout"
            )
            return error("ros", seen, cure)
    return None
