"""Every parameter of the node, defined once.

A parameter is a field of one of the settings classes below. Its full ROS name is the group's name,
a dot and the field's name (`depth.max_m`). The commented yaml, the reference page, the ROS
descriptors and the checks all come from `describe()` and `with_values()`; nothing else knows a
default or a range.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from depth_node.parameter import KEY, Parameter, ParameterError, Value
from depth_node.parameter import param as _param
from depth_node.scale_parameters import (
    GroundSettings,
    LandmarksSettings,
    LidarSettings,
    RangeSettings,
    ScaleSettings,
    ScanSettings,
    check_scale,
    parse_extrinsics,
)

__all__ = [
    "CameraSettings",
    "DepthSettings",
    "GroundSettings",
    "LandmarksSettings",
    "LidarSettings",
    "ModelSettings",
    "Parameter",
    "ParameterError",
    "PointsSettings",
    "PreviewSettings",
    "RangeSettings",
    "ScaleSettings",
    "ScanSettings",
    "Settings",
    "Value",
    "describe",
]


@dataclass(frozen=True)
class CameraSettings:
    """Where frames come from."""

    source: str = _param(
        "topic",
        "Where frames come from: a ROS topic, or a camera that the node opens itself.",
        choices=("topic", "webcam", "url", "video", "folder", "world"),
    )
    topic: str = _param(
        "image",
        "Image topic (Image or CompressedImage); remappable, as in `image:=/cam/image`.",
    )
    info_topic: str = _param(
        "", "CameraInfo topic; empty takes `camera_info` beside the image topic."
    )
    transport: str = _param(
        "auto",
        "Subscribe to the raw or the compressed image; auto takes what is published, raw first.",
        choices=("auto", "raw", "compressed"),
    )
    reliability: str = _param(
        "auto",
        "Reliability of the image subscription; auto takes what the publisher offers.",
        choices=("auto", "reliable", "best_effort"),
    )
    device: str = _param("0", "Webcam: index, device path (/dev/video2) or part of its name.")
    path: str = _param(
        "", "URL (rtsp, http or a GStreamer pipeline), video file, image folder, or world drive."
    )
    width: int = _param(
        0, "Requested image width; 0 leaves it to the device.", unit="px", minimum=0, maximum=16384
    )
    height: int = _param(
        0, "Requested image height; 0 leaves it to the device.", unit="px", minimum=0, maximum=16384
    )
    fps: float = _param(
        0.0,
        "Requested frame rate; 0 leaves it to the device, or takes the file's own rate.",
        unit="Hz",
        minimum=0.0,
        maximum=1000.0,
    )
    fourcc: str = _param("", "Requested pixel format of a webcam, such as MJPG or YUYV.")
    loop: bool = _param(True, "Start a video, folder or world drive again when it ends.")
    frame_id: str = _param(
        "camera_optical_frame", "Optical frame of a camera that the node opens itself."
    )
    calibration: str = _param(
        "",
        "Calibration yaml in camera_calibration's format. It replaces the topic's CameraInfo, and "
        "is the only source of intrinsics for a camera that the node opens itself.",
    )
    assumed_fov_deg: float = _param(
        60.0,
        "Horizontal field of view assumed for a camera that the node opens itself and that has no "
        "calibration; 0 assumes none and publishes no metres.",
        unit="deg",
        minimum=0.0,
        maximum=170.0,
    )
    rectify: str = _param(
        "auto",
        "Rectify before the network; auto does so when the calibration asks for it and the topic "
        "is not already rectified (`rect` or `rectified` is a word of its name). off takes raw "
        "images as they are: the camera that is published is then K, and lens distortion stays in "
        "the points.",
        choices=("auto", "on", "off"),
    )


@dataclass(frozen=True)
class ModelSettings:
    """The network and what runs it."""

    name: str = _param(
        "auto",
        "Network: a name from the registry, the path of an ONNX file, or auto (Depth Anything V2 "
        "Small where it is at hand, else the shipped student).",
    )
    engine: str = _param(
        "auto",
        "What runs the network; auto takes the best that works here and says why.",
        choices=(
            "auto",
            "tensorrt",
            "onnxruntime-tensorrt",
            "onnxruntime-cuda",
            "torch",
            "openvino",
            "onnxruntime",
        ),
    )
    precision: str = _param(
        "auto",
        "Precision of the network; auto takes the fastest that passes the engine's self-test.",
        choices=("auto", "fp32", "fp16", "bf16", "int8"),
    )
    size: str = _param(
        "auto",
        "Size that the network runs at, of those that it has been exported at: short side, as "
        "252, or height x width, as 252x336; auto takes 252, or else the first.",
    )
    fetch_s: float = _param(
        0.0,
        "How long `model.name: auto` may take to fetch and export Depth Anything V2 Small; 0 "
        "never asks the network.",
        unit="s",
        minimum=0.0,
        maximum=3600.0,
    )
    threads: int = _param(
        0,
        "CPU threads for the network; 0 takes as many as suit it.",
        minimum=0,
        maximum=256,
    )


@dataclass(frozen=True)
class DepthSettings:
    """The published depth image."""

    encoding: str = _param(
        "32FC1",
        "Encoding of depth/image_rect: 32FC1 in metres or 16UC1 in millimetres.",
        choices=("32FC1", "16UC1"),
        dynamic=True,
    )
    downscale: int = _param(
        1,
        "Publish depth at 1/n of the camera's size (the same integer on both axes).",
        minimum=1,
        maximum=8,
        dynamic=True,
    )
    min_m: float = _param(
        0.1, "Nearer than this is NaN.", unit="m", minimum=0.01, maximum=100.0, dynamic=True
    )
    max_m: float = _param(
        50.0, "Farther than this is +Inf.", unit="m", minimum=0.1, maximum=300.0, dynamic=True
    )
    remove_edges: bool = _param(
        True,
        "Set pixels between a near and a far surface to NaN (flying pixels).",
        dynamic=True,
    )
    edge_ratio: float = _param(
        0.08,
        "Relative jump of depth between two surfaces from which on the pixels between them are "
        "removed; a pixel within half of it of a surface stays.",
        minimum=0.01,
        maximum=1.0,
        dynamic=True,
    )


@dataclass(frozen=True)
class PointsSettings:
    """The published point cloud."""

    color: bool = _param(
        True, "Add the camera's colour to each point (rgb field at offset 12).", dynamic=True
    )
    sigma: bool = _param(
        False,
        "Add the standard deviation of each point's depth (sigma field, FLOAT32, metres; NaN where "
        "it is not known).",
        dynamic=True,
    )
    stride: int = _param(
        1, "Take every n-th pixel on both axes.", minimum=1, maximum=64, dynamic=True
    )
    voxel_m: float = _param(
        0.0,
        "Keep one point a voxel of this size; 0 keeps the organised cloud.",
        unit="m",
        minimum=0.0,
        maximum=10.0,
        dynamic=True,
    )
    max_rate_hz: float = _param(
        0.0,
        "Highest rate of the cloud; 0 publishes one with every frame.",
        unit="Hz",
        minimum=0.0,
        maximum=1000.0,
        dynamic=True,
    )
    far_points: str = _param(
        "nan",
        "What sky and points beyond depth.max_m become: nan, or clamp to depth.max_m so that nav2 "
        "can clear free space along their rays.",
        choices=("nan", "clamp"),
        dynamic=True,
    )


@dataclass(frozen=True)
class PreviewSettings:
    """The colour picture of the depth."""

    min_m: float = _param(
        0.8, "Depth at the near end of the colours.", unit="m", minimum=0.01, dynamic=True
    )
    max_m: float = _param(
        15.0, "Depth at the far end of the colours.", unit="m", minimum=0.1, dynamic=True
    )
    colormap: str = _param(
        "turbo",
        "Colour map over inverse depth.",
        choices=("turbo", "inferno", "magma", "viridis", "gray"),
        dynamic=True,
    )
    side_by_side: bool = _param(
        False, "Put the camera image to the left of the preview.", dynamic=True
    )


@dataclass(frozen=True)
class Settings:
    """All parameters of the node."""

    camera: CameraSettings = dataclasses.field(default_factory=CameraSettings)
    model: ModelSettings = dataclasses.field(default_factory=ModelSettings)
    depth: DepthSettings = dataclasses.field(default_factory=DepthSettings)
    points: PointsSettings = dataclasses.field(default_factory=PointsSettings)
    preview: PreviewSettings = dataclasses.field(default_factory=PreviewSettings)
    scale: ScaleSettings = dataclasses.field(default_factory=ScaleSettings)
    lidar: LidarSettings = dataclasses.field(default_factory=LidarSettings)
    scan: ScanSettings = dataclasses.field(default_factory=ScanSettings)
    range: RangeSettings = dataclasses.field(default_factory=RangeSettings)
    landmarks: LandmarksSettings = dataclasses.field(default_factory=LandmarksSettings)
    ground: GroundSettings = dataclasses.field(default_factory=GroundSettings)
    autostart: bool = _param(
        True,
        "Configure and activate the node when it starts; again after 0.5, 1, 2, 4, then every 8 s "
        "while its own webcam or stream is not there yet.",
    )

    def values(self) -> dict[str, Value]:
        """Every parameter's value by its full name."""
        return {name: getattr(group, leaf) for name, group, leaf in _leaves(self)}

    def with_values(self, values: Mapping[str, object]) -> Settings:
        """These settings with some values replaced, each checked by itself.

        Raises:
            ParameterError: a name is unknown or a value is refused.
        """
        definitions = {p.name: p for p in describe()}
        changes: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            if name not in definitions:
                raise ParameterError(f"there is no parameter {name!r}")
            group, _, leaf = name.rpartition(".")
            changes.setdefault(group, {})[leaf] = definitions[name].check(value)
        top: dict[str, Any] = changes.pop("", {})
        for group, leaves in changes.items():
            top[group] = dataclasses.replace(getattr(self, group), **leaves)
        return dataclasses.replace(self, **top)

    def check_together(self) -> None:
        """Check that no two values contradict each other.

        Raises:
            ParameterError: they do.
        """
        check_scale(self.scale, self.ground)
        for name, value in self.values().items():
            if name.endswith("extrinsics"):
                parse_extrinsics(name, str(value))
        ranged = ("depth", "preview", "lidar", "scan", "range", "landmarks")
        for name, group in ((name, getattr(self, name)) for name in ranged):
            if group.min_m >= group.max_m:
                raise ParameterError(
                    f"{name}.min_m is {group.min_m:g} m and {name}.max_m is {group.max_m:g} m; "
                    "the minimum must be smaller"
                )
        if self.camera.source in ("url", "video", "folder") and not self.camera.path:
            raise ParameterError(
                f"camera.source is {self.camera.source} but camera.path is empty; name what to open"
            )
        if self.camera.fourcc and len(self.camera.fourcc) != 4:
            raise ParameterError(
                f"camera.fourcc is {self.camera.fourcc!r}; it must have four characters, as MJPG"
            )


def _leaves(settings: Settings) -> Iterator[tuple[str, Any, str]]:
    for item in dataclasses.fields(settings):
        if KEY in item.metadata:
            yield item.name, settings, item.name
            continue
        group = getattr(settings, item.name)
        for leaf in dataclasses.fields(group):
            yield f"{item.name}.{leaf.name}", group, leaf.name


def describe() -> list[Parameter]:
    """Every parameter's definition, in the order of the yaml and the reference page."""
    definitions = []
    for name, group, leaf in _leaves(Settings()):
        item = type(group).__dataclass_fields__[leaf]
        definitions.append(Parameter(name=name, default=item.default, **item.metadata[KEY]))
    return definitions
