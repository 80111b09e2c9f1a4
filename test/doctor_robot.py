"""A robot over DDS for the doctor: driver, odometry, and a stand-in for the localizer."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from pixloc_core.geometry import Pose
from pixloc_ros.conversions import ns_to_stamp, pose_to_transform
from pixloc_ros.doctor.collect import Subject, collect
from pixloc_ros.doctor.findings import Finding, Level
from pixloc_ros.doctor.judge import judge
from pixloc_ros.frames import TF_QOS, TF_STATIC_QOS
from pixloc_ros.image_conversions import array_to_image
from pixloc_ros.interfaces import LocalizationStatus, TFMessage

PERIOD_S = 0.05
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
FORWARD = Pose.from_Rt(
    torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]).double(),
    torch.tensor([0.3, 0.0, 0.0]).double(),
)
STILL = Pose.exp(torch.zeros(6, dtype=torch.float64))


class Robot:
    """A driver, odometry and a stand-in for the localizer, that publish in a thread."""

    def __init__(self) -> None:
        self.pixels = np.zeros((48, 64, 3), np.uint8)
        self.encoding, self.calibrated, self.late_ns = "rgb8", (64, 48), 0
        self.base_from_camera: Pose | None = FORWARD
        self.driver, self.wheels = Node("camera"), Node("wheels")
        self.localizer = Node("localizer")
        self.images: Any = self.driver.create_publisher(Image, "image", BEST_EFFORT)
        self._infos = self.driver.create_publisher(CameraInfo, "camera_info", 1)
        self._tf = [self.wheels.create_publisher(TFMessage, "/tf", TF_QOS)]
        self._static = self.driver.create_publisher(TFMessage, "/tf_static", TF_STATIC_QOS)
        self._status = self.localizer.create_publisher(LocalizationStatus, "status", 10)
        self._diagnostics = self.localizer.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.is_silent = False
        self.said: dict[str, dict[str, str]] = {}
        self.clock: Any = None
        self.listen(BEST_EFFORT)

    def listen(self, qos: QoSProfile) -> None:
        """Subscribe as the localizer does."""
        for kind, topic in ((Image, "image"), (CameraInfo, "camera_info")):
            self.localizer.create_subscription(kind, topic, lambda _: None, qos)

    def add_odometry(self) -> None:
        """A second publisher of odom -> base_link."""
        self._tf.append(self.localizer.create_publisher(TFMessage, "/tf", TF_QOS))

    def publish(self) -> None:
        stamp_ns = time.time_ns() - self.late_ns
        header = Header(frame_id="camera_optical", stamp=ns_to_stamp(stamp_ns))
        if self.images is not None:
            image = array_to_image(self.pixels, self.encoding, header)
            self.images.publish(image)
        w, h = self.calibrated
        info = CameraInfo(header=header, width=w, height=h, distortion_model="plumb_bob")
        info.d, info.k = [0.0] * 5, [50.0, 0.0, w / 2, 0.0, 50.0, h / 2, 0.0, 0.0, 1.0]
        self._infos.publish(info)
        for publisher in self._tf:
            publisher.publish(self._transform(STILL, "odom", "base_link", time.time_ns()))
        if self.base_from_camera is not None:
            static = self._transform(self.base_from_camera, "base_link", "camera_optical", 0)
            self._static.publish(static)
        self._speak()
        if self.clock is not None:
            self.clock.publish(Clock(clock=ns_to_stamp(time.time_ns())))

    def _speak(self) -> None:
        """Status, and the entries on /diagnostics by their names."""
        said = LocalizationStatus(
            state=LocalizationStatus.TRACKING, status=LocalizationStatus.LOCALIZED
        )
        if not self.is_silent:
            self._status.publish(said)
        for name, values in self.said.items():
            pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
            entry = DiagnosticStatus(name=name, message="said", values=pairs)
            self._diagnostics.publish(DiagnosticArray(status=[entry]))

    @staticmethod
    def _transform(pose: Pose, parent: str, child: str, stamp_ns: int) -> TFMessage:
        transform: TransformStamped = pose_to_transform(pose, parent, child, stamp_ns)
        return TFMessage(transforms=[transform])


@contextmanager
def running(spin: Callable[[Node], None]) -> Iterator[Robot]:
    """A robot at work, in threads."""
    robot = Robot()
    for node in (robot.driver, robot.wheels, robot.localizer):
        spin(node)
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(PERIOD_S):
            robot.publish()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield robot
    stop.set()
    thread.join(5.0)


def look(**subject: Any) -> list[Finding]:
    """What is not well, but for the map that is not named."""
    findings = judge(collect(Subject(seconds=1.0, **subject)))
    return [f for f in findings if f.level is not Level.OK and "no map" not in f.what]
