"""Images and calibrations that are wrong: what others see of it, over DDS."""

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from fake_localizer import SECOND, camera_info, image_message, pose
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from robot_bench import Bench, wait
from robot_calls import report
from sensor_msgs.msg import CameraInfo, Image

from pixloc_ros.conversions import ns_to_stamp, pose_to_transform
from pixloc_ros.interfaces import LocalizationStatus, TFMessage

BAD_INPUT, LOCALIZED = LocalizationStatus.BAD_INPUT, LocalizationStatus.LOCALIZED
TRACKING, DEGRADED = LocalizationStatus.TRACKING, LocalizationStatus.DEGRADED


def send(bench: Bench, message: Image) -> LocalizationStatus:
    """What is said about an image."""
    before = len(bench.robot.statuses)
    bench.robot.image.publish(message)
    wait(lambda: len(bench.robot.statuses) > before, "status")
    return bench.robot.statuses[-1]


def pose_stamps(bench: Bench) -> list[float]:
    """Seconds of the poses published."""
    stamps = [message.header.stamp for message in bench.robot.poses]
    return [stamp.sec + stamp.nanosec / 1e9 for stamp in stamps]


@pytest.fixture
def tracking(make_bench) -> Bench:
    """A node that has localized the image of second 3."""
    bench = make_bench()
    bench.give_initialpose(pose(10.0))
    assert bench.ask(3.0).published
    return bench


def wrong_size(stamp_ns: int) -> Image:
    return image_message(stamp_ns, size=(64, 48))


def wrong_encoding(stamp_ns: int) -> Image:
    message = image_message(stamp_ns)
    message.encoding = "32FC1"
    return message


def cut_off(stamp_ns: int) -> Image:
    message = image_message(stamp_ns)
    message.data = message.data[:100]
    return message


def black(stamp_ns: int) -> Image:
    return image_message(stamp_ns, 0)


