"""The node as others see it: over DDS, with a core that knows the answer."""

import math
import threading
import time
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from fake_localizer import BASE_FROM_CAM, SECOND, FakeLocalizer, camera_info, image_message, pose
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pixloc_core.errors import MapError
from pixloc_core.geometry import Pose
from pixloc_ros.conversions import pose_from_message, pose_to_message, pose_to_transform
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

    def __init__(self, ros, spin, *arguments: str, opener=None) -> None:
        ros(*arguments)
        self.localizer = FakeLocalizer(step=0.25)
        self.node = LocalizerNode(opener or (lambda config, core: self.localizer))
        self.robot = Robot()
        spin(self.node)
        spin(self.robot.node)
        robot = self.robot
        publishers = (robot.info, robot.initial, robot.tf, robot.tf_static)
        wait(lambda: all(p.get_subscription_count() for p in publishers), "connection")
        wait(lambda: self.node.count_subscribers("pose") == 1, "connection")
        # The robot hears its own /tf; the node must, too.
        wait(lambda: robot.tf.get_subscription_count() == 2, "connection")
        robot.send_transforms()
        robot.info.publish(camera_info())
        wait(lambda: self.node._info is not None, "camera_info")
        wait(lambda: self.node._frames.knows("odom"), "odometry")

    def ask(self, seconds: float, value: int = 200) -> LocalizationStatus:
        """Send an image and wait for what is said about it."""
        before = len(self.robot.statuses)
        self.robot.image.publish(image_message(round(seconds * SECOND), value))
        wait(lambda: len(self.robot.statuses) > before, "status")
        return self.robot.statuses[-1]

    def give_initialpose(self, value: Pose) -> None:
        self.robot.send_initialpose(value)
        wait(lambda: self.node._keeper._initial is not None, "initialpose")


@pytest.fixture
def make_bench(ros, spin):
    benches: list[Bench] = []

    def make(*arguments: str, opener=None) -> Bench:
        benches.append(Bench(ros, spin, *arguments, opener=opener))
        return benches[-1]

    yield make
    spin.stop()
    for bench in benches:
        bench.node.close()


