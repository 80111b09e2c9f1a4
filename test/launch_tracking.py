"""A launch test: replay.launch.py brings the node to TRACKING on the sample bag.

test/ros/test_launch_tracking.py runs it. By hand, on an installed package:
launch_test test/launch_tracking.py map:=map.h5 bag:=sample/day initial_pose:=x,y,z,roll,pitch,yaw
"""

import os
import time
import unittest
from typing import Any

import launch_testing.actions
import launch_testing.asserts
import rclpy
from ament_index_python.packages import get_package_share_directory
from geometry_msgs.msg import PoseWithCovarianceStamped
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from pixloc_ros.interfaces import LocalizationStatus

ARGUMENTS = ("bag", "map", "initial_pose")
WAIT_S = 120.0


def generate_test_description() -> LaunchDescription:
    folder = os.path.join(get_package_share_directory("pixloc_ros"), "launch")
    source = PythonLaunchDescriptionSource(os.path.join(folder, "replay.launch.py"))
    given = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    fixed = {"rate": "0.25", "retrieval": "false"}
    replay = IncludeLaunchDescription(source, launch_arguments={**given, **fixed}.items())
    arguments = [DeclareLaunchArgument(name) for name in ARGUMENTS]
    return LaunchDescription([*arguments, replay, launch_testing.actions.ReadyToTest()])


class TestTracking(unittest.TestCase):
    def test_the_node_comes_to_track_and_publishes_poses(self) -> None:
        context = Context()
        rclpy.init(context=context)
        node = Node("watch", context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        statuses: list[Any] = []
        poses: list[Any] = []
        node.create_subscription(LocalizationStatus, "status", statuses.append, 10)
        node.create_subscription(PoseWithCovarianceStamped, "pose", poses.append, 10)
        deadline = time.monotonic() + WAIT_S
        try:
            while time.monotonic() < deadline and len(poses) < 5:
                executor.spin_once(timeout_sec=0.1)
        finally:
            executor.shutdown()
            node.destroy_node()
            rclpy.shutdown(context=context)
        assert statuses, "the node has taken up no image"
        assert statuses[-1].state == LocalizationStatus.TRACKING, statuses[-1].reason
        assert statuses[-1].prior_source == "odometry"
        assert len(poses) >= 5
        assert poses[-1].header.frame_id == "map"


@launch_testing.post_shutdown_test()
class TestShutdown(unittest.TestCase):
    def test_the_node_ended_in_order(self, proc_info: Any) -> None:
        launch_testing.asserts.assertExitCodes(proc_info, process="localizer_node")
