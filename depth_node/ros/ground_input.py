"""What is known of the camera over the ground: its height, and which way is down."""

from __future__ import annotations

import heapq
import math
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Imu

from depth_node.geometry.transforms import Transforms, from_xyz_rpy
from depth_node.ros.followed_topic import FollowedTopic
from depth_node.ros.history import History, Message
from depth_node.ros.sensors import gravity_direction
from depth_node.ros.sparse import patience_s
from depth_node.ros.wire import ConversionError
from depth_node.scale.ground import GroundReference
from depth_node.scale_parameters import GroundSettings, parse_extrinsics
from depth_node.types import ArrayF64, Frame

AVERAGED = 64
"""IMU messages that are averaged at most: a third of a second at 200 Hz."""
SPACING_S = 0.004
"""Least time between IMU messages that are kept: as many as are averaged of a faster one."""


class GroundInput:
    """Gathers the camera's height and the direction of gravity for one frame at a time."""

    def __init__(self, node: Node, settings: GroundSettings) -> None:
        self._history = History(SPACING_S)
        self.imu = FollowedTopic(
            node, settings.imu_topic, (Imu,), self._history.add, depth=AVERAGED
        )

    def close(self) -> None:
        """Unsubscribe and forget."""
        self.imu.close()
        self._history.clear()

    def reference(
        self, frame: Frame, settings: GroundSettings, transforms: Transforms, max_age_s: float
    ) -> GroundReference | None:
        """Height and direction at the time of a frame.

        Returns:
            None when the frame came too soon after the subscription to the IMU to say that nothing
            comes of it.

        Raises:
            TransformError: TF does not have what is to come from it.
            ConversionError: the IMU does not show gravity now, or the camera lies below the ground.
        """
        height = settings.height_m
        down: ArrayF64 | None = None
        if height == 0.0 or settings.direction == "tf":
            T_ground_camera = transforms.lookup(
                settings.frame, frame.frame_id, frame.stamp_ns, patience_s(frame)
            )
            if height == 0.0:
                height = float(T_ground_camera[2, 3])
            if settings.direction == "tf":
                down = -T_ground_camera[2, :3]
        if height <= 0.0:
            raise ConversionError(
                f"the camera lies {-height:.3f} m below {settings.frame!r}; set ground.frame to a "
                "frame on the ground with z up, or ground.height_m"
            )
        if settings.direction == "fixed":
            down = level_down(math.radians(settings.pitch_deg), math.radians(settings.roll_deg))
        elif settings.direction == "imu":
            around = self._around(frame, max_age_s)
            if not around:
                return None
            down = self._gravity(around, frame, settings, transforms)
        return GroundReference(
            height_m=height,
            down=None if down is None else (float(down[0]), float(down[1]), float(down[2])),
            height_sigma_m=settings.height_sigma_m,
            direction_sigma_rad=math.radians(settings.direction_sigma_deg),
        )

    def _around(self, frame: Frame, max_age_s: float) -> list[Any]:
        """The IMU's messages nearest to a frame, none where it is too early for them."""

        def apart_ns(message: Message) -> int:
            return abs(message.stamp_ns - frame.stamp_ns)

        near = [m for m in self._history.messages() if apart_ns(m) <= max_age_s * 1e9]
        if near:
            near = heapq.nsmallest(AVERAGED, near, key=apart_ns)
            self._history.forget_before(min(m.received_ns for m in near))
        elif not self.imu.too_early(frame.received_ns):
            raise ConversionError(
                f"no IMU message on {self.imu.topic} within {max_age_s:g} s of the image; start "
                "the IMU, set ground.imu_topic, or synchronise the clocks"
            )
        return [m.msg for m in near]

    def _gravity(
        self, around: list[Any], frame: Frame, settings: GroundSettings, transforms: Transforms
    ) -> ArrayF64:
        """Down in the camera's frame: the mean over the IMU's messages around the image."""
        directions, refusal = [], ""
        for msg in around:
            try:
                directions.append(gravity_direction(msg))
            except ConversionError as error:
                refusal = str(error)
        if not directions:
            raise ConversionError(refusal)
        numbers = parse_extrinsics("ground.imu_extrinsics", settings.imu_extrinsics)
        if numbers is None:
            imu_frame = around[0].header.frame_id
            where = transforms.lookup(frame.frame_id, imu_frame, frame.stamp_ns, patience_s(frame))
        else:
            where = from_xyz_rpy(*numbers)
        down = where[:3, :3] @ np.mean(directions, axis=0)
        return np.asarray(down / np.linalg.norm(down))


def level_down(pitch: float, roll: float) -> ArrayF64:
    """Unit vector of gravity in the optical frame (x right, y down, z forward).

    Args:
        pitch: by how much the camera looks down, radians.
        roll: by how much its right side hangs lower than its left, radians.

    Returns:
        (3,) float64.
    """
    return np.array(
        [
            math.sin(roll) * math.cos(pitch),
            math.cos(roll) * math.cos(pitch),
            math.sin(pitch),
        ]
    )
