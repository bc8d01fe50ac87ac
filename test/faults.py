"""What tests of faults share: the node with its test engine, and cameras that misbehave on cue."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ros_graph import PATIENCE_S, CameraDriver, Collector, Diagnosis, Graph, Process, stamp_of
from sensor_msgs.msg import Image
from test_node_outputs import SCALE, frame

DEPTH = "/depth/image_rect"
Made = tuple[Any, Any]

# Faults of the test's engine; see programs/node_with_engine.py.
NOT_FINITE, RAISES, NO_MEMORY, SLOW, HANGS = 1, 2, 3, 4, 5
SLOW_S = 2.0


def start_node(
    graph: Graph, *args: str, env: dict[str, str] | None = None, **parameters: object
) -> Process:
    """Start the node with the test's engine and a fixed scale, its camera on /camera/image_raw.

    It reports five times a second, so that a test need not wait long for what it says.
    """
    parameters = {"scale__source": "fixed", "scale__fixed_scale": SCALE, **parameters}
    remapped = ("-r", "image:=/camera/image_raw", *args)
    env = {"DIAGNOSTICS_PERIOD_S": "0.2", **(env or {})}
    return graph.depth_node(*remapped, program="node_with_engine.py", env=env, **parameters)


def start_camera(graph: Graph) -> CameraDriver:
    """Start a camera and wait until its images become depth."""
    driver = CameraDriver(graph, frame)
    wait_for_metres(graph)
    return driver


def with_engine_fault(fault: int) -> Callable[[int], Made]:
    """Make good messages whose inference goes wrong."""

    def make(stamp_ns: int) -> Made:
        image, info = frame(stamp_ns)
        image.data[0], image.data[1], image.data[2] = 255, fault, 255
        return image, info

    return make


class OneBadFrame:
    """Good frames but for the first.

    Attributes:
        stamp_ns: the stamp of the bad one, or None before it was made.
    """

    def __init__(self, bad: Callable[[int], Made]) -> None:
        self.stamp_ns: int | None = None
        self._bad = bad

    def __call__(self, stamp_ns: int) -> Made:
        if self.stamp_ns is None:
            self.stamp_ns = stamp_ns
            return self._bad(stamp_ns)
        return frame(stamp_ns)

    def is_over(self, messages: list[Any]) -> bool:
        """Whether a frame after the bad one has come out."""
        return self.stamp_ns is not None and stamp_of(messages[-1]) > self.stamp_ns


def meet_bad_frame(
    camera: CameraDriver,
    images: Collector,
    make: Callable[[int], Made],
    was_taken: Callable[[int, list[Any]], bool],
) -> tuple[int, list[Any]]:
    """Send one bad frame among good ones, again until the node has taken it.

    A busy machine may lose a frame on its way, and a busy node may drop it for a newer one.

    Returns:
        the stamp of the frame that was taken, and all that came out until five frames later.
    """
    for _ in range(5):
        bad = camera.make = OneBadFrame(make)
        images.wait_until(bad.is_over)
        received = images.wait(len(images.messages) + 5)
        assert bad.stamp_ns is not None
        if was_taken(bad.stamp_ns, received):
            return bad.stamp_ns, received
    raise AssertionError("the node took none of five bad frames")


def wait_for_metres(graph: Graph, count: int = 3) -> list[Any]:
    """Wait until the node publishes depth images to a new subscriber."""
    with graph.collect(Image, DEPTH) as images:
        return images.wait(count)


def settle(graph: Graph, timeout: float = PATIENCE_S) -> Diagnosis:
    """End the cameras, wait for the last frame to leave the node, and check every frame's fate."""
    unplug(graph)
    deadline = time.monotonic() + timeout
    report, before = graph.diagnostics(timeout), ""
    while report.values["in_flight"] != "0" or report.values["received"] != before:
        late = time.monotonic() >= deadline
        assert not late, graph.explain(f"the node does not come to rest: {report.values}")
        before = report.values["received"]
        report = graph.diagnostics(timeout)
    counts = {key: int(value) for key, value in report.values.items() if value.isdigit()}
    by_reason = sum(count for key, count in counts.items() if key.startswith("dropped: "))
    assert counts["received"] == counts["published"] + by_reason, report.values
    return report


def unplug(graph: Graph) -> None:
    """End every camera of the graph."""
    for camera in list(graph.drivers):
        camera.close()
