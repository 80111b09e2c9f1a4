"""The node as others see it: over DDS, with a core that knows the answer."""

import math
import threading
import time

import cv2
import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from fake_localizer import SECOND, FakeLocalizer, FakeMap, image_message, pose
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.qos import ReliabilityPolicy
from robot_bench import LATCHED, wait
from sensor_msgs.msg import CompressedImage, Image

from pixloc_core.errors import MapError
from pixloc_ros.conversions import pose_from_message, pose_to_transform
from pixloc_ros.interfaces import LocalizationStatus, TFMessage
from pixloc_ros.localizer_node import LocalizerNode


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
    wait(bench.node._session.outputs._confidence[""].get_subscription_count, "subscription")
    bench.ask(4.0)
    # That of the image before may still be under way when somebody begins to listen.
    wait(lambda: robot.confidences and robot.confidences[-1].header.stamp.sec == 4, "confidence")
    message = robot.confidences[-1]
    assert (message.encoding, message.width, message.height) == ("32FC1", 32, 24)
    assert message.header.frame_id == "camera"
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
    node = LocalizerNode(lambda config, path: FakeMap())
    node.trigger_configure()
    node.trigger_activate()
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


def test_diagnostics_tell_how_it_goes(make_bench):
    bench = make_bench()
    bench.give_initialpose(pose(10.0))
    bench.ask(3.0)
    status = bench.diagnosis("localization")
    assert (status.level, status.message) == (
        DiagnosticStatus.OK,
        "TRACKING: confirmed by 1 image",
    )
    values = {pair.key: pair.value for pair in status.values}
    assert values["score"] == "0.900"
    assert values["prior_source"] == "initialpose"
    bench.ask(4.0, value=0)
    entries = bench.diagnoses()
    status = entries["localization"]
    assert (status.level, status.message) == (
        DiagnosticStatus.ERROR,
        "bad input: image is all black",
    )
    assert entries["input"].level == DiagnosticStatus.OK


def test_nan_in_tf_is_seen_in_diagnostics_and_the_node_goes_on(make_bench):
    bench = make_bench()
    bad = pose_to_transform(pose(math.nan), "odom", "base_link", 9 * SECOND)
    bench.robot.tf.publish(TFMessage(transforms=[bad]))
    wait(lambda: "refused" in bench.diagnosis("input").message, "refusal", 20.0)
    bench.give_initialpose(pose(10.0))
    assert bench.ask(3.0).status == LocalizationStatus.LOCALIZED


def test_unusable_map_is_told_and_the_node_lives(make_bench):
    def opener(config, path):
        raise MapError("map.h5: made with other weights")

    bench = make_bench(opener=opener, active=False)
    entry = bench.diagnosis("localization")
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

    def localize_views(self, views, prior, *, search=True):
        self.calls += 1
        if self.calls == 1:
            raise RuntimeError("out of luck")
        assert self.go.wait(15.0)
        return super().localize_views(views, prior, search=search)


def test_unforeseen_error_ends_one_image_and_not_the_node(make_bench):
    localizer = Stubborn()
    localizer.go.set()
    bench = make_bench(opener=lambda config, path: FakeMap(localizer))
    bench.give_initialpose(pose(10.0))
    status = bench.ask(3.0)
    assert status.status == LocalizationStatus.INTERNAL_ERROR
    assert status.reason == "RuntimeError: out of luck"
    assert bench.ask(4.0).status == LocalizationStatus.LOCALIZED


def test_newest_image_wins_while_the_localizer_is_busy(make_bench):
    localizer = Stubborn()
    localizer.calls = 1
    bench = make_bench(opener=lambda config, path: FakeMap(localizer))
    bench.give_initialpose(pose(10.0))
    for second in range(3, 9):
        bench.robot.image.publish(image_message(second * SECOND))
        expected = second - 2
        wait(lambda expected=expected: bench.node._session.counts.received == expected, "image")
        wait(lambda: localizer.calls == 2, "call")
    localizer.go.set()
    wait(lambda: len(bench.robot.statuses) == 2, "statuses")
    assert [status.header.stamp.sec for status in bench.robot.statuses] == [3, 8]
    last = bench.robot.statuses[-1]
    assert (last.images_received, last.images_taken, last.images_dropped) == (6, 2, 4)
