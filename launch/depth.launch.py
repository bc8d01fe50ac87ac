"""The depth node beside a camera driver.

    ros2 launch depth_node depth.launch.py image:=/camera/image_raw
    ros2 launch depth_node depth.launch.py image:=/camera/image_raw lidar:=/velodyne_points
    ros2 launch depth_node depth.launch.py cameras:="front rear" image:=image_raw

Other cameras than a topic, and other sources of metric scale than a LiDAR, are set by parameters
(`params_file`); `ros2 launch depth_node depth.launch.py --show-args` lists the arguments.
"""

import os
from pathlib import Path

from ament_index_python.packages import (
    PackageNotFoundError,
    get_package_prefix,
    get_package_share_directory,
)
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

CONFIG = Path(get_package_share_directory("depth_node")) / "config"
OVERRIDES = {
    "model": "model.name",
    "engine": "model.engine",
    "precision": "model.precision",
    "source": "camera.source",
    "device": "camera.device",
    "calibration": "camera.calibration",
    "lidar": "lidar.topic",
}
"""Launch arguments that set one parameter each; empty leaves it to the params_file."""
SHOWN = ("image_rect", "points", "depth/preview")
"""The topics of depth.rviz."""


def fastdds_profile():
    """Name the Fast DDS profile for everything that starts here, unless the user has named one.

    Without it best-effort images over 0.5 MB do not arrive. Fast DDS 3 (Kilted and later) warns
    about the older variable, Fast DDS 2 knows no other.
    """
    names = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    if any(name in os.environ for name in names):
        return []
    older = os.environ.get("ROS_DISTRO") in ("humble", "iron", "jazzy")
    return [SetEnvironmentVariable(names[1] if older else names[0], str(CONFIG / "fastdds.xml"))]


def several_cameras(context):
    """The namespaces of the cameras where there are several, else nothing."""
    base = LaunchConfiguration("namespace").perform(context)
    cameras = LaunchConfiguration("cameras").perform(context).split()
    if cameras and LaunchConfiguration("image").perform(context).startswith("/"):
        raise ValueError(
            "with several cameras, image is each camera's own: name it without the slash in "
            "front, so that image:=image_raw is /front/image_raw for the camera front"
        )
    return [f"{base}/{camera}" for camera in cameras]


def depth_node(context):
    overrides = {"use_sim_time": LaunchConfiguration("use_sim_time")}
    for argument, parameter in OVERRIDES.items():
        value = LaunchConfiguration(argument)
        if value.perform(context):
            # As a string, even where it looks like a number (webcam 0).
            overrides[parameter] = ParameterValue(value, value_type=str)
    if "lidar.topic" in overrides:
        overrides["lidar.enabled"] = True
    cameras = several_cameras(context)
    if cameras:  # a name or namespace given here would be that of every node of the process
        names = {"arguments": ["--cameras", *cameras]}
    else:
        names = {"name": "depth_node", "namespace": LaunchConfiguration("namespace")}
    node = Node(
        package="depth_node",
        executable="depth_node",
        **names,
        parameters=[LaunchConfiguration("params_file"), overrides],
        remappings=[
            ("image", LaunchConfiguration("image")),
            ("camera_info", LaunchConfiguration("camera_info")),
        ],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )
    return [node, *rviz(context, cameras[0] if cameras else LaunchConfiguration("namespace"))]


def rviz(context, namespace):
    """What starts rviz2 where it is wanted.

    A robot seldom has it: it is looked for first, because a Node without its package ends the
    whole launch, the depth node with it.
    """
    if not IfCondition(LaunchConfiguration("rviz")).evaluate(context):
        return []
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        return [LogInfo(msg="rviz2 is not installed here: the node starts without it")]
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            namespace=namespace,
            arguments=[
                "-d",
                LaunchConfiguration("rviz_config"),
                "-f",
                LaunchConfiguration("fixed_frame"),
            ],
            parameters=[{"use_sim_time": LaunchConfiguration("use_sim_time")}],
            # The rviz file holds absolute names; relative ones follow the namespace.
            remappings=[(f"/{topic}", topic) for topic in SHOWN],
            output="screen",
        )
    ]


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(
            "image",
            default_value="image",
            description="Camera topic: Image, or CompressedImage below it.",
        ),
        DeclareLaunchArgument(
            "camera_info",
            default_value="camera_info",
            description="CameraInfo topic. The default takes camera_info beside the image topic.",
        ),
        DeclareLaunchArgument(
            "namespace", default_value="", description="Namespace of the node and its outputs."
        ),
        DeclareLaunchArgument(
            "cameras",
            default_value="",
            description="Several cameras with one engine: their namespaces, separated by spaces; "
            "`image` is then relative to each of them.",
        ),
        DeclareLaunchArgument(
            "params_file",
            default_value=str(CONFIG / "depth_node.yaml"),
            description="Parameters of the node.",
        ),
        DeclareLaunchArgument(
            "model", default_value="", description="Network; empty: as params_file says."
        ),
        DeclareLaunchArgument(
            "engine", default_value="", description="Engine; empty: as params_file says."
        ),
        DeclareLaunchArgument(
            "precision", default_value="", description="Precision; empty: as params_file says."
        ),
        DeclareLaunchArgument(
            "source",
            default_value="",
            description="Where frames come from: topic, webcam, url, video, folder or world; "
            "empty: as params_file says.",
        ),
        DeclareLaunchArgument(
            "device",
            default_value="",
            description="Index, path or name of the source webcam; empty: as params_file says.",
        ),
        DeclareLaunchArgument(
            "calibration",
            default_value="",
            description="Calibration yaml of the camera; empty: as params_file says.",
        ),
        DeclareLaunchArgument(
            "lidar",
            default_value="",
            description="Take metric scale from the LiDAR on this PointCloud2 topic, which TF "
            "connects with the camera; empty: as params_file says.",
        ),
        DeclareLaunchArgument(
            "use_sim_time", default_value="false", description="Take time from /clock."
        ),
        DeclareLaunchArgument(
            "log_level", default_value="info", description="debug, info, warn, error or fatal."
        ),
        DeclareLaunchArgument(
            "rviz",
            default_value="false",
            description="Start rviz2 as well, where it is installed; of several cameras it shows "
            "the first.",
        ),
        DeclareLaunchArgument(
            "rviz_config",
            default_value=str(CONFIG / "depth.rviz"),
            description="What rviz2 shows.",
        ),
        DeclareLaunchArgument(
            "fixed_frame",
            default_value="camera_optical_frame",
            description="Fixed frame of rviz2: the optical frame in the image's header, or any "
            "frame that TF connects with it.",
        ),
    ]
    return LaunchDescription([*arguments, *fastdds_profile(), OpaqueFunction(function=depth_node)])
