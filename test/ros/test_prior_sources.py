"""Poses of a filter, on its topic or on /tf: where the node starts, over DDS."""

import math
from typing import Any

import pytest
import torch
from fake_localizer import SECOND, FakeMap, pose
from geometry_msgs.msg import PoseWithCovarianceStamped
from knowing_localizer import KnowingLocalizer
from robot_bench import Bench, wait

from pixloc_core.errors import FrameError
from pixloc_core.geometry import Pose
from pixloc_ros.conversions import (
    ns_to_stamp,
    pose_to_message,
    pose_to_transform,
    rigid_from_message,
)
from pixloc_ros.interfaces import LocalizationStatus, TFMessage
from pixloc_ros.prior_poses import PoseBuffer, StampedPose


def assert_pose(found: Pose, expected: Pose) -> None:
    torch.testing.assert_close(found.data, expected.data, atol=1e-9, rtol=0)


NO_PRIOR, LOCALIZED = LocalizationStatus.NO_PRIOR, LocalizationStatus.LOCALIZED


class FilterBench:
    """A robot at a known place, a node with a prior source, and a filter."""

    def __init__(self, make_bench, source: str, *arguments: str) -> None:
        self.localizer = KnowingLocalizer(pose(10.0), reach=0.4)
        parameters = ("-p", f"prior_source:={source}", *arguments)
        self.bench: Bench = make_bench(
            *parameters, opener=lambda config, path: FakeMap(self.localizer)
        )
        node = self.bench.robot.node
        self.prior = node.create_publisher(PoseWithCovarianceStamped, "prior_pose", 10)
        wait(self.prior.get_subscription_count, "connection")

    def filter_says(self, seconds: float, value: Pose, frame: str = "map") -> None:
        message = PoseWithCovarianceStamped()
        message.header.frame_id = frame
        message.header.stamp = ns_to_stamp(round(seconds * SECOND))
        message.pose.pose = pose_to_message(value)
        self.prior.publish(message)

    def wait_for_priors(self, count: int) -> None:
        wait(lambda: len(self.bench.node._prior_poses._poses) == count, "prior_pose")

    def odometry(self, seconds: float, x: float) -> None:
        transform = pose_to_transform(pose(x), "odom", "base_link", round(seconds * SECOND))
        self.bench.robot.tf.publish(TFMessage(transforms=[transform]))
        tree = self.bench.node._frames._tree
        stamp = round(seconds * SECOND)
        wait(lambda: stamp in tree._edges["base_link"].stamps, "odometry")


def first_start(found: KnowingLocalizer) -> float:
    """x of the camera where the newest image was started."""
    return float(found.priors[-1].cam_from_map[0].center[0])


def test_a_topic_is_interpolated_between_the_poses_around_the_stamp(make_bench):
    rig = FilterBench(make_bench, "topic")
    rig.filter_says(3.0, pose(9.5))
    rig.filter_says(4.0, pose(10.1))
    rig.wait_for_priors(2)
    status = rig.bench.ask(3.75)
    assert (status.status, status.prior_source) == (LOCALIZED, "topic")
    # The camera is half a metre in front of the base.
    assert first_start(rig.localizer) == pytest.approx(9.95 + 0.5)
    assert status.innovation_m == pytest.approx(0.05, abs=1e-6)
    # Every image starts there, also the next one.
    rig.filter_says(5.0, pose(9.9))
    rig.wait_for_priors(3)
    assert rig.bench.ask(5.0).prior_source == "topic"
    assert first_start(rig.localizer) == pytest.approx(9.9 + 0.5)


def test_the_newest_pose_of_a_topic_is_moved_on_by_odometry(make_bench):
    rig = FilterBench(make_bench, "topic")
    for seconds, x in ((9.5, 1.0), (10.0, 1.5)):
        rig.odometry(seconds, x)
    rig.filter_says(9.5, pose(9.5))
    rig.wait_for_priors(1)
    assert rig.bench.ask(10.0).published
    assert first_start(rig.localizer) == pytest.approx(10.0 + 0.5)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (5.0, "newest prior_pose is 2.00 s older than the image, limit 1 s (prior_max_age)"),
        (2.0, "every prior_pose is later than the image, by 1.00 s or more"),
    ],
)
def test_a_topic_that_does_not_fit_the_stamp_is_refused_with_the_reason(
    make_bench, seconds, words
):
    rig = FilterBench(make_bench, "topic")
    rig.filter_says(3.0, pose(10.0))
    rig.wait_for_priors(1)
    status = rig.bench.ask(seconds)
    assert (status.status, status.reason, status.published) == (NO_PRIOR, words, False)


def test_a_topic_that_says_nothing_is_told(make_bench):
    rig = FilterBench(make_bench, "topic")
    assert rig.bench.ask(3.0).reason == "no message on prior_pose yet"


def test_a_pose_of_another_frame_is_not_taken_from_the_topic(make_bench):
    rig = FilterBench(make_bench, "topic")
    rig.filter_says(3.0, pose(50.0), frame="odom")
    rig.filter_says(3.0, pose(math.nan))
    rig.filter_says(3.0, pose(10.0))
    rig.wait_for_priors(1)
    assert rig.bench.ask(3.0).published
    assert first_start(rig.localizer) == pytest.approx(10.0 + 0.5)


