"""Start the localizer node, and with it what is asked for: retrieval, RViz, the Foxglove bridge.

ros2 launch pixloc_ros localize.launch.py map:=map.h5 image_topic:=/camera/image
"""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

PROFILE = "FASTDDS_DEFAULT_PROFILES_FILE"
CONFIG = os.path.join(get_package_share_directory("pixloc_ros"), "config")
SWITCH = ["true", "false"]
# Name: default, meaning, and the values it may have, where these are few.
ARGUMENTS = {
    "params_file": (os.path.join(CONFIG, "localizer.yaml"), "Parameters of the localizer", None),
    "namespace": ("", "Namespace of the nodes and of their topics", None),
    "namespaced_tf": (
        "false",
        "tf and tf_static in the namespace, as Nav2 has it with several robots",
        SWITCH,
    ),
    "image_topic": (
        "image",
        "Camera images; /compressed is added where image_transport is compressed",
        None,
    ),
    "camera_info_topic": (
        "",
        "Calibration of the camera; empty: camera_info beside image_topic",
        None,
    ),
    "initial_pose": (
        "",
        "First pose in the map: x,y,z,roll,pitch,yaw in metres and radians",
        None,
    ),
    "use_respawn": ("false", "Start a node again that has died", SWITCH),
    "log_level": ("info", "What is logged", ["debug", "info", "warn", "error", "fatal"]),
    "retrieval": (
        "auto",
        "Start the retrieval node; auto: if there is an index beside the map, or `images`",
        ["auto", *SWITCH],
    ),
    "images": ("", "Folder of the map images, to make the index of the retrieval from", None),
    "retrieval_params_file": ("", "Parameters of the retrieval node", None),
    "rviz": ("false", "Start RViz", SWITCH),
    "foxglove": ("false", "Start foxglove_bridge", SWITCH),
}
# Parameters as arguments of their own: empty leaves the value of params_file.
PARAMETERS = {
    "map": (str, "Feature map made by `pixloc map build`"),
    "image_transport": (str, "raw or compressed"),
    "prior_source": (str, "auto, tf, topic or retrieval"),
    "tf_broadcast": (bool, "Publish map -> odom; false when a filter fuses the pose"),
    "autostart": (bool, "Configure and activate at once; false under a lifecycle manager"),
    "use_sim_time": (bool, "Take the time from /clock, as when a bag is played"),
}
POSE = ("x", "y", "z", "roll", "pitch", "yaw")


def value(context: LaunchContext, name: str) -> str:
    """What an argument was given."""
    return LaunchConfiguration(name).perform(context)


def parameters(context: LaunchContext, *names: str) -> dict[str, ParameterValue]:
    """Those of the parameters that were given as arguments."""
    return {
        name: ParameterValue(LaunchConfiguration(name), value_type=PARAMETERS[name][0])
        for name in names
        if value(context, name)
    }


def initial_pose(context: LaunchContext) -> dict[str, float | bool]:
    """The parameters of the first pose, if one was given."""
    text = value(context, "initial_pose")
    if not text:
        return {}
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != len(POSE):
        raise RuntimeError(f"initial_pose is {text!r}, expected {','.join(POSE)}")
    pose = {f"initial_pose.{name}": number for name, number in zip(POSE, numbers, strict=True)}
    return {"set_initial_pose": True, **pose}


def camera_info(context: LaunchContext) -> str:
    """Where the calibration is: as given, or beside the images, as image_transport has it."""
    given, image = value(context, "camera_info_topic"), value(context, "image_topic")
    folder, slash, _ = image.rpartition("/")
    return given or f"{folder}{slash}camera_info"


def common(context: LaunchContext) -> dict[str, object]:
    """What all nodes have in common."""
    tf = value(context, "namespaced_tf") == "true"
    image = value(context, "image_topic")
    return {
        "namespace": value(context, "namespace"),
        "output": "screen",
        # Each finishes the image in work first.
        "sigterm_timeout": "20",
        "remappings": [
            ("image", image),
            ("image/compressed", f"{image}/compressed"),
            ("camera_info", camera_info(context)),
            *((f"/{name}", name) for name in ("tf", "tf_static") if tf),
        ],
    }


def localizer(context: LaunchContext) -> Node:
    given = parameters(context, *PARAMETERS)
    return Node(
        package="pixloc_ros",
        executable="localizer_node",
        name="localizer",
        parameters=[value(context, "params_file"), given, initial_pose(context)],
        arguments=["--ros-args", "--log-level", value(context, "log_level")],
        respawn=value(context, "use_respawn") == "true",
        respawn_delay=2.0,
        **common(context),
    )


def wants_retrieval(context: LaunchContext) -> bool:
    asked = value(context, "retrieval")
    if asked != "auto":
        return asked == "true"
    file = value(context, "map")
    has_index = bool(file) and Path(file).with_suffix(".retrieval.h5").is_file()
    return has_index or bool(value(context, "images"))


def retrieval(context: LaunchContext) -> Node:
    images, file = value(context, "images"), value(context, "retrieval_params_file")
    return Node(
        package="pixloc_ros",
        executable="retrieval_node",
        name="retrieval",
        parameters=[
            *([file] if file else []),
            parameters(context, "map", "use_sim_time"),
            {"images": images} if images else {},
        ],
        arguments=["--ros-args", "--log-level", value(context, "log_level")],
        respawn=value(context, "use_respawn") == "true",
        respawn_delay=2.0,
        **common(context),
    )


def nodes(context: LaunchContext) -> list[Node]:
    clock = parameters(context, "use_sim_time")
    started = [localizer(context)]
    if wants_retrieval(context):
        started.append(retrieval(context))
    if value(context, "rviz") == "true":
        view = ["-d", os.path.join(CONFIG, "pixloc.rviz")]
        rviz = {"package": "rviz2", "executable": "rviz2", "name": "rviz", "arguments": view}
        started.append(Node(**rviz, parameters=[clock], **common(context)))
    if value(context, "foxglove") == "true":
        # Its topics are those of the whole system: no namespace.
        bridge = {"package": "foxglove_bridge", "executable": "foxglove_bridge"}
        started.append(Node(**bridge, parameters=[clock], output="screen"))
    return started


def generate_launch_description() -> LaunchDescription:
    # Best-effort images are lost without this profile; one chosen by the user stays.
    profile = EnvironmentVariable(PROFILE, default_value=os.path.join(CONFIG, "shm.xml"))
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    name, default_value=default, description=text, choices=choices
                )
                for name, (default, text, choices) in ARGUMENTS.items()
            ),
            *(
                DeclareLaunchArgument(name, default_value="", description=text)
                for name, (_, text) in PARAMETERS.items()
            ),
            SetEnvironmentVariable(PROFILE, profile),
            OpaqueFunction(function=nodes),
        ]
    )
