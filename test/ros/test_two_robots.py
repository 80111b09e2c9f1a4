"""Two robots on one machine, each with its own namespace, map and process, and the real core."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticArray
from fake_localizer import BASE_FROM_CAM, camera_info
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from robot_bench import wait
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from toy_world import ToyWorld, noise_texture

from pixloc_core.features.extractor import ExtractorConfig, create_extractor
from pixloc_core.features.reference import build_feature_map
from pixloc_core.geometry import Pose
from pixloc_core.localizer.fix import difference
from pixloc_core.map.colmap_format import from_colmap
from pixloc_ros.conversions import pose_from_message, pose_to_message, pose_to_transform
from pixloc_ros.frames import TF_QOS, TF_STATIC_QOS
from pixloc_ros.image_conversions import array_to_image
from pixloc_ros.interfaces import LocalizationStatus, TFMessage
from pixloc_ros.node_process import NodeProcess

pytestmark = pytest.mark.slow
VOLATILE = QoSProfile(depth=50, durability=DurabilityPolicy.VOLATILE)
SECOND = 1_000_000_000


def moved_world() -> ToyWorld:
    """Another room with other walls, 30 m away from the first one in its own coordinates."""
    world, shift = ToyWorld(), np.array([30.0, -20.0, 5.0])
    world.planes = tuple(
        replace(plane, corner=plane.corner + shift, texture=noise_texture(40 + index))
        for index, plane in enumerate(world.planes)
    )
    back = Pose.from_aa(torch.zeros(3).double(), torch.from_numpy(-shift))
    world.cam_from_map = world.cam_from_map @ back
    return world


class TestRobot:
    """A robot that drives through its room, and what its localizer says.

    Attributes:
        name: Namespace, and prefix of its frames.
        odom_from_map: Where its odometry has begun.
    """

    __test__ = False

    def __init__(self, name: str, world: ToyWorld, folder: Path, start: Pose) -> None:
        self.name, self.world, self.odom_from_map = name, world, start
        self.node = node = Node("robot", namespace=name)
        self.image = node.create_publisher(Image, "image", 1)
        self.info = node.create_publisher(CameraInfo, "camera_info", 1)
        self.initial = node.create_publisher(PoseWithCovarianceStamped, "initialpose", 1)
        self.tf = node.create_publisher(TFMessage, "/tf", TF_QOS)
        self.tf_static = node.create_publisher(TFMessage, "/tf_static", TF_STATIC_QOS)
        self.poses: list[PoseWithCovarianceStamped] = []
        self.statuses: list[LocalizationStatus] = []
        node.create_subscription(PoseWithCovarianceStamped, "pose", self.poses.append, VOLATILE)
        node.create_subscription(LocalizationStatus, "status", self.statuses.append, 10)
        path = folder / f"{name}.h5"
        sfm, images = world.write(folder / name)
        extractor = create_extractor(ExtractorConfig(kind="gradients"))
        self.map_id = build_feature_map(from_colmap(sfm), images, extractor, path).content_id
        frames = {
            f"{frame}_frame_id": f"{name}/{frame.replace('global', 'map')}"
            for frame in ("global", "odom", "base")
        }
        # No image may be lost: each is asked for once.
        qos = {f"qos_overrides./{name}/image.subscription.reliability": "reliable"}
        parameters = {"map": str(path), "transform_timeout": 5.0, **frames, **qos}
        self.process = NodeProcess(parameters, {"__ns": f"/{name}"}, folder / f"{name}.log")
        first, last = world.cam_from_map[1], world.cam_from_map[4]
        steps = torch.linspace(0, 1, 24, dtype=torch.float64)[:, None]
        self.cam_from_map = Pose.exp(steps * (last @ first.inv()).log()) @ first
        self.map_from_base = self.cam_from_map.inv() @ BASE_FROM_CAM.inv()
        fx, fy, cx, cy = world.colmap_camera["params"]
        k = [fx, 0.0, cx - 0.5, 0.0, fy, cy - 0.5, 0.0, 0.0, 1.0]
        self.calibration = camera_info(width=320, height=240, k=k)

    def connect(self) -> None:
        publishers = (self.image, self.info, self.initial)
        wait(lambda: all(p.get_subscription_count() for p in publishers), "connection", 60.0)
        wait(lambda: self.node.count_publishers("status") == 1, "connection")
        # Both localizers and the ear.
        wait(lambda: self.tf.get_subscription_count() == 3, "connection", 60.0)
        static = pose_to_transform(BASE_FROM_CAM, f"{self.name}/base", f"{self.name}/camera", 0)
        self.tf_static.publish(TFMessage(transforms=[static]))
        self.info.publish(self.calibration)

    def give_initialpose(self, index: int) -> None:
        message = PoseWithCovarianceStamped()
        message.header.frame_id = f"{self.name}/map"
        message.header.stamp.sec = 100 + index
        message.pose.pose = pose_to_message(self.map_from_base[index])
        self.initial.publish(message)

    def shoot(self, index: int) -> None:
        stamp = (100 + index) * SECOND
        odom_from_base = (self.odom_from_map @ self.map_from_base[index]).normalized()
        transform = pose_to_transform(odom_from_base, f"{self.name}/odom", self.base, stamp)
        self.tf.publish(TFMessage(transforms=[transform]))
        header = Header(frame_id=f"{self.name}/camera")
        header.stamp.sec = 100 + index
        pixels = self.world.render(self.cam_from_map[index])[0]
        self.info.publish(self.calibration)
        self.image.publish(array_to_image(pixels, "rgb8", header))

    @property
    def base(self) -> str:
        return f"{self.name}/base"

    def answered(self, index: int) -> bool:
        return any(status.header.stamp.sec == 100 + index for status in self.statuses)

    def error(self, message: PoseWithCovarianceStamped) -> float:
        """Distance of a pose to where this robot was at its stamp."""
        index = message.header.stamp.sec - 100
        found = pose_from_message(message.pose.pose)
        return difference(found, self.map_from_base[index])[0]


class Ear:
    """Hears /tf and /diagnostics, which both share."""

    def __init__(self) -> None:
        self.node = Node("ear")
        self.edges: dict[tuple[str, str], Pose] = {}
        self.names: set[str] = set()
        self.node.create_subscription(TFMessage, "/tf", self._on_tf, TF_QOS)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_report, 10)

    def _on_tf(self, message: TFMessage) -> None:
        for item in message.transforms:
            edge = (item.header.frame_id, item.child_frame_id)
            self.edges[edge] = pose_from_message(item.transform)

    def _on_report(self, message: DiagnosticArray) -> None:
        self.names |= {entry.name for entry in message.status}


def start_at(x: float, y: float, angle: float) -> Pose:
    aa = torch.tensor([0.0, 0.0, angle], dtype=torch.float64)
    return Pose.from_aa(aa, torch.tensor([x, y, 0.0], dtype=torch.float64))


def shoot_both(robots: list[TestRobot], index: int) -> None:
    """An image of each at the same moment; wait for both answers."""
    for robot in robots:
        robot.shoot(index)
    for robot in robots:
        what = f"answer of {robot.name}, which said {robot.process.last_words(5)}"
        wait(lambda robot=robot: robot.answered(index), what, 60.0)


def test_two_robots_in_two_namespaces_do_not_disturb_each_other(ros, spin, tmp_path):
    ros()
    ear = Ear()
    alpha = TestRobot("alpha", ToyWorld(), tmp_path, start_at(1.0, 2.0, 0.5))
    beta = TestRobot("beta", moved_world(), tmp_path, start_at(-7.0, 3.0, -2.0))
    robots = [alpha, beta]
    for node in (ear.node, alpha.node, beta.node):
        spin(node)
    with alpha.process, beta.process:
        for robot in robots:
            robot.connect()
        # An initial pose of one is none of the other.
        shoot_both(robots, 0)
        alpha.give_initialpose(1)
        wait(lambda: "taken" in alpha.process.last_words(), "initialpose")
        shoot_both(robots, 1)
        assert alpha.statuses[-1].published, alpha.statuses[-1].reason
        assert beta.statuses[-1].status == LocalizationStatus.NO_PRIOR
        beta.give_initialpose(2)
        wait(lambda: "taken" in beta.process.last_words(), "initialpose")
        for index in range(2, 8):
            shoot_both(robots, index)
        wait(lambda: len(ear.names) >= 4, "diagnostics")
        for robot in robots:
            edge = (f"{robot.name}/map", f"{robot.name}/odom")
            wait(lambda edge=edge: edge in ear.edges, "map -> odom")
            distance, angle = difference(ear.edges[edge], robot.odom_from_map.inv())
            assert distance < 0.05
            assert np.rad2deg(angle) < 1.0
        # The end of one is not the end of the other.
        beta.process.stop()
        assert beta.process.exit_code == 0
        alpha.shoot(8)
        wait(lambda: alpha.answered(8), "answer", 60.0)
        assert alpha.statuses[-1].published
    for robot in robots:
        assert {message.header.frame_id for message in robot.poses} == {f"{robot.name}/map"}
        assert max(robot.error(message) for message in robot.poses) < 0.05
        assert {status.map_id for status in robot.statuses} == {robot.map_id}
    assert (len(alpha.poses), len(beta.poses)) == (8, 6)
    assert alpha.map_id != beta.map_id
    own = {f"{name}/{frame}" for name in ("alpha", "beta") for frame in ("map", "odom", "base")}
    assert {frame for edge in ear.edges for frame in edge} == own
    assert ear.names >= {f"{name}/localizer: localization" for name in ("alpha", "beta")}
