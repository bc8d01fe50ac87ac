"""Transforms that nobody can mean: endless ways, and times before time began."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import TransformStamped
from ros_graph import Graph
from test_tf_listeners import TF2_ROS, OutOfTime, S, Tf2Buffer

from depth_node.geometry.transforms import CURES, Fault, TransformBuffer, TransformError
from depth_node.ros.transforms import Tf2Transforms

UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])


@pytest.mark.parametrize("metres", [1e9, -1e39, 1e300, np.inf, np.nan])
def test_a_frame_that_lies_farther_than_the_earth_is_refused(metres: float) -> None:
    buffer = TransformBuffer()
    with pytest.raises(TransformError, match="correct its publisher") as caught:
        buffer.add("base", "lidar", 0, np.array([0.0, metres, 0.0]), UPRIGHT, static=True)
    assert caught.value.fault is Fault.INVALID
    assert "metres up to 1e+08" in str(caught.value)
    assert buffer.frames() == []


@pytest.mark.parametrize("metres", [6.378e6, 9.9e6])
def test_frames_of_the_earth_and_of_utm_are_taken(metres: float) -> None:
    buffer = TransformBuffer()
    buffer.add("earth", "map", 0, np.array([metres, 0.0, 0.0]), UPRIGHT, static=True)
    assert buffer.lookup("earth", "map", 0)[0, 3] == metres


class Answering(Tf2Buffer):
    """Finds a transform of so many metres, from the first moment or, moving, from 10 s on."""

    metres, moving = 1.0, False

    def lookup_transform(self, target: str, source: str, at: Any, timeout: Any) -> Any:
        if self.moving and at.nanoseconds == 0:
            return self._found(2.0)  # to tf2, the latest
        if self.moving and at.nanoseconds < 10 * S:
            raise OutOfTime("Lookup would require extrapolation into the past.")
        return self._found(self.metres)

    def _found(self, metres: float) -> Any:
        found = TransformStamped()
        found.transform.translation.x = metres
        return found


@pytest.fixture
def tf2(graph: Graph) -> Tf2Transforms:
    made = Tf2Transforms(
        graph.node, types.SimpleNamespace(**{**vars(TF2_ROS), "Buffer": Answering})
    )
    assert isinstance(made._buffer, Answering)
    return made


@pytest.mark.ros
@pytest.mark.parametrize("metres", [1e39, np.inf])
def test_what_tf2_takes_though_it_is_endless_is_invalid(tf2: Tf2Transforms, metres: float) -> None:
    assert tf2.lookup("camera", "lidar", 10 * S)[0, 3] == 1.0
    tf2._buffer.metres = metres
    with pytest.raises(TransformError, match="'camera' -> 'lidar' has the translation") as caught:
        tf2.lookup("camera", "lidar", 10 * S)
    assert caught.value.fault is Fault.INVALID
    assert str(caught.value).endswith(f"; {CURES[Fault.INVALID]}")


@pytest.mark.ros
@pytest.mark.parametrize("stamp_ns", [-5_000_000, 0])
def test_before_the_first_moment_only_what_is_static_is_found(
    tf2: Tf2Transforms, stamp_ns: int
) -> None:
    assert tf2.lookup("camera", "lidar", stamp_ns)[0, 3] == 1.0
    tf2._buffer.moving = True
    with pytest.raises(TransformError) as caught:
        tf2.lookup("camera", "lidar", stamp_ns)
    assert caught.value.fault is Fault.TOO_OLD
