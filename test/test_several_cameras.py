"""Several cameras in one process: each a node of its own over DDS, all with one engine."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from faults import RAISES, meet_bad_frame, with_engine_fault
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from ros_graph import (
    PROGRAMS,
    CameraDriver,
    Diagnosis,
    Graph,
    Process,
    image_array,
    private_graph,
    stamp_of,
    stamped,
    taken_after,
)
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from test_node_outputs import HEIGHT, NEAR, SCALE, WIDTH, frame

from depth_node.ros.images import image_message

pytestmark = pytest.mark.ros
NETWORK_S = 0.25
MAX_M = 30.0, 3.0
"""depth.max_m of all cameras, and of the rear one."""
SMALL = (160, 120)
SMALL_METRES = 4.0
TOPICS = {"front": "/front/camera/image_raw", "rear": "/trailer/camera/image_raw"}


def small_frame(stamp_ns: int) -> tuple[Image, CameraInfo]:
    """A camera of another size and frame: everything 4 m away."""
    width, height = SMALL
    pixels = np.full((height, width, 3), 1.0 / (SCALE * SMALL_METRES), np.uint8)
    info = CameraInfo(width=width, height=height)
    info.k = [150.0, 0.0, 80.0, 0.0, 150.0, 60.0, 0.0, 0.0, 1.0]
    image = stamped(image_message(pixels, "rgb8", Header()), stamp_ns, "rear_optical_frame")
    return image, stamped(info, stamp_ns, "rear_optical_frame")


def start(graph: Graph, *args: str, **env: str) -> Process:
    """Start the node with the test's engine for the cameras `front` and `rear`.

    The topic of one is remapped by its full name, of the other in its namespace.
    """
    ros = ["-r", f"/rear/image:={TOPICS['rear']}", "-r", "image:=camera/image_raw", *args]
    ros += ["-p", "scale.source:=fixed", "-p", f"scale.fixed_scale:={SCALE}"]
    return graph.run(
        str(PROGRAMS / "node_with_engine.py"), "--cameras", "front", "rear", "--ros-args", *ros,
        env=graph.environment(DIAGNOSTICS_PERIOD_S="0.2", **env),
    )  # fmt: skip


def driver(graph: Graph, camera: str, make: Callable[[int], Any], **kwargs: Any) -> CameraDriver:
    return CameraDriver(graph, make, topic=TOPICS[camera], **kwargs)


def diagnosis(
    graph: Graph, camera: str, condition: Callable[[Diagnosis], bool] = lambda _: True
) -> Diagnosis:
    """The first report of one camera's node that satisfies a condition."""
    name = f"{camera}/depth_node"

    def fitting(messages: list[DiagnosticArray]) -> list[Diagnosis]:
        reports = [Diagnosis(msg) for msg in messages if msg.status[0].name == name]
        return [report for report in reports if condition(report)]

    with graph.collect(DiagnosticArray, "/diagnostics") as reports:
        return fitting(reports.wait_until(lambda messages: bool(fitting(messages))))[-1]


def change_state(graph: Graph, camera: str, *transitions: int) -> None:
    for transition in transitions:
        request = ChangeState.Request()
        request.transition.id = transition
        assert graph.call(ChangeState, f"/{camera}/depth_node/change_state", request).success


def stop(graph: Graph, camera: str) -> None:
    change_state(graph, camera, Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)


def start_again(graph: Graph, camera: str, threads: int) -> None:
    """Set the static parameter `model.threads` of an unconfigured camera and activate it."""
    message = Parameter("model.threads", value=threads).to_parameter_msg()
    request = SetParameters.Request(parameters=[message])
    answer = graph.call(SetParameters, f"/{camera}/depth_node/set_parameters", request)
    assert answer.results[0].successful
    change_state(graph, camera, Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)


@pytest.fixture(scope="module")
def graph() -> Iterator[Graph]:
    with private_graph() as made:
        yield made


