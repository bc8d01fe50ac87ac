"""What the demo makes of the thing that the user names."""

from __future__ import annotations

from pathlib import Path

import pytest

from depth_node.demo.inputs import camera_parameters


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("names", "source", "expected"),
    [
        (("a.png", "b.mp4"), "folder", ""),
        (("drive.MP4", "notes.txt"), "video", "drive.MP4"),
        (("image/0.png", "lidar/0.bin", "calib.json"), "folder", "image"),
        (("left/0.png", "right/0.png"), "folder", ""),  # two of them: the camera says what it saw
        (("notes.txt",), "folder", ""),
    ],
)
def test_a_folder_means_what_can_be_seen_in_it(
    tmp_path: Path, names: tuple[str, ...], source: str, expected: str
) -> None:
    parameters = camera_parameters(str(touch(tmp_path, *names)))
    assert parameters == {
        "camera.source": source,
        "camera.path": str((tmp_path / expected).resolve()),
    }


def test_videos_urls_and_webcams_are_told_apart() -> None:
    assert camera_parameters("film.avi")["camera.source"] == "video"
    assert camera_parameters("rtsp://camera/1")["camera.source"] == "url"
    assert camera_parameters("0") == {"camera.source": "webcam", "camera.device": '"0"'}
    assert camera_parameters("/dev/video2")["camera.source"] == "webcam"
