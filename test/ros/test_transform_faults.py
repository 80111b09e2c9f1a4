"""Transforms and clocks that are wrong: what others see of it, over DDS."""

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from fake_localizer import BASE_FROM_CAM, SECOND, FakeMap, camera_info, image_message, pose
from knowing_localizer import KnowingLocalizer
from robot_bench import Bench, wait
from robot_calls import report
from rosgraph_msgs.msg import Clock

from pixloc_core.geometry import Pose
from pixloc_ros.conversions import ns_to_stamp, pose_to_transform
from pixloc_ros.interfaces import LocalizationStatus, TFMessage

BAD_INPUT, NO_PRIOR = LocalizationStatus.BAD_INPUT, LocalizationStatus.NO_PRIOR


def send_transform(
    bench: Bench, parent: str, child: str, seconds: float, value: Pose, *, static: bool = False
) -> None:
    robot = bench.robot
    transform = pose_to_transform(value, parent, child, round(seconds * SECOND))
    (robot.tf_static if static else robot.tf).publish(TFMessage(transforms=[transform]))


def send_odometry(bench: Bench, seconds: float, x: float) -> None:
    """And wait until the node has heard it."""
    send_transform(bench, "odom", "base_link", seconds, pose(x))
    tree, stamp = bench.node._frames._tree, round(seconds * SECOND)
    wait(lambda: stamp in tree._edges["base_link"].stamps, "odometry")


def test_a_camera_frame_that_nobody_publishes_is_named_and_heals(make_bench):
    bench = make_bench("-p", "camera_frame_id:=nose")
    bench.give_initialpose(pose(10.0))
    status = bench.ask(3.0)
    assert (status.status, status.published) == (BAD_INPUT, False)
    assert "frame 'nose' is unknown" in status.reason
    entry = report(bench, "localization", lambda: bench.ask(3.2))
    assert (entry.level, "nose" in entry.message) == (DiagnosticStatus.ERROR, True)
    send_transform(bench, "base_link", "nose", 0, BASE_FROM_CAM, static=True)
    wait(lambda: bench.node._frames.knows("nose"), "transform")
    assert bench.ask(4.0).published


def test_odometry_that_is_late_is_waited_for(make_bench):
    bench = make_bench("-p", "transform_timeout:=10.0")
    bench.give_initialpose(pose(10.0))
    assert bench.ask(8.0).published
    bench.robot.image.publish(image_message(round(9.5 * SECOND)))
    wait(lambda: bench.node._session.counts.taken == 2, "image in work")
    assert len(bench.robot.statuses) == 1
    send_odometry(bench, 10.0, 1.0)
    wait(lambda: len(bench.robot.statuses) == 2, "status")
    status = bench.robot.statuses[-1]
    assert (status.published, status.prior_source) == (True, "odometry")


def test_odometry_that_stays_away_costs_its_help_and_not_the_node(make_bench):
    bench = make_bench("-p", "transform_timeout:=0.05")
    bench.give_initialpose(pose(10.0))
    assert bench.ask(8.0).published
    status = bench.ask(9.5)
    assert (status.published, status.prior_source) == (True, "last_pose")
    send_odometry(bench, 10.0, 1.0)
    assert bench.ask(9.8).published


def test_transforms_that_form_a_loop_are_named_and_the_node_goes_on(make_bench):
    bench = make_bench("-p", "camera_frame_id:=eye")
    send_transform(bench, "base_link", "eye", 0, BASE_FROM_CAM, static=True)
    wait(lambda: bench.node._frames.knows("eye"), "transform")
    bench.give_initialpose(pose(10.0))
    assert bench.ask(3.0).published
    # eye -> arm -> eye: the camera does not hang on the robot any more.
    send_transform(bench, "arm", "eye", 0, BASE_FROM_CAM, static=True)
    send_transform(bench, "eye", "arm", 0, BASE_FROM_CAM, static=True)
    wait(lambda: bench.node._frames.knows("arm"), "transform")
    status = bench.ask(4.0)
    assert (status.status, status.published) == (BAD_INPUT, False)
    assert "frames form a loop: " in status.reason
    send_transform(bench, "base_link", "eye", 0, BASE_FROM_CAM, static=True)
    tree = bench.node._frames._tree
    wait(lambda: tree._edges["eye"].parent == "base_link", "transform")
    assert bench.ask(5.0).published


