"""A USB webcam as a depth sensor: the node opens the camera itself.

    ros2 launch depth_node webcam.launch.py device:=0
    ros2 launch depth_node webcam.launch.py device:=0 calibration:=/path/to/camera.yaml

Without a calibration the field of view is assumed (webcam.yaml). There are metres only with a
source of metric scale. Takes every argument of depth.launch.py as well.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

SHARE = Path(get_package_share_directory("depth_node"))


def generate_launch_description():
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "params_file",
                default_value=str(SHARE / "config" / "webcam.yaml"),
                description="Parameters of the node, in place of webcam.yaml, which has size, rate "
                "and pixel format of the webcam.",
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(SHARE / "launch" / "depth.launch.py")),
                launch_arguments={
                    "params_file": LaunchConfiguration("params_file"),
                    "source": "webcam",
                }.items(),
            ),
        ]
    )
