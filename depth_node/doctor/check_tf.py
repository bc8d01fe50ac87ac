"""Whether the camera's frame has a place in the robot."""

from __future__ import annotations

from depth_node.doctor.findings import Finding, ok, warn
from depth_node.doctor.observation import Observation

_SHOWN = 8


def check_tf(seen: Observation) -> list[Finding]:
    """Whether the image's frame is connected to any other; needs tf2_msgs to look inside."""
    if not seen.publishers.get("/tf") and not seen.publishers.get("/tf_static"):
        cure = (
            "start robot_state_publisher, or ros2 run tf2_ros static_transform_publisher "
            "--frame-id base_link --child-frame-id YOUR_CAMERA_FRAME"
        )
        text = (
            "nobody publishes /tf or /tf_static: nav2, and rviz in another frame, cannot use depth"
        )
        return [warn("tf", text, cure)]
    if seen.transforms is None:
        return [ok("tf", "published; not looked into: tf2_msgs is not installed here")]
    if seen.images.last is None:
        return [ok("tf", f"{len(seen.transforms)} transforms")]
    return [judge_frame(str(seen.images.last.header.frame_id), seen.transforms)]


def judge_frame(frame_id: str, transforms: set[tuple[str, str]]) -> Finding:
    """Whether a frame is connected to another one.

    Args:
        frame_id: the image's frame.
        transforms: (parent, child) frames that were heard.
    """
    parents = sorted(parent for parent, child in transforms if child == frame_id)
    if parents:
        return ok("tf", f"{frame_id} hangs on {', '.join(parents)}")
    children = sorted(child for parent, child in transforms if parent == frame_id)
    if children:
        return ok("tf", f"{frame_id} carries {', '.join(children)}")
    known = sorted({frame for pair in transforms for frame in pair})
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    text = (
        f"the image's frame {frame_id!r} is connected to nothing; TF has "
        f"{', '.join(known[:_SHOWN]) or 'no frames'}{more}"
    )
    cure = (
        "correct the driver's frame_id, or ros2 run tf2_ros static_transform_publisher "
        f"--frame-id base_link --child-frame-id {frame_id}"
    )
    return warn("tf", text, cure)
