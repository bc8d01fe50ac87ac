"""Quality of service: what the node offers, and how it meets what others offer."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

IMAGE_HISTORY = 5
"""Enough that images wait for the executor and not for the network: the newest one wins later."""


def output_qos() -> QoSProfile:
    """Reliable and shallow: reaches best-effort and reliable subscribers, and never grows old.

    A new profile each time, because overrides are written into it.
    """
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=2, reliability=ReliabilityPolicy.RELIABLE
    )


def input_qos(reliability: ReliabilityPolicy, depth: int = IMAGE_HISTORY) -> QoSProfile:
    """A subscription of the given reliability."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability)


def offered_reliability(publishers: Sequence[TopicEndpointInfo]) -> ReliabilityPolicy:
    """The strongest reliability that every one of the publishers can serve.

    A best-effort subscription hears everybody. It still is the second choice: with Fast DDS'
    default transport, best-effort messages above half a megabyte do not arrive at all.
    """
    reliable = all(p.qos_profile.reliability == ReliabilityPolicy.RELIABLE for p in publishers)
    return ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
