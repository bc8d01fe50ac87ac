"""Frames to calibrate on: folders, bags that rosbags writes, and topics over real DDS."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from depth_node.cli import main
from depth_node.network.errors import ModelError
from depth_node.network.frames import read_frames, spread

FRAMES = 12
needs_messages = pytest.mark.skipif(
    find_spec("sensor_msgs") is None,
    reason="messages of ROS are not installed",
)


def picture(number: int) -> np.ndarray:
    """48x64x3 uint8 RGB whose red is its number."""
    image = np.full((48, 64, 3), (0, 90, 200), np.uint8)
    image[..., 0] = number
    return image


def numbers(images: list[np.ndarray]) -> list[int]:
    assert all(image.shape == (48, 64, 3) and image.dtype == np.uint8 for image in images)
    assert all((image[..., 1:] == (90, 200)).all() for image in images)
    return [int(image[0, 0, 0]) for image in images]


def test_a_folder_is_read_to_its_end(tmp_path):
    for number in range(FRAMES):
        bgr = cv2.cvtColor(picture(number), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(tmp_path / f"{number}.png"), bgr)
    assert numbers(read_frames(str(tmp_path), 50)) == list(range(FRAMES))
    assert numbers(read_frames(str(tmp_path), 6)) == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("length", [1, 7, 64, 100, 1000])
def test_frames_are_spread_over_recordings_of_any_length(length):
    count = 8
    chosen = spread(iter(range(length)), count)
    assert len(chosen) == min(count, length)
    assert chosen[0] == 0
    steps = np.diff([*chosen, length])
    assert steps.min() >= 1
    assert steps.max() <= 2 * length / len(chosen) + 1


def write_bag(folder: Path, storage: str, topics: dict[str, str]) -> Path:
    """A bag with `FRAMES` images a topic, `raw` or `compressed`, and something else besides."""
    writer_module = pytest.importorskip("rosbags.rosbag2", reason="rosbags writes the recording")
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types
    header_type, time_type = types["std_msgs/msg/Header"], types["builtin_interfaces/msg/Time"]
    plugin = getattr(writer_module.StoragePlugin, storage)
    with writer_module.Writer(folder, version=9, storage_plugin=plugin) as writer:
        text = writer.add_connection("/chatter", "std_msgs/msg/String", typestore=store)
        message = types["std_msgs/msg/String"]("hello")
        writer.write(text, 0, store.serialize_cdr(message, "std_msgs/msg/String"))
        for topic, form in topics.items():
            kind = f"sensor_msgs/msg/{'Image' if form == 'raw' else 'CompressedImage'}"
            connection = writer.add_connection(topic, kind, typestore=store)
            for number in range(FRAMES):
                header = header_type(time_type(number, 0), "camera_optical_frame")
                image = picture(number)
                if form == "raw":
                    data = np.ascontiguousarray(image[..., ::-1]).reshape(-1)
                    msg = types[kind](header, 48, 64, "bgr8", 0, 3 * 64, data)
                else:
                    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
                    msg = types[kind](header, "png", cv2.imencode(".png", bgr)[1].reshape(-1))
                writer.write(connection, number * 10**9, store.serialize_cdr(msg, kind))
    return folder


@needs_messages
@pytest.mark.parametrize("storage", ["MCAP", "SQLITE3"])
@pytest.mark.parametrize("form", ["raw", "compressed"])
def test_a_bag_is_read_at_even_distances(tmp_path, storage, form):
    bag = write_bag(tmp_path / "run", storage, {"/camera/image": form})
    assert numbers(read_frames(str(bag), 4)) == [0, 3, 6, 9]


@needs_messages
def test_one_file_of_a_bag_will_do(tmp_path):
    bag = write_bag(tmp_path / "run", "MCAP", {"/camera/image": "raw"})
    (file,) = bag.glob("*.mcap")
    assert numbers(read_frames(str(file), 3)) == [0, 4, 8]


@needs_messages
def test_a_bag_of_several_cameras_wants_one_named(tmp_path):
    bag = write_bag(tmp_path / "run", "MCAP", {"/left/image": "raw", "/right/image": "raw"})
    with pytest.raises(ModelError, match=r"has /left/image, /right/image; name one topic as"):
        read_frames(str(bag), 3)
    assert len(read_frames(f"{bag}:/left/image", 3)) == 3
    with pytest.raises(ModelError, match=r"no images on /front; it has /left/image"):
        read_frames(f"{bag}:/front", 3)


@needs_messages
def test_a_bag_without_images_and_a_damaged_one_are_named(tmp_path):
    bag = write_bag(tmp_path / "run", "MCAP", {})
    with pytest.raises(ModelError, match="has no images"):
        read_frames(str(bag), 3)
    damaged = tmp_path / "cut.mcap"
    damaged.write_bytes(b"\x89MCAP0\r\n cut off")
    with pytest.raises(ModelError, match=r"the bag .*cut.mcap cannot be read"):
        read_frames(str(damaged), 3)


@needs_messages
def test_precisions_are_judged_on_the_frames_of_a_bag(tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("DEPTH_NODE_CACHE", str(tmp_path / "cache"))
    bag = write_bag(tmp_path / "run", "MCAP", {"/camera/image": "raw"})
    words = ["models", "export", "student", "--precision", "fp16", "--calibrate", str(bag)]
    assert main([*words, "--json"]) == 0
    (_, half) = json.loads(capsys.readouterr().out)
    assert (half["images"], half["judged_on"]) == (FRAMES // 2, str(bag))
    assert 0.0 < half["relative_l2_from_fp32"] < 0.01


def image_msg(number: int, form: str) -> Any:
    from sensor_msgs.msg import CompressedImage
    from std_msgs.msg import Header

    from depth_node.ros.images import image_message

    if form == "raw":
        return image_message(picture(number), "rgb8", Header())
    bgr = cv2.cvtColor(picture(number), cv2.COLOR_RGB2BGR)
    return CompressedImage(format="png", data=cv2.imencode(".png", bgr)[1].tobytes())


@pytest.mark.ros
@pytest.mark.parametrize(("form", "suffix"), [("raw", ""), ("compressed", "/compressed")])
def test_a_topic_gives_frames_some_time_apart(monkeypatch, form, suffix):
    pytest.importorskip("rclpy")
    from ros_graph import CameraDriver, private_graph, stamped

    from depth_node.ros import topic_frames as module

    def make(stamp_ns: int) -> tuple[Any, None]:
        return stamped(image_msg(len(driver.sent) if driver else 0, form), stamp_ns), None

    driver: CameraDriver | None = None
    with private_graph() as graph:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(graph.domain))
        driver = CameraDriver(graph, make, rate_hz=50.0, topic=f"/camera/image{suffix}")
        seen = numbers(module.topic_frames("/camera/image", 4, spacing_s=0.2))
        assert len(seen) == 4
        assert min(np.diff(seen)) >= 8  # at 50 Hz, ten images lie between them
        assert len(read_frames("/camera/image", 1)) == 1


@pytest.mark.ros
@pytest.mark.parametrize("topic", ["/camera/image", "/image_raw"])
def test_a_topic_that_nobody_publishes_is_named(monkeypatch, topic):
    pytest.importorskip("rclpy")
    from ros_graph import private_graph

    from depth_node.ros import topic_frames as module

    monkeypatch.setattr(module, "SILENCE_S", 0.5)
    with private_graph() as graph:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(graph.domain))
        with pytest.raises(ModelError, match=f"nobody publishes {topic} as an image"):
            read_frames(topic, 3)


@pytest.mark.parametrize("path", ["/no film.mp4", "/film.mp4", "/usr/pictures_of_nobody"])
def test_a_misspelt_path_is_taken_for_no_topic(path):
    with pytest.raises(ModelError, match=r"there is no video file|does not exist"):
        read_frames(path, 3)
