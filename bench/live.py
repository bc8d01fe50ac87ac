"""What benchmarks of the running node share: camera, node and observer in three processes."""

from __future__ import annotations

import array
import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np

IMAGE, INFO = "/camera/image_raw", "/camera/camera_info"
LIDAR, LIDAR_HZ, LIDAR_POINTS = "/lidar/points", 10.0, 20_000
FOCAL_WIDTHS = 0.8
"""The camera's focal length in widths of its image."""
INSTANT = "instant"
"""The name of a network that answers at once, so that the rest can be measured."""


@dataclass(frozen=True)
class Scene:
    """What is run.

    Attributes:
        width: of the camera's image, pixels.
        height: likewise.
        rate_hz: frames a second.
        network: `model.name` of the node, or `instant`.
        video: a file that the node plays as its own camera, or empty for a camera by topic.
        lidar: whether the scale comes from a LiDAR; else it is a constant.
    """

    width: int
    height: int
    rate_hz: float
    network: str
    video: str = ""
    lidar: bool = False


def picture(width: int, height: int) -> Any:
    """HxWx3 uint8: rectangles of all sizes over a gradient, which jpeg neither likes nor hates."""
    rng = np.random.default_rng(0)
    image = np.linspace(40, 200, width * height * 3).reshape(height, width, 3).astype(np.uint8)
    for _ in range(60):
        x, y = rng.integers(0, width), rng.integers(0, height)
        w, h = rng.integers(4, width // 3), rng.integers(4, height // 3)
        colour = [int(value) for value in rng.integers(0, 255, 3)]
        cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), colour, -1)
    return image