def test_a_filter_that_is_wrong_is_not_followed(make_bench):
    rig = FilterBench(make_bench, "topic")
    rig.filter_says(3.0, pose(30.0))
    rig.wait_for_priors(1)
    status = rig.bench.ask(3.0)
    assert (status.status, status.published) == (LocalizationStatus.NOT_LOCALIZED, False)
    assert not rig.bench.robot.poses


def send_map_to_odom(rig: FilterBench, seconds: float, value: Pose) -> None:
    transform = pose_to_transform(value, "map", "odom", round(seconds * SECOND))
    rig.bench.robot.tf.publish(TFMessage(transforms=[transform]))


def test_a_filter_that_owns_the_transform_is_asked_on_tf(make_bench):
    rig = FilterBench(make_bench, "tf", "-p", "tf_broadcast:=false")
    status = rig.bench.ask(2.0)
    assert (status.status, status.reason) == (NO_PRIOR, "no pose yet: waiting for initialpose")
    for seconds in (1.0, 9.0):
        send_map_to_odom(rig, seconds, pose(8.8))
    wait(lambda: rig.bench.node._frames.knows("map"), "map -> odom")
    status = rig.bench.ask(3.0)
    assert (status.published, status.prior_source) == (True, "tf")
    # Odometry stands at 1 m.
    assert first_start(rig.localizer) == pytest.approx(8.8 + 1.0 + 0.5)
    assert rig.bench.ask(4.0).prior_source == "odometry"


def test_our_own_transform_is_nobody_elses_opinion(make_bench):
    """With tf_broadcast map -> odom is what the node itself said before it was lost."""
    rig = FilterBench(make_bench, "tf")
    for seconds in (1.0, 9.0):
        send_map_to_odom(rig, seconds, pose(9.0))
    wait(lambda: rig.bench.node._frames.knows("map"), "map -> odom")
    assert rig.bench.ask(3.0).status == NO_PRIOR


def test_auto_starts_at_the_topic_and_goes_on_with_odometry(make_bench):
    rig = FilterBench(make_bench, "auto")
    rig.filter_says(3.0, pose(10.1))
    rig.wait_for_priors(1)
    assert rig.bench.ask(3.0).prior_source == "topic"
    assert rig.bench.ask(4.0).prior_source == "odometry"


# The buffer of poses


def stamped(seconds: float, value: Pose) -> StampedPose:
    message: Any = pose_to_message(value)
    return StampedPose(round(seconds * SECOND), rigid_from_message(message))


@pytest.fixture
def buffer() -> PoseBuffer:
    buffer = PoseBuffer(history_s=10.0)
    buffer.add(stamped(1.0, pose(0.0, 0.0, 0.0)))
    buffer.add(stamped(2.0, pose(4.0, -2.0, 1.0)))
    return buffer


def test_positions_go_straight_and_angles_turn_evenly(buffer):
    found, stamp = buffer.at(round(1.25 * SECOND), 0.0)
    assert stamp == round(1.25 * SECOND)
    torch.testing.assert_close(found.data, pose(1.0, -0.5, 0.25).data, atol=1e-12, rtol=0)


def test_a_pose_at_its_stamp_is_itself_however_old(buffer):
    assert_pose(buffer.at(SECOND, 0.0)[0], pose())
    assert_pose(buffer.at(2 * SECOND, 0.0)[0], pose(4.0, -2.0, 1.0))


def test_the_newest_pose_is_given_for_as_long_as_it_may_with_its_own_stamp(buffer):
    found, stamp = buffer.at(round(2.5 * SECOND), 0.5)
    assert stamp == 2 * SECOND
    assert_pose(found, pose(4.0, -2.0, 1.0))
    with pytest.raises(FrameError, match=r"0\.60 s older"):
        buffer.at(round(2.6 * SECOND), 0.5)


def test_nothing_is_said_of_the_time_before_the_first_pose(buffer):
    with pytest.raises(FrameError, match=r"later than the image, by 0\.50 s"):
        buffer.at(SECOND // 2, 100.0)
    with pytest.raises(FrameError, match="no message"):
        PoseBuffer(1.0).at(SECOND, 100.0)


def test_old_poses_are_dropped_and_late_ones_not_taken(buffer):
    buffer.add(stamped(1.5, pose(99.0)))
    assert_pose(buffer.at(round(1.5 * SECOND), 0.0)[0], pose(2.0, -1.0, 0.5))
    buffer.add(stamped(11.5, pose(5.0)))
    with pytest.raises(FrameError, match="later than the image"):
        buffer.at(round(1.5 * SECOND), 0.0)


def test_time_that_is_set_back_begins_anew():
    buffer = PoseBuffer(10.0)
    buffer.add(stamped(50.0, pose(1.0)))
    buffer.add(stamped(2.0, pose(3.0)))
    assert_pose(buffer.at(2 * SECOND, 0.0)[0], pose(3.0))
    with pytest.raises(FrameError, match=r"48\.00 s older"):
        buffer.at(50 * SECOND, 1.0)
