"""Video files and image folders played like a camera."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from depth_node.cameras.base import Camera, CameraError, EndOfStream
from depth_node.cameras.calibration import CalibrationError
from depth_node.cameras.folder import ImageFolder
from depth_node.cameras.images import is_whole_jpeg, to_rgb
from depth_node.cameras.open import open_camera
from depth_node.cameras.playback import Playback
from depth_node.cameras.video import VideoFile
from depth_node.parameters import CameraSettings
from depth_node.types import Frame

LEVELS = (20, 60, 100, 140, 180, 220)
OPENED_ONCE = CameraSettings(loop=False)


class SteppingClock:
    """Time passes only while somebody waits; the calendar may be set back."""

    def __init__(self) -> None:
        self.now_ns = 10**9
        self.calendar_ns = 10**18

    def monotonic_ns(self) -> int:
        return self.now_ns

    def time_ns(self) -> int:
        return self.calendar_ns + self.now_ns

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.now_ns += round(1e9 * seconds)
        return event.is_set()


def read_all(camera: Camera) -> list[Frame]:
    frames = []
    while True:
        try:
            frames.append(camera.read())
        except EndOfStream:
            return frames


def grey(width: int, height: int, level: int) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    file = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write MJPG videos")
    for level in LEVELS:
        writer.write(grey(64, 48, level))
    writer.release()
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "run"
    images.mkdir()
    for number, size in ((1, (64, 48)), (2, (32, 24)), (10, (128, 96))):
        cv2.imwrite(str(images / f"img{number}.png"), grey(*size, number))
    return images


def levels(frames: list[Frame]) -> list[int]:
    return [int(np.median(frame.image)) for frame in frames]


# --- video ---


def test_a_video_plays_every_frame_at_its_own_rate(video: Path) -> None:
    clock = SteppingClock()
    camera = Playback(VideoFile(video), OPENED_ONCE, clock)
    frames = read_all(camera)
    np.testing.assert_allclose(levels(frames), LEVELS, atol=3)
    stamps = np.array([f.stamp_ns for f in frames])
    np.testing.assert_array_equal(np.diff(stamps), 50_000_000)
    assert frames[0].image.shape == (48, 64, 3)
    assert frames[0].image.dtype == np.uint8
    assert {f.frame_id for f in frames} == {"camera_optical_frame"}
    assert not frames[0].rectified
    camera.close()


def test_the_fps_parameter_overrides_the_videos_rate(video: Path) -> None:
    settings = dataclasses.replace(OPENED_ONCE, fps=100.0)
    frames = read_all(Playback(VideoFile(video), settings, SteppingClock()))
    np.testing.assert_array_equal(np.diff([f.stamp_ns for f in frames]), 10_000_000)


def test_a_video_loops_with_stamps_that_keep_growing(video: Path) -> None:
    clock = SteppingClock()
    camera = Playback(VideoFile(video), CameraSettings(), clock)
    frames = []
    for _ in range(15):
        frames.append(camera.read())
        clock.calendar_ns -= 200_000_000  # somebody sets the clock back
    np.testing.assert_allclose(levels(frames), (LEVELS * 3)[:15], atol=3)
    assert (np.diff([f.stamp_ns for f in frames]) > 0).all()


def test_red_is_the_first_channel(tmp_path: Path) -> None:
    red = grey(16, 16, 0)
    red[..., 2] = 255  # OpenCV writes BGR
    cv2.imwrite(str(tmp_path / "red.png"), red)
    frame = Playback(ImageFolder(tmp_path), OPENED_ONCE, SteppingClock()).read()
    assert frame.image[3, 3].tolist() == [255, 0, 0]


def test_the_recorded_video_is_read(shared_data: Path) -> None:
    (path,) = (shared_data / "video").glob("*.mp4")
    settings = dataclasses.replace(OPENED_ONCE, source="video", path=str(path), fps=1000.0)
    camera = open_camera(settings)
    frames = read_all(camera)
    camera.close()
    assert len(frames) == 221
    assert frames[0].image.shape == (540, 960, 3)
    assert "960x540" in camera.describe()
    assert VideoFile(path).rate_hz == 25.0


def test_a_damaged_video_is_told(video: Path) -> None:
    whole = video.read_bytes()
    index = whole.rindex(b"idx1")  # the index stays, the last frames lose their JPEG headers
    starts = [i for i in range(index) if whole.startswith(b"00dc", i)]
    video.write_bytes(whole[: starts[3]] + bytes(index - starts[3]) + whole[index:])
    camera = Playback(VideoFile(video), OPENED_ONCE, SteppingClock())
    assert len(read_all(camera)) < len(LEVELS)
    assert any("may be damaged" in notice for notice in camera.notices)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p / "none.mp4", "there is no video file"),
        (lambda p: p, "is a folder; set camera.source to folder"),
    ],
)
def test_what_is_no_video_file_is_refused(tmp_path: Path, make, words: str) -> None:
    with pytest.raises(CameraError, match=words):
        VideoFile(make(tmp_path))


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "notes.mp4"
    file.write_bytes(b"not a video" * 100)
    with pytest.raises(CameraError, match="OpenCV cannot decode"):
        VideoFile(file)


def test_a_video_that_vanishes_is_an_error_at_the_recordings_rate(video: Path) -> None:
    clock = SteppingClock()
    camera = Playback(VideoFile(video), CameraSettings(), clock)
    for _ in LEVELS:
        camera.read()
    video.unlink()
    before_ns = clock.now_ns
    for _ in range(4):
        with pytest.raises(CameraError, match="cannot decode"):
            camera.read()
    assert clock.now_ns - before_ns == 4 * 50_000_000


# --- folder ---


def test_a_folder_is_played_in_natural_order_and_each_size_has_its_intrinsics(folder: Path) -> None:
    frames = read_all(Playback(ImageFolder(folder), OPENED_ONCE, SteppingClock()))
    assert levels(frames) == [1, 2, 10]
    for frame in frames:
        assert frame.camera is not None
        assert (frame.camera.width, frame.camera.height) == frame.image.shape[1::-1]
    np.testing.assert_array_equal(np.diff([f.stamp_ns for f in frames]), 100_000_000)


def test_a_calibration_is_scaled_to_each_image_of_a_folder(folder: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(folder / "img3.png"), grey(48, 48, 3))
    settings = dataclasses.replace(OPENED_ONCE, calibration=str(calibration(tmp_path, 64, 48)))
    camera = Playback(ImageFolder(folder), settings, SteppingClock())
    widths, told = [], []
    for _ in range(4):
        model = camera.read().camera
        widths.append(None if model is None else model.K[0, 0])
        told.append("".join(camera.notices))
    assert widths == [60.0, 30.0, None, 120.0]
    assert told[0] == ""
    assert "is scaled to 32x24" in told[1]
    assert "64x48 images and the image is 48x48" in told[2]
    assert "is scaled to 128x96" in told[3]


def test_an_unreadable_image_is_skipped_and_told_once(folder: Path) -> None:
    (folder / "img2.png").write_bytes(b"\x89PNG\r\n\x1a\n but not really")
    camera = Playback(ImageFolder(folder), CameraSettings(), SteppingClock())
    assert levels([camera.read() for _ in range(4)]) == [1, 10, 1, 10]
    told = [notice for notice in camera.notices if "cannot be decoded" in notice]
    assert len(told) == 1
    assert "img2.png" in told[0]


def test_a_jpeg_that_was_cut_off_is_skipped(folder: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
    whole = cv2.imencode(".jpg", noise)[1].tobytes()
    thumbnail = cv2.imencode(".jpg", noise[:16, :16])[1].tobytes()
    segment = b"\xff\xe1" + (2 + len(thumbnail)).to_bytes(2, "big") + thumbnail
    with_thumbnail = whole[:2] + segment + whole[2:]
    assert is_whole_jpeg(whole)
    assert is_whole_jpeg(with_thumbnail)
    assert is_whole_jpeg(with_thumbnail + b"trailing \xff\xda")
    (folder / "img2.png").unlink()
    for number, data in ((3, with_thumbnail), (4, whole)):
        (folder / f"img{number}.jpg").write_bytes(data[: len(data) - len(whole) // 2])
    camera = Playback(ImageFolder(folder), OPENED_ONCE, SteppingClock())
    assert levels(read_all(camera)) == [1, 10]
    assert sum("cannot be decoded" in notice for notice in camera.notices) == 2


def test_a_folder_of_only_unreadable_images_is_refused(tmp_path: Path) -> None:
    for i in range(9):
        (tmp_path / f"{i}.jpg").write_bytes(b"no image")
    recording = ImageFolder(tmp_path)
    with pytest.raises(CameraError, match="none of the 9 images"):
        Playback(recording, CameraSettings(), SteppingClock())
    assert len(recording.notices) == 6  # five by name, the rest together


def test_a_folder_without_images_says_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "image_02").mkdir()
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.txt").touch()
    with pytest.raises(CameraError, match=r"seen: 2 x \.txt, 1 folders \(image_02\)"):
        ImageFolder(tmp_path)
    with pytest.raises(CameraError, match="seen: nothing"):
        ImageFolder(tmp_path / "image_02")
    with pytest.raises(CameraError, match="does not exist"):
        ImageFolder(tmp_path / "elsewhere")
    with pytest.raises(CameraError, match="is a file"):
        ImageFolder(tmp_path / "a.txt")


def test_depth_maps_beside_the_images_are_left_out(folder: Path) -> None:
    cv2.imwrite(str(folder / "img1.depth.png"), np.full((48, 64), 4000, np.uint16))
    recording = ImageFolder(folder)
    frames = read_all(Playback(recording, OPENED_ONCE, SteppingClock()))
    assert levels(frames) == [1, 2, 10]
    assert "1 grey 16-bit PNGs" in recording.notices[0]


def test_a_folder_of_16_bit_images_is_played(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "thermal.png"), np.full((48, 64), 0x4000, np.uint16))
    frame = Playback(ImageFolder(tmp_path), OPENED_ONCE, SteppingClock()).read()
    assert frame.image[0, 0].tolist() == [0x40, 0x40, 0x40]


def test_a_pattern_chooses_files(folder: Path) -> None:
    (folder / "img10.png").rename(folder / "img10.color.png")
    frames = read_all(Playback(ImageFolder(folder / "*.color.png"), OPENED_ONCE, SteppingClock()))
    assert levels(frames) == [10]


def test_the_recorded_folders_are_read(shared_data: Path) -> None:
    count = len(ImageFolder(shared_data / "sevenscenes")._files)
    assert count == 40  # colour only
    frame = Playback(
        ImageFolder(shared_data / "kitti_sequence" / "image"), OPENED_ONCE, SteppingClock()
    ).read()
    assert frame.image.shape == (375, 1242, 3)


# --- both ---


def calibration(folder: Path, width: int, height: int) -> Path:
    file = folder / f"{width}x{height}.yaml"
    k = [60.0, 0.0, width / 2, 0.0, 60.0, height / 2, 0.0, 0.0, 1.0]
    content = {
        "image_width": width,
        "image_height": height,
        "camera_matrix": {"rows": 3, "cols": 3, "data": k},
        "distortion_model": "plumb_bob",
        "distortion_coefficients": {"rows": 1, "cols": 5, "data": [0.1, 0.0, 0.0, 0.0, 0.0]},
    }
    file.write_text(yaml.safe_dump(content))
    return file


def test_a_calibration_reaches_the_frame(video: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(OPENED_ONCE, calibration=str(calibration(tmp_path, 64, 48)))
    camera = Playback(VideoFile(video), settings, SteppingClock())
    model = camera.read().camera
    assert model is not None
    assert model.K[0, 0] == 60.0
    assert model.distorted
    assert camera.notices == ()


def test_a_calibration_of_another_camera_is_refused_when_opening(
    video: Path, tmp_path: Path
) -> None:
    settings = dataclasses.replace(OPENED_ONCE, calibration=str(calibration(tmp_path, 64, 64)))
    with pytest.raises(CalibrationError, match="64x64 images and the image is 64x48"):
        Playback(VideoFile(video), settings)


def test_without_calibration_the_assumption_is_told(video: Path) -> None:
    camera = Playback(VideoFile(video), OPENED_ONCE)
    assert camera.notices[0].startswith("NOT CALIBRATED")
    model = camera.read().camera
    assert model is not None
    assert model.assumed


def test_real_time_is_kept(folder: Path) -> None:
    settings = dataclasses.replace(CameraSettings(), fps=50.0)
    camera = Playback(ImageFolder(folder), settings)
    before_ns = time.time_ns()
    frames = [camera.read() for _ in range(11)]
    assert before_ns <= frames[0].stamp_ns
    assert frames[-1].stamp_ns <= time.time_ns()
    # Ten periods pass; only the lower bound is certain on a busy machine.
    assert frames[-1].stamp_ns - frames[0].stamp_ns > 0.95 * 10 / 50.0 * 1e9


def test_closing_from_another_thread_ends_a_waiting_read(folder: Path) -> None:
    settings = dataclasses.replace(CameraSettings(), fps=0.01)
    camera = Playback(ImageFolder(folder), settings)
    camera.read()
    ended = threading.Event()

    def wait_for_next() -> None:
        with pytest.raises(EndOfStream):
            camera.read()
        ended.set()

    reader = threading.Thread(target=wait_for_next)
    reader.start()
    camera.close()
    camera.close()
    reader.join(5.0)
    assert ended.is_set()
    with pytest.raises(EndOfStream, match="closed"):
        camera.read()


@pytest.mark.parametrize(
    ("image", "first"),
    [
        (np.full((2, 3), 7, np.uint8), [7, 7, 7]),
        (np.full((2, 3, 1), 7, np.uint8), [7, 7, 7]),
        (np.full((2, 3), 0x1234, np.uint16), [0x12] * 3),
        (np.tile(np.array([1, 2, 3], np.uint8), (2, 3, 1)), [3, 2, 1]),
        (np.tile(np.array([1, 2, 3, 4], np.uint8), (2, 3, 1)), [3, 2, 1]),
    ],
)
def test_every_layout_becomes_rgb(image: np.ndarray, first: list[int]) -> None:
    rgb = to_rgb(image)
    assert rgb.shape == (2, 3, 3)
    assert rgb.dtype == np.uint8
    assert rgb[0, 0].tolist() == first


@pytest.mark.parametrize(
    "image",
    [np.zeros((2, 3, 2), np.uint8), np.zeros((2, 3, 3), np.float32), np.zeros((0, 0, 3), np.uint8)],
)
def test_other_layouts_are_refused(image: np.ndarray) -> None:
    with pytest.raises(CameraError, match="an image has shape"):
        to_rgb(image)
