"""What the node makes of the camera's topics: good, odd and broken ones."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from ros_graph import (
    CameraDriver,
    Graph,
    image_array,
    private_graph,
    stamp_of,
    stamped,
    taken_after,
)
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header
from test_node_outputs import HEIGHT, NEAR, SCALE, WIDTH, camera_info, frame, scene

from depth_node.health import Health
from depth_node.parameters import CameraSettings
from depth_node.ros.image_topic import ImageTopic
from depth_node.ros.images import image_message

pytestmark = pytest.mark.ros
Made = tuple[Any, Any]


@pytest.fixture(scope="module")
def graph() -> Iterator[Graph]:
    """A node that waits for its camera; every test brings one."""
    with private_graph() as made:
        made.depth_node(
            "-r", "image:=/camera/image_raw",
            program="node_with_engine.py",
            scale__source="fixed", scale__fixed_scale=SCALE,
        )  # fmt: skip
        yield made


@pytest.fixture
def camera(graph: Graph) -> Iterator[Callable[..., CameraDriver]]:
    drivers: list[CameraDriver] = []

    def make(*args: Any, **kwargs: Any) -> CameraDriver:
        drivers.append(CameraDriver(graph, *args, **kwargs))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.close()


def compressed(stamp_ns: int) -> Made:
    jpeg = cv2.imencode(".png", cv2.cvtColor(scene(), cv2.COLOR_RGB2BGR))[1].tobytes()
    msg = CompressedImage(format="rgb8; png compressed bgr8", data=jpeg)
    return stamped(msg, stamp_ns), stamped(camera_info(), stamp_ns)


def with_info(**changes: Any) -> Callable[[int], Made]:
    """Good images with a CameraInfo that is not."""

    def make(stamp_ns: int) -> Made:
        image, info = frame(stamp_ns)
        for name, value in changes.items():
            setattr(info, name, value)
        return image, info

    return make


def with_image(**changes: Any) -> Callable[[int], Made]:
    """Images that are not what their fields say."""

    def make(stamp_ns: int) -> Made:
        image, info = frame(stamp_ns)
        for name, value in changes.items():
            setattr(image, name, value)
        return image, info

    return make


def test_compressed_images_are_taken_when_only_they_are_published(
    graph: Graph, camera: Callable[..., CameraDriver]
) -> None:
    camera(compressed, topic="/camera/image_raw/compressed")
    with graph.collect(Image, "/depth/relative") as images:
        msg = images.wait(3)[-1]
    assert image_array(msg)[150, 60] == pytest.approx(NEAR)


def test_best_effort_cameras_are_heard(graph: Graph, camera: Callable[..., CameraDriver]) -> None:
    camera(frame, reliable=False)
    with graph.collect(Image, "/depth/image_rect") as images:
        images.wait(3)
    assert "raw, best_effort" in graph.diagnostics().values["camera"]


def test_a_camera_that_restarts_is_followed(
    graph: Graph, camera: Callable[..., CameraDriver]
) -> None:
    first = CameraDriver(graph, frame)
    with graph.collect(Image, "/depth/image_rect") as images:
        images.wait(3)
        first.close()
        graph.wait_for_problem("nobody publishes")
        camera(frame, reliable=False)
        images.wait_from_now(3)
    graph.wait_until(lambda: graph.diagnostics().level == 0)


def test_image_size_may_change_in_mid_stream(
    graph: Graph, camera: Callable[..., CameraDriver]
) -> None:
    driver = camera(frame)
    with graph.collect(PointCloud2, "/points") as clouds:
        clouds.wait(3)

        def smaller(stamp_ns: int) -> Made:
            image = image_message(np.ascontiguousarray(scene()[::2, ::2]), "rgb8", Header())
            info = camera_info(WIDTH // 2, HEIGHT // 2)
            return stamped(image, stamp_ns), stamped(info, stamp_ns)

        driver.make = smaller
        clouds.wait_until(lambda m: (m[-1].width, m[-1].height) == (WIDTH // 2, HEIGHT // 2))
    graph.wait_until(lambda: graph.diagnostics().level == 0)


def test_depth_is_rectified_when_the_camera_has_distortion(
    graph: Graph, camera: Callable[..., CameraDriver]
) -> None:
    camera(with_info(d=[-0.25, 0.06, 0.0, 0.0, 0.0]))
    with (
        graph.collect(Image, "/image_rect") as images,
        graph.collect(CameraInfo, "/depth/camera_info") as infos,
    ):

        def rectified(messages: list[Any]) -> list[CameraInfo]:
            """Of those pictures that are; a first one may get the calibration of another test."""
            changed = {stamp_of(m) for m in messages if np.any(image_array(m) != scene())}
            return [info for info in infos.messages if stamp_of(info) in changed]

        info = rectified(images.wait_until(lambda m: bool(rectified(m))))[-1]
    assert not any(info.d)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (with_info(k=[0.0] * 9), "uncalibrated"),
        (with_info(k=[float("nan")] * 9), "CameraInfo"),
        (with_info(width=WIDTH * 2), "but the image is"),
        (with_info(d=[0.1] * 3), "coefficient"),
        (with_info(distortion_model="fishbowl", d=[0.1] * 5), "fishbowl"),
    ],
)
def test_an_unusable_calibration_costs_the_metres_and_is_named(
    graph: Graph, camera: Callable[..., CameraDriver], make: Callable[[int], Made], problem: str
) -> None:
    camera(make)
    with graph.collect(Image, "/depth/relative") as relative:
        relative.wait(3)
        # The first images may be paired with a good calibration of the test before.
        report = graph.wait_for_problem(problem)
        named_ns = time.time_ns()
        with graph.collect(Image, "/depth/image_rect") as metric:
            relative.wait_from_now(5)
            assert not taken_after(metric.messages, named_ns)
    assert report.level == 2
    report.assert_accounts_balance()


def test_a_missing_camera_info_is_named(graph: Graph, camera: Callable[..., CameraDriver]) -> None:
    with private_graph() as other:
        other.depth_node("-r", "image:=/camera/image_raw", program="node_with_engine.py")
        driver = CameraDriver(other, lambda stamp: (frame(stamp)[0], None))
        with other.collect(Image, "/depth/relative") as relative:
            relative.wait(3)
            other.wait_for_problem("no CameraInfo on /camera/camera_info")
        driver.close()


@contextlib.contextmanager
def camera_with_info_apart(
    image: str, *infos: str, remap: str = "", **changes: Any
) -> Iterator[tuple[Graph, dict[str, Any]]]:
    """A node and its camera, with CameraInfo on other topics than a driver's; their publishers."""
    make_image = compressed if image.endswith("/compressed") else frame
    with private_graph() as graph:
        graph.depth_node(
            "-r", f"image:={image}", *(["-r", f"camera_info:={remap}"] if remap else []),
            program="node_with_engine.py",
            env={"DIAGNOSTICS_PERIOD_S": "0.2"},
            scale__source="fixed", scale__fixed_scale=SCALE,
        )  # fmt: skip
        publishers = {topic: graph.node.create_publisher(CameraInfo, topic, 2) for topic in infos}

        def make(stamp_ns: int) -> Made:
            msg, info = make_image(stamp_ns)
            for name, value in changes.items():
                setattr(info, name, value)
            for publisher in list(publishers.values()):
                publisher.publish(info)
            return msg, None

        CameraDriver(graph, make, topic=image)
        yield graph, publishers


