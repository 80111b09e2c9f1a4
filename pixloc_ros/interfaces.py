"""The only import of messages that may have to be built first: our own, and tf2's under pip."""

try:
    from tf2_msgs.msg import TFMessage

    from pixloc_ros.msg import LocalizationStatus
    from pixloc_ros.srv import LoadMap, RetrievePose, SetInitialPose
except ImportError as error:
    raise ImportError(
        f"{error}: messages are not built; run `make venv`, or colcon with a full ROS 2"
    ) from error

__all__ = ["LoadMap", "LocalizationStatus", "RetrievePose", "SetInitialPose", "TFMessage"]
