"""A localizer node over DDS, with a core that knows the answer, and the robot around it."""

import time
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from fake_localizer import (
    BASE_FROM_CAM,
    SECOND,
    FakeLocalizer,
    FakeMap,
    camera_info,
    image_message,
    pose,
)
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pixloc_core.geometry import Pose
from pixloc_ros.conversions import pose_to_message, pose_to_transform
from pixloc_ros.frames import TF_QOS, TF_STATIC_QOS
from pixloc_ros.interfaces import LocalizationStatus, TFMessage
from pixloc_ros.localizer_node import LocalizerNode

LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
BEST_EFFORT = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)


class Robot:
    """The rest of the system: camera, odometry (at x = 1 m), and somebody who listens."""

    def __init__(self) -> None:
        self.node = node = Node("robot")
        self.image = node.create_publisher(Image, "image", BEST_EFFORT)
        self.compressed = node.create_publisher(CompressedImage, "image/compressed", BEST_EFFORT)
        self.info = node.create_publisher(CameraInfo, "camera_info", BEST_EFFORT)
        self.initial = node.create_publisher(PoseWithCovarianceStamped, "initialpose", 1)
        self.tf = node.create_publisher(TFMessage, "/tf", TF_QOS)
        self.tf_static = node.create_publisher(TFMessage, "/tf_static", TF_STATIC_QOS)
        self.poses: list[PoseWithCovarianceStamped] = []
        self.statuses: list[LocalizationStatus] = []
        self.map_to_odom: list[TFMessage] = []
        self.diagnostics: list[DiagnosticArray] = []
        self.confidences: list[Image] = []
        node.create_subscription(PoseWithCovarianceStamped, "pose", self.poses.append, LATCHED)
        node.create_subscription(LocalizationStatus, "status", self.statuses.append, 10)
        node.create_subscription(DiagnosticArray, "/diagnostics", self.diagnostics.append, 10)
        node.create_subscription(TFMessage, "/tf", self._on_tf, TF_QOS)

    def _on_tf(self, message: TFMessage) -> None:
        if message.transforms[0].child_frame_id == "odom":
            self.map_to_odom.append(message)

    def send_transforms(self) -> None:
        static = pose_to_transform(BASE_FROM_CAM, "base_link", "camera", 0)
        self.tf_static.publish(TFMessage(transforms=[static]))
        for stamp in (1, 9):
            odometry = pose_to_transform(pose(1.0), "odom", "base_link", stamp * SECOND)
            self.tf.publish(TFMessage(transforms=[odometry]))

    def send_initialpose(self, value: Pose, frame: str = "map") -> None:
        message = PoseWithCovarianceStamped()
        message.header.frame_id = frame
        message.header.stamp.sec = 2
        message.pose.pose = pose_to_message(value)
        self.initial.publish(message)


def wait(condition: Callable[[], object], what: str, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.01)


class Bench:
    """A node and a robot that hear each other."""

    def __init__(self, ros, spin, *arguments: str, opener=None, active: bool = True) -> None:
        ros(*arguments)
        self.map = FakeMap(FakeLocalizer(step=0.25))
        self.localizer = self.map.fake
        self.node = LocalizerNode(opener or (lambda config, path: self.map))
        self.robot = Robot()
        spin(self.node)
        spin(self.robot.node)
        if active:
            self.connect()

    def connect(self) -> None:
        """Wait until both hear each other, the calibration and odometry; the node is activated."""
        robot = self.robot
        wait(lambda: self.node._session is not None, "activation")
        publishers = (robot.info, robot.initial, robot.tf, robot.tf_static)
        wait(lambda: all(p.get_subscription_count() for p in publishers), "connection")
        wait(lambda: self.node.count_subscribers("pose") == 1, "connection")
        # The robot hears its own /tf; the node must, too.
        wait(lambda: robot.tf.get_subscription_count() == 2, "connection")
        robot.send_transforms()
        robot.info.publish(camera_info())
        wait(lambda: not self.node._session.inputs.uncalibrated, "camera_info")
        wait(lambda: self.node._frames.knows("odom"), "odometry")

    def ask(self, seconds: float, value: int = 200) -> LocalizationStatus:
        """Send an image and wait for what is said about it."""
        before = len(self.robot.statuses)
        self.robot.image.publish(image_message(round(seconds * SECOND), value))
        wait(lambda: len(self.robot.statuses) > before, "status")
        return self.robot.statuses[-1]

    def give_initialpose(self, value: Pose) -> None:
        self.robot.send_initialpose(value)
        pipeline = self.node._engine.pipeline
        wait(lambda: pipeline._initial is not None, "initialpose")

    def diagnoses(self) -> dict[str, DiagnosticStatus]:
        """The next entries on /diagnostics, by what follows the name of the node."""
        self.robot.diagnostics.clear()
        wait(lambda: self.robot.diagnostics, "diagnostics")
        entries = self.robot.diagnostics[-1].status
        return {entry.name.removeprefix("localizer: "): entry for entry in entries}

    def diagnosis(self, name: str) -> DiagnosticStatus:
        """The next entry of that name."""
        return self.diagnoses()[name]