@pytest.fixture
def knowing(make_bench) -> Bench:
    """The robot stands at x = 10 in the map and at 1 in odometry, and is tracked."""
    localizer = KnowingLocalizer(pose(10.0), reach=1000.0)
    bench = make_bench(opener=lambda config, path: FakeMap(localizer))
    bench.localizer = localizer
    bench.give_initialpose(pose(10.0))
    assert bench.ask(8.0).published
    return bench


def test_odometry_that_jumps_is_believed_only_after_three_images(knowing):
    """The image says that the robot has not moved; the pose follows the image, not the jump."""
    send_odometry(knowing, 9.1, 6.0)
    send_odometry(knowing, 9.9, 6.0)
    statuses = [knowing.ask(seconds) for seconds in (9.1, 9.4, 9.7, 9.8)]
    assert [status.published for status in statuses] == [False, False, True, True]
    assert "contradicts the last one and odometry" in statuses[0].reason
    assert statuses[2].state_reason.startswith("jumped by 5.00 m")
    assert statuses[0].innovation_m == pytest.approx(5.0)
    wait(lambda: len(knowing.robot.poses) == 3, "poses")
    xs = [message.pose.pose.position.x for message in knowing.robot.poses]
    assert xs == pytest.approx([10.0] * 3)
    robot = knowing.robot
    wait(lambda: robot.map_to_odom[-1].transforms[0].transform.translation.x == 4.0, "map -> odom")


def test_images_of_the_past_begin_anew(make_bench):
    """A bag that starts again, without a clock."""
    bench = make_bench()
    bench.give_initialpose(pose(10.0))
    assert bench.ask(8.0).published
    status = bench.ask(3.0)
    assert (status.status, status.state) == (NO_PRIOR, LocalizationStatus.UNINITIALIZED)
    assert bench.node._engine.pipeline.map_from_odom is None
    bench.robot.map_to_odom.clear()
    bench.ask(3.5)
    assert not bench.robot.map_to_odom
    bench.give_initialpose(pose(10.0))
    assert bench.ask(4.0).published


def test_a_clock_that_is_set_back_forgets_poses_transforms_and_path(make_bench):
    bench = make_bench("-p", "use_sim_time:=true")
    robot = bench.robot
    clock = robot.node.create_publisher(Clock, "/clock", 10)
    wait(clock.get_subscription_count, "connection")

    def tell(seconds: float) -> None:
        clock.publish(Clock(clock=ns_to_stamp(round(seconds * SECOND))))
        now = bench.node.get_clock().now
        wait(lambda: now().nanoseconds == round(seconds * SECOND), "clock")

    tell(8.0)
    bench.give_initialpose(pose(10.0))
    assert bench.ask(8.0).published
    wait(lambda: robot.map_to_odom, "map -> odom")
    tell(3.0)
    wait(lambda: not bench.node._frames.knows("odom"), "reset")
    assert bench.node._frames.knows("camera")
    status = bench.ask(3.0)
    assert (status.status, status.state) == (NO_PRIOR, LocalizationStatus.UNINITIALIZED)
    assert "time was set back" in status.state_reason
    robot.map_to_odom.clear()
    bench.diagnosis("localization")
    assert not robot.map_to_odom
    assert len(robot.poses) == 1
    robot.send_transforms()
    wait(lambda: bench.node._frames.knows("odom"), "odometry")
    bench.give_initialpose(pose(20.0))
    status = bench.ask(3.5)
    assert (status.published, status.header.stamp.sec) == (True, 3)


def test_an_image_of_the_future_is_refused(make_bench):
    """Simulated time that nobody tells, or a camera with a clock of its own."""
    bench = make_bench("-p", "use_sim_time:=true")
    status = bench.ask(8.0)
    assert (status.status, status.published) == (BAD_INPUT, False)
    assert "8.0 s in the future of the clock of this node" in status.reason
    clock = bench.robot.node.create_publisher(Clock, "/clock", 10)
    wait(clock.get_subscription_count, "connection")
    clock.publish(Clock(clock=ns_to_stamp(8 * SECOND)))
    wait(lambda: bench.node.get_clock().now().nanoseconds == 8 * SECOND, "clock")
    bench.give_initialpose(pose(10.0))
    assert bench.ask(8.1).published


