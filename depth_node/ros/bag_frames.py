"""Camera images out of a recorded bag, by the rosbags library: rosbag2 of any distribution."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from depth_node.cameras.base import CameraError
from depth_node.imports import pip_install
from depth_node.ros.compressed_image import decode_compressed
from depth_node.ros.images import decode_image
from depth_node.ros.wire import ConversionError
from depth_node.types import ImageU8

if TYPE_CHECKING:
    from rosbags.highlevel import AnyReader

_DECODERS = {
    "sensor_msgs/msg/Image": decode_image,
    "sensor_msgs/msg/CompressedImage": decode_compressed,
}


def bag_frames(path: Path, topic: str, count: int) -> list[ImageU8]:
    """Read images of one topic, spread evenly over a bag.

    Args:
        path: a rosbag2 folder, or an .mcap or .db3 file.
        topic: the image topic; may be empty where the bag has only one.
        count: how many images are wanted; fewer are returned when there are no more.

    Returns:
        HxWx3 uint8 RGB images.

    Raises:
        CameraError: rosbags is missing, the bag cannot be read, or it has no such image topic.
    """
    try:
        from rosbags.highlevel import AnyReader, AnyReaderError
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise CameraError(f"reading a bag needs rosbags; {pip_install('bag')}") from error
    try:
        # For bags without definitions of their own; images are the same in every distribution.
        types = get_typestore(Stores.ROS2_HUMBLE)
        with AnyReader([path], default_typestore=types) as bag:
            return _spread(bag, _choose(bag, path, topic), count)
    except (AnyReaderError, OSError, ConversionError) as error:
        raise CameraError(f"the bag {path} cannot be read: {error}") from error


def _choose(bag: AnyReader, path: Path, topic: str) -> Any:
    """The recorded connection of the image topic."""
    images = {c.topic: c for c in bag.connections if c.msgtype in _DECODERS and c.msgcount}
    if topic in images:
        return images[topic]
    names = ", ".join(sorted(images)) or "no images"
    if topic:
        raise CameraError(f"the bag {path} has no images on {topic}; it has {names}")
    if len(images) != 1:
        raise CameraError(f"the bag {path} has {names}; name one topic as {path}:/TOPIC")
    return next(iter(images.values()))


def _spread(bag: AnyReader, connection: Any, count: int) -> list[ImageU8]:
    step = max(1, connection.msgcount // count)
    decode = _DECODERS[connection.msgtype]
    images: list[ImageU8] = []
    for number, (_, _, data) in enumerate(bag.messages(connections=[connection])):
        if number % step == 0 and len(images) < count:
            images.append(decode(bag.deserialize(data, connection.msgtype)))
    return images