FAULTS = {
    "black": (black, "image is all black"),
    "wrong size": (wrong_size, "image is 64x48, but camera_info describes 32x24"),
    "wrong encoding": (wrong_encoding, "image has encoding '32FC1'"),
    "cut off": (cut_off, "image of 32x24 mono8 has step 32 and 100 bytes"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_image_that_cannot_be_used_is_told_and_not_answered(tracking, fault):
    make, words = FAULTS[fault]
    status = send(tracking, make(4 * SECOND))
    assert (status.status, status.published) == (BAD_INPUT, False)
    assert words in status.reason
    assert (status.state, status.consecutive_failures) == (TRACKING, 1)
    status = send(tracking, make(round(4.2 * SECOND)))
    assert (status.state, words in status.state_reason) == (DEGRADED, True)
    entry = report(tracking, "localization", lambda: send(tracking, make(round(4.3 * SECOND))))
    assert entry.level == DiagnosticStatus.ERROR
    assert words in entry.message
    status = tracking.ask(4.4)
    assert (status.status, status.prior_source) == (LOCALIZED, "odometry")
    wait(lambda: len(tracking.robot.poses) == 2, "pose")
    assert pose_stamps(tracking) == [3.0, 4.4]


def test_a_camera_that_stays_black_ends_in_silence_on_pose_and_tf(tracking):
    wait(lambda: tracking.robot.map_to_odom, "map -> odom")
    for index in range(6):
        status = send(tracking, black(round((4 + 0.1 * index) * SECOND)))
    assert status.state == LocalizationStatus.LOST
    assert "all black" in status.state_reason
    assert "6 images" in status.state_reason
    # What was sent before the status is heard before it; then there must be nothing more.
    tracking.robot.map_to_odom.clear()
    send(tracking, black(5 * SECOND))
    entry = tracking.diagnosis("localization")
    assert entry.level in (DiagnosticStatus.ERROR, DiagnosticStatus.STALE)
    assert not tracking.robot.map_to_odom
    assert pose_stamps(tracking) == [3.0]


def test_a_camera_that_is_frozen_while_the_robot_moves_is_found_out(make_bench):
    bench = make_bench()
    robot = bench.robot
    for tenth in range(90, 121):
        x = 1.0 + 0.5 * (tenth - 90) / 10
        moved = pose_to_transform(pose(x), "odom", "base_link", tenth * SECOND // 10)
        robot.tf.publish(TFMessage(transforms=[moved]))
    bench.give_initialpose(pose(10.0))
    assert bench.ask(9.0).published
    frozen = image_message(9 * SECOND + SECOND // 5)
    reasons, states = [], []
    for tenth in range(92, 112, 2):
        frozen.header.stamp = ns_to_stamp(tenth * SECOND // 10)
        status = send(bench, frozen)
        reasons.append(status.reason)
        states.append(status.state)
    # The first one is new; those after it repeat it.
    assert reasons[0] == ""
    assert all(reason.startswith("image is frozen") for reason in reasons[1:])
    assert states[-1] == LocalizationStatus.LOST
    wait(lambda: len(robot.poses) == 2, "pose")
    assert pose_stamps(bench) == [9.0, 9.2]


def test_a_robot_that_stands_may_see_the_same_image_twice(tracking):
    """Some simulators have no noise."""
    message = image_message(4 * SECOND)
    assert send(tracking, message).published
    message.header.stamp = ns_to_stamp(5 * SECOND)
    assert send(tracking, message).published


def test_camera_info_that_comes_late_is_waited_for(make_bench):
    bench = make_bench()
    inputs = bench.node._session.inputs
    inputs._infos.clear()
    bench.give_initialpose(pose(10.0))
    status = bench.ask(3.0)
    assert (status.status, status.reason) == (BAD_INPUT, "there is no camera_info yet")
    entry = report(bench, "input", lambda: bench.ask(3.2))
    assert entry.level == DiagnosticStatus.WARN
    assert entry.message == "images arrive, but no camera_info"
    bench.robot.info.publish(camera_info())
    wait(lambda: not inputs.uncalibrated, "camera_info")
    status = bench.ask(4.0)
    assert (status.status, status.prior_source) == (LOCALIZED, "initialpose")


def recalibrate(bench: Bench, info: CameraInfo) -> None:
    bench.robot.info.publish(info)
    wait(lambda: bench.node._session.inputs._infos[""] == info, "camera_info")


def test_camera_info_of_zeros_is_no_calibration(tracking):
    recalibrate(tracking, camera_info(k=[0.0] * 9))
    status = tracking.ask(4.0)
    assert status.status == BAD_INPUT
    assert "calibrat" in status.reason
    recalibrate(tracking, camera_info())
    assert tracking.ask(5.0).published


def test_camera_info_that_changes_holds_from_the_next_image_on(tracking):
    changed = camera_info(k=[60.0, 0.0, 15.5, 0.0, 60.0, 11.5, 0.0, 0.0, 1.0])
    recalibrate(tracking, changed)
    assert tracking.ask(4.0).published
    focal = [float(views[0].camera.f[0]) for views in tracking.localizer.views]
    assert focal == [30.0, 60.0]


def test_size_and_calibration_may_change_together(tracking):
    k = [60.0, 0.0, 31.5, 0.0, 60.0, 23.5, 0.0, 0.0, 1.0]
    recalibrate(tracking, camera_info(width=64, height=48, k=k))
    assert send(tracking, wrong_size(4 * SECOND)).published


def test_an_image_older_than_the_last_is_refused(tracking):
    assert tracking.ask(4.0).published
    status = tracking.ask(3.5)
    assert status.status == BAD_INPUT
    assert "0.500 s older than the one before" in status.reason
    assert tracking.ask(4.2).published
    assert pose_stamps(tracking) == [3.0, 4.0, 4.2]


def test_listeners_of_other_reliability_and_durability_hear_the_node(tracking):
    node, heard = tracking.robot.node, []
    qos = QoSProfile(
        depth=1, reliability=ReliabilityPolicy.BEST_EFFORT, durability=DurabilityPolicy.VOLATILE
    )
    node.create_subscription(PoseWithCovarianceStamped, "pose", heard.append, qos)
    node.create_subscription(LocalizationStatus, "status", heard.append, qos)
    wait(lambda: tracking.node.count_subscribers("pose") == 2, "connection")
    wait(lambda: tracking.node.count_subscribers("status") == 2, "connection")
    publishers = tracking.node._session.outputs
    wait(lambda: publishers._pose.get_subscription_count() == 2, "connection")
    wait(lambda: publishers._status.get_subscription_count() == 2, "connection")
    tracking.ask(4.0)
    wait(lambda: len(heard) == 2, "pose and status")


def test_a_camera_that_is_reliable_is_heard(tracking):
    reliable = tracking.robot.node.create_publisher(Image, "image", 1)
    wait(reliable.get_subscription_count, "connection")
    before = len(tracking.robot.statuses)
    reliable.publish(image_message(4 * SECOND))
    wait(lambda: len(tracking.robot.statuses) > before, "status")
    assert tracking.robot.statuses[-1].published


# rclpy's own report of it.
@pytest.mark.filterwarnings("ignore:Deprecated in favor of:DeprecationWarning")
def test_a_camera_whose_qos_does_not_fit_is_seen_in_diagnostics(make_bench):
    bench = make_bench("-p", "qos_overrides./image.subscription.reliability:=reliable")
    bench.give_initialpose(pose(10.0))
    bench.robot.image.publish(image_message(3 * SECOND))
    entries = bench.diagnoses()
    assert entries["input"].level == DiagnosticStatus.STALE
    assert entries["input"].message == "no images arrive"
    assert not bench.robot.statuses
