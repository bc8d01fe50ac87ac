"""The graph as a whole and the depth node in it: running, active, its own problems, its outputs."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.qos import QoSCompatibility, ReliabilityPolicy, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo

from depth_node.doctor.findings import Finding, error, ok, warn
from depth_node.doctor.observation import DEFAULT_NODE, Observation, full_name
from depth_node.doctor.transport import large_messages_pass, profile_cure
from depth_node.ros.status import problems_in

_LARGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/PointCloud2")
_SAID = ("rate_in_hz", "rate_out_hz", "network", "engine", "device", "scale")


def check_graph(seen: Observation) -> list[Finding]:
    """Whether anybody else is on this graph."""
    if not seen.nodes:
        cure = (
            "start the camera driver and the node; if they run, give this shell their "
            "ROS_DOMAIN_ID, ROS_AUTOMATIC_DISCOVERY_RANGE and RMW_IMPLEMENTATION"
        )
        return [warn("graph", f"no other node is in sight ({seen.rmw})", cure)]
    count = len(seen.nodes)
    return [ok("graph", f"{count} node{'s' if count > 1 else ''} in sight ({seen.rmw})")]


def check_node(seen: Observation, wanted: str) -> list[Finding]:
    """Whether the depth node runs, is active, and what it says is wrong.

    Args:
        seen: what was seen of the graph.
        wanted: the name that was asked for, or empty.
    """
    if seen.node is None:
        return [_no_node(seen, wanted)]
    findings = [_state(seen)]
    count = seen.nodes.count(seen.node)
    if count > 1:
        text = f"{count} nodes have this name: services and parameters reach one by chance"
        findings.append(warn(seen.node, text, "end one of them, or give it another name"))
    others = [name for name in seen.depth_nodes if name != seen.node]
    if others and not wanted:
        text = f"other depth nodes run too: {', '.join(others)}"
        findings.append(ok(seen.node, text, "look at one of them with --node"))
    if seen.state == "active":
        findings += _problems(seen)
        findings += [
            ok(key, text) for key, text in seen.facts.items() if key.endswith(" extrinsics")
        ]
    return findings


def _no_node(seen: Observation, wanted: str) -> Finding:
    name = wanted or DEFAULT_NODE
    cure = "ros2 launch depth_node depth.launch.py image:=/your/camera/image_raw"
    if seen.depth_nodes:
        cure = f"name the one to look at: --node {' or '.join(seen.depth_nodes)}"
    return error("node", f"no node named {name} runs: nobody computes depth", cure)


def _state(seen: Observation) -> Finding:
    """The lifecycle state, with the reason for one in which nothing is published."""
    node = seen.node
    assert node is not None
    state = seen.state or seen.facts.get("state")
    reason = _reason(seen)
    if state == "active":
        facts = seen.facts
        said = ", ".join(f"{key} {facts[key]}" for key in _SAID if key in facts)
        return ok(node, f"active{', ' if said else ''}{said}")
    if state is None:
        cure = "wait and look again: it may be loading its network; else see its log"
        return error(node, "it is there but answers nothing", cure)
    if state == "unconfigured":
        cure = f"mend that, then: ros2 lifecycle set {node} configure"
        if not reason:
            cure = f"ros2 lifecycle set {node} configure, then activate, or set autostart: true"
        return error(node, f"unconfigured, nothing is published{reason}", cure)
    if state == "inactive":
        cure = f"ros2 lifecycle set {node} activate"
        return error(node, f"inactive, nothing is published{reason}", cure)
    return error(node, f"in state {state}, nothing is published{reason}", "start it again")


def _reason(seen: Observation) -> str:
    texts = [problem.text for status in seen.report for problem in problems_in(status)]
    return f": {'; '.join(texts)}" if texts else ""


def _problems(seen: Observation) -> list[Finding]:
    """What an active node says of itself."""
    assert seen.node is not None
    if not seen.report:
        text = "its diagnostics do not arrive on /diagnostics"
        return [warn(seen.node, text, "check that nothing remaps /diagnostics, or listen longer")]
    return [
        Finding.from_text(problem.level, seen.node, f"it says: {problem.text}", "see its log")
        for status in seen.report
        for problem in problems_in(status)
    ]


def check_qos(topic: str, seen: Observation, listener: str | None = None) -> list[Finding]:
    """Publisher and subscriber pairs of a topic that can never meet.

    Args:
        topic: must be among the topics of `seen.publishers`.
        seen: what was seen of the graph.
        listener: look at this node's subscriptions only; None looks at all.
    """
    findings = []
    subscribers = [s for s in seen.subscribers[topic] if listener in (None, full_name(s))]
    for publisher in seen.publishers[topic]:
        for subscriber in subscribers:
            if publisher.topic_type != subscriber.topic_type:
                text = (
                    f"{full_name(publisher)} publishes {publisher.topic_type} but "
                    f"{full_name(subscriber)} expects {subscriber.topic_type}"
                )
                findings.append(error(topic, text, "remap one of the two"))
                continue
            verdict, reason = qos_check_compatible(publisher.qos_profile, subscriber.qos_profile)
            if verdict == QoSCompatibility.ERROR:
                text = (
                    f"{full_name(subscriber)} hears nothing of {full_name(publisher)}, their QoS "
                    f"is incompatible ({' '.join(reason.split()).rstrip(';. ')})"
                )
                findings.append(error(topic, text, _qos_cure(publisher, subscriber)))
    return findings


def _qos_cure(publisher: TopicEndpointInfo, subscriber: TopicEndpointInfo) -> str:
    offered, wanted = publisher.qos_profile, subscriber.qos_profile
    if offered.reliability != wanted.reliability:
        return (
            f"set the reliability of {full_name(subscriber)} to best_effort (in rviz: Reliability "
            f"Policy), or that of {full_name(publisher)} to reliable"
        )
    return f"give {full_name(subscriber)} the QoS that {full_name(publisher)} offers"


def check_outputs(seen: Observation) -> list[Finding]:
    """Who listens to the depth node."""
    if seen.node is None or not seen.outputs:
        return []
    findings = []
    heard = []
    for topic in seen.outputs:
        findings += check_qos(topic, seen)
        subscribers = seen.subscribers[topic]
        if subscribers:
            heard.append(topic)
            findings += _large_best_effort(topic, subscribers, seen.rmw)
    if not heard:
        text = f"nobody subscribes to {', '.join(seen.outputs)}: nothing is computed"
        findings.append(
            ok("outputs", text, "subscribe to one, as rviz with config/depth.rviz does")
        )
    else:
        names = {full_name(s) for topic in heard for s in seen.subscribers[topic]}
        text = f"{', '.join(heard)} go to {', '.join(sorted(names))}"
        findings.append(ok("outputs", text))
    return findings


def _large_best_effort(
    topic: str, subscribers: Sequence[TopicEndpointInfo], rmw: str
) -> list[Finding]:
    names = sorted(
        full_name(subscriber)
        for subscriber in subscribers
        if subscriber.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
        and subscriber.topic_type in _LARGE_TYPES
    )
    if not names or "fastrtps" not in rmw or large_messages_pass():
        return []
    text = (
        f"{', '.join(names)} subscribe best effort: messages over 0.5 MB do not arrive there "
        "unless the node was started with the Fast DDS profile, which this shell lacks"
    )
    return [warn(topic, text, profile_cure())]
