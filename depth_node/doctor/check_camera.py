"""The camera's topics: are image and CameraInfo published, do they arrive, do they fit?"""

from __future__ import annotations

from typing import Any

from sensor_msgs.msg import CompressedImage

from depth_node.doctor.check_node import check_qos
from depth_node.doctor.findings import Finding, error, ok, warn
from depth_node.doctor.observation import IMAGE_TYPES, INFO_TYPE, Observation, full_name
from depth_node.doctor.transport import LARGE_BYTES, profile_cure
from depth_node.geometry.calibration import CalibrationError
from depth_node.health import Level
from depth_node.ros.camera_info import camera_from_info, optical_frame_warning
from depth_node.ros.compressed_image import decode_compressed
from depth_node.ros.images import decode_image
from depth_node.ros.qos import offered_reliability
from depth_node.ros.wire import ConversionError, stamp_ns

FAR_NS = 1_000_000_000
"""A stamp this far from now: no transform is kept or waited for so long."""
LOSS = 0.2
"""Share of images lost from which on it is the transport, not a busy machine."""
_DISCOVERY_NS = 1_000_000_000  # by so much a CameraInfo may be heard before the images are
_UNDER_WAY = 2  # the newest CameraInfos, whose images may still be coming
_CALIBRATION_CURE = "correct the CameraInfo, or set camera.calibration to a calibration file"


def check_camera(seen: Observation) -> list[Finding]:
    """Everything about the camera's topics."""
    source = seen.parameters.get("camera.source", "topic")
    if source != "topic" and seen.image_topic is None:
        return [ok("camera", f"the node opens it itself (camera.source {source}); no topic needed")]
    if seen.image_topic is None:
        text = f"the image topic is not known; {_published(seen, set(IMAGE_TYPES), 'image')}"
        return [warn("image", text, "name it with --image")]
    findings = check_qos(seen.image_topic, seen, seen.node)
    size = None
    try:
        if seen.images.last is not None:
            size = _image_size(seen.images.last)
        findings += _check_image(seen, size)
    except ConversionError as problem:
        text = f"the node cannot read it: {problem}"
        cure = "correct the driver"
        findings.append(Finding.from_text(Level.ERROR, seen.image_topic, text, cure))
    if seen.parameters.get("camera.calibration"):
        text = "not needed: the node has camera.calibration"
        return [*findings, ok("camera_info", text)]
    return [*findings, *_check_info(seen, size)]


def _check_image(seen: Observation, size: tuple[int, int] | None) -> list[Finding]:
    topic = seen.image_topic
    assert topic is not None
    publishers = [e for e in seen.publishers[topic] if e.topic_type == seen.image_type]
    if not publishers:
        return [_unpublished(topic, seen, set(IMAGE_TYPES), "image")]
    findings = []
    if len(publishers) > 1:
        names = ", ".join(map(full_name, publishers))
        text = f"{len(publishers)} publishers mix their images on one topic: {names}"
        findings.append(warn(topic, text, "end one of them, or remap it"))
    if size is None:
        return [*findings, _silence(seen)]
    findings += [_describe_image(seen, size), *check_loss(seen), *_check_stamp(topic, seen)]
    return findings


def _unpublished(topic: str, seen: Observation, types: set[str], word: str) -> Finding:
    published = seen.topics.get(topic)
    if published:
        text = f"it is published as {', '.join(published)}; expected {' or '.join(sorted(types))}"
    else:
        text = f"nobody publishes it; {_published(seen, types, word)}"
    if word == "image":
        cure = "start the camera driver, or remap: --ros-args -r image:=/your/camera/image_raw"
    else:
        cure = (
            "start the driver's calibration, remap: -r camera_info:=/your/camera_info, or set "
            "camera.calibration; until then no metres are published"
        )
    return error(topic, text, cure)


def _published(seen: Observation, types: set[str], word: str) -> str:
    """The topics of these types that do exist, the node's own outputs left out."""
    there = [
        topic
        for topic, kinds in sorted(seen.topics.items())
        if types & set(kinds) and topic not in seen.outputs
    ]
    if not there:
        return f"no {word} topic is published at all"
    return f"{word} topics that are published: {', '.join(there)}"


def _silence(seen: Observation) -> Finding:
    """Published, but nothing arrives: lost on the way, or never sent?"""
    topic = seen.image_topic
    assert topic is not None
    reliability = _reliability(seen)
    text = f"published ({reliability}) but no image arrives"
    stalled = "check with the driver's log that the camera sends, or listen longer with --seconds"
    if "fastrtps" not in seen.rmw or reliability == "reliable":
        return error(topic, text, stalled)
    size = _image_bytes(seen)
    if size is None:
        cure = f"if the image is over 0.5 MB, it is too large for best effort: {profile_cure()}"
        return error(topic, text, f"{cure}; else {stalled}")
    if size <= LARGE_BYTES:
        return error(topic, text, stalled)
    text += (
        f", while CameraInfo does: at {seen.infos.last.width}x{seen.infos.last.height} an image "
        f"has about {size / 1e6:.1f} MB, and best-effort messages over 0.5 MB vanish in Fast DDS' "
        "default shared-memory segment (512 KiB)"
    )
    return error(topic, text, f"{profile_cure()}; or let the driver publish reliable")


