"""Play a bag against the localizer, in the time of the bag.

ros2 launch pixloc_ros replay.launch.py bag:=sample/day map:=map.h5 rviz:=true

All arguments of localize.launch.py hold here, too.
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

LOCALIZE = os.path.join(get_package_share_directory("pixloc_ros"), "launch", "localize.launch.py")
SWITCH = ["true", "false"]
ARGUMENTS = {
    "rate": ("1.0", "Speed of the replay", None),
    "player": (
        "pixloc",
        "pixloc: pixloc_ros replay, which needs no rosbag2; rosbag2: ros2 bag play --clock",
        ["pixloc", "rosbag2"],
    ),
    "exit_at_end": ("true", "End everything when the bag is over", SWITCH),
    # As `pixloc bag` names them.
    "image_topic": ("/camera/image", "Camera images in the bag", None),
    "image_transport": ("compressed", "raw or compressed", None),
}


def player(context: LaunchContext) -> list[Node | ExecuteProcess]:
    bag, rate, kind, ends = (
        LaunchConfiguration(name).perform(context)
        for name in ("bag", "rate", "player", "exit_at_end")
    )
    end = [Shutdown(reason="the bag is over")] if ends == "true" else []
    if kind == "rosbag2":
        command = ["ros2", "bag", "play", bag, "--clock", "100", "--rate", rate]
        return [ExecuteProcess(cmd=command, output="screen", on_exit=end)]
    words = {"package": "pixloc_ros", "executable": "replay", "arguments": [bag, "--rate", rate]}
    return [Node(**words, output="screen", on_exit=end)]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="Folder of the bag (rosbag2)"),
            *(
                DeclareLaunchArgument(
                    name, default_value=default, description=text, choices=choices
                )
                for name, (default, text, choices) in ARGUMENTS.items()
            ),
            # First: it sets the transport profile that the player needs as well.
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(LOCALIZE),
                launch_arguments={"use_sim_time": "true"}.items(),
            ),
            OpaqueFunction(function=player),
        ]
    )
