"""One ranging sensor: its topic, its newest messages, and their depths in a frame's picture."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import Image, LaserScan, PointCloud2, Range

from depth_node.geometry.transforms import (
    FARTHEST_M,
    Fault,
    TransformError,
    Transforms,
    from_xyz_rpy,
    in_reach,
    inverse,
)
from depth_node.ros.followed_topic import FollowedTopic
from depth_node.ros.history import History, Message
from depth_node.ros.sparse import Measured, depth_from_image, located, mounting, read, still
from depth_node.ros.wire import ConversionError
from depth_node.scale.points import RangeNoise, SparseDepth, from_depth_image, project
from depth_node.scale_parameters import ScaleSettings, parse_extrinsics
from depth_node.types import ArrayF64, CameraModel, Frame

KINDS: dict[str, tuple[type[Any], ...]] = {
    "lidar": (PointCloud2,),
    "scan": (LaserScan,),
    "range": (Range,),
    "landmarks": (PointCloud2, Image),
}
"""The accepted message types of each sensor, by its parameter group."""
SPACING_S = 0.015
"""Least time between messages that are kept: all at 50 Hz, and a neighbour within 10 ms above."""
OTHER_CLOCK_S = 1.0
"""A measurement that arrived with an image but is stamped so far from it has another clock."""
_NS = 1_000_000_000


class SensorError(ValueError):
    """A sensor has nothing for an image; the message says why and what to do.

    Attributes:
        why: the reason in a few words, under which it is counted.
    """

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why


class RangingSensor:
    """Keeps a sensor's newest messages and turns them into depths when a frame wants them.

    Attributes:
        name: its parameter group.
        topic: its subscription.
        used: frames for which it gave depths.
        refused: frames for which it did not, by reason.
        in_picture: points inside the picture and points in all, at the last use.
        moved: whether the robot's motion was taken into account at the last use.
    """

    def __init__(self, node: Node, name: str, topic: str) -> None:
        self.name = name
        self._history = History(SPACING_S)  # callbacks only keep: the work waits for a frame
        self.topic = FollowedTopic(node, topic, KINDS[name], self._history.add, depth=1)
        self.used = 0
        self.refused: Counter[str] = Counter()
        self.in_picture = (0, 0)
        self.moved = False
        self._read: tuple[Message, Measured] | None = None
        self._handed_out: Message | None = None
        self._mounted: ArrayF64 | None = None
        self._mountings = 0

    def close(self) -> None:
        """Unsubscribe and forget what was measured."""
        self.topic.close()
        self._history.clear()
        self._read = self._handed_out = None

    def forget_use(self) -> None:
        """Hand out again what was handed out: whoever took it has forgotten it."""
        self._handed_out = None

    def depths(
        self,
        frame: Frame,
        camera: CameraModel,
        group: Any,
        scale: ScaleSettings,
        transforms: Transforms,
    ) -> SparseDepth | None:
        """What was measured nearest in time to a frame, in its picture.

        Points that odometry moves to the image's time carry the image's stamp, and are handed out
        for every frame. Others carry their own, and are handed out once.

        Args:
            frame: the image.
            camera: its rectified camera.
            group: the sensor's parameters.
            scale: the parameters of the scale.
            transforms: TF.

        Returns:
            At least one point, or None when they were handed out before, when the image came too
            soon after the subscription to say that nothing comes, or when nothing is in reach.

        Raises:
            SensorError: there is nothing near the frame in time, or nothing in its picture.
            ConversionError: the message cannot be right.
            TransformError: TF does not connect sensor and camera, or the sensor is said to be where
                nothing can be.
        """
        message = self._nearest(frame, scale.max_age_s)
        if message is None:
            return None
        noise = RangeNoise(group.sigma_m, group.sigma_ratio)
        if isinstance(message.msg, Image):
            if message is self._handed_out:
                return None
            points, total = self._depth_image(message, frame, camera, group, noise)
        else:
            found = self._points(message, frame, camera, group, noise, scale, transforms)
            if found is None:
                return None
            points, total = found
        self.in_picture = (len(points), total)
        if not total and _nothing_in_reach(message.msg):
            self.refused["nothing in reach"] += 1
            return None
        if not len(points):
            raise SensorError(
                "outside the picture",
                f"none of the {total} points on {self.topic.topic} lies in the picture between "
                f"{group.min_m:g} and {group.max_m:g} m; check the sensor, its extrinsics and "
                f"{self.name}.min_m and max_m",
            )
        self._handed_out = message
        self.used += 1
        return points

    def _depth_image(
        self, message: Message, frame: Frame, camera: CameraModel, group: Any, noise: RangeNoise
    ) -> tuple[SparseDepth, int]:
        _check_own_view(message.msg, frame)
        image = depth_from_image(message.msg)
        self.moved = False
        points = from_depth_image(
            image,
            camera,
            source=self.name,
            stamp_ns=message.stamp_ns,
            noise=noise,
            min_m=group.min_m,
            max_m=group.max_m,
        )
        return points, image.size

    def _points(
        self,
        message: Message,
        frame: Frame,
        camera: CameraModel,
        group: Any,
        noise: RangeNoise,
        scale: ScaleSettings,
        transforms: Transforms,
    ) -> tuple[SparseDepth, int] | None:
        known = self._read  # another thread may close the sensor meanwhile
        if known is not None and known[0] is message:
            measured = known[1]
        else:
            measured = read(message.msg, getattr(group, "min_intensity", 0.0))
            self._read = (message, measured)
        fixed = parse_extrinsics(f"{self.name}.extrinsics", group.extrinsics)
        if fixed is None:
            measured, where, self.moved = located(measured, frame, transforms, scale.odometry_frame)
            self._read = (message, measured)
        else:
            where, self.moved = from_xyz_rpy(*fixed), False
        if not in_reach(where[:3, 3]):
            raise TransformError(
                Fault.INVALID,
                f"{self.topic.topic} is said to come from {where[:3, 3].tolist()}, seen from the "
                f"camera, expected metres up to {FARTHEST_M:g}; correct {self.name}.extrinsics, or "
                "what publishes the transform",
            )
        if fixed is None:
            self._follow_mounting(
                mounting(frame, measured.frame_id, transforms) if self.moved else where
            )
        if message is self._handed_out and not self.moved:
            return None
        points = project(
            measured.points,
            where,
            camera,
            source=self.name,
            stamp_ns=frame.stamp_ns if self.moved else message.stamp_ns,
            noise=noise if measured.sigma_m is None else RangeNoise(measured.sigma_m, 0.0),
            min_m=group.min_m,
            max_m=group.max_m,
        )
        fx, fy, _, _ = camera.intrinsics
        radius = math.sqrt(fx * fy) * math.tan(measured.half_angle_rad)
        points = replace(
            points,
            footprint_px=radius,
            measured_ns=message.stamp_ns,
            mounting=self._mountings,
        )
        return points, len(measured.points)

    def _follow_mounting(self, mounted: ArrayF64 | None) -> None:
        """Notice that TF was corrected, or that the sensor moved against the camera."""
        if mounted is None:
            return
        if self._mounted is not None and still(inverse(self._mounted) @ mounted):
            return
        self._mountings += self._mounted is not None
        self._mounted = mounted

    def _nearest(self, frame: Frame, max_age_s: float) -> Message | None:
        topic = self.topic.topic
        messages = self._history.messages()
        nearest = min(messages, key=lambda m: abs(m.stamp_ns - frame.stamp_ns), default=None)
        apart_s = math.inf if nearest is None else abs(nearest.stamp_ns - frame.stamp_ns) / _NS
        if nearest is not None and apart_s <= max_age_s:
            self._history.forget_before(nearest.received_ns)
            return nearest
        if self.topic.too_early(frame.received_ns):
            return None
        if nearest is None:
            raise SensorError("nothing received", self._silence())
        arrived_apart_s = min(abs(m.received_ns - frame.received_ns) for m in messages) / _NS
        if apart_s > OTHER_CLOCK_S and arrived_apart_s < OTHER_CLOCK_S:
            raise SensorError(
                "another clock",
                f"stamps on {topic} lie more than {OTHER_CLOCK_S:g} s from those of the images "
                "that arrive with them: another clock; synchronise sensor and camera (PTP, "
                "chrony), or set use_sim_time on every node",
            )
        raise SensorError(
            "too old",
            f"the stamps on {topic} lie more than scale.max_age_s ({max_age_s:g} s) from the "
            "image's: the sensor stopped, is late or slow; check it, or raise scale.max_age_s",
        )

    def _silence(self) -> str:
        if self.topic.refused_type:
            return (
                f"{self.topic.topic} is published as {self.topic.refused_type}; "
                f"{self.name}.topic must be a {self.topic.expected()}"
            )
        if not self.topic.published:
            return (
                f"nobody publishes {self.topic.topic} as {self.topic.expected()}; start the "
                f"sensor's driver, set {self.name}.topic, or disable {self.name}"
            )
        return (
            f"{self.topic.topic} is published but nothing has arrived; if the driver runs, the "
            "message may be too large for the transport: see `depth-node doctor`"
        )


def _nothing_in_reach(msg: Any) -> bool:
    """Whether a scanner or range finder says so (+Inf, REP 117): in the open that is right."""
    if isinstance(msg, Range):
        return msg.range == math.inf
    return isinstance(msg, LaserScan) and math.inf in msg.ranges


def _check_own_view(msg: Image, frame: Frame) -> None:
    if msg.header.frame_id not in ("", frame.frame_id):
        raise ConversionError(
            f"the depth image is in frame {msg.header.frame_id!r} but the camera in "
            f"{frame.frame_id!r}; register it to the camera (depth_image_proc) or publish it as a "
            "point cloud"
        )
