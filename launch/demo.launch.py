"""The synthetic world as camera and LiDAR, the depth node, and rviz2.

    ros2 launch depth_node demo.launch.py

Needs the ray caster of the world: pip install embreex (for x86-64). Starts rviz2 where it is
installed. Takes every argument of depth.launch.py as well.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.substitutions import ExecutableInPackage

SHARE = Path(get_package_share_directory("depth_node"))


def generate_launch_description():
    # Included first: it also sets the Fast DDS profile, for what starts after it.
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / "depth.launch.py")),
        launch_arguments={
            "image": LaunchConfiguration("image"),
            "params_file": LaunchConfiguration("params_file"),
            "rviz": LaunchConfiguration("rviz"),
        }.items(),
    )
    world = ExecuteProcess(
        cmd=[
            ExecutableInPackage(executable="depth-node", package="depth_node"),
            "world",
            "--publish",
        ],
        name="world",
        output="screen",
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "image",
                default_value="/camera/image_raw",
                description="Camera topic of the world.",
            ),
            DeclareLaunchArgument(
                "params_file",
                default_value=str(SHARE / "config" / "demo.yaml"),
                description="Parameters of the node, in place of demo.yaml, which takes metres "
                "from the world's LiDAR.",
            ),
            DeclareLaunchArgument(
                "rviz",
                default_value="true",
                description="Start rviz2 with the demo, where it is installed.",
            ),
            node,
            world,
        ]
    )
