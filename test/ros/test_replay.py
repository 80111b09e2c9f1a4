"""A replayed bag arrives as it was recorded, at its pace, without the answer in it."""

import os
import socket
import threading
import time

import cv2
import numpy as np
import pytest
import rclpy
import torch
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage

from pixloc_core.bags.odometry import OdometryConfig, simulate_odometry
from pixloc_core.bags.reader import BagReader
from pixloc_core.bags.sequence import base_from_camera
from pixloc_core.bags.topics import BagLayout
from pixloc_core.bags.trajectory import Trajectory
from pixloc_core.bags.writer import CameraFrame, Recording, write_bag
from pixloc_core.geometry import Camera, Pose
from pixloc_ros.conversions import stamp_to_ns
from pixloc_ros.interfaces import TFMessage
from pixloc_ros.replay.player import ReplayConfig, Replayer
from pixloc_ros.replay.session import is_free, use_own_domain

pytestmark = pytest.mark.ros
SECOND = 1_000_000_000
LAYOUT = BagLayout()
SENSOR = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> BagReader:
    params = [100.0, 100.0, 32.0, 24.0]
    camera = Camera.from_colmap({"model": "PINHOLE", "width": 64, "height": 48, "params": params})
    stamps = [3 * SECOND + index * SECOND // 10 for index in range(8)]
    noise = np.random.default_rng(0).integers(0, 255, (8, 48, 64, 3), dtype=np.uint8)
    frames = tuple(
        CameraFrame(s, np.asarray(cv2.blur(n, (5, 5))), camera)
        for s, n in zip(stamps, noise, strict=True)
    )
    steps = torch.arange(8, dtype=torch.float64)[:, None]
    twist = torch.tensor([0.1, 0, 0, 0, 0, 0.05], dtype=torch.float64)
    truth = Trajectory(np.array(stamps), Pose.exp(steps * twist))
    odometry = simulate_odometry(truth, OdometryConfig(rate_hz=20.0))
    path = tmp_path_factory.mktemp("replay") / "bag"
    write_bag(path, Recording(frames, truth, odometry, base_from_camera()))
    return BagReader(path)


class Listener(Node):
    """Keeps all it hears."""

    def __init__(self) -> None:
        super().__init__("listener")
        self.images, self.infos, self.clock, self.tf, self.static = [], [], [], [], []
        image, info = LAYOUT.image, LAYOUT.camera_info
        self.create_subscription(CompressedImage, image, self.images.append, SENSOR)
        self.create_subscription(CameraInfo, info, self.infos.append, SENSOR)
        self.create_subscription(Clock, "/clock", self.clock.append, 50)
        self.create_subscription(TFMessage, "/tf", self.tf.append, 50)

    def listen_late(self) -> None:
        self.create_subscription(TFMessage, "/tf_static", self.static.append, LATCHED)


@pytest.fixture
def listener(ros, spin) -> Listener:
    ros()
    node = Listener()
    spin(node)
    return node


def wait_for(condition, timeout_s: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(condition())


def test_a_bag_arrives_complete_in_order_and_unchanged(bag, listener) -> None:
    player = Node("player")
    replayer = Replayer(player, bag, ReplayConfig(rate=4.0))
    assert replayer.wait_for_subscribers([LAYOUT.image, LAYOUT.camera_info, "/tf"], 5.0) == ""
    replayer.announce()
    replayer.play()
    # The calibration is announced once before the first image.
    assert wait_for(lambda: len(listener.images) == 8 and len(listener.infos) == 9)
    stamps = [stamp_to_ns(message.header.stamp) for message in listener.images]
    assert stamps == bag.image_stamps(LAYOUT.image).tolist()
    recorded = list(bag.messages(LAYOUT.image))
    assert bytes(listener.images[3].data) == recorded[3].data.tobytes()
    assert len(listener.tf) == bag.counts["/tf"]
    listener.listen_late()
    assert wait_for(lambda: listener.static), "/tf_static is not latched"
    player.destroy_node()


def test_the_clock_never_runs_back_and_covers_the_bag_at_the_rate_asked(bag, listener) -> None:
    player = Node("player")
    replayer = Replayer(player, bag, ReplayConfig(rate=2.0))
    assert wait_for(lambda: player.count_subscribers("/clock") > 0)
    began = time.monotonic()
    replayer.play()
    elapsed = time.monotonic() - began
    assert elapsed == pytest.approx(bag.duration_s / 2, abs=0.15)
    assert wait_for(lambda: listener.clock and stamp_to_ns(listener.clock[-1].clock) == bag.end_ns)
    times = [stamp_to_ns(message.clock) for message in listener.clock]
    assert times == sorted(times)
    player.destroy_node()


def test_the_ground_truth_is_never_published(bag, listener) -> None:
    player = Node("player")
    Replayer(player, bag, ReplayConfig())
    assert player.count_publishers(LAYOUT.ground_truth) == 0
    assert player.count_publishers(LAYOUT.image) == 1
    player.destroy_node()


def test_a_topic_that_nobody_listens_to_is_named_after_the_timeout(bag, ros) -> None:
    ros()
    player = Node("player")
    replayer = Replayer(player, bag, ReplayConfig())
    assert replayer.wait_for_subscribers([LAYOUT.image], 0.1) == LAYOUT.image
    player.destroy_node()


def test_a_replay_ends_soon_when_it_is_stopped(bag, ros) -> None:
    ros()
    player = Node("player")
    replayer, stop = Replayer(player, bag, ReplayConfig(rate=0.01)), threading.Event()
    thread = threading.Thread(target=replayer.play, kwargs={"stop": stop})
    thread.start()
    stop.set()
    thread.join(1.0)
    assert not thread.is_alive()
    player.destroy_node()
    assert rclpy.ok()


def test_a_replay_takes_the_domain_that_the_environment_names(ros_domain: int) -> None:
    assert use_own_domain() == ros_domain


def test_a_replay_chooses_a_domain_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_DOMAIN_ID")
    first = use_own_domain()
    assert os.environ["ROS_DOMAIN_ID"] == str(first)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as somebody:
        somebody.bind(("", 7400 + 250 * first))
        monkeypatch.delenv("ROS_DOMAIN_ID")
        second = use_own_domain()
    assert second != first
    assert {first, second} <= set(range(1, 102))


def test_a_domain_whose_discovery_port_is_taken_is_not_free() -> None:
    domain = next(number for number in range(101, 0, -1) if is_free(number))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as somebody:
        somebody.bind(("", 7400 + 250 * domain))
        assert not is_free(domain)
    assert is_free(domain)