@pytest.fixture(scope="module")
def node(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Process:
    file = tmp_path_factory.mktemp("parameters") / "cameras.yaml"
    everywhere, rear = ({"ros__parameters": {"depth.max_m": metres}} for metres in MAX_M)
    file.write_text(yaml.safe_dump({"/**/depth_node": everywhere, "/rear/depth_node": rear}))
    return start(graph, "--params-file", str(file))


@pytest.fixture(scope="module")
def front(graph: Graph, node: Process) -> CameraDriver:
    return driver(graph, "front", frame)


@pytest.fixture(scope="module")
def rear(graph: Graph, node: Process) -> CameraDriver:
    return driver(graph, "rear", small_frame)


def test_each_camera_publishes_metres_with_its_own_stamps_frame_and_size(
    graph: Graph, front: CameraDriver, rear: CameraDriver
) -> None:
    with (
        graph.collect(Image, "/front/depth/image_rect") as of_front,
        graph.collect(Image, "/rear/depth/image_rect") as of_rear,
    ):
        fronts, rears = of_front.wait(10), of_rear.wait(10)
    assert {stamp_of(msg) for msg in fronts} <= set(front.sent)
    assert {stamp_of(msg) for msg in rears} <= set(rear.sent)
    assert {msg.header.frame_id for msg in fronts} == {"camera_optical_frame"}
    assert {msg.header.frame_id for msg in rears} == {"rear_optical_frame"}
    near, far = image_array(fronts[-1])[60:-10, 10:140], image_array(rears[-1])
    np.testing.assert_allclose(near, 1.0 / (SCALE * NEAR), rtol=1e-4)
    assert (rears[-1].width, rears[-1].height) == SMALL
    assert (fronts[-1].width, fronts[-1].height) == (WIDTH, HEIGHT)
    # The rear camera has a parameter of its own, so that what it sees is beyond its range.
    assert np.isposinf(far).all()


def test_one_engine_serves_both_and_every_node_says_so(
    graph: Graph, node: Process, front: CameraDriver, rear: CameraDriver
) -> None:
    for camera in ("front", "rear"):
        report = diagnosis(graph, camera, lambda r: r.values.get("engine_cameras") == "2")
        assert report.values["engine_batch.limit"] == "1"
        assert report.values["image_topic"] == TOPICS[camera]
        report.assert_accounts_balance()
        assert f"[{camera}.depth_node]: configured: camera topic {TOPICS[camera]}" in node.output


def test_a_camera_may_leave_and_return_with_another_engine_while_the_other_goes_on(
    graph: Graph, front: CameraDriver, rear: CameraDriver
) -> None:
    with (
        graph.collect(Image, "/front/depth/image_rect") as of_front,
        graph.collect(Image, "/rear/depth/image_rect") as of_rear,
    ):
        of_front.wait(3)
        of_rear.wait(3)
        stop(graph, "rear")
        gone_ns = time.time_ns()
        diagnosis(graph, "rear", lambda report: report.values["state"] == "unconfigured")
        of_front.wait_from_now(10)
        assert not taken_after(of_rear.messages, gone_ns)
        diagnosis(graph, "front", lambda r: "engine_cameras" not in r.values and r.level == 0)

        start_again(graph, "rear", threads=1)  # asks for an engine that nobody has
        of_rear.wait_from_now(5)
        own = diagnosis(graph, "rear", lambda report: report.values["state"] == "active")
        assert "engine_cameras" not in own.values
        stop(graph, "rear")
        start_again(graph, "rear", threads=0)
        of_front.wait_from_now(5)
        of_rear.wait_from_now(5)
    for camera in ("front", "rear"):
        report = diagnosis(graph, camera, lambda r: r.values.get("engine_cameras") == "2")
        report.assert_accounts_balance()


def test_a_frame_that_the_engine_fails_on_is_lost_to_its_camera_alone(
    graph: Graph, node: Process, front: CameraDriver, rear: CameraDriver
) -> None:
    with graph.collect(Image, "/front/depth/image_rect") as images:
        images.wait(3)
        bad_ns, received = meet_bad_frame(
            front,
            images,
            with_engine_fault(RAISES),
            lambda *_: "dropped: internal error" in diagnosis(graph, "front").values,
        )
    assert bad_ns not in {stamp_of(msg) for msg in received}
    report = diagnosis(graph, "front", lambda r: r.values.get("dropped: internal error") == "1")
    report.assert_accounts_balance()
    assert "[front.depth_node]: a frame failed" in node.output
    other = diagnosis(graph, "rear", lambda report: report.level == 0)
    assert "dropped: internal error" not in other.values


def test_cameras_that_want_more_than_the_engine_gives_get_equally_much_and_fresh() -> None:
    with private_graph() as graph:
        start(graph, ENGINE_DELAY_S=str(NETWORK_S))
        driver(graph, "front", frame)
        driver(graph, "rear", small_frame, rate_hz=60.0)
        with (
            graph.collect(Image, "/front/depth/image_rect") as of_front,
            graph.collect(Image, "/rear/depth/image_rect") as of_rear,
        ):
            of_front.wait(3)
            of_rear.wait(3)
            of_front.clear()
            of_rear.clear()
            of_front.wait(12)
            counts = len(of_front.messages), len(of_rear.messages)
            # Served in the order of arrival, the rear one would get twice as much.
            assert abs(counts[0] - counts[1]) <= 4, counts
            for images in (of_front, of_rear):
                received = images.wait(12)
                arrivals = images.arrivals_ns[: len(received)]
                ages_s = 1e-9 * (np.array(arrivals) - [stamp_of(msg) for msg in received])
                # One inference and not two: the frame is taken when the turn comes.
                assert np.median(ages_s) < 1.5 * NETWORK_S, np.sort(ages_s)
        for camera in ("front", "rear"):
            report = diagnosis(graph, camera)
            report.assert_accounts_balance()
            assert float(report.values["rate_out_hz"]) > 0.5 / (2 * NETWORK_S)


def test_frames_that_wait_for_an_engine_that_takes_batches_run_together() -> None:
    with private_graph() as graph:
        start(graph, ENGINE_DELAY_S=str(NETWORK_S), ENGINE_BATCH="4")
        front = driver(graph, "front", frame)
        driver(graph, "rear", frame)
        with (
            graph.collect(Image, "/front/depth/image_rect") as of_front,
            graph.collect(Image, "/rear/depth/image_rect") as of_rear,
        ):
            of_front.wait(5)
            of_rear.wait(5)
            report = diagnosis(graph, "rear", lambda r: float(r.values["engine_batch.mean"]) > 1.2)
            assert report.values["engine_batch.limit"] == "4"
            # Turns would leave each camera half of the engine's rate.
            diagnosis(graph, "front", lambda r: float(r.values["rate_out_hz"]) > 0.6 / NETWORK_S)
            front.make = with_engine_fault(RAISES)
            failed = diagnosis(
                graph, "front", lambda r: int(r.values.get("dropped: internal error", "0")) > 3
            )
            failed.assert_accounts_balance()
            of_rear.wait_from_now(5)
        other = diagnosis(graph, "rear")
        assert "dropped: internal error" not in other.values
        assert other.values["engine_batch.limit"] == "4"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_cameras_of_a_process(number: signal.Signals) -> None:
    with private_graph() as graph:
        node = start(graph)
        driver(graph, "front", frame)
        with graph.collect(Image, "/front/depth/relative") as images:
            images.wait(3)
        diagnosis(graph, "rear", lambda report: report.values["state"] == "active")
        code, seconds = node.interrupt(number)
    assert code == 0, node.output
    assert seconds < 15.0  # 1.5 on a quiet machine; by themselves they would never end
    assert "Traceback" not in node.output, node.output


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("--cameras", "front", "front"), "names a camera twice"),
        (("--cameras", "front", "left-eye"), "'left-eye' is no namespace"),
        (
            ("--cameras", "front", "rear", "--ros-args", "-r", "__ns:=/robot"),
            "the cameras would all be /robot/depth_node",
        ),
    ],
)
def test_cameras_that_cannot_be_told_apart_are_refused(
    graph: Graph, args: tuple[str, ...], reason: str
) -> None:
    node = graph.run("-m", "depth_node.ros.main", *args)
    node.wait_for_line(reason)
    assert node.interrupt()[0] != 0