def test_pose_transform_and_status_follow_an_initial_pose(make_bench):
    bench = make_bench()
    robot = bench.robot
    bench.give_initialpose(pose(10.0))
    status = bench.ask(3.0)
    assert (status.status, status.reason) == (LocalizationStatus.LOCALIZED, "")
    assert status.header.stamp.sec == 3
    assert status.prior_source == "initialpose"
    assert (status.num_points, status.num_inliers) == (100, 90)
    assert list(status.cost_per_level) == pytest.approx([0.3, 0.1])
    assert (status.images_received, status.images_taken, status.images_localized) == (1, 1, 1)
    assert 0 < status.latency_ms < 15_000
    assert dict(zip(status.stages, status.stage_ms, strict=True)).keys() >= {"decode", "align"}
    wait(lambda: robot.poses, "pose")
    assert robot.poses[0].header.frame_id == "map"
    assert robot.poses[0].header.stamp.sec == 3
    found = pose_from_message(robot.poses[0].pose.pose)
    torch.testing.assert_close(found.data, pose(10.25).data)
    assert np.diag(np.reshape(robot.poses[0].pose.covariance, (6, 6))).min() > 0
    wait(lambda: robot.map_to_odom, "map -> odom")
    transform = robot.map_to_odom[-1].transforms[0]
    assert transform.header.frame_id == "map"
    # Dated the tolerance of half a second after the newest image.
    assert (transform.header.stamp.sec, transform.header.stamp.nanosec) == (3, SECOND // 2)
    torch.testing.assert_close(pose_from_message(transform.transform).data, pose(9.25).data)


def test_transform_is_sent_again_without_new_images(make_bench):
    bench = make_bench("-p", "tf_rate:=50.0")
    bench.give_initialpose(pose(10.0))
    bench.ask(3.0)
    wait(lambda: len(bench.robot.map_to_odom) > 5, "transforms")


def test_nothing_is_published_before_there_is_a_pose(make_bench):
    bench = make_bench()
    status = bench.ask(3.0)
    assert status.status == LocalizationStatus.NO_PRIOR
    assert "waiting for initialpose" in status.reason
    time.sleep(0.2)
    assert not bench.robot.poses
    assert not bench.robot.map_to_odom


def test_silence_on_pose_when_not_localized_and_status_says_why(make_bench):
    bench = make_bench()
    bench.give_initialpose(pose(10.0))
    status = bench.ask(3.0, value=5)
    assert status.status == LocalizationStatus.NOT_LOCALIZED
    assert status.reason == "10% of the points agree"
    assert status.consecutive_failures == 1
    assert bench.ask(4.0).status == LocalizationStatus.LOCALIZED
    wait(lambda: bench.robot.poses, "pose")
    assert [message.header.stamp.sec for message in bench.robot.poses] == [4]


def test_refused_initial_pose_changes_nothing(make_bench):
    bench = make_bench()
    bench.give_initialpose(pose(10.0))
    bench.ask(3.0)
    bench.robot.send_initialpose(pose(50.0), frame="odom")
    bad = pose(float("nan"))
    bench.robot.send_initialpose(bad)
    assert bench.ask(4.0).prior_source == "odometry"
    wait(lambda: len(bench.robot.poses) == 2, "pose")
    assert bench.robot.poses[-1].pose.pose.position.x == pytest.approx(10.5)


def test_confidence_is_published_in_image_geometry_while_somebody_listens(make_bench):
    bench = make_bench()
    bench.give_initialpose(pose(10.0))
    bench.ask(3.0)
    robot = bench.robot
    robot.node.create_subscription(Image, "confidence", robot.confidences.append, 10)
    wait(bench.node._confidence.get_subscription_count, "subscription")
    bench.ask(4.0)
    wait(lambda: robot.confidences, "confidence")
    message = robot.confidences[0]
    assert (message.encoding, message.width, message.height) == ("32FC1", 32, 24)
    assert message.header.frame_id == "camera"
    assert message.header.stamp.sec == 4
    np.testing.assert_allclose(np.frombuffer(message.data, np.float32), 0.5)


def test_owner_of_the_transform_may_be_somebody_else(make_bench):
    bench = make_bench("-p", "tf_broadcast:=false")
    bench.give_initialpose(pose(10.0))
    assert bench.ask(3.0).status == LocalizationStatus.LOCALIZED
    time.sleep(0.3)
    assert not bench.robot.map_to_odom


def test_late_subscriber_gets_the_last_pose(make_bench):
    bench = make_bench()
    bench.give_initialpose(pose(10.0))
    bench.ask(3.0)
    late: list[PoseWithCovarianceStamped] = []
    bench.robot.node.create_subscription(PoseWithCovarianceStamped, "pose", late.append, LATCHED)
    wait(lambda: late, "latched pose")
    assert late[0].header.stamp.sec == 3


def test_reliability_of_the_image_can_be_overridden(ros):
    ros("-p", "qos_overrides./image.subscription.reliability:=reliable")
    node = LocalizerNode(lambda config, core: FakeLocalizer())
    found = node.get_subscriptions_info_by_topic("/image")[0].qos_profile
    assert found.reliability is ReliabilityPolicy.RELIABLE
    default = node.get_subscriptions_info_by_topic("/camera_info")[0].qos_profile
    assert default.reliability is ReliabilityPolicy.BEST_EFFORT
    node.close()


def test_compressed_images_are_taken_from_their_topic(make_bench):
    bench = make_bench("-p", "image_transport:=compressed")
    bench.give_initialpose(pose(10.0))
    raw = image_message(3 * SECOND)
    _, data = cv2.imencode(".jpg", np.full((24, 32), 200, np.uint8))
    message = CompressedImage(header=raw.header, format="jpeg", data=data.tobytes())
    bench.robot.compressed.publish(message)
    wait(lambda: bench.robot.poses, "pose")


def named(bench: Bench, name: str) -> DiagnosticStatus:
    array = bench.robot.diagnostics[-1]
    return next(status for status in array.status if status.name == f"localizer: {name}")


def test_diagnostics_tell_how_it_goes(make_bench):
    bench = make_bench()
    bench.give_initialpose(pose(10.0))
    bench.ask(3.0)
    bench.robot.diagnostics.clear()
    wait(lambda: bench.robot.diagnostics, "diagnostics")
    status = named(bench, "localization")
    assert (status.level, status.message) == (DiagnosticStatus.OK, "localized")
    values = {pair.key: pair.value for pair in status.values}
    assert values["score"] == "0.900"
    assert values["prior_source"] == "initialpose"
    bench.ask(4.0, value=0)
    bench.robot.diagnostics.clear()
    wait(lambda: bench.robot.diagnostics, "diagnostics")
    status = named(bench, "localization")
    assert (status.level, status.message) == (
        DiagnosticStatus.ERROR,
        "bad input: image is all black",
    )
    assert named(bench, "input").level == DiagnosticStatus.OK


def test_nan_in_tf_is_seen_in_diagnostics_and_the_node_goes_on(make_bench):
    bench = make_bench()
    bad = pose_to_transform(pose(math.nan), "odom", "base_link", 9 * SECOND)
    bench.robot.tf.publish(TFMessage(transforms=[bad]))
    bench.robot.diagnostics.clear()
    wait(lambda: bench.robot.diagnostics, "diagnostics")
    assert "refused odom <- base_link" in named(bench, "input").message
    bench.give_initialpose(pose(10.0))
    assert bench.ask(3.0).status == LocalizationStatus.LOCALIZED


def test_unusable_map_is_told_and_the_node_lives(make_bench):
    def opener(config, core):
        raise MapError("map.h5: made with other weights")

    bench = make_bench(opener=opener)
    status = bench.ask(3.0)
    assert status.status == LocalizationStatus.BAD_INPUT
    assert status.reason == "no map: map.h5: made with other weights"
    wait(lambda: bench.robot.diagnostics, "diagnostics")
    entry = named(bench, "localization")
    assert (entry.level, entry.message) == (
        DiagnosticStatus.ERROR,
        "map.h5: made with other weights",
    )


class Stubborn(FakeLocalizer):
    """Breaks on its first image in a way nobody foresaw, and is slow on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.calls = 0

    def localize(self, image, camera, prior):
        self.calls += 1
        if self.calls == 1:
            raise RuntimeError("out of luck")
        assert self.go.wait(15.0)
        return super().localize(image, camera, prior)


def test_unforeseen_error_ends_one_image_and_not_the_node(make_bench):
    localizer = Stubborn()
    localizer.go.set()
    bench = make_bench(opener=lambda config, core: localizer)
    bench.give_initialpose(pose(10.0))
    status = bench.ask(3.0)
    assert status.status == LocalizationStatus.INTERNAL_ERROR
    assert status.reason == "RuntimeError: out of luck"
    assert bench.ask(4.0).status == LocalizationStatus.LOCALIZED


def test_newest_image_wins_while_the_localizer_is_busy(make_bench):
    localizer = Stubborn()
    localizer.calls = 1
    bench = make_bench(opener=lambda config, core: localizer)
    bench.give_initialpose(pose(10.0))
    for second in range(3, 9):
        bench.robot.image.publish(image_message(second * SECOND))
        expected = second - 2
        wait(lambda expected=expected: bench.node._worker.counts.received == expected, "image")
        wait(lambda: localizer.calls == 2, "call")
    localizer.go.set()
    wait(lambda: len(bench.robot.statuses) == 2, "statuses")
    assert [status.header.stamp.sec for status in bench.robot.statuses] == [3, 8]
    last = bench.robot.statuses[-1]
    assert (last.images_received, last.images_taken, last.images_dropped) == (6, 2, 4)