def test_a_bag_that_starts_again_starts_where_it_started(make_bench):
    arguments = ("set_initial_pose:=true", "initial_pose.x:=10.0", "use_sim_time:=true")
    bench = make_bench(*(word for value in arguments for word in ("-p", value)))
    clock = bench.robot.node.create_publisher(Clock, "/clock", 10)
    wait(clock.get_subscription_count, "connection")
    for seconds in (8, 3):
        clock.publish(Clock(clock=ns_to_stamp(seconds * SECOND)))
        now = bench.node.get_clock().now
        wait(lambda: now().nanoseconds == seconds * SECOND, "clock")  # noqa: B023 (waited for)
        bench.robot.send_transforms()
        wait(lambda: bench.node._frames.knows("odom"), "odometry")
        assert bench.ask(seconds).prior_source == "initialpose"
    wait(lambda: len(bench.robot.poses) == 2, "poses")


def test_a_robot_without_odometry_is_told_that_the_transform_cannot_be_published(make_bench):
    bench = make_bench(active=False)
    robot, node = bench.robot, bench.node
    wait(lambda: node._session is not None, "activation")
    publishers = (robot.image, robot.info, robot.tf_static, robot.initial)
    wait(lambda: all(p.get_subscription_count() for p in publishers), "connection")
    wait(lambda: node.count_subscribers("status") == 1, "connection")
    static = pose_to_transform(BASE_FROM_CAM, "base_link", "camera", 0)
    robot.tf_static.publish(TFMessage(transforms=[static]))
    robot.info.publish(camera_info())
    wait(lambda: not node._session.inputs.uncalibrated, "camera_info")
    wait(lambda: node._frames.knows("camera"), "frames")
    bench.give_initialpose(pose(10.0))
    robot.diagnostics.clear()
    assert bench.ask(3.0).published

    def heard() -> list[DiagnosticStatus]:
        entries = [entry for report in robot.diagnostics for entry in report.status]
        return [entry for entry in entries if "cannot be published" in entry.message]

    wait(heard, "diagnosis")
    entry = heard()[0]
    assert (entry.name, entry.level) == ("localizer: input", DiagnosticStatus.WARN)
    assert entry.message.startswith("nothing on /tf names frame 'odom'")
    assert not robot.map_to_odom


def test_an_image_that_waits_while_time_is_set_back_does_not_count(make_bench):
    """It would use up the pose that the new beginning has been given."""
    localizer = KnowingLocalizer(pose(10.0), reach=100.0)
    arguments = ("set_initial_pose:=true", "initial_pose.x:=10.0", "use_sim_time:=true")
    bench = make_bench(
        *(word for value in arguments for word in ("-p", value)),
        opener=lambda config, path: FakeMap(localizer),
    )
    robot, node = bench.robot, bench.node
    clock = robot.node.create_publisher(Clock, "/clock", 10)
    wait(clock.get_subscription_count, "connection")
    clock.publish(Clock(clock=ns_to_stamp(8 * SECOND)))
    wait(lambda: node.get_clock().now().nanoseconds == 8 * SECOND, "clock")
    localizer.gate.clear()
    robot.image.publish(image_message(8 * SECOND))
    assert localizer.entered.wait(15.0)
    robot.image.publish(image_message(round(8.2 * SECOND)))
    wait(lambda: node._session.counts.received == 2, "image that waits")
    clock.publish(Clock(clock=ns_to_stamp(3 * SECOND)))
    wait(lambda: not node._frames.knows("odom"), "reset")
    robot.send_transforms()
    wait(lambda: node._frames.knows("odom"), "odometry")
    localizer.gate.set()
    wait(lambda: len(robot.statuses) == 1, "status")
    status = bench.ask(3.0)
    assert (status.header.stamp.sec, status.images_dropped) == (3, 1)
    assert (status.published, status.prior_source) == (True, "initialpose")


def test_transforms_between_images_do_not_wait_for_the_localizer(knowing):
    """/tf goes on at its rate while an image is in work."""
    localizer, robot = knowing.localizer, knowing.robot
    localizer.gate.clear()
    localizer.entered.clear()
    robot.image.publish(image_message(round(8.5 * SECOND)))
    assert localizer.entered.wait(15.0)
    heard = len(robot.map_to_odom)
    try:
        wait(lambda: len(robot.map_to_odom) > heard + 5, "transforms")
        robot.info.publish(camera_info())
    finally:
        localizer.gate.set()
    wait(lambda: len(robot.statuses) == 2, "status")
