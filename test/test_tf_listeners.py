"""Who answers look-ups in TF: what they say when they cannot, and a clock that is set back."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy")

import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.clock import ClockType
from rclpy.context import Context
from rclpy.time import Time
from ros_graph import Graph
from sensor_msgs.msg import Image

from depth_node.geometry.transforms import CURES, Fault, TransformError
from depth_node.ros.transforms import Tf2Transforms, TransformListener
from depth_node.ros.wire import make_header

S = 1_000_000_000

# The exceptions of tf2_ros, which has no wheel.
Tf2Error = type("TransformException", (Exception,), {})
NoFrame = type("LookupException", (Tf2Error,), {})
TwoTrees = type("ConnectivityException", (Tf2Error,), {})
OutOfTime = type("ExtrapolationException", (Tf2Error,), {})


class Tf2Buffer:
    """Stands in for that of tf2_ros: raises what it is told to, and counts how it is cleared."""

    error: Exception = Tf2Error()
    cleared = 0

    def __init__(self, node: Any) -> None:
        type(self).cleared = 0

    def lookup_transform(self, *_: Any) -> Any:
        raise self.error

    def clear(self) -> None:
        type(self).cleared += 1


TF2_ROS = types.SimpleNamespace(
    Buffer=Tf2Buffer,
    TransformListener=lambda *_: None,
    TransformException=Tf2Error,
    LookupException=NoFrame,
    ConnectivityException=TwoTrees,
    ExtrapolationException=OutOfTime,
)


LATEST = "Requested time 3.0 but the latest data is at time 2.0, when looking up transform"
EARLIEST = "Requested time 1.0 but the earliest data is at time 2.0, when looking up transform"


@pytest.mark.ros
@pytest.mark.parametrize(
    ("error", "fault", "seen"),  # tf2's own words
    [
        (
            NoFrame('"lidar" passed to lookupTransform argument source_frame does not exist. '),
            Fault.UNKNOWN_FRAME,
            "TF knows no frame 'lidar' (",
        ),
        (
            NoFrame("The tf tree is invalid because it contains a loop.\nFrame a exists with"),
            Fault.CYCLIC,
            "goes in a loop (tf2: The tf tree is invalid because it contains a loop);",
        ),
        (
            TwoTrees("Could not find a connection between 'camera' and 'lidar' because they are"),
            Fault.NOT_CONNECTED,
            "frames 'lidar' and 'camera' are not connected (",
        ),
        (
            OutOfTime(f"Lookup would require extrapolation into the past.  {EARLIEST}"),
            Fault.TOO_OLD,
            "transform 'camera' -> 'lidar' is asked for before the oldest one kept (",
        ),
        (
            OutOfTime(f"Lookup would require extrapolation into the future.  {LATEST}"),
            Fault.NOT_YET,
            "transform 'camera' -> 'lidar' is asked for after the newest one heard (",
        ),
        (
            OutOfTime("Lookup would require extrapolation at time 3.0, but only time 2.0 is in"),
            Fault.NOT_YET,
            "beside the only one heard (",
        ),
        (
            Tf2Error('Invalid argument "" passed to lookupTransform argument source_frame'),
            Fault.INVALID,
            "transform 'camera' -> 'lidar' cannot be looked up (",
        ),
    ],
)
def test_errors_of_tf2_ros_are_told_like_our_own_with_their_cure(
    graph: Graph, error: Exception, fault: Fault, seen: str
) -> None:
    Tf2Buffer.error = error
    with pytest.raises(TransformError) as caught:
        Tf2Transforms(graph.node, TF2_ROS).lookup("/camera", "lidar", 10 * S)
    assert caught.value.fault is fault
    assert seen in str(caught.value)
    assert "(tf2: " + str(error).partition("\n")[0].strip(" .") in str(caught.value)
    assert str(caught.value).endswith(f"; {CURES[fault]}")  # where the doctor looks for it
    assert str(caught.value).count("; ") == 1


def set_clock(node: Any, *seconds: float) -> None:
    """Let a node's clock show these times one after the other, as /clock does."""
    clock = node.get_clock()
    for at in seconds:
        clock.set_ros_time_override(Time(seconds=at, clock_type=ClockType.ROS_TIME))


@pytest.fixture
def simulated(graph: Graph) -> Iterator[Any]:
    """A node with the time of a simulation."""
    context = Context()
    rclpy.init(context=context, domain_id=graph.domain, args=[])
    node = rclpy.create_node("simulated", context=context)
    node.get_clock()._set_ros_time_is_active(True)
    yield node
    node.destroy_node()
    context.try_shutdown()


@pytest.mark.ros
def test_transforms_of_a_simulation_are_forgotten_when_it_starts_again(simulated: Any) -> None:
    set_clock(simulated, 100.0)
    listener = TransformListener(simulated, Image)  # of any type: the test hands it its messages
    mounting = TransformStamped(child_frame_id="camera", header=make_header(0, "base"))
    listener._on_static(types.SimpleNamespace(transforms=[mounting]))
    driven = TransformStamped(child_frame_id="base", header=make_header(101 * S, "odom"))
    listener._on_moving(types.SimpleNamespace(transforms=[driven]))
    set_clock(simulated, 101.5, 101.2)  # not a new run
    listener.lookup("odom", "base", 101 * S)
    set_clock(simulated, 100.0)
    with pytest.raises(TransformError, match="set back") as caught:
        listener.lookup("odom", "base", 101 * S)
    assert caught.value.fault is Fault.NOT_YET
    listener.lookup("base", "camera", 101 * S)


@pytest.mark.ros
def test_the_buffer_of_tf2_ros_is_cleared_when_a_simulation_starts_again(simulated: Any) -> None:
    set_clock(simulated, 100.0)
    transforms = Tf2Transforms(simulated, TF2_ROS)
    set_clock(simulated, 101.5, 101.2)
    assert Tf2Buffer.cleared == 0
    set_clock(simulated, 100.0)
    assert Tf2Buffer.cleared == 1
    del transforms  # until here it listens
