"""What the doctor says of real graphs that are well, ill or empty."""

from __future__ import annotations

import re
import signal
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from doctor_run import Report, doctor, fill_cache

pytest.importorskip("rclpy")

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.context import Context
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo
from ros_graph import CameraDriver, Graph, private_graph, stamped
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from test_node_outputs import SCALE, WIDTH, camera_info, frame

from depth_node.doctor.check_camera import check_camera, check_loss
from depth_node.doctor.check_node import check_graph, check_node
from depth_node.doctor.check_tf import judge_frame
from depth_node.doctor.observation import Arrivals, Observation, Question
from depth_node.doctor.observe import _Observer
from depth_node.domain import private_domain
from depth_node.health import Level
from depth_node.resources import FASTDDS_VARIABLES

pytestmark = pytest.mark.ros
FASTDDS = "rmw_fastrtps_cpp"
IMAGE, INFO, NODE = "/camera/image_raw", "/camera/camera_info", "/depth_node"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill_cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def graph(cache: Path) -> Iterator[Graph]:
    """A node that waits for its camera; every test brings one."""
    with private_graph() as made:
        made.depth_node(
            "-r", f"image:={IMAGE}",
            program="node_with_engine.py",
            scale__source="fixed", scale__fixed_scale=SCALE,
        )  # fmt: skip
        made.wait_for_problem("nobody publishes")
        yield made


@pytest.fixture
def examine(graph: Graph, cache: Path) -> Callable[..., Report]:
    def run(*args: str, on: Graph = graph, **env: str) -> Report:
        return doctor(*args, env=on.environment(DEPTH_NODE_CACHE=str(cache), **env))

    return run


@pytest.fixture
def camera(graph: Graph) -> Iterator[Callable[..., CameraDriver]]:
    drivers: list[CameraDriver] = []

    def make(*args: Any, **kwargs: Any) -> CameraDriver:
        drivers.append(CameraDriver(graph, *args, **kwargs))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.close()


Examine = Callable[..., Report]
Camera = Callable[..., CameraDriver]


def test_a_healthy_graph_passes(
    graph: Graph, camera: Camera, examine: Examine, tmp_path: Path
) -> None:
    camera(frame)
    with graph.collect(PointCloud2, "/points") as clouds:
        clouds.wait(3)
        graph.wait_until(lambda: graph.diagnostics().level == 0)
        report = examine(HOME=str(tmp_path), ROS_LOG_DIR=str(tmp_path / "log"))
    assert report.code == 0, report.text
    assert report.well
    report.find("ok", IMAGE, f"{WIDTH}x240 rgb8")
    report.find("ok", INFO, "fx 300.0 px")
    report.find("ok", NODE, "engine test, fp32")
    report.find("ok", "outputs", "/points go to /observer")
    assert list(tmp_path.iterdir()) == [], "a look leaves no file behind"


def test_nobody_publishes_the_image_and_the_topics_that_exist_are_named(
    graph: Graph, camera: Camera, examine: Examine
) -> None:
    camera(frame, topic="/front/image_raw")
    graph.wait_for_problem(f"nobody publishes {IMAGE}")
    report = examine()
    assert report.code == 1
    assert "/front/image_raw" in report.find("error", IMAGE, "nobody publishes it")["seen"]
    assert "/front/camera_info" in report.find("error", INFO, "nobody publishes it")["seen"]
    report.find("error", NODE, f"it says: nobody publishes {IMAGE}")


def test_an_ill_camera_info_and_a_strange_header_are_named(
    camera: Camera, examine: Examine
) -> None:
    def make(stamp_ns: int) -> tuple[Any, Any]:
        info = camera_info()
        info.k = [0.0] * 9
        return stamped(frame(0)[0], 0, "camera_link"), stamped(info, stamp_ns, "other_camera")

    camera(make)
    report = examine()
    assert report.code == 1
    report.find("error", INFO, "K[0] is 0")
    report.find("error", IMAGE, "its stamp is 0")
    report.find("warn", IMAGE, "'camera_link' does not look like an optical frame")
    report.find("warn", INFO, "'other_camera' differs from the image's 'camera_link'")


