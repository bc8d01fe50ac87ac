"""Malformed messages sent to the running node: it lives, publishes no wrong metres, counts all."""

from __future__ import annotations

import random
import struct
import threading
from array import array
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from faults import DEPTH, Made, settle, wait_for_metres
from rclpy.serialization import serialize_message
from ros_graph import PATIENCE_S, CameraDriver, Graph, Process, image_array, stamp_of, stamped
from sensor_msgs.msg import CompressedImage, Image
from test_node_outputs import FX, HEIGHT, WIDTH, camera_info, frame, scene

pytestmark = pytest.mark.ros
COUNT, RATE_HZ = 300, 150.0
GROWTH_MB = 60.0
NAN, INF = float("nan"), float("inf")


class Stream:
    """Messages that `spoil` makes, until there were `COUNT`; then good ones."""

    def __init__(self, good: Callable[[int], Made], spoil: Callable[..., Made]) -> None:
        self.stamps: set[int] = set()
        self.over = threading.Event()
        self._good, self._spoil = good, spoil
        self._random = random.Random(1)

    def __call__(self, stamp_ns: int) -> Made:
        if len(self.stamps) >= COUNT:
            self.over.set()
            return self._good(stamp_ns)
        self.stamps.add(stamp_ns)
        return self._spoil(stamp_ns, self._random)


def send(
    graph: Graph, node: Process, good: Callable[[int], Made], spoil: Callable[..., Made], topic: str
) -> tuple[Stream, list[Any], Any]:
    """Send good messages, then malformed ones, then good ones again.

    Returns:
        The malformed stream, the depth images from its start on, and the last diagnostics.
    """
    camera = CameraDriver(graph, good, rate_hz=RATE_HZ, topic=topic)
    wait_for_metres(graph)
    before = node.memory_mb()
    with graph.collect(Image, DEPTH, depth=500) as images:
        images.wait(1)
        images.clear()
        stream = camera.make = Stream(good, spoil)
        assert stream.over.wait(PATIENCE_S)
        wait_for_metres(graph)
        received = list(images.messages)
    report = settle(graph)
    assert node.memory_mb("VmHWM") - before < GROWTH_MB
    return stream, received, report


def spoilt_image(stamp_ns: int, rng: random.Random) -> Made:
    """An image that none of the known encodings can be read from."""
    image, info = frame(stamp_ns)
    changes: list[dict[str, Any]] = [
        {"encoding": rng.choice(["", "rgb9", "\x00", "32FC1", "é" * 5000])},
        {"step": rng.randrange(3 * WIDTH)},
        {"data": image.data[: rng.randrange(len(image.data))]},
        {"width": 60_000, "height": 60_000, "step": 180_000},
        {"width": 0},
        {"height": 0},
        {"height": rng.randrange(HEIGHT + 1, 2**32)},
        {"encoding": "nv12", "width": WIDTH - 1},
    ]
    for name, value in rng.choice(changes).items():
        setattr(image, name, value)
    return image, info


def test_images(graph: Graph, node: Process) -> None:
    stream, depths, report = send(graph, node, frame, spoilt_image, "/camera/image_raw")
    assert not stream.stamps & {stamp_of(msg) for msg in depths}
    assert int(report.values["dropped: bad image"]) > 20  # a busy node drops most for newer ones


def spoilt_file(rng: random.Random) -> bytes:
    good = cv2.imencode(rng.choice([".png", ".jpg"]), scene()[:, :, ::-1])[1].tobytes()
    huge_png = bytearray(cv2.imencode(".png", scene())[1].tobytes())
    huge_png[16:24] = struct.pack(">II", 60_000, 60_000)
    long_chunk = bytearray(cv2.imencode(".png", scene())[1].tobytes())
    long_chunk[33:37] = struct.pack(">I", 2**31 - 1)
    huge_jpeg = bytearray(cv2.imencode(".jpg", scene())[1].tobytes())
    size = huge_jpeg.index(b"\xff\xc0") + 5
    huge_jpeg[size : size + 4] = struct.pack(">HH", 60_000, 60_000)
    return rng.choice(
        [
            b"",
            rng.randbytes(300),
            good[: rng.randrange(len(good) - 12)],
            bytes(huge_png),
            bytes(long_chunk),
            bytes(huge_jpeg),
        ]
    )


