"""From the parameters to a camera: the world, and what is no camera."""

from __future__ import annotations

from pathlib import Path

import pytest

from depth_node.cameras.base import CameraError
from depth_node.cameras.open import open_camera
from depth_node.parameters import CameraSettings


@pytest.mark.parametrize("path", ["mars:1", "room:first", "room:-1", "rooms"])
def test_an_unknown_world_drive_is_refused(path: str) -> None:
    pytest.importorskip("embreex")
    with pytest.raises(CameraError, match="kind is one of"):
        open_camera(CameraSettings(source="world", path=path))


def test_the_world_is_a_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("embreex")
    monkeypatch.setenv("DEPTH_NODE_CACHE", str(tmp_path))
    settings = CameraSettings(
        source="world", path="clutter:2", width=32, height=24, fps=1.0, frame_id="robot_optical"
    )
    camera = open_camera(settings)
    frame = camera.read()
    camera.close()
    assert frame.image.shape == (24, 32, 3)
    assert frame.frame_id == "robot_optical"
    assert frame.camera is not None
    assert not frame.camera.assumed
    assert "clutter:2, 32x24" in camera.describe()


def test_a_topic_is_no_camera() -> None:
    with pytest.raises(ValueError, match="'topic' is not a camera"):
        open_camera(CameraSettings())
