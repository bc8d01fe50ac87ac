"""Cameras that stop, change, lie about the time or are unplugged, seen from another process."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from faults import DEPTH, Made, settle, start_node, wait_for_metres
from ros_graph import PATIENCE_S, CameraDriver, Graph, image_array, private_graph, stamp_of, stamped
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from test_camera_stream import Server, _Motion, needs_ffmpeg
from test_node_outputs import camera_info, frame, scene

from depth_node.ros.wire import fill, make_header

pytestmark = pytest.mark.ros
HOUR_NS = 3_600_000_000_000
CHANGES = [("rgb8", 1), ("bgr8", 1), ("mono8", 2), ("bgra8", 1), ("16UC1", 4), ("yuv422_yuy2", 2)]


def test_a_topic_that_falls_silent_is_an_error_and_depth_returns_with_it(
    graph: Graph, camera: CameraDriver
) -> None:
    graph.wait_until(lambda: graph.diagnostics().level == 0)
    plugged = threading.Event()

    def make(_: int) -> Made:
        plugged.wait()
        return frame(time.time_ns())

    camera.make = make
    try:
        report = graph.wait_for_problem("no image has arrived")
    finally:
        plugged.set()
    assert report.level == 2
    wait_for_metres(graph)
    graph.wait_until(lambda: graph.diagnostics().level == 0)
    settle(graph)


def grey_scene(encoding: str, shrink: int) -> Image:
    """The usual scene in grey levels, which the test's engine reads as disparity."""
    grey = np.ascontiguousarray(scene()[::shrink, ::shrink, 0])
    height, width = grey.shape
    convert: dict[str, Callable[[], Any]] = {
        "rgb8": lambda: np.dstack([grey] * 3),
        "bgr8": lambda: np.dstack([0 * grey, 255 - grey, grey]),
        "bgra8": lambda: np.dstack([0 * grey, 255 - grey, grey, grey]),
        "mono8": lambda: grey,
        "16UC1": lambda: grey.astype("<u2") << 8,
        "yuv422_yuy2": lambda: np.dstack(
            [np.round(16 + grey * (219 / 255)).astype(np.uint8), np.full_like(grey, 128)]
        ),
    }
    pixels = convert[encoding]()
    msg = Image(width=width, height=height, encoding=encoding, step=pixels[0].nbytes)
    fill(msg.data, pixels)
    return msg