@pytest.mark.parametrize(
    ("image", "info"),
    [
        ("/image_raw/compressed", "/camera_info"),
        ("/front/image_raw/compressed", "/front/camera_info"),
        ("/front/image_raw/compressed", "/camera_info"),
        ("/front/image_raw", "/camera_info"),
    ],
)
def test_camera_info_is_found_beside_the_image_or_under_the_name_it_has_anyway(
    image: str, info: str
) -> None:
    with camera_with_info_apart(image, info, remap=info) as (graph, _):
        with graph.collect(Image, "/depth/image_rect") as images:
            images.wait(3)
        assert graph.diagnostics().values["camera_info_topic"] == info


def test_camera_info_beside_the_image_is_followed_for_good() -> None:
    with camera_with_info_apart("/front/image_raw", "/camera_info") as (graph, publishers):

        def followed() -> str:
            return graph.diagnostics().values["camera_info_topic"]

        graph.wait_until(lambda: followed() == "/camera_info")
        beside = graph.node.create_publisher(CameraInfo, "/front/camera_info", 2)
        publishers["/front/camera_info"] = beside
        graph.wait_until(lambda: followed() == "/front/camera_info")
        graph.node.destroy_publisher(publishers.pop("/front/camera_info"))
        graph.wait_until(lambda: graph.node.count_publishers("/front/camera_info") == 0)
        assert {followed() for _ in range(6)} == {"/front/camera_info"}


