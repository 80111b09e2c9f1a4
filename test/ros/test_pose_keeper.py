import pytest
import torch

from pixloc_core.geometry import Pose
from pixloc_ros.pose_keeper import InitialPose, PoseKeeper

SECOND = 1_000_000_000


def at(x: float, angle: float = 0.0) -> Pose:
    aa = torch.tensor([0.0, 0.0, angle], dtype=torch.float64)
    return Pose.from_aa(aa, torch.tensor([x, 0.0, 0.0], dtype=torch.float64))


@pytest.fixture
def keeper():
    return PoseKeeper(max_failures=3, timeout_s=5.0)


def assert_pose(found: Pose, expected: Pose) -> None:
    torch.testing.assert_close(found.data, expected.data)


def test_nothing_is_known_at_first(keeper):
    assert keeper.prior(at(1.0)) is None
    assert keeper.map_from_odom is None


def test_initial_pose_is_moved_by_the_odometry_since_its_stamp(keeper):
    keeper.start(InitialPose(at(10.0, 0.5), 0), odom_from_base=at(1.0))
    prior = keeper.prior(at(3.0))
    assert prior.source == "initialpose"
    assert_pose(prior.map_from_base, at(10.0, 0.5) @ at(2.0))


def test_initial_pose_is_a_prior_but_not_yet_a_transform_to_publish(keeper):
    keeper.start(InitialPose(at(10.0), 0), at(1.0))
    assert keeper.map_from_odom is None
    keeper.accept(at(10.1), at(1.0), SECOND)
    assert_pose(keeper.map_from_odom, at(9.1))


def test_last_good_pose_is_continued_by_odometry(keeper):
    keeper.accept(at(5.0, 0.2), at(1.0, 0.1), SECOND)
    prior = keeper.prior(at(2.0, 0.4))
    assert prior.source == "odometry"
    expected = at(5.0, 0.2) @ at(1.0, 0.1).inv() @ at(2.0, 0.4)
    assert_pose(prior.map_from_base, expected)


def test_without_odometry_the_last_pose_itself_is_the_prior(keeper):
    keeper.accept(at(5.0), None, SECOND)
    prior = keeper.prior(None)
    assert prior.source == "last_pose"
    assert_pose(prior.map_from_base, at(5.0))
    assert keeper.map_from_odom is None


def test_odometry_that_fails_for_one_image_does_not_stop_the_broadcast(keeper):
    keeper.accept(at(5.0), at(1.0), SECOND)
    keeper.accept(at(6.0), None, 2 * SECOND)
    assert_pose(keeper.map_from_odom, at(4.0))
    # The old transform to the odometry is not mixed with the newer pose.
    assert_pose(keeper.prior(at(9.0)).map_from_base, at(6.0))


def test_failures_keep_the_prior_until_there_are_too_many(keeper):
    keeper.accept(at(5.0), at(1.0), SECOND)
    assert [keeper.fail(SECOND) for _ in range(3)] == ["", "", ""]
    assert_pose(keeper.prior(at(2.0)).map_from_base, at(6.0))
    assert "4 images in a row without a pose" in keeper.fail(SECOND)
    assert keeper.prior(at(2.0)) is None
    assert keeper.map_from_odom is None
    assert keeper.failures == 4


def test_success_starts_the_count_anew(keeper):
    keeper.accept(at(5.0), at(1.0), SECOND)
    keeper.fail(SECOND)
    keeper.accept(at(5.0), at(1.0), SECOND)
    assert keeper.failures == 0


def test_pose_is_forgotten_after_the_timeout(keeper):
    keeper.accept(at(5.0), at(1.0), SECOND)
    assert keeper.fail(6 * SECOND) == ""
    assert "no pose for 5.5 s" in keeper.fail(SECOND + 5 * SECOND + SECOND // 2)
    assert keeper.prior(None) is None


def test_zero_means_any_number_of_failures_and_any_time():
    keeper = PoseKeeper(max_failures=0, timeout_s=0.0)
    keeper.accept(at(5.0), None, SECOND)
    assert not any(keeper.fail(1000 * SECOND) for _ in range(100))
    assert keeper.prior(None) is not None


def test_stamps_that_go_back_do_not_forget_the_pose(keeper):
    keeper.accept(at(5.0), None, 100 * SECOND)
    assert keeper.fail(SECOND) == ""
    assert keeper.prior(None) is not None


def test_initial_pose_given_is_taken_once_and_the_last_one_wins(keeper):
    keeper.give(InitialPose(at(1.0), 1))
    keeper.give(InitialPose(at(2.0), 2))
    assert keeper.take_initial().stamp_ns == 2
    assert keeper.take_initial() is None
