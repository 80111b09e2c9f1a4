"""Start the localizer node.

ros2 launch pixloc_ros localize.launch.py map:=map.h5 image_topic:=/camera/image
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

PROFILE = "FASTDDS_DEFAULT_PROFILES_FILE"
CONFIG = os.path.join(get_package_share_directory("pixloc_ros"), "config")
ARGUMENTS = {
    "params_file": (os.path.join(CONFIG, "localizer.yaml"), "Parameters of the node"),
    "namespace": ("", "Namespace of the node and of its topics"),
    "image_topic": ("image", "Camera images; with compressed transport /compressed is added"),
    "camera_info_topic": ("camera_info", "Calibration of the camera"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
}
# Parameters as arguments of their own: empty leaves the value of params_file.
PARAMETERS = {
    "map": (str, "Feature map made by `pixloc map build`"),
    "image_transport": (str, "raw or compressed"),
    "tf_broadcast": (bool, "Publish map -> odom; false when a filter fuses the pose"),
    "use_sim_time": (bool, "Take the time from /clock, as when a bag is played"),
}


def localizer(context: LaunchContext) -> list[Node]:
    image = LaunchConfiguration("image_topic")
    given = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, (kind, _) in PARAMETERS.items()
        if LaunchConfiguration(name).perform(context)
    }
    node = Node(
        package="pixloc_ros",
        executable="localizer_node",
        name="localizer",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        parameters=[LaunchConfiguration("params_file"), given],
        remappings=[
            ("image", image),
            ("image/compressed", [image, "/compressed"]),
            ("camera_info", LaunchConfiguration("camera_info_topic")),
        ],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    # Best-effort images are lost without this profile; one chosen by the user stays.
    profile = EnvironmentVariable(PROFILE, default_value=os.path.join(CONFIG, "shm.xml"))
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in ARGUMENTS.items()
            ),
            *(
                DeclareLaunchArgument(name, default_value="", description=text)
                for name, (_, text) in PARAMETERS.items()
            ),
            SetEnvironmentVariable(PROFILE, profile),
            OpaqueFunction(function=localizer),
        ]
    )