def test_a_calibration_of_other_proportions_costs_the_metres_of_those_images(
    graph: Graph, tmp_path: Path
) -> None:
    file = tmp_path / "wide.yaml"
    file.write_text(
        "width: 64\nheight: 36\ndistortion_model: plumb_bob\nd: [0, 0, 0, 0, 0]\n"
        "k: [60, 0, 32, 0, 60, 18, 0, 0, 1]\n"
    )
    health = Health()
    topic = ImageTopic(graph.node, CameraSettings(calibration=str(file)), health)
    header = Header(frame_id="camera_optical_frame")
    for (width, height), level in (((64, 48), 2), ((128, 72), 1), ((64, 36), 0), ((64, 48), 2)):
        camera = topic._camera_for(header, width, height)
        assert (camera is None) == (level == 2)
        assert [problem.level for problem in health.problems()] == [level] * bool(level)
    (problem,) = health.problems()
    assert "only relative depth is published; calibrate at 64x48" in problem.text


def test_a_rectified_image_is_not_rectified_again_however_it_is_sent() -> None:
    distorted = {"d": [-0.25, 0.06, 0.0, 0.0, 0.0]}
    image, info = "/front/image_rect/compressed", "/raw/camera_info"
    with (
        camera_with_info_apart(image, info, remap=info, **distorted) as (graph, _),
        graph.collect(Image, "/image_rect") as images,
    ):
        np.testing.assert_array_equal(image_array(images.wait(3)[-1]), scene())


def test_a_frame_that_is_not_optical_is_a_warning(
    graph: Graph, camera: Callable[..., CameraDriver]
) -> None:
    def make(stamp_ns: int) -> Made:
        return tuple(stamped(msg, stamp_ns, "camera_link") for msg in frame(stamp_ns))

    camera(make)
    with graph.collect(Image, "/depth/image_rect") as images:
        assert images.wait(3)[-1].header.frame_id == "camera_link"
        assert graph.wait_for_problem("camera_link").level == 1


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (with_image(encoding="rgb9"), "rgb9"),
        (with_image(step=10), "step"),
        (with_image(height=HEIGHT * 2), "data"),
        (with_image(width=0), "0x"),
        (with_image(height=0), "0"),
    ],
)
def test_a_broken_image_is_dropped_named_and_outlived(
    graph: Graph, camera: Callable[..., CameraDriver], make: Callable[[int], Made], problem: str
) -> None:
    broken_ns = time.time_ns()
    driver = camera(make)
    with graph.collect(Image, "/depth/image_rect") as images:
        report = graph.wait_for_problem(problem)
        assert int(report.values["dropped: bad image"]) > 0
        assert not taken_after(images.messages, broken_ns)
        report.assert_accounts_balance()
        driver.make = frame
        images.wait_from_now(3)


def test_a_compressed_image_that_is_none_is_dropped_and_named(
    graph: Graph, camera: Callable[..., CameraDriver]
) -> None:
    def make(stamp_ns: int) -> Made:
        msg = CompressedImage(format="jpeg", data=b"this is no picture")
        return stamped(msg, stamp_ns), stamped(camera_info(), stamp_ns)

    broken_ns = time.time_ns()
    camera(make, topic="/camera/image_raw/compressed")
    with graph.collect(Image, "/depth/relative") as images:
        graph.wait_for_problem("jpeg")
        assert not taken_after(images.messages, broken_ns)


def test_stamps_that_jump_back_are_copied_and_outlived(
    graph: Graph, camera: Callable[..., CameraDriver]
) -> None:
    driver = camera(frame)
    with graph.collect(Image, "/depth/image_rect") as images:
        images.wait(3)
        driver.make = lambda stamp_ns: frame(stamp_ns - 3_600_000_000_000)
        images.wait_until(
            lambda m: any(stamp_of(b) < stamp_of(a) for a, b in itertools.pairwise(m))
        )
        with graph.collect(DiagnosticArray, "/depth_node/scale_status") as statuses:
            statuses.wait(3)