def _reliability(seen: Observation) -> str:
    assert seen.image_topic is not None
    return str(offered_reliability(seen.publishers[seen.image_topic]).name).lower()


def _image_bytes(seen: Observation) -> float | None:
    """Size of a raw image: the one that arrived, else at 3 bytes a pixel of its CameraInfo."""
    if seen.image_type != "sensor_msgs/msg/Image":
        return None
    if seen.images.last is not None:
        return float(len(seen.images.last.data))
    if seen.infos.last is not None:
        return 3.0 * seen.infos.last.width * seen.infos.last.height
    return None


def check_loss(seen: Observation) -> list[Finding]:
    """Images without which their CameraInfo, of the same stamp, arrived: they got lost."""
    assert seen.image_topic is not None
    size = _image_bytes(seen)
    if size is None or size <= LARGE_BYTES or _reliability(seen) == "reliable":
        return []
    arrived = set(seen.images.stamps)
    if not arrived & set(seen.infos.stamps):  # a driver that does not stamp the two alike
        return []
    first = min(arrived)
    owed = sorted(
        stamp for stamp in seen.infos.stamps if not first - _DISCOVERY_NS <= stamp < first
    )
    sent = set(owed[:-_UNDER_WAY])
    lost = len(sent - arrived)
    if lost <= LOSS * len(sent):
        return []
    text = (
        f"{lost} of {len(sent)} images are lost: best-effort messages over 0.5 MB (these have "
        f"{size / 1e6:.1f}) do not fit Fast DDS' default shared-memory segment (512 KiB)"
    )
    return [error(seen.image_topic, text, profile_cure())]


def _image_size(msg: Any) -> tuple[int, int]:
    """(width, height) in pixels.

    Raises:
        ConversionError: the image cannot be read.
    """
    image = decode_compressed(msg) if isinstance(msg, CompressedImage) else decode_image(msg)
    return image.shape[1], image.shape[0]


def _describe_image(seen: Observation, size: tuple[int, int]) -> Finding:
    topic, msg = seen.image_topic, seen.images.last
    assert topic is not None
    kind = f"compressed, {msg.format}" if isinstance(msg, CompressedImage) else msg.encoding
    names = ", ".join(map(full_name, seen.publishers[topic]))
    return ok(
        topic,
        f"{size[0]}x{size[1]} {kind}, {seen.images.rate_hz:.1f} Hz, {_reliability(seen)}, "
        f"from {names}",
    )


def _check_stamp(topic: str, seen: Observation) -> list[Finding]:
    msg, age_ns = seen.images.last, seen.images.age_ns
    if stamp_ns(msg.header) == 0:
        text = "its stamp is 0; expected the time of acquisition: TF and every synchroniser fail"
        return [error(topic, text, "let the driver fill header.stamp")]
    if abs(age_ns) <= FAR_NS:
        return []
    clock = "/clock" if seen.simulated else "this machine's clock"
    side = "behind" if age_ns > 0 else "ahead of"
    text = f"its stamp is {abs(age_ns) / 1e9:.1f} s {side} {clock}: TF look-ups fail"
    cure = "synchronise the machines' clocks (chrony), or correct the driver"
    if not seen.simulated:
        cure += "; a bag needs `ros2 bag play --clock` and use_sim_time"
    return [warn(topic, text, cure)]


def _check_info(seen: Observation, size: tuple[int, int] | None) -> list[Finding]:
    topic = seen.info_topic
    assert topic is not None
    publishers = [e for e in seen.publishers[topic] if e.topic_type == INFO_TYPE]
    if not publishers:
        return [_unpublished(topic, seen, {INFO_TYPE}, "CameraInfo")]
    msg = seen.infos.last
    if msg is None:
        cure = "check the driver's log, or listen longer with --seconds"
        return [error(topic, "published but no CameraInfo arrives; no metres without it", cure)]
    findings = check_qos(topic, seen, seen.node)
    try:
        camera = camera_from_info(msg, size)
    except CalibrationError as problem:
        findings.append(Finding.from_text(Level.ERROR, topic, str(problem), _CALIBRATION_CURE))
    else:
        fx = camera.intrinsics[0]
        model = camera.distortion_model or "no distortion"
        findings.append(ok(topic, f"{camera.width}x{camera.height}, fx {fx:.1f} px, {model}"))
    return [*findings, *_check_frames(msg, seen)]


def _check_frames(info: Any, seen: Observation) -> list[Finding]:
    """The frame of CameraInfo against the image's, and by its name against REP 103's."""
    if seen.images.last is None or seen.image_topic is None or seen.info_topic is None:
        return []
    findings = []
    frame_id = str(seen.images.last.header.frame_id)
    warning = optical_frame_warning(frame_id)
    if warning:
        findings.append(Finding.from_text(Level.WARN, seen.image_topic, warning))
    if info.header.frame_id != frame_id:
        text = f"frame_id {info.header.frame_id!r} differs from the image's {frame_id!r}"
        findings.append(warn(seen.info_topic, text, "check that both come from one camera"))
    return findings