def test_a_camera_info_of_another_size_an_old_stamp_and_a_deaf_subscriber_are_named(
    graph: Graph, camera: Camera, examine: Examine
) -> None:
    def make(stamp_ns: int) -> tuple[Any, Any]:
        old = stamp_ns - 60_000_000_000
        return stamped(frame(0)[0], old), stamped(camera_info(2 * WIDTH), old)

    camera(make)
    qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    deaf = graph.node.create_subscription(PointCloud2, "/points", lambda _: None, qos)
    report = examine()
    graph.destroy(graph.node.destroy_subscription, deaf)
    assert report.code == 1
    report.find("error", INFO, "but the image is 320x240")
    seen = report.find("warn", IMAGE, "s behind this machine's clock")["seen"]
    assert float(re.search(r"([\d.]+) s behind", seen)[1]) == pytest.approx(60.0, abs=5.0)
    report.find("error", "/points", "/observer hears nothing of /depth_node")


def test_large_best_effort_images_that_vanish_are_named(graph: Graph, examine: Examine) -> None:
    bare = graph.environment()
    for name in FASTDDS_VARIABLES:
        bare.pop(name, None)
    graph.run(str(Path(__file__).parent / "programs" / "best_effort_camera.py"), env=bare)
    with graph.collect(CameraInfo, "/large/camera_info", best_effort=True) as infos:
        infos.wait(3)
    report = examine("--image", "/large/image_raw")
    assert report.code == 1
    problem = report.find("error", "/large/image_raw", "default shared-memory segment")
    assert "6.2" in problem["seen"]
    assert "fastdds.xml" in problem["cure"]


def test_a_node_that_failed_to_configure_gives_its_reason(examine: Examine) -> None:
    with private_graph() as other:
        other.depth_node(program="node_with_engine.py", camera__calibration="/no/such/camera.yaml")
        other.wait_for_problem("cannot configure")
        report = examine("--seconds", "1", on=other)
    assert report.code == 1
    report.find("error", NODE, "unconfigured, nothing is published: cannot configure")
    report.find("error", NODE, "/no/such/camera.yaml")
    report.find("warn", "image", "the image topic is not known")


def test_an_inactive_node_under_another_name_is_found(examine: Examine) -> None:
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    with private_graph() as other:
        other.depth_node(
            "-r", "__node:=front_depth", "-r", "__ns:=/left",
            program="node_with_engine.py", autostart=False,
        )  # fmt: skip
        request = ChangeState.Request()
        request.transition.id = Transition.TRANSITION_CONFIGURE
        assert other.call(ChangeState, "/left/front_depth/change_state", request).success
        # As ROS names it, as diagnostics print it, and when nobody names it.
        for asked in (["--node", "/left/front_depth"], ["--node", "left/front_depth"], []):
            report = examine("--seconds", "1", *asked, on=other)
            ill = report.find("error", "/left/front_depth", "inactive")
            assert "set /left/front_depth activate" in ill["cure"]


def test_a_node_that_is_not_there_is_told_from_an_empty_graph() -> None:
    empty = Observation(rmw=FASTDDS)
    assert "no other node is in sight" in check_graph(empty)[0].seen
    other = Observation(rmw=FASTDDS, nodes=["/front_depth"], depth_nodes=["/front_depth"])
    assert check_graph(other)[0].level == Level.OK
    (finding,) = check_node(other, "rear_depth")
    assert finding.level == Level.ERROR
    assert "no node named rear_depth" in finding.seen
    assert "--node /front_depth" in finding.cure


