"""What the node publishes beside poses, and what filters demand of the poses, over DDS."""

import itertools
import math
import threading
from typing import Any

import numpy as np
import pytest
import torch
from fake_localizer import SECOND, pose
from geometry_msgs.msg import PoseArray
from nav_msgs.msg import Odometry, Path
from rclpy.qos import QoSProfile
from robot_bench import LATCHED, Bench, wait
from robot_calls import Operator
from sensor_msgs.msg import Image, PointCloud2, PointField

from pixloc_core.geometry import Pose
from pixloc_core.localizer.fix import Fix
from pixloc_ros.conversions import pose_from_message, pose_to_transform, stamp_to_ns
from pixloc_ros.interfaces import TFMessage
from pixloc_ros.twist import UNKNOWN_VARIANCE, twist_between


class Audience:
    """Subscribes to outputs of a tracked robot."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def listen(
        self, kind: type[Any], topic: str, publisher: Any, qos: QoSProfile | int = 10
    ) -> list[Any]:
        heard: list[Any] = []
        self.bench.robot.node.create_subscription(kind, topic, heard.append, qos)
        wait(publisher.get_subscription_count, "connection")
        return heard

    @property
    def outputs(self) -> Any:
        return self.bench.node._session.outputs


@pytest.fixture
def bench(make_bench, monkeypatch) -> Bench:
    """Tracked since second 3; the core moves the robot by 0.25 m with each image."""
    bench = make_bench()
    bench.give_initialpose(pose(10.0))
    outputs = bench.node._session.outputs
    publish, is_done = outputs.publish_pictures, threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(outputs, "publish_pictures", lambda *args: publish(*args) or is_done.set())
        assert bench.ask(3.0).published
        # They come after the status: who listens from now on must not hear those of this image.
        assert is_done.wait(10.0)
    return bench


@pytest.fixture
def audience(bench) -> Audience:
    return Audience(bench)


def test_odometry_is_the_pose_of_the_robot_with_its_velocity(bench, audience):
    heard = audience.listen(Odometry, "odometry", audience.outputs._odometry)
    bench.ask(4.0)
    wait(lambda: heard, "odometry")
    message = heard[0]
    assert (message.header.frame_id, message.child_frame_id) == ("map", "base_link")
    assert message.header.stamp.sec == 4
    wait(lambda: len(bench.robot.poses) == 2, "pose")
    assert message.pose == bench.robot.poses[1].pose
    assert message.twist.twist.linear.x == pytest.approx(0.25)
    assert message.twist.twist.angular.z == pytest.approx(0.0)
    assert np.diag(np.reshape(message.twist.covariance, (6, 6))).min() > 0


def test_a_pose_that_begins_anew_is_no_velocity(bench, audience):
    """Somebody has carried the robot, or corrected its pose: it has not driven there."""
    heard = audience.listen(Odometry, "odometry", audience.outputs._odometry)
    assert Operator(bench.robot.node).set_initial_pose(pose(50.0), 3 * SECOND).success
    assert bench.ask(4.0).published
    assert bench.ask(5.0).published
    wait(lambda: len(heard) == 2, "odometry")
    assert heard[0].pose.pose.position.x == pytest.approx(50.25)
    assert heard[0].twist.twist.linear.x == 0.0
    assert heard[0].twist.covariance[0] == UNKNOWN_VARIANCE
    assert heard[1].twist.twist.linear.x == pytest.approx(0.25)


def test_a_velocity_does_not_bridge_an_image_without_a_pose(bench, audience):
    heard = audience.listen(Odometry, "odometry", audience.outputs._odometry)
    assert not bench.ask(3.5, value=5).published
    assert bench.ask(4.0).published
    assert bench.ask(4.5).published
    wait(lambda: len(heard) == 2, "odometry")
    assert heard[0].twist.twist.linear.x == 0.0
    assert heard[0].twist.covariance[0] == UNKNOWN_VARIANCE
    assert heard[1].twist.twist.linear.x == pytest.approx(0.5)


def test_an_unknown_velocity_is_loose_but_no_burden_for_a_filter():
    """Looser than anything measured, without the huge numbers that filters ask not to be given."""
    variances = np.diag(np.reshape(twist_between(None, fix(1.0, pose())).covariance, (6, 6)))
    assert (variances >= 30.0**2).all()
    assert (variances <= 1e4).all()


def test_the_path_grows_with_every_pose_and_is_kept_for_late_listeners(bench, audience):
    bench.ask(4.0)
    heard = audience.listen(Path, "path", audience.outputs._path, LATCHED)
    bench.ask(5.0)
    wait(lambda: heard, "path")
    message = heard[-1]
    assert (message.header.frame_id, message.header.stamp.sec) == ("map", 5)
    assert [item.pose.position.x for item in message.poses] == pytest.approx([10.25, 10.5, 10.75])
    assert [item.header.stamp.sec for item in message.poses] == [3, 4, 5]
    assert {item.header.frame_id for item in message.poses} == {"map"}
    bench.ask(6.0, value=5)
    late = audience.listen(Path, "path", audience.outputs._path, LATCHED)
    wait(lambda: late, "latched path")
    assert len(late[-1].poses) == 3


def test_a_path_is_bounded(make_bench):
    bench = make_bench("-p", "path_length:=3")
    audience = Audience(bench)
    bench.give_initialpose(pose(10.0))
    heard = audience.listen(Path, "path", audience.outputs._path, LATCHED)
    for second in range(3, 9):
        bench.ask(float(second))
    wait(lambda: heard and heard[-1].header.stamp.sec == 8, "path")
    assert [item.header.stamp.sec for item in heard[-1].poses] == [6, 7, 8]


def test_a_path_is_published_once_a_second_and_after_the_status(bench, audience, monkeypatch):
    """A thousand poses cost more than the status that others wait for."""
    outputs, order = audience.outputs, []

    def note(name: str) -> None:
        publisher = getattr(outputs, f"_{name}")
        publish = publisher.publish
        monkeypatch.setattr(publisher, "publish", lambda m: order.append(name) or publish(m))

    heard = audience.listen(Path, "path", outputs._path)
    note("path")
    note("status")
    for tenth in range(31, 43):
        assert bench.ask(tenth / 10).published
    wait(lambda: len(heard) == 2, "path")
    assert [round(stamp_to_ns(m.header.stamp) / 1e8) for m in heard] == [31, 41]
    assert order[:2] == ["status", "path"]
    assert order[2:] == ["status"] * 10 + ["path", "status"]
    assert len(heard[-1].poses) == 12


def test_map_points_carry_residual_and_weight(bench, audience):
    heard = audience.listen(PointCloud2, "map_points", audience.outputs._points)
    bench.ask(4.0)
    wait(lambda: heard, "map_points")
    message = heard[0]
    assert (message.header.frame_id, message.header.stamp.sec) == ("map", 4)
    assert [field.name for field in message.fields] == ["x", "y", "z", "residual", "weight"]
    assert {field.datatype for field in message.fields} == {PointField.FLOAT32}
    # The third one lies outside the image.
    assert (message.width, message.height, message.point_step) == (2, 1, 20)
    table = np.frombuffer(message.data, np.float32).reshape(2, 5)
    np.testing.assert_allclose(table[:, 0], [5.0, 7.0])
    np.testing.assert_allclose(table[:, 3:], [[0.1, 1.0], [0.9, 0.2]], rtol=1e-6)


def test_hypotheses_are_poses_of_the_robot_in_the_map(bench, audience):
    heard = audience.listen(PoseArray, "hypotheses", audience.outputs._hypotheses)
    bench.ask(4.0)
    wait(lambda: heard, "hypotheses")
    assert (heard[0].header.frame_id, heard[0].header.stamp.sec) == ("map", 4)
    # The fake core tells its prior: where the robot was in the image before.
    assert [item.position.x for item in heard[0].poses] == pytest.approx([10.25])


def test_the_overlay_is_a_picture_of_the_size_of_the_image(bench, audience):
    heard = audience.listen(Image, "overlay", audience.outputs._overlay[""])
    bench.ask(4.0)
    wait(lambda: heard, "overlay")
    message = heard[0]
    assert (message.width, message.height, message.encoding) == (32, 24, "rgb8")
    assert (message.header.frame_id, message.header.stamp.sec) == ("camera", 4)
    pixels = np.frombuffer(message.data, np.uint8).reshape(24, 32, 3)
    # Points in colour on a grey image.
    assert (pixels.max(-1) != pixels.min(-1)).any()


def test_what_nobody_listens_to_is_not_made(bench, audience, monkeypatch):
    made = []
    points = bench.map.points
    monkeypatch.setattr(bench.map, "points", lambda index: made.append(1) or points(index))
    bench.ask(4.0)
    outputs = audience.outputs
    silent = (outputs._points, outputs._hypotheses, outputs._overlay[""], outputs._confidence[""])
    assert not any(publisher.get_subscription_count() for publisher in silent)
    assert not made
    heard = audience.listen(PointCloud2, "map_points", outputs._points)
    bench.ask(5.0)
    wait(lambda: heard, "map_points")
    assert made


def test_nothing_is_shown_of_an_image_that_is_refused(bench, audience):
    clouds = audience.listen(PointCloud2, "map_points", audience.outputs._points)
    paths = audience.listen(Path, "path", audience.outputs._path)
    odometry = audience.listen(Odometry, "odometry", audience.outputs._odometry)
    bench.ask(4.0, value=0)
    assert bench.ask(5.0).published
    wait(lambda: clouds and paths and odometry, "outputs")
    assert [message.header.stamp.sec for message in (*clouds, *odometry)] == [5, 5]
    assert paths[-1].header.stamp.sec == 5


def test_every_pose_keeps_the_rules_of_robot_localization(make_bench):
    """Frame of the map, rising stamps, unit quaternion, a covariance that can be inverted."""
    bench = make_bench()
    robot = bench.robot
    bench.give_initialpose(pose(10.0, angle=2.0))
    seconds = [3.0 + 0.1 * index for index in range(12)]
    for index, second in enumerate(seconds):
        bench.ask(second, value=5 if index % 4 == 2 else 200)
    wait(lambda: len(robot.poses) == 9, "poses")
    stamps = [stamp_to_ns(message.header.stamp) for message in robot.poses]
    assert all(later > earlier for earlier, later in itertools.pairwise(stamps))
    for message in robot.poses:
        assert message.header.frame_id == "map"
        assert not message.header.frame_id.startswith("/")
        q = message.pose.pose.orientation
        assert math.hypot(q.x, q.y, q.z, q.w) == pytest.approx(1.0, abs=1e-9)
        covariance = np.reshape(message.pose.covariance, (6, 6))
        assert np.isfinite(covariance).all()
        assert np.diag(covariance).min() >= 1e-9
        np.testing.assert_allclose(covariance, covariance.T, atol=1e-15)
        assert np.linalg.eigvalsh(covariance).min() > 0


def test_weak_images_are_published_with_more_covariance(make_bench):
    bench = make_bench("-p", "state.min_heldout_score:=0.9")
    bench.give_initialpose(pose(10.0))
    statuses = [bench.ask(3.0 + 0.1 * index) for index in range(3)]
    # The fake core's held-out points agree by 80 %: too weak for a first pose.
    assert not any(status.published for status in statuses)
    assert "80% of the held-out points agree" in statuses[0].reason


def test_a_camera_on_a_turned_robot_is_published_as_the_base(make_bench):
    bench = make_bench()
    for tenth in (92, 99):
        stamp = tenth * SECOND // 10
        turned = pose_to_transform(pose(1.0, 2.0, 0.5), "odom", "base_link", stamp)
        bench.robot.tf.publish(TFMessage(transforms=[turned]))
    edge = bench.node._frames._tree._edges["base_link"]
    wait(lambda: len(edge.stamps) == 4, "odometry")
    operator = Operator(bench.robot.node)
    operator.set_initial_pose(pose(10.0, 5.0, 1.2), round(9.3 * SECOND))
    assert bench.ask(9.5).published
    wait(lambda: bench.robot.poses and bench.robot.map_to_odom, "pose")
    found = pose_from_message(bench.robot.poses[0].pose.pose)
    expected = pose(0.25) @ pose(10.0, 5.0, 1.2)
    torch.testing.assert_close(found.data, expected.data)
    sent = pose_from_message(bench.robot.map_to_odom[-1].transforms[0].transform)
    torch.testing.assert_close((sent @ pose(1.0, 2.0, 0.5)).data, expected.data)


# The velocity


def fix(seconds: float, value: Pose) -> tuple[Fix, np.ndarray]:
    return Fix(round(seconds * SECOND), value, None), np.diag([1e-4] * 3 + [4e-4] * 3)


def test_velocity_is_that_of_the_robot_in_its_own_axes():
    """Driving along y of the map while looking along it is driving forward."""
    twist = twist_between(
        fix(1.0, pose(3.0, 0.0, math.pi / 2)), fix(1.5, pose(3.0, 1.0, math.pi / 2))
    )
    linear, angular = twist.twist.linear, twist.twist.angular
    assert (linear.x, linear.y, linear.z) == pytest.approx((2.0, 0.0, 0.0), abs=1e-12)
    assert (angular.x, angular.y, angular.z) == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)


def test_turning_is_told_about_the_axes_of_the_robot():
    twist = twist_between(fix(1.0, pose(0.0, 0.0, 0.1)), fix(1.5, pose(0.0, 0.0, 0.4)))
    assert twist.twist.angular.z == pytest.approx(0.6)


def test_covariance_of_the_velocity_grows_as_the_time_shrinks():
    slow, fast = (
        np.reshape(twist_between(fix(1.0, pose()), fix(1.0 + s, pose(1.0))).covariance, (6, 6))
        for s in (1.0, 0.1)
    )
    np.testing.assert_allclose(np.diag(slow), [2e-4] * 3 + [8e-4] * 3)
    np.testing.assert_allclose(fast, 100 * slow)


@pytest.mark.parametrize("seconds", [2.5, 0.0, -1.0])
def test_poses_that_say_nothing_about_the_velocity_leave_it_unknown(seconds):
    for twist in (
        twist_between(None, fix(1.0, pose())),
        twist_between(fix(1.0, pose()), fix(1.0 + seconds, pose(5.0))),
    ):
        assert twist.twist.linear.x == 0.0
        np.testing.assert_allclose(
            np.reshape(twist.covariance, (6, 6)), np.eye(6) * UNKNOWN_VARIANCE
        )