def compressed(stamp_ns: int, data: bytes, kind: str = "png") -> Made:
    msg = CompressedImage(format=f"rgb8; {kind} compressed bgr8", data=array("B", data))
    return stamped(msg, stamp_ns), stamped(camera_info(), stamp_ns)


def test_compressed_images(graph: Graph, node: Process) -> None:
    png = cv2.imencode(".png", scene()[:, :, ::-1])[1].tobytes()
    stream, depths, report = send(
        graph,
        node,
        lambda stamp_ns: compressed(stamp_ns, png),
        lambda stamp_ns, rng: compressed(stamp_ns, spoilt_file(rng)),
        "/camera/image_raw/compressed",
    )
    assert not stream.stamps & {stamp_of(msg) for msg in depths}
    assert "dropped: bad image" in report.values


def spoilt_info(stamp_ns: int, rng: random.Random) -> Made:
    """A good image with a calibration that none can have."""
    image, info = frame(stamp_ns)
    entry = rng.randrange(9)
    k = [*info.k[:entry], rng.choice([NAN, INF, -INF]), *info.k[entry + 1 :]]
    changes: list[dict[str, Any]] = [
        {"k": [0.0] * 9},
        {"k": k},
        {"k": [-FX, *info.k[1:]]},
        {"width": rng.choice([0, 1, 2 * WIDTH, 2**32 - 1])},
        {"height": rng.choice([0, 1, 2 * HEIGHT, 2**32 - 1])},
        {"d": [rng.choice([NAN, INF, 0.1])] * rng.choice([1, 3, 6, 7, 200])},
        {"d": [0.1] * 5, "distortion_model": rng.choice(["", "fishbowl", "é" * 5000])},
        {"r": [rng.uniform(-3.0, 3.0) for _ in range(9)]},
        {"p": [NAN] * 12},
        {"binning_x": rng.randrange(2, 2**32)},
    ]
    for name, value in rng.choice(changes).items():
        setattr(info, name, value)
    return image, info


def test_calibrations(graph: Graph, node: Process) -> None:
    with graph.collect(Image, "/depth/relative", depth=500) as relative:
        stream, depths, _ = send(graph, node, frame, spoilt_info, "/camera/image_raw")
        seen = stream.stamps & {stamp_of(msg) for msg in relative.messages}
    assert len(seen) > 20  # a wrong calibration costs the metres and not the frame
    # Until good ones have left the node's memory, an image may be paired with the latest of them.
    late = set(sorted(stream.stamps)[50:])
    assert not late & {stamp_of(msg) for msg in depths}


def spoilt_bytes(msg: Any, rng: random.Random) -> bytes:
    """The serialised message, cut or changed in its first 150 bytes."""
    data = bytearray(serialize_message(msg))
    for _ in range(rng.randrange(1, 6)):
        value = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        data[rng.randrange(4, min(150, len(data)))] = value
    return bytes(data[: rng.choice([len(data), rng.randrange(4, len(data))])])


def spoilt_image_bytes(stamp_ns: int, rng: random.Random) -> Made:
    image, info = frame(stamp_ns)
    return spoilt_bytes(image, rng), info


def spoilt_info_bytes(stamp_ns: int, rng: random.Random) -> Made:
    image, info = frame(stamp_ns)
    return image, spoilt_bytes(info, rng)


@pytest.mark.parametrize("spoil", [spoilt_image_bytes, spoilt_info_bytes])
def test_bytes_that_are_no_message(
    graph: Graph, node: Process, spoil: Callable[[int, random.Random], Made]
) -> None:
    _, depths, _ = send(graph, node, frame, spoil, "/camera/image_raw")
    for msg in depths:
        # Where changed bytes are an image all the same, it has its size and its depth. Of a
        # calibration that is another, but possible, nobody can tell.
        assert (msg.width, msg.height) == (WIDTH, HEIGHT)
        if spoil is spoilt_image_bytes:
            depth = image_array(msg)[120]
            np.testing.assert_allclose(depth[[20, 300]], [2.0, 5.0], rtol=1e-3)
    assert "Traceback" not in node.output
