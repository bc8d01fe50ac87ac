"""Frames to calibrate and to judge precisions on: the user's, or the world's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from depth_node.cameras.base import CameraError
from depth_node.cameras.folder import ImageFolder
from depth_node.cameras.playback import Recording
from depth_node.cameras.video import SUFFIXES as VIDEO_SUFFIXES
from depth_node.cameras.video import VideoFile
from depth_node.imports import pip_install
from depth_node.network.errors import ModelError
from depth_node.types import ImageU8

WORLD = "world"
_TOPIC = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")
_WORLD_SEED = 20_000_000
"""Neither the student's training nor its evaluation draws scenes from here on."""


def read_frames(source: str, count: int) -> list[ImageU8]:
    """Read frames, spread evenly over a recording.

    Args:
        source: a folder of images, a video file, a bag (folder, .mcap or .db3; `BAG:/TOPIC` where
            it holds several cameras), an image topic of the running graph, or `world` for scenes
            of the synthetic world, each another.
        count: how many frames are wanted; fewer are returned when there are no more.

    Returns:
        HxWx3 uint8 RGB images.

    Raises:
        ModelError: there are no images in it.
    """
    try:
        return _world(count) if source == WORLD else _recorded(source, count)
    except CameraError as error:
        raise ModelError(f"cannot calibrate on {source}: {error}") from error


def _recorded(source: str, count: int) -> list[ImageU8]:
    path = Path(source).expanduser()
    bag, _, topic = source.partition(":")
    if path.exists():
        bag, topic = source, ""
    elif _is_topic(source):
        from depth_node.ros.topic_frames import topic_frames

        return topic_frames(source, count)
    if _is_bag(Path(bag).expanduser()):
        from depth_node.ros.bag_frames import bag_frames

        return bag_frames(Path(bag).expanduser(), topic, count)
    recording = VideoFile(path) if path.suffix.lower() in VIDEO_SUFFIXES else ImageFolder(path)
    try:
        images = spread(_images(recording), count)
    finally:
        recording.close()
    if not images:
        raise CameraError("it holds no image that can be decoded")
    return images


def _is_topic(source: str) -> bool:
    """Whether a name that is no file's is a topic's, and not a misspelt path.

    A path has a folder above it. The root is above everything, so there it says nothing.
    """
    folder = Path(source).parent
    return _TOPIC.fullmatch(source) is not None and (folder == Path("/") or not folder.is_dir())


def _images(recording: Recording) -> Iterator[ImageU8]:
    while (image := recording.next_image()) is not None:
        yield image


def spread(recording: Iterable[ImageU8], count: int) -> list[ImageU8]:
    """About evenly spaced images of a recording of unknown length, of which few are held at once.

    Args:
        recording: its images, one after another.
        count: how many are wanted; twice as many are held.
    """
    images: list[ImageU8] = []
    step = 1
    for number, image in enumerate(recording):
        if number % step == 0:
            images.append(image)
        if len(images) == 2 * count:
            del images[1::2]
            step *= 2
    return [images[len(images) * i // count] for i in range(count)] if images[count:] else images


def _is_bag(path: Path) -> bool:
    return path.suffix in (".mcap", ".db3") or (path / "metadata.yaml").is_file()


def _world(count: int) -> list[ImageU8]:
    try:
        from depth_node.world import sample
    except ImportError as error:
        raise ModelError(f"the world needs {error.name}; {pip_install('world')}") from error
    return [sample(_WORLD_SEED + number, 640, 480)[0] for number in range(count)]