def test_the_answers_of_another_node_of_this_name_are_not_taken_for_the_nodes_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with private_domain() as domain:
        context = Context()
        rclpy.init(context=context, domain_id=domain, args=[])
        observer = _Observer(Question(), context)
        there = [("depth_node", "/rear")]
        monkeypatch.setattr(observer._node, "get_node_names_and_namespaces", lambda: there)
        observer._look()
        seen = observer._seen
        seen.state, seen.parameters = "inactive", {"camera.source": "webcam"}
        seen.image_topic = "/rear/image_raw"
        there.append(("depth_node", "/front"))
        observer._look()
        asked = [client.srv_name for client, _ in observer._asked.values()]
        observer.close()
        context.try_shutdown()
    assert (seen.node, seen.state, seen.parameters) == ("/front/depth_node", None, {})
    assert seen.image_topic is None
    assert asked == ["/front/depth_node/get_state", "/front/depth_node/get_parameters"]


def test_of_a_cut_jpeg_the_doctor_says_what_to_do() -> None:
    cut = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()[:-2]
    seen = Observation(rmw=FASTDDS, image_topic=IMAGE, info_topic=INFO)
    seen.publishers = seen.subscribers = {IMAGE: [], INFO: []}
    seen.images = Arrivals(last=CompressedImage(format="jpeg", data=array("B", cut)))
    finding = check_camera(seen)[0]
    assert (finding.level, finding.topic) == (Level.ERROR, IMAGE)
    assert "has no end: it is truncated" in finding.seen
    assert finding.cure.startswith("check the camera's driver")


def test_what_the_node_knows_of_extrinsics_is_told() -> None:
    known = KeyValue(key="lidar extrinsics", value="no sign of an error in 12 views")
    report = [DiagnosticStatus(level=b"\x00", values=[known])]
    seen = Observation(rmw=FASTDDS, nodes=[NODE], node=NODE, state="active", report=report)
    found = [finding for finding in check_node(seen, "") if finding.topic == known.key]
    assert [(finding.level, finding.seen) for finding in found] == [(Level.OK, known.value)]


def test_ctrl_c_ends_a_look(graph: Graph, cache: Path) -> None:
    def listens() -> bool:
        """Whether a doctor is past its imports and its start, and asks the node questions."""
        return graph.node.count_clients(f"{NODE}/get_parameters") > 0

    graph.wait_until(lambda: not listens())  # nobody is left of the tests before
    command = ["-m", "depth_node.cli", "doctor", "--seconds", "300"]
    program = graph.run(*command, env=graph.environment(DEPTH_NODE_CACHE=str(cache)))
    program.wait_for_line("discovery: domain")
    graph.wait_until(listens)
    code, seconds = program.interrupt(signal.SIGINT)
    assert (code, "Traceback" in program.output) == (130, False), program.describe()
    assert seconds < 15.0  # soon on a quiet machine; by itself it would go on for minutes


@pytest.mark.parametrize(
    ("images", "infos", "lost"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], False),
        ([1, 5, 9], range(1, 10), True),
        ([5], range(1, 10), True),
        ([11, 13, 19], range(1, 10), False),
    ],
)
def test_lost_images_are_counted_by_their_camera_infos(
    images: list[int], infos: Iterable[int], lost: bool
) -> None:
    publisher = TopicEndpointInfo(node_name="camera", topic_type="sensor_msgs/msg/Image")
    publisher.qos_profile = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    seen = Observation(rmw=FASTDDS, image_topic=IMAGE, image_type="sensor_msgs/msg/Image")
    seen.publishers[IMAGE] = [publisher]
    seen.images = Arrivals(last=Image(data=bytes(921_600)), stamps=images)
    seen.infos = Arrivals(stamps=list(infos))
    assert bool(check_loss(seen)) == lost


@pytest.mark.parametrize(
    ("transforms", "level"),
    [
        ({("base_link", "camera_optical_frame")}, Level.OK),
        ({("camera_optical_frame", "tag")}, Level.OK),
        ({("map", "base_link")}, Level.WARN),
        (set(), Level.WARN),
    ],
)
def test_a_camera_frame_must_hang_on_something(
    transforms: set[tuple[str, str]], level: Level
) -> None:
    assert judge_frame("camera_optical_frame", transforms).level == level
