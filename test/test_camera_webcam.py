"""Webcams: how they are named, what is requested of them and what is told."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path

import cv2
import pytest
from camera_fakes import PATIENCE_S, FakeCapture, GatedClock, picture

from depth_node.cameras import v4l2
from depth_node.cameras.base import CameraError
from depth_node.cameras.live import LiveCamera
from depth_node.cameras.open import open_camera
from depth_node.cameras.webcam import open_webcam
from depth_node.parameters import CameraSettings

DEFAULTS = CameraSettings(source="webcam")


class FakeVideoCapture(FakeCapture):
    """cv2.VideoCapture of a camera that offers MJPG and YUYV at 640x480 and 30 Hz, no more."""

    busy = False
    unplugged = threading.Event()

    def __init__(self, path: str, backend: int) -> None:
        super().__init__()
        assert backend == cv2.CAP_V4L2
        self.calls: list[int] = []
        self.format = "YUYV"
        self.current = picture(9)

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return not self.busy

    def grab(self) -> bool:
        return not self.unplugged.wait(0.001)

    def set(self, prop: int, value: float) -> bool:
        self.calls.append(prop)
        if prop == cv2.CAP_PROP_FOURCC:
            wanted = int(value).to_bytes(4, "little").decode()
            self.format = wanted if wanted in ("MJPG", "YUYV") else self.format
        return True

    def get(self, prop: int) -> float:
        code = float(int.from_bytes(self.format.encode(), "little"))
        return {
            cv2.CAP_PROP_FRAME_WIDTH: 640.0,
            cv2.CAP_PROP_FRAME_HEIGHT: 480.0,
            cv2.CAP_PROP_FPS: 30.0,
            cv2.CAP_PROP_FOURCC: code,
        }[prop]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with two webcams; the first has a metadata node."""
    sysfs, dev = tmp_path / "sys", tmp_path / "dev"
    dev.mkdir()
    nodes = (
        ("video0", "HD Pro Webcam C920", "0"),
        ("video1", "HD Pro Webcam C920", "1"),
        ("video2", "Integrated Camera: Front", "0"),
        ("video10", "Integrated Camera: Rear", "0"),
    )
    for node, name, index in nodes:
        (sysfs / node).mkdir(parents=True)
        (sysfs / node / "name").write_text(f"{name}\n")
        (sysfs / node / "index").write_text(f"{index}\n")
        (dev / node).touch()
    monkeypatch.setattr(v4l2, "SYSFS", sysfs)
    monkeypatch.setattr(v4l2, "DEV", dev)
    monkeypatch.setattr(FakeVideoCapture, "unplugged", threading.Event())
    monkeypatch.setattr(cv2, "VideoCapture", FakeVideoCapture)
    return tmp_path


def webcam(**settings: object) -> LiveCamera:
    camera = open_camera(dataclasses.replace(DEFAULTS, **settings))
    assert isinstance(camera, LiveCamera)
    return camera


@pytest.mark.parametrize(
    ("device", "node"), [("0", "video0"), ("2", "video2"), ("c920", "video0"), ("Rear", "video10")]
)
def test_a_webcam_is_found_by_index_and_name(machine: Path, device: str, node: str) -> None:
    camera = webcam(device=device)
    assert camera.read().image[0, 0].tolist() == [9, 9, 9]
    assert f"{machine / 'dev' / node} (" in camera.describe()
    camera.close()


def test_a_webcam_is_found_by_path_and_by_link(machine: Path) -> None:
    link = machine / "dev" / "by-id-camera"
    link.symlink_to(machine / "dev" / "video2")
    for path in (machine / "dev" / "video2", link):
        camera = webcam(device=str(path))
        assert f"{path} (Integrated Camera: Front)" in camera.describe()
        camera.close()


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("7", "there is no camera with index 7"),
        ("/dev/does-not-exist", "there is no device /dev/does-not-exist"),
        ("Kinect", "no camera's name contains 'Kinect'"),
        ("", "no camera's name contains ''"),
    ],
)
def test_a_camera_that_does_not_exist_lists_those_that_do(
    machine: Path, device: str, words: str
) -> None:
    with pytest.raises(CameraError) as caught:
        webcam(device=device)
    text = str(caught.value)
    assert words in text
    assert text.count("C920") == 1  # the metadata node is no camera
    assert text.index("Front") < text.index("Rear")


def test_a_machine_without_cameras_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v4l2, "SYSFS", tmp_path / "nothing")
    monkeypatch.setattr(v4l2, "DEV", tmp_path)
    with pytest.raises(CameraError, match="no camera with index 99; this machine has none"):
        webcam(device="99")


def test_an_ambiguous_name_is_refused(machine: Path) -> None:
    with pytest.raises(CameraError, match=r"2 cameras match 'integrated'.*Front.*Rear"):
        webcam(device="integrated")


def test_missing_permission_names_the_cure(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(CameraError, match=r"no permission to open.*usermod -aG video"):
        webcam()


def test_a_busy_camera_is_an_error(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeVideoCapture, "busy", True)
    with pytest.raises(CameraError, match="cannot be opened; another program may be using it"):
        webcam()


def test_format_comes_before_size_before_rate(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[FakeVideoCapture] = []

    def make(path: str, backend: int) -> FakeVideoCapture:
        made.append(FakeVideoCapture(path, backend))
        return made[-1]

    monkeypatch.setattr(cv2, "VideoCapture", make)
    camera = webcam(fourcc="MJPG", width=640, fps=30.0)
    assert made[0].calls == [
        cv2.CAP_PROP_BUFFERSIZE,
        cv2.CAP_PROP_FOURCC,
        cv2.CAP_PROP_FRAME_WIDTH,
        cv2.CAP_PROP_FRAME_HEIGHT,  # V4L2 applies a size only when both are set
        cv2.CAP_PROP_FPS,
    ]
    assert camera.describe().endswith("640x480 MJPG at 30 Hz")
    assert not any("does not offer" in notice for notice in camera.notices)
    camera.close()


def test_what_the_driver_does_not_grant_is_told(machine: Path) -> None:
    camera = webcam(fourcc="H264", width=1920, height=1080, fps=60.0)
    text = "\n".join(camera.notices)
    for refused in ("camera.fourcc H264", "camera.width 1920", "height 1080", "camera.fps 60"):
        assert refused in text
    assert "delivers 30 Hz" in text.replace("30.0", "30")
    camera.close()


def test_a_webcam_named_by_name_is_found_again_under_another_number(machine: Path) -> None:
    clock = GatedClock()
    camera = open_webcam(dataclasses.replace(DEFAULTS, device="Front"), clock)
    camera.read()
    FakeVideoCapture.unplugged.set()
    assert clock.delays.get(timeout=PATIENCE_S) == 0.5
    with pytest.raises(CameraError, match="unplugged"):
        camera.read()
    for root in ("sys", "dev"):
        (machine / root / "video2").rename(machine / root / "video5")
    FakeVideoCapture.unplugged.clear()
    clock.gate.release()
    assert camera.read().image[0, 0, 0] == 9
    assert "video5" in camera.describe()
    camera.close()