def test_size_and_encoding_may_change_with_every_frame_and_no_depth_is_wrong(
    graph: Graph, camera: CameraDriver
) -> None:
    sizes: dict[int, tuple[int, int]] = {}

    def make(stamp_ns: int) -> Made:
        encoding, shrink = CHANGES[len(sizes) % len(CHANGES)]
        image = grey_scene(encoding, shrink)
        sizes[stamp_ns] = (image.width, image.height)
        return stamped(image, stamp_ns), stamped(camera_info(image.width, image.height), stamp_ns)

    with graph.collect(Image, DEPTH) as images:
        images.wait(1)
        camera.make = make
        received = images.wait_until(
            lambda m: (
                len({(msg.width, msg.height) for msg in m if stamp_of(msg) in sizes}) == 3
                and len(m) > 45
            ),
        )
    for msg in received:
        if stamp_of(msg) in sizes:
            assert (msg.width, msg.height) == sizes[stamp_of(msg)]
        depth = image_array(msg)[msg.height // 2, msg.width // 4]
        assert depth == pytest.approx(2.0, rel=0.03)  # one grey level of the YUV conversion
    settle(graph)


def test_camera_info_that_comes_late_turns_relative_depth_into_metres() -> None:
    calibrated = threading.Event()
    calls = iter(range(10**9))

    def make(stamp_ns: int) -> tuple[Any, Any | None]:
        image, info = frame(stamp_ns)
        first = next(calls) == 0  # this one only tells the driver the type
        return image, info if first or calibrated.is_set() else None

    with private_graph() as graph:
        start_node(graph)
        CameraDriver(graph, make)
        with graph.collect(Image, DEPTH) as metric, graph.collect(Image, "/depth/relative") as all_:
            all_.wait(3)
            assert graph.wait_for_problem("no CameraInfo").level == 2
            assert metric.messages == []
            calibrated.set()
            metric.wait(3)
        graph.wait_until(lambda: graph.diagnostics().level == 0)
        settle(graph)


def test_a_camera_at_120_hz_costs_frames_and_no_delay(graph: Graph, camera: CameraDriver) -> None:
    camera.close()
    CameraDriver(graph, frame, rate_hz=120.0)
    with graph.collect(Image, DEPTH, depth=1) as images:  # a queue of this process would count
        received = images.wait(150)
        arrivals = images.arrivals_ns[: len(received)]
    ages_s = 1e-9 * (np.array(arrivals) - [stamp_of(msg) for msg in received])
    assert np.median(ages_s) < 0.3
    # a queue at 120 Hz: a second
    assert np.median(ages_s[-30:]) < np.median(ages_s[:30]) + 0.3
    assert float(graph.diagnostics().values["rate_in_hz"]) > 10.0  # as far as this machine goes
    settle(graph)


@pytest.mark.parametrize(
    ("stamp_at", "words"),
    [
        (lambda now_ns: now_ns - HOUR_NS, "behind this node's clock"),
        (lambda now_ns: now_ns + HOUR_NS, "ahead of this node's clock"),
        (lambda _: 0, "carry no stamp"),
    ],
    ids=["back", "forward", "none"],
)
def test_stamps_that_jump_are_copied_named_and_outlived(
    graph: Graph, camera: CameraDriver, stamp_at: Callable[[int], int], words: str
) -> None:
    odd: set[int] = set()

    def make(now_ns: int) -> Made:
        odd.add(stamp_at(now_ns))
        return frame(stamp_at(now_ns))

    with graph.collect(Image, DEPTH) as images:
        images.wait(2)
        camera.make = make
        assert graph.wait_for_problem(words).level == 1
        images.wait_until(lambda m: stamp_of(m[-1]) in odd)
        camera.make = frame
        images.wait_until(lambda m: stamp_of(m[-1]) not in odd)
        graph.wait_until(lambda: graph.diagnostics().level == 0)
    settle(graph)


def test_simulated_time_may_stand_still_start_and_jump_back() -> None:
    with private_graph() as graph:
        start_node(graph, use_sim_time=True)
        graph.wait_for_problem("nobody publishes")
        clock = graph.node.create_publisher(Clock, "/clock", 10)
        now_ns = [5_000_000_000_000]

        def make(_: int) -> Made:
            return frame(now_ns[0])

        camera = CameraDriver(graph, make)  # time stands still: there is no /clock yet
        wait_for_metres(graph)

        def tick(_: int) -> Made:
            now_ns[0] += 33_000_000
            clock.publish(Clock(clock=make_header(now_ns[0], "").stamp))
            return frame(now_ns[0])

        camera.make = tick
        for start_ns in (6_000_000_000_000, 1_000_000_000_000):  # the second: a bag is looped
            now_ns[0] = start_ns
            with graph.collect(Image, DEPTH) as images:
                images.wait_until(
                    lambda m, at=start_ns: bool(m) and 0 <= stamp_of(m[-1]) - at < HOUR_NS
                )
                images.wait(10)
            graph.wait_until(lambda: graph.diagnostics().level == 0)
        report = settle(graph)
        assert float(report.values["transport_ms.p50"]) < 1000.0


@contextlib.contextmanager
def network_camera(port: int = 0) -> Iterator[Server]:
    """A motion-JPEG camera on this machine; leaving the block unplugs it."""
    with Server(("127.0.0.1", port), _Motion) as server:
        server.stopping = threading.Event()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.stopping.set()
            server.shutdown()
            thread.join()


@needs_ffmpeg
def test_a_camera_of_the_nodes_own_may_be_unplugged_and_returns() -> None:
    with private_graph() as graph:
        with network_camera() as server:
            port = server.server_address[1]
            start_node(graph, camera__source="url", camera__path=f"http://127.0.0.1:{port}/video")
            wait_for_metres(graph)
        report = graph.wait_for_problem("next attempt in")
        assert report.level == 2
        with graph.collect(Image, DEPTH) as images:
            graph.diagnostics()
            assert images.messages == []
            with network_camera(port):
                images.wait(3)
                graph.wait_until(lambda: "next attempt" not in graph.diagnostics().text)
        settle(graph)


@needs_ffmpeg
def test_a_camera_of_the_nodes_own_may_come_after_the_node() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    with private_graph() as graph:
        url = f"http://127.0.0.1:{port}/video"
        node = start_node(graph, camera__source="url", camera__path=url)
        report = graph.wait_for_problem("cannot configure")
        assert "the node tries again by itself" in report.text
        assert graph.state() == "unconfigured"
        with network_camera(port):
            wait_for_metres(graph)
            graph.wait_until(lambda: "cannot configure" not in graph.diagnostics().text)
        assert node.output.count("cannot configure") == 1
        settle(graph)


@needs_ffmpeg
def test_a_camera_that_takes_the_connection_and_says_nothing_keeps_no_service_waiting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    with private_graph() as graph:
        start_node(graph, camera__source="url", camera__path=f"http://127.0.0.1:{port}/video")
        graph.wait_for_problem("cannot configure")
        with socket.create_server(("127.0.0.1", port)) as silent:
            silent.settimeout(PATIENCE_S)
            connection, _ = silent.accept()
            with connection:
                connection.settimeout(PATIENCE_S)
                request = b""
                while not request.endswith(b"\r\n\r\n"):
                    request += connection.recv(4096)
                assert graph.state() == "unconfigured"
                connection.setblocking(False)
                with pytest.raises(BlockingIOError):  # nothing to read, and not closed: it waits
                    connection.recv(1)
