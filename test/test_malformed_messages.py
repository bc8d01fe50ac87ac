"""Every message that the node subscribes to, malformed: refused with a reason, or read rightly.

`bench/fuzz.py --cases 100000` is the long form of these tests.
"""

from __future__ import annotations

import struct
from array import array

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

import malformed
from malformed_checks import GROWTH_MB, SUBSCRIPTIONS, peak_mb, run_cases
from sensor_msgs.msg import CameraInfo, CompressedImage
from std_msgs.msg import Header

from depth_node.geometry.transforms import (
    MAX_FRAMES,
    MAX_NAME,
    MAX_STAMPS,
    Fault,
    TransformBuffer,
    TransformError,
)
from depth_node.health import TEXT_LIMIT, Health
from depth_node.ros.calibration import KEPT, CameraInfoCache
from depth_node.ros.compressed_image import decode_compressed
from depth_node.ros.wire import ConversionError

CASES = 3000
HERE = np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])


@pytest.mark.parametrize("name", SUBSCRIPTIONS)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_malformed_messages_are_refused_with_a_reason_or_read_rightly(name: str) -> None:
    read = run_cases(name, CASES)
    # What is always refused, or always read, is not worth sending.
    assert 0.02 * CASES < read < 0.9 * CASES


@pytest.mark.parametrize(
    "claim", ["chunk of 2 GB", "end of 4 GB", "48 megapixels", "60,000 square"]
)
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_claims_that_the_bytes_cannot_hold_are_refused_before_decoding(
    kind: str, claim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", None)
    data = bytearray(next(data for name, data in malformed.FILES if name == kind))
    size = 16 if kind == "png" else data.index(b"\xff\xc0") + 5
    pixels = {"48 megapixels": (6000, 8000), "60,000 by 60,000": (60_000, 60_000)}.get(claim)
    if pixels is not None:
        data[size : size + (8 if kind == "png" else 4)] = (
            struct.pack(">II", *pixels) if kind == "png" else struct.pack(">HH", *pixels)
        )
    elif kind == "png" and claim == "end of 4 GB":
        data[-12:-8] = struct.pack(">I", 2**32 - 1)
    elif kind == "png":
        data[33:37] = struct.pack(">I", 2**31 - 1)
    else:
        data[4:6] = struct.pack(">H", 2**16 - 1)
    with pytest.raises(ConversionError):
        decode_compressed(CompressedImage(format=kind, data=array("B", bytes(data))))


@pytest.mark.parametrize("field", ["d", "distortion_model", "frame_id"])
def test_of_a_camera_info_of_any_size_only_what_is_wrong_is_kept(field: str) -> None:
    health = Health()
    cache = CameraInfoCache("/camera_info", health)
    before = peak_mb()
    for second in range(1, 2 * KEPT):
        info = CameraInfo(width=16, height=12)
        info.header.stamp.sec = second
        if field == "d":
            info.d = array("d", bytes(8_000_000))
        elif field == "distortion_model":
            info.distortion_model = 8_000_000 * "p"
        else:
            info.header.frame_id = 8_000_000 * "c"
        cache.add(info)
        header = Header(stamp=info.header.stamp, frame_id="camera_optical_frame")
        assert cache.camera_for(header, 16, 12) is None
    assert peak_mb() - before < GROWTH_MB
    (problem,) = health.problems()
    assert "correct the driver" in problem.text
    assert len(problem.text) <= TEXT_LIMIT


def test_transforms_of_ever_new_frames_do_not_fill_the_memory() -> None:
    buffer = TransformBuffer()
    for number in range(MAX_FRAMES):
        buffer.add("map", f"frame {number}", 0, *HERE)
    with pytest.raises(TransformError, match="ever new names") as caught:
        buffer.add("map", "one more", 0, *HERE)
    assert caught.value.fault is Fault.INVALID
    buffer.add("map", "frame 7", 10, *HERE)  # those that are known go on
    with pytest.raises(TransformError, match="characters"):
        buffer.add("map", (MAX_NAME + 1) * "x", 0, *HERE)
    with pytest.raises(TransformError) as caught:
        buffer.lookup("map", "nowhere", 0)
    assert len(str(caught.value)) < TEXT_LIMIT


def test_transforms_at_any_rate_do_not_fill_the_memory() -> None:
    buffer = TransformBuffer()
    for stamp_ns in range(3 * MAX_STAMPS):
        buffer.add("odom", "base", stamp_ns, *HERE)
    buffer.lookup("odom", "base", 2 * MAX_STAMPS)
    with pytest.raises(TransformError) as caught:
        buffer.lookup("odom", "base", 2 * MAX_STAMPS - 1)
    assert caught.value.fault is Fault.TOO_OLD