def write_video(path: Path, width: int, height: int, rate_hz: float) -> None:
    """A second of motion JPEG, as webcams give it, to be played in a loop."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate_hz, (width, height))
    image = picture(width, height)
    for shift in range(max(int(rate_hz), 2)):
        writer.write(np.roll(image, 8 * shift, axis=1))
    writer.release()


def camera_messages(width: int, height: int) -> Any:
    """An Image of the picture and its CameraInfo, to be stamped."""
    from sensor_msgs.msg import CameraInfo, Image

    image = Image(width=width, height=height, encoding="rgb8", step=3 * width)
    image.data = array.array("B", picture(width, height).tobytes())
    info = CameraInfo(width=width, height=height)
    focal = FOCAL_WIDTHS * width
    info.k = [focal, 0.0, width / 2, 0.0, focal, height / 2, 0.0, 0.0, 1.0]
    image.header.frame_id = info.header.frame_id = "camera_optical_frame"
    return image, info


def arrival(msg: Any) -> tuple[float, float]:
    """When a message has arrived, which is now (monotonic, seconds), and its age, milliseconds."""
    stamp_ns = msg.header.stamp.sec * 1_000_000_000 + msg.header.stamp.nanosec
    return time.monotonic(), 1e-6 * (time.time_ns() - stamp_ns)


def run_camera(scene: Scene) -> None:
    """Publish one picture with its CameraInfo until a signal, then print how often."""
    import rclpy
    from rclpy.qos import QoSProfile
    from rclpy.signals import SignalHandlerOptions
    from sensor_msgs.msg import CameraInfo, Image

    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("camera")
    images = node.create_publisher(Image, IMAGE, QoSProfile(depth=2))
    infos = node.create_publisher(CameraInfo, INFO, QoSProfile(depth=2))
    image, info = camera_messages(scene.width, scene.height)
    sent, ended = 0, threading.Event()
    # Not by an exception: it might come between an image that is sent and its being counted.
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    while not images.get_subscription_count() and not ended.wait(0.05):
        pass
    due = time.monotonic() + 1.0 / scene.rate_hz
    while not ended.wait(max(0.0, due - time.monotonic())):
        image.header.stamp = info.header.stamp = node.get_clock().now().to_msg()
        infos.publish(info)
        images.publish(image)
        sent += 1
        due += 1.0 / scene.rate_hz
    print(sent, flush=True)


def run_lidar(scene: Scene) -> None:
    """Measure what the network sees, its median 3 m away, until the process is killed.

    A recorded LiDAR would not fit the picture: the points are made of the first disparity.
    """
    import rclpy
    from sensor_msgs.msg import Image, PointCloud2
    from std_msgs.msg import Header

    from depth_node.geometry.cloud import Cloud
    from depth_node.ros.clouds import cloud_message
    from depth_node.ros.wire import make_header

    rclpy.init()
    node = rclpy.create_node("lidar")
    seen: list[Any] = []
    subscription = node.create_subscription(Image, "depth/relative", seen.append, 1)
    while not seen:
        rclpy.spin_once(node)
    node.destroy_subscription(subscription)
    disparity = np.frombuffer(seen[0].data, np.float32).reshape(seen[0].height, seen[0].width)
    cloud = Cloud(_points(scene, disparity))
    msg = cloud_message(cloud, Header())
    clouds = node.create_publisher(PointCloud2, LIDAR, 2)
    due = time.monotonic()
    while True:
        due += 1.0 / LIDAR_HZ
        time.sleep(max(0.0, due - time.monotonic()))
        msg.header = make_header(time.time_ns(), "lidar_link")
        clouds.publish(msg)


def _points(scene: Scene, disparity: Any) -> Any:
    """(n, 3) float32 metres in the optical frame, on random pixels of a disparity image."""
    rng = np.random.default_rng(0)
    nearness = disparity / np.median(disparity)
    v, u = np.nonzero(nearness > 0.1)  # up to 30 m
    chosen = rng.integers(0, len(v), LIDAR_POINTS)
    v, u = v[chosen], u[chosen]
    z = 3.0 / nearness[v, u]
    focal = FOCAL_WIDTHS * scene.width
    x, y = (u - scene.width / 2) / focal * z, (v - scene.height / 2) / focal * z
    return np.stack([x, y, z], axis=1).astype(np.float32)


def run_node(scene: Scene) -> None:
    """The real node; only the network may be replaced by a constant."""
    from depth_node.ros.main import main

    if scene.network == INSTANT:
        from instant import replace_network

        answer = cv2.resize(picture(scene.width, scene.height)[:, :, 0], (336, 252))
        replace_network(cv2.GaussianBlur(answer.astype(np.float32), (0, 0), 1.0))
    if scene.lidar:
        parameters = {"lidar.enabled": "true", "lidar.extrinsics": "0 0 0 0 0 0"}
    else:
        parameters = {"scale.source": "fixed", "scale.fixed_scale": "0.01"}
    if scene.network != INSTANT:
        parameters["model.name"] = scene.network
    if scene.video:
        parameters |= {"camera.source": "video", "camera.path": scene.video}
        parameters["camera.fps"] = str(float(scene.rate_hz))
    arguments = [part for item in parameters.items() for part in ("-p", ":=".join(item))]
    main([sys.argv[0], "--ros-args", "-r", f"image:={IMAGE}", *arguments])


class Running:
    """A role as a process of its own."""

    def __init__(self, role: str, scene: Scene) -> None:
        command = [sys.executable, "-c", "import live; live.play()", role]
        command += map(str, vars(scene).values())
        here = Path(__file__).resolve().parent
        self._process = subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, text=True)

    def memory_mb(self) -> tuple[float, float]:
        """Resident memory, and the private part of it, megabytes.

        The rest is code and the shared memory of messages, of other processes too.

        Raises:
            RuntimeError: the process has ended.
        """
        if self._process.poll() is not None:
            raise RuntimeError(f"the process ended with {self._process.returncode}; see above")
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        resident, private = (
            int(status.partition(f"{name}:")[2].split()[0]) / 1024.0
            for name in ("VmRSS", "RssAnon")
        )
        return resident, private

    def end(self) -> str:
        """Interrupt it and return what it printed."""
        self._process.send_signal(signal.SIGINT)
        try:
            return self._process.communicate(timeout=10.0)[0]
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def kill(self) -> None:
        """End it at once if it still runs."""
        self._process.kill()
        self._process.wait()


class Observer:
    """Subscribes to depth image, cloud and diagnostics and times what arrives, in this process.

    Attributes:
        depth_ms: for every depth image, the time of arrival (monotonic, seconds) and the time since
            its stamp (milliseconds).
        clouds: how many arrived.
        values: the node's last diagnostics.
    """

    def __init__(self, *, cloud: bool) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import QoSProfile
        from sensor_msgs.msg import Image, PointCloud2

        rclpy.init()
        self._rclpy = rclpy
        self._node = rclpy.create_node("observer")
        self.depth_ms: list[tuple[float, float]] = []
        self.clouds = 0
        self.values: dict[str, str] = {}
        qos = QoSProfile(depth=5)
        self._node.create_subscription(Image, "depth/image_rect", self._on_depth, qos)
        if cloud:
            self._node.create_subscription(PointCloud2, "points", self._on_cloud, qos)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_report, 10)

    def spin(self, seconds: float) -> None:
        """Listen for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.0:
            self._rclpy.spin_once(self._node, timeout_sec=left)

    def wait_for_depth(self, timeout: float = 120.0) -> None:
        """Listen until depth flows.

        Raises:
            RuntimeError: it does not within `timeout` seconds.
        """
        end = time.monotonic() + timeout
        while len(self.depth_ms) < 10:
            if time.monotonic() > end:
                raise RuntimeError(f"no depth within {timeout:g} s; the node says {self.values}")
            self.spin(0.2)

    def close(self) -> None:
        """Leave the graph."""
        self._node.destroy_node()
        self._rclpy.shutdown()

    def _on_depth(self, msg: Any) -> None:
        self.depth_ms.append(arrival(msg))

    def _on_cloud(self, msg: Any) -> None:
        self.clouds += 1

    def _on_report(self, msg: Any) -> None:
        self.values = {item.key: item.value for item in msg.status[0].values}


@contextlib.contextmanager
def running(scene: Scene, *, cloud: bool) -> Iterator[tuple[Observer, Running, Running | None]]:
    """The observer, the node and, unless the node has its own, the camera; all ended afterwards."""
    processes = [Running("node", scene)]
    if not scene.video:
        processes.append(Running("camera", scene))
    if scene.lidar:
        processes.append(Running("lidar", scene))
    observer = Observer(cloud=cloud)
    try:
        observer.wait_for_depth()
        yield observer, processes[0], None if scene.video else processes[1]
    finally:
        observer.close()
        for process in processes:
            process.kill()


def play() -> None:
    """Play the role that the command line of a `Running` names."""
    _, role, width, height, rate_hz, network, video, lidar = sys.argv
    scene = Scene(int(width), int(height), float(rate_hz), network, video, lidar == "True")
    {"camera": run_camera, "lidar": run_lidar, "node": run_node}[role](scene)
