"""Hours, at the speed of the machine: what could grow with every frame or report must not."""

from __future__ import annotations

import gc
import sys
import threading
import time

import numpy as np
import pytest

from depth_node.health import Health
from depth_node.metrics import Metrics
from depth_node.parameters import Settings
from depth_node.pipeline import Pipeline, Result
from depth_node.scale.fixed import FixedScale
from depth_node.types import CameraModel, Disparity, Frame, ImageU8

HOUR_OF_FRAMES = 108_000
"""At 30 Hz."""
BLOCKS = 500
"""Of the interpreter's memory that may come and go: one for each frame would be thousands."""
IMAGE = np.zeros((12, 16, 3), np.uint8)
CAMERA = CameraModel.pinhole(16, 12, 15.0, 15.0, 7.5, 5.5)


class Engine:
    name, model, device, precision = "test", "none", "none", "fp32"

    def infer(self, image: ImageU8) -> Disparity:
        return Disparity(np.full((6, 8), 50.0, np.float32))

    def close(self) -> None:
        pass


class Sink:
    """Listens or does not, and tells when a frame has met its end."""

    def __init__(self, *, listens: bool) -> None:
        self.asked = threading.Semaphore(0)
        self._listens = listens

    def wanted(self) -> bool:
        if not self._listens:
            self.asked.release()
        return self._listens

    def publish(self, result: Result) -> bool:
        assert result.depth is not None
        self.asked.release()
        return True


@pytest.mark.parametrize(
    ("listens", "frames"), [(False, HOUR_OF_FRAMES), (True, 10_000)], ids=["idle", "busy"]
)
def test_nothing_grows_with_the_frames(listens: bool, frames: int) -> None:
    sink, metrics = Sink(listens=listens), Metrics()
    pipeline = Pipeline(
        engine=Engine(), estimator=FixedScale(0.01, 0.0), sink=sink, settings=Settings(),
        metrics=metrics, health=Health(), now_ns=time.time_ns,
    )  # fmt: skip
    pipeline.start()

    def run(count: int) -> int:
        """Run so many frames; the interpreter's blocks of memory afterwards."""
        for _ in range(count):
            frame = Frame(IMAGE, time.time_ns(), "camera", CAMERA, time.monotonic_ns())
            pipeline.submit(lambda frame=frame: frame)
            assert sink.asked.acquire(timeout=5.0)
        gc.collect()
        return sys.getallocatedblocks()

    warm = run(2000)
    try:
        assert run(frames) - warm < BLOCKS
    finally:
        assert pipeline.stop()
    counted = metrics.snapshot()
    assert counted.received == frames + 2000
    assert counted.published == (frames + 2000 if listens else 0)
    assert counted.dropped == ({} if listens else {"no subscriber": frames + 2000})


@pytest.mark.ros
@pytest.mark.slow
def test_frames_and_reports_without_a_subscriber_do_not_grow_the_node() -> None:
    pytest.importorskip("rclpy")
    from faults import settle, start_node
    from ros_graph import CameraDriver, private_graph
    from test_node_outputs import frame

    with private_graph() as graph:
        node = start_node(graph, env={"DIAGNOSTICS_PERIOD_S": "0.004"})

        def memory_mb(idle_frames: int) -> float:
            """Of the node after so many frames."""
            graph.wait_until(
                lambda: (
                    int(graph.diagnostics().values.get("dropped: no subscriber", "0")) > idle_frames
                ),
                120.0,
            )
            return node.memory_mb("RssAnon")  # its own: not the segments that DDS shares

        CameraDriver(graph, frame, rate_hz=200.0)
        grown_mb = np.diff([memory_mb(frames) for frames in (500, 1200, 1900, 2600)])
        # Half a megabyte is less than a kilobyte a frame. What leaks grows in each of these parts;
        # one more image in flight, on a busy machine, only in one.
        assert min(grown_mb) < 0.5
        assert settle(graph).values["published"] == "0"
