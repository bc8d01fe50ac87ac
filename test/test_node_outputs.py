"""What the node publishes, seen from another process over DDS."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import ReliabilityPolicy
from ros_graph import (
    CameraDriver,
    Diagnosis,
    Graph,
    image_array,
    private_graph,
    stamp_of,
    stamped,
    taken_after,
)
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from depth_node.ros.compressed_depth import decode_compressed_depth
from depth_node.ros.images import image_message

pytestmark = pytest.mark.ros
WIDTH, HEIGHT = 320, 240
FX, FY, CX, CY = 300.0, 301.0, 160.5, 119.5
SCALE = 0.01
NEAR, FAR = 50, 20  # disparities: 2 m and 5 m
OUTPUTS: dict[str, Any] = {
    "/depth/image_rect": Image,
    "/depth/camera_info": CameraInfo,
    "/depth/image_rect/compressedDepth": CompressedImage,
    "/depth/relative": Image,
    "/depth/preview": Image,
    "/image_rect": Image,
    "/points": PointCloud2,
    "/depth_node/scale_status": DiagnosticArray,
}


def scene() -> Any:
    """Left half 2 m, right half 5 m, a sky (disparity 0) on top; green where it is near."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:, : WIDTH // 2] = (NEAR, 200, 0)
    image[:, WIDTH // 2 :] = (FAR, 0, 200)
    image[:40, :, 0] = 0
    return image


def camera_info(width: int = WIDTH, height: int = HEIGHT) -> CameraInfo:
    info = CameraInfo(width=width, height=height, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [FX, 0.0, CX, 0.0, FY, CY, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [FX, 0.0, CX, 0.0, 0.0, FY, CY, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


def frame(stamp_ns: int) -> tuple[Image, CameraInfo]:
    image = stamped(image_message(scene(), "rgb8", Header()), stamp_ns)
    return image, stamped(camera_info(), stamp_ns)


@pytest.fixture(scope="module")
def graph() -> Iterator[Graph]:
    with private_graph() as made:
        made.depth_node(
            "-r", "image:=/camera/image_raw",
            program="node_with_engine.py",
            scale__source="fixed", scale__fixed_scale=SCALE,
        )  # fmt: skip
        driver = CameraDriver(made, frame)
        made.driver = driver
        yield made
        driver.close()


@pytest.fixture(scope="module")
def received(graph: Graph) -> dict[str, list[Any]]:
    """Ten messages of every output or more, of about the same frames."""
    with contextlib.ExitStack() as stack:
        collectors = {
            topic: stack.enter_context(graph.collect(kind, topic))
            for topic, kind in OUTPUTS.items()
        }
        for collector in collectors.values():
            collector.wait(1)  # some are found late; from now on all are heard
        for collector in collectors.values():
            collector.clear()
        return {topic: collector.wait(10) for topic, collector in collectors.items()}


def test_every_output_copies_stamp_and_frame_of_its_image(
    graph: Graph, received: dict[str, list[Any]]
) -> None:
    sent = set(graph.driver.sent)
    for topic, messages in received.items():
        assert {msg.header.frame_id for msg in messages} == {"camera_optical_frame"}, topic
        assert {stamp_of(msg) for msg in messages} <= sent, topic
        stamps = [stamp_of(msg) for msg in messages]
        assert stamps == sorted(set(stamps)), topic


def test_every_output_is_offered_reliably_and_shallow(
    graph: Graph, received: dict[str, list[Any]]
) -> None:
    for topic in received:
        (offer,) = graph.node.get_publishers_info_by_topic(topic)
        assert offer.qos_profile.reliability == ReliabilityPolicy.RELIABLE, topic


def test_depth_image_is_metres_with_infinite_sky(received: dict[str, list[Any]]) -> None:
    msg = received["/depth/image_rect"][-1]
    assert (msg.encoding, msg.width, msg.height) == ("32FC1", WIDTH, HEIGHT)
    assert msg.step == 4 * WIDTH
    assert msg.is_bigendian == 0
    depth = image_array(msg)
    np.testing.assert_allclose(depth[60:-10, 10:140], 2.0, rtol=1e-4)
    np.testing.assert_allclose(depth[60:-10, 180:-10], 5.0, rtol=1e-4)
    assert np.all(np.isposinf(depth[:30]))
    assert not np.any(np.isneginf(depth))
    assert not np.any(depth == 0.0)


def test_between_near_and_far_there_are_no_flying_pixels(received: dict[str, list[Any]]) -> None:
    depth = image_array(received["/depth/image_rect"][-1])[60:-10]
    flying = (depth > 2.1) & (depth < 4.75)
    assert not flying.any()


def test_camera_info_pairs_with_the_depth_image(received: dict[str, list[Any]]) -> None:
    info = received["/depth/camera_info"][-1]
    assert (info.width, info.height) == (WIDTH, HEIGHT)
    np.testing.assert_allclose(info.k, [FX, 0, CX, 0, FY, CY, 0, 0, 1])
    np.testing.assert_allclose(info.p, [FX, 0, CX, 0, 0, FY, CY, 0, 0, 0, 1, 0])
    assert not any(info.d)
    depth_stamps = {stamp_of(m) for m in received["/depth/image_rect"]}
    assert depth_stamps & {stamp_of(m) for m in received["/depth/camera_info"]}


def test_cloud_is_organised_coloured_and_on_the_rays(received: dict[str, list[Any]]) -> None:
    msg = received["/points"][-1]
    assert (msg.width, msg.height, msg.point_step) == (WIDTH, HEIGHT, 16)
    assert [(f.name, f.offset, f.datatype) for f in msg.fields] == [
        ("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("rgb", 12, 7),
    ]  # fmt: skip
    points = np.frombuffer(msg.data, np.float32).reshape(HEIGHT, WIDTH, 4)
    row, column = 150, 60
    x, y, z, rgb = points[row, column]
    assert z == pytest.approx(2.0, rel=1e-4)
    assert x == pytest.approx((column - CX) / FX * z, rel=1e-4)
    assert y == pytest.approx((row - CY) / FY * z, rel=1e-4)
    packed = int(np.float32(rgb).view(np.uint32))
    assert (packed >> 16 & 255, packed >> 8 & 255, packed & 255) == (NEAR, 200, 0)
    assert np.all(np.isnan(points[:30, :, 0]))
    assert not msg.is_dense


def test_compressed_depth_decodes_to_the_depth_image(received: dict[str, list[Any]]) -> None:
    msg = received["/depth/image_rect/compressedDepth"][-1]
    assert msg.format == "32FC1; compressedDepth png"
    depth = decode_compressed_depth(msg)
    np.testing.assert_allclose(depth[60:-10, 10:140], 2.0, rtol=2e-3)
    np.testing.assert_allclose(depth[60:-10, 180:-10], 5.0, rtol=5e-3)


def test_relative_disparity_has_the_published_size(received: dict[str, list[Any]]) -> None:
    msg = received["/depth/relative"][-1]
    assert (msg.encoding, msg.width, msg.height) == ("32FC1", WIDTH, HEIGHT)
    np.testing.assert_allclose(image_array(msg)[60:-10, 10:140], NEAR, rtol=1e-5)


def test_preview_and_rectified_image_are_rgb(received: dict[str, list[Any]]) -> None:
    assert received["/depth/preview"][-1].encoding == "rgb8"
    rectified = received["/image_rect"][-1]
    assert rectified.encoding == "rgb8"
    np.testing.assert_array_equal(image_array(rectified), scene())


def test_scale_status_says_what_the_metres_rest_on(received: dict[str, list[Any]]) -> None:
    (status,) = received["/depth_node/scale_status"][-1].status
    values = {item.key: item.value for item in status.values}
    assert values["state"] == "metric"
    assert values["source"] == "fixed"
    assert float(values["scale"]) == pytest.approx(SCALE)
    assert status.level == b"\x00"


def test_diagnostics_report_rates_latency_stages_and_balanced_accounts(graph: Graph) -> None:
    with (
        graph.collect(Image, "/depth/image_rect") as images,
        graph.collect(DiagnosticArray, "/diagnostics") as reports,
    ):
        images.wait(40)
        reports.clear()
        seen = reports.wait_until(lambda m: bool(m) and Diagnosis(m[-1]).level == 0)
        sent = np.array(graph.driver.sent[-150:])  # in the five seconds that the rates are of
    report = Diagnosis(seen[-1])
    sent_hz = 1e9 * (len(sent) - 1) / (sent[-1] - sent[0])
    rate_in, rate_out = (float(report.values[f"rate_{way}_hz"]) for way in ("in", "out"))
    # A machine that stalls loses frames on their way, and counts others twice as fast afterwards.
    assert 0.25 * sent_hz < rate_in < 1.4 * sent_hz
    assert 0.1 * sent_hz < rate_out < 1.4 * sent_hz
    assert 0.0 < float(report.values["latency_ms.p50"]) < 5000.0
    for stage in ("conversion", "network", "scale", "depth", "publishing"):
        assert float(report.values[f"{stage}_ms.p50"]) >= 0.0
    assert report.values["network"] == "red channel"
    assert report.values["scale"] == "metric (fixed)"
    report.assert_accounts_balance()


def test_dynamic_parameters_take_effect(graph: Graph) -> None:
    with graph.collect(Image, "/depth/image_rect") as images:
        results = graph.set_parameters(depth__encoding="16UC1", depth__downscale=2)
        assert [r.successful for r in results] == [True, True]
        msg = images.wait_until(lambda m: bool(m) and m[-1].width == WIDTH // 2)[-1]
        assert msg.encoding == "16UC1"
        depth = image_array(msg)
        assert depth[60, 20] == pytest.approx(2000, abs=2)
        assert depth[5, 20] == 0
    with graph.collect(CameraInfo, "/depth/camera_info") as infos:
        info = infos.wait(1)[-1]
        assert info.k[0] == pytest.approx(FX / 2)
        assert info.k[2] == pytest.approx((CX + 0.5) / 2 - 0.5)
        assert info.p[5] == pytest.approx(FY / 2)
    graph.set_parameters(depth__encoding="32FC1", depth__downscale=1)


def test_cloud_parameters_take_effect(graph: Graph) -> None:
    with graph.collect(PointCloud2, "/points") as clouds:
        graph.set_parameters(points__stride=4, points__color=False, points__far_points="clamp")
        msg = clouds.wait_from_now(1)[-1]  # while they were set one by one, some were in force
        assert (msg.width, msg.point_step) == (WIDTH // 4, 12)
        points = np.frombuffer(msg.data, np.float32).reshape(msg.height, msg.width, 3)
        np.testing.assert_allclose(points[2, :, 2], 50.0)

        graph.set_parameters(points__voxel_m=0.2)
        sparse = clouds.wait_until(lambda m: m[-1].height == 1)[-1]
        assert 0 < sparse.width < msg.width * msg.height
        assert np.isfinite(np.frombuffer(sparse.data, np.float32)).all()

        graph.set_parameters(points__voxel_m=0.0, points__max_rate_hz=5.0)
        received = clouds.wait_from_now(6)
        assert all(m.height > 1 for m in received)
        stamps = [stamp_of(m) for m in received]
        assert np.diff(stamps).min() >= 0.17e9
    graph.set_parameters(
        points__max_rate_hz=0.0, points__stride=1, points__color=True, points__far_points="nan"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"camera__topic": "/other"}, "static"),
        ({"depth__max_m": -1.0}, "range"),
        ({"depth__min_m": 60.0}, "minimum must be smaller"),
        ({"depth__encoding": "64FC1"}, "choose one of"),
        ({"points__stride": 0}, "range"),
    ],
)
def test_parameters_that_cannot_be_accepted_are_refused_with_the_reason(
    graph: Graph, change: dict[str, object], reason: str
) -> None:
    (result,) = graph.set_parameters(**change)
    assert not result.successful
    assert reason in result.reason


def test_metres_stop_when_the_scale_is_taken_away(graph: Graph) -> None:
    with graph.collect(Image, "/depth/image_rect") as images:
        images.wait(3)
        graph.set_parameters(scale__source="none")
        without_ns = time.time_ns()
        with graph.collect(DiagnosticArray, "/depth_node/scale_status") as statuses:
            for msg in statuses.wait_from_now(10):
                assert msg.status[0].level == b"\x02"
        assert not taken_after(images.messages, without_ns)
        graph.set_parameters(scale__source="fixed")
        images.wait_from_now(3)
