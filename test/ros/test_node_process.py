"""The node as a process of its own, with the real core, in the toy room."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from toy_world import ToyWorld

from pixloc_core.geometry import Pose
from pixloc_ros.conversions import pose_from_message, pose_to_message, pose_to_transform
from pixloc_ros.frames import TF_STATIC_QOS
from pixloc_ros.image_conversions import array_to_image
from pixloc_ros.interfaces import LocalizationStatus, TFMessage

VOLATILE = QoSProfile(depth=10, durability=DurabilityPolicy.VOLATILE)
# The robot's base is the camera turned into the axes of a robot, 0.3 m behind it.
BASE_FROM_CAM = Pose.from_Rt(
    torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]).double(),
    torch.tensor([0.3, 0.0, 0.0]).double(),
)


class Camera:
    """A camera that stands still in the room, at a pose that no map image has."""

    def __init__(self, world: ToyWorld) -> None:
        xi = torch.tensor([0.08, -0.05, 0.06, 0.01, 0.02, -0.01], dtype=torch.float64)
        self.cam_from_map = world.cam_from_map[2].retract(xi)
        self.map_from_base = self.cam_from_map.inv() @ BASE_FROM_CAM.inv()
        self.pixels, _ = world.render(self.cam_from_map)
        self.node = node = Node("robot")
        self.image = node.create_publisher(Image, "image", 1)
        self.info = node.create_publisher(CameraInfo, "camera_info", 1)
        self.initial = node.create_publisher(PoseWithCovarianceStamped, "initialpose", 1)
        self.tf_static = node.create_publisher(TFMessage, "/tf_static", TF_STATIC_QOS)
        self.poses: list[PoseWithCovarianceStamped] = []
        self.statuses: list[LocalizationStatus] = []
        node.create_subscription(PoseWithCovarianceStamped, "pose", self.poses.append, VOLATILE)
        node.create_subscription(LocalizationStatus, "status", self.statuses.append, 10)
        static = pose_to_transform(BASE_FROM_CAM, "base_link", "camera", 0)
        self.tf_static.publish(TFMessage(transforms=[static]))
        fx, fy, cx, cy = world.colmap_camera["params"]
        # COLMAP's principal point counts from the corner of the image, ROS's from a pixel centre.
        self.calibration = CameraInfo(width=320, height=240, distortion_model="plumb_bob")
        self.calibration.d = [0.0] * 5
        self.calibration.k = [fx, 0.0, cx - 0.5, 0.0, fy, cy - 0.5, 0.0, 0.0, 1.0]
        self.stamp = 0

    def shoot(self) -> None:
        """Send the next image with its calibration."""
        self.stamp += 1
        header = Header(frame_id="camera")
        header.stamp.sec = self.stamp
        self.calibration.header = header
        self.info.publish(self.calibration)
        self.image.publish(array_to_image(self.pixels, "rgb8", header))

    def shoot_until(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, [s.reason for s in self.statuses[-3:]]
            self.shoot()
            time.sleep(0.1)

    def give_prior(self) -> None:
        """An initial pose 10 cm and 2 degrees off."""
        off = torch.tensor([0.06, -0.07, 0.04, 0.02, -0.02, 0.02], dtype=torch.float64)
        message = PoseWithCovarianceStamped()
        message.header.frame_id = "map"
        guess = (self.cam_from_map.retract(off)).inv() @ BASE_FROM_CAM.inv()
        message.pose.pose = pose_to_message(guess)
        self.initial.publish(message)


@pytest.fixture
def camera(world: ToyWorld, ros: Callable[..., None], spin) -> Camera:
    ros()
    camera = Camera(world)
    spin(camera.node)
    return camera


class Process:
    """`python -m pixloc_ros.localizer_node` with ROS arguments."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        command = [sys.executable, "-m", "pixloc_ros.localizer_node", "--ros-args", *arguments]
        with log.open("ab") as file:
            self.popen = subprocess.Popen(command, stdout=file, stderr=file, env=os.environ)

    def end(self, how: signal.Signals) -> int:
        self.popen.send_signal(how)
        return self.popen.wait(30)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def run(*arguments: str) -> Process:
        started.append(Process(tmp_path / "log.txt", *arguments))
        return started[-1]

    yield run
    for process in started:
        process.popen.kill()
        process.popen.wait()


@pytest.mark.slow
def test_node_finds_the_camera_in_the_room_and_ends_in_order(camera, map_path, start):
    node = start("-p", f"map:={map_path}")
    camera.shoot_until(lambda: camera.statuses and camera.initial.get_subscription_count())
    camera.give_prior()
    camera.shoot_until(lambda: camera.poses)
    found = pose_from_message(camera.poses[-1].pose.pose)
    degrees, metres = (found.inv() @ camera.map_from_base).magnitude()
    assert degrees < 0.5
    assert metres < 0.03
    sigma = torch.tensor(camera.poses[-1].pose.covariance).reshape(6, 6).diagonal().sqrt()
    assert (sigma > 0).all()
    assert sigma.max() < 0.1

    assert node.end(signal.SIGINT) == 0
    assert "Traceback" not in node.log.read_text()


def test_node_without_a_map_says_so_and_ends_in_order(camera, start):
    node = start()
    said: list[str] = []

    def hear(message: DiagnosticArray) -> None:
        said.extend(entry.message for entry in message.status)

    camera.node.create_subscription(DiagnosticArray, "/diagnostics", hear, 10)
    camera.shoot_until(lambda: any("parameter map is empty" in text for text in said))
    assert not camera.statuses
    assert node.end(signal.SIGTERM) == 0
    assert "Traceback" not in node.log.read_text()


def test_wrong_parameter_ends_the_node_with_one_line(start):
    node = start("-p", "tf_rate:=-1.0")
    assert node.popen.wait(60) == 2
    lines = node.log.read_text().strip().splitlines()
    assert len(lines) == 1
    assert "parameter tf_rate" in lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["map.h5"], "usage: localizer_node --ros-args"),
        (["--ros-args", "--params-file", "nowhere.yaml"], "--params-file nowhere.yaml"),
        (["--ros-args", "-p", "cameras:=cam0"], "parameter cameras is 'cam0', expected a list"),
        (["--ros-args", "-p", "image_transport:=jpeg"], "parameter image_transport is 'jpeg'"),
    ],
)
def test_wrong_command_line_ends_with_one_line_that_says_why(arguments, words):
    command = [sys.executable, "-m", "pixloc_ros.localizer_node", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
