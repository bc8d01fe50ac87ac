"""The node's report on /diagnostics, as aggregators and the doctor read it."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

from std_msgs.msg import Header

from depth_node.health import Level, Problem
from depth_node.metrics import Metrics
from depth_node.ros.status import diagnostics, problems_in

PROBLEMS = [
    Problem(Level.ERROR, "no CameraInfo; start the driver"),
    Problem(Level.WARN, "frame_id: not optical; rename it"),
    Problem(Level.WARN, "slow"),
]


def report(problems: list[Problem]):
    return diagnostics(
        "robot/depth_node", {"state": "active"}, Metrics().snapshot(), problems, Header()
    )


@pytest.mark.parametrize("count", range(4))
def test_whatever_is_wrong_there_is_one_status_of_one_name(count: int):
    """An aggregator takes a status that stops coming for stale, which is an error."""
    (status,) = report(PROBLEMS[:count]).status
    assert status.name == "robot/depth_node"
    assert ord(status.level) == (Level.ERROR if count else Level.OK)
    assert problems_in(status) == PROBLEMS[:count]
