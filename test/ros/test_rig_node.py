"""Several cameras of one rig, and masks."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from fake_localizer import BASE_FROM_CAM, SECOND, camera_info, image_message, pose
from robot_bench import BEST_EFFORT, Bench, wait
from robot_calls import Operator, report
from sensor_msgs.msg import CameraInfo, Image

from pixloc_ros.conversions import pose_to_transform
from pixloc_ros.interfaces import LocalizationStatus, TFMessage
from pixloc_ros.rig_messages import CameraMessage, RigMessage, RigSynchronizer

BAD_INPUT = LocalizationStatus.BAD_INPUT
MS = 1_000_000


class Feed:
    """Images of two cameras into a synchronizer; stamps in milliseconds."""

    def __init__(self, slop_s: float = 0.01, names: tuple[str, ...] = ("a", "b")) -> None:
        self.synchronizer = RigSynchronizer(names, slop_s)

    def add(self, name: str, ms: int) -> RigMessage | None:
        return self.synchronizer.add(CameraMessage(name, image_message(ms * MS), None), 0.0)

    def names(self, name: str, ms: int) -> str:
        found = self.add(name, ms)
        return "" if found is None else "".join(message.name for message in found.cameras)


def test_an_exposure_is_complete_when_every_camera_has_delivered():
    feed = Feed()
    assert feed.add("b", 1000) is None
    found = feed.add("a", 1000)
    assert [message.name for message in found.cameras] == ["a", "b"]
    assert feed.add("a", 1100) is None
    assert feed.add("b", 1100) is not None


@pytest.mark.parametrize(("difference", "together"), [(10, True), (11, False)])
def test_stamps_may_differ_by_the_slop_and_no_more(difference, together):
    feed = Feed(slop_s=0.01)
    feed.add("a", 1000)
    assert (feed.add("b", 1000 + difference) is not None) is together


def test_images_out_of_step_are_put_together_by_their_stamps():
    feed = Feed()
    assert feed.names("a", 1000) == ""
    assert feed.names("a", 1100) == ""
    assert feed.names("b", 1003) == "ab"
    assert feed.names("b", 1098) == "ab"


def test_what_waits_when_a_later_one_completes_is_given_up():
    feed = Feed()
    feed.add("a", 1000)
    feed.add("a", 1100)
    assert feed.names("b", 1100) == "ab"
    assert feed.names("b", 1000) == ""


def test_a_dead_camera_is_waited_for_a_second_and_then_no_more():
    feed = Feed()
    feed.add("a", 1000)
    assert feed.names("b", 1000) == "ab"
    complete = [ms for ms in range(1100, 2500, 100) if feed.names("a", ms)]
    assert complete == list(range(2100, 2500, 100))
    assert feed.synchronizer.silent == ("b",)


def test_a_camera_that_comes_back_is_waited_for_again():
    feed = Feed()
    feed.add("a", 1000)
    feed.add("b", 1000)
    for ms in range(1100, 2300, 100):
        feed.add("a", ms)
    feed.add("b", 2250)
    assert feed.synchronizer.silent == ()
    assert feed.names("a", 2300) == ""
    assert feed.names("b", 2300) == "ab"


def test_a_camera_that_never_came_holds_the_others_up_for_a_second():
    feed = Feed()
    complete = [ms for ms in range(1000, 2400, 100) if feed.names("a", ms)]
    assert complete == [2100, 2200, 2300]
    assert feed.synchronizer.silent == ("b",)


def test_what_waits_is_bounded():
    feed = Feed()
    for ms in range(1000, 1950, 50):
        feed.add("a", ms)
    assert len(feed.synchronizer._waiting) == 4
    assert feed.names("b", 1000) == ""
    assert feed.names("b", 1900) == "ab"


def test_time_that_is_set_back_begins_anew():
    feed = Feed()
    for name in "ab":
        feed.add(name, 90_000)
    assert feed.names("a", 1000) == ""
    assert feed.names("b", 1000) == "ab"
    assert feed.synchronizer.silent == ()


def test_three_cameras_in_any_order_give_one_exposure():
    for order in itertools.permutations("abc"):
        feed = Feed(names=("a", "b", "c"))
        assert [feed.names(name, 1000) for name in order] == ["", "", "abc"]


def alternate(feed: Feed, gap: int, rounds: int = 6, first: int = 1000) -> list[str]:
    """Exposures of two cameras at 10 Hz, the second `gap` milliseconds after the first."""
    shots = [shot for r in range(rounds) for shot in (("a", 100 * r), ("b", 100 * r + gap))]
    return [found for name, ms in shots if (found := feed.names(name, first + ms))]


def test_cameras_out_of_step_are_told_with_the_smallest_difference():
    feed = Feed(slop_s=0.01)
    assert alternate(feed, 20, rounds=2) == []
    assert feed.synchronizer.apart == ""
    assert alternate(feed, 20, first=1200) == []
    said = "images of a and b are 20 ms apart, limit 10 ms (sync_slop)"
    assert feed.synchronizer.apart == said
    # Of sixteen images four are waiting.
    assert feed.synchronizer.given_up == 12
    assert feed.names("a", 1800) == ""
    assert feed.names("b", 1800) == "ab"
    assert feed.synchronizer.apart == ""


def test_cameras_in_step_give_nothing_up():
    feed = Feed(slop_s=0.01)
    assert alternate(feed, 10) == ["ab"] * 6
    assert (feed.synchronizer.apart, feed.synchronizer.given_up) == ("", 0)


def test_a_camera_of_half_the_rate_is_not_out_of_step():
    feed = Feed()
    for ms in range(1000, 2000, 100):
        feed.names("a", ms)
        if ms % 200 == 0:
            assert feed.names("b", ms) == "ab"
        assert feed.synchronizer.apart == ""
    assert feed.synchronizer.given_up == 4


def test_of_three_cameras_the_one_out_of_step_is_named():
    feed = Feed(names=("a", "b", "c"))
    for ms in range(1000, 1600, 100):
        assert [feed.add("a", ms), feed.add("b", ms + 1), feed.add("c", ms + 40)] == [None] * 3
    assert feed.synchronizer.apart == "images of a and c are 40 ms apart, limit 10 ms (sync_slop)"


def test_a_dead_camera_is_silent_and_not_out_of_step():
    feed = Feed()
    for ms in range(1000, 1900, 100):
        feed.add("a", ms)
    assert feed.synchronizer.apart == ""


# Through the node


class Rig:
    """A node with two cameras, and the robot that carries them."""

    def __init__(self, make_bench, *arguments: str) -> None:
        self.bench: Bench = make_bench(*("-p", "cameras:=[cam0, cam1]"), *arguments, active=False)
        robot, node = self.bench.robot, self.bench.robot.node
        wait(lambda: self.bench.node._session is not None, "activation")
        self.cameras = {
            name: SimpleNamespace(
                image=node.create_publisher(Image, f"{name}/image", BEST_EFFORT),
                info=node.create_publisher(CameraInfo, f"{name}/camera_info", BEST_EFFORT),
            )
            for name in ("cam0", "cam1")
        }
        publishers = [p for c in self.cameras.values() for p in (c.image, c.info)]
        publishers += [robot.tf_static, robot.initial]
        wait(lambda: all(p.get_subscription_count() for p in publishers), "connection")
        wait(lambda: robot.tf.get_subscription_count() == 2, "connection")
        wait(lambda: self.bench.node.count_subscribers("pose") == 1, "connection")
        robot.send_transforms()
        # The second camera sits 20 cm beside the first.
        other = pose(0.0, 0.2) @ BASE_FROM_CAM
        static = [
            pose_to_transform(value, "base_link", name, 0)
            for name, value in (("cam0", BASE_FROM_CAM), ("cam1", other))
        ]
        robot.tf_static.publish(TFMessage(transforms=static))
        for camera in self.cameras.values():
            camera.info.publish(camera_info())
        wait(lambda: not self.bench.node._session.inputs.uncalibrated, "camera_info")
        frames = self.bench.node._frames
        wait(lambda: all(frames.knows(f) for f in ("odom", "cam0", "cam1")), "frames")
        self.bench.give_initialpose(pose(10.0))

    def shoot(self, name: str, seconds: float, *, size: tuple[int, int] = (32, 24)) -> None:
        message = image_message(round(seconds * SECOND), size=size)
        message.header.frame_id = name
        self.cameras[name].image.publish(message)

    def expose(self, seconds: float, **changes) -> LocalizationStatus:
        """One image of each; what is said of them."""
        statuses = self.bench.robot.statuses
        before = len(statuses)
        self.shoot("cam0", seconds)
        self.shoot("cam1", seconds, **changes)
        wait(lambda: len(statuses) > before, "status")
        return statuses[-1]


def test_two_cameras_are_localized_as_one_exposure(make_bench):
    rig = Rig(make_bench)
    status = rig.expose(3.0)
    assert (status.published, status.images_received, status.images_taken) == (True, 2, 1)
    views = rig.bench.localizer.views[-1]
    assert len(views) == 2
    # Beside the first: in optical axes x points to the right, and the base's y to the left.
    assert views[1].cam_from_first.t.tolist() == pytest.approx([0.2, 0.0, 0.0])
    assert views[0].cam_from_first.t.tolist() == pytest.approx([0.0, 0.0, 0.0])
    wait(lambda: rig.bench.robot.poses, "pose")
    assert rig.bench.robot.poses[0].pose.pose.position.x == pytest.approx(10.25)


def test_each_camera_of_a_rig_has_its_own_pictures(make_bench):
    rig = Rig(make_bench)
    heard: dict[str, list[Image]] = {}
    outputs = rig.bench.node._session.outputs
    for topic in ("cam0/confidence", "cam1/confidence", "cam1/overlay"):
        rig.bench.robot.node.create_subscription(
            Image, topic, heard.setdefault(topic, []).append, 10
        )
    made = (*outputs._confidence.values(), outputs._overlay["cam1"])
    wait(lambda: all(p.get_subscription_count() for p in made), "connection")
    rig.expose(3.0)
    wait(lambda: all(heard.values()), "pictures")
    assert heard["cam0/confidence"][0].header.frame_id == "cam0"
    assert heard["cam1/confidence"][0].header.frame_id == "cam1"
    assert heard["cam1/overlay"][0].encoding in ("rgb8", "bgr8")


def test_a_camera_of_a_rig_that_dies_is_named_and_the_other_goes_on(make_bench):
    rig = Rig(make_bench)
    assert rig.expose(3.0).published
    statuses = rig.bench.robot.statuses
    inputs = rig.bench.node._session.inputs
    for tenth in range(31, 41):
        rig.shoot("cam0", tenth / 10)
        wait(lambda stamp=tenth * SECOND // 10: inputs.newest_ns == stamp, "image")
    assert len(statuses) == 1
    rig.shoot("cam0", 4.2)
    wait(lambda: len(statuses) == 2, "status")
    assert statuses[-1].published
    assert len(rig.bench.localizer.views[-1]) == 1
    rig.shoot("cam0", 4.4)
    entry = report(rig.bench, "input", lambda: rig.shoot("cam0", 4.45))
    assert (entry.level, entry.message) == (DiagnosticStatus.WARN, "no images from cam1")
    wait(lambda: len(statuses) >= 3, "status")
    rig.shoot("cam1", 4.5)
    wait(lambda: inputs.newest_ns == round(4.5 * SECOND), "image")
    assert inputs.silent == ()
    assert rig.expose(5.0).published
    assert len(rig.bench.localizer.views[-1]) == 2


def test_a_camera_whose_image_cannot_be_used_is_left_out_and_named(make_bench):
    rig = Rig(make_bench)
    assert rig.expose(3.0, size=(64, 48)).published
    assert len(rig.bench.localizer.views[-1]) == 1
    entry = report(rig.bench, "input", lambda: rig.expose(3.2, size=(64, 48)))
    assert entry.level == DiagnosticStatus.WARN
    assert entry.message == (
        "a camera is left out: cam1: image is 64x48, but camera_info describes 32x24"
    )
    assert rig.expose(4.0).published
    assert len(rig.bench.localizer.views[-1]) == 2
    assert report(rig.bench, "input", lambda: rig.expose(4.2)).level == DiagnosticStatus.OK


def test_an_exposure_without_any_image_that_can_be_used_is_bad_input(make_bench):
    rig = Rig(make_bench)
    rig.bench.node._session.inputs._infos.clear()
    status = rig.expose(3.0)
    assert (status.status, status.published) == (BAD_INPUT, False)
    assert status.reason == "cam0: there is no camera_info yet"


def test_cameras_out_of_step_are_told_in_diagnostics(make_bench):
    rig = Rig(make_bench)
    inputs, robot = rig.bench.node._session.inputs, rig.bench.robot
    rig.bench.diagnoses()
    robot.diagnostics.clear()
    for tenth in range(30, 35):
        rig.shoot("cam0", tenth / 10)
        rig.shoot("cam1", tenth / 10 + 0.02)
        wait(lambda count=2 * (tenth - 29): inputs.received == count, "images")
    said = "images of cam0 and cam1 are 20 ms apart, limit 10 ms (sync_slop)"

    def heard() -> list[DiagnosticStatus]:
        entries = [entry for report in robot.diagnostics for entry in report.status]
        return [entry for entry in entries if entry.message == said]

    wait(heard, "diagnosis")
    entry = heard()[0]
    assert (entry.name, entry.level) == ("localizer: input", DiagnosticStatus.WARN)
    values = {pair.key: pair.value for pair in entry.values}
    assert (values["images_received"], values["exposures_given_up"]) == ("10", "6")
    assert not robot.statuses


def test_a_camera_without_calibration_is_named(make_bench):
    rig = Rig(make_bench)
    del rig.bench.node._session.inputs._infos["cam1"]
    assert rig.expose(3.0).published
    entry = report(rig.bench, "input", lambda: rig.expose(3.2))
    assert entry.message == "images arrive, but no cam1/camera_info"


# Masks


def write_mask(path: Path, size: tuple[int, int]) -> Path:
    mask = np.full((size[1], size[0]), 255, np.uint8)
    mask[size[1] // 2 :] = 0
    cv2.imwrite(str(path), mask)
    return path


def test_a_mask_reaches_the_core(make_bench, tmp_path):
    mask = write_mask(tmp_path / "mask.png", (32, 24))
    bench = make_bench("-p", f"masks:=[{mask}]")
    bench.give_initialpose(pose(10.0))
    assert bench.ask(3.0).published
    found = bench.localizer.views[-1][0].mask
    assert found.shape == (24, 32)
    assert (found[:12].all(), found[12:].any()) == (True, False)


def test_a_mask_of_another_size_is_told(make_bench, tmp_path):
    mask = write_mask(tmp_path / "mask.png", (16, 12))
    bench = make_bench("-p", f"masks:=[{mask}]")
    bench.give_initialpose(pose(10.0))
    status = bench.ask(3.0)
    assert (status.status, status.reason) == (BAD_INPUT, "image is 32x24, but its mask 16x12")


@pytest.mark.parametrize("content", [None, b"no image"])
def test_a_mask_that_cannot_be_read_stops_the_node_from_starting(make_bench, tmp_path, content):
    mask = tmp_path / "mask.png"
    if content is not None:
        mask.write_bytes(content)
    bench = make_bench("-p", f"masks:=[{mask}]", active=False)
    entry = bench.diagnosis("localization")
    assert entry.level == DiagnosticStatus.ERROR
    assert entry.message == f"masks: {mask} is not a readable image"
    assert Operator(bench.robot.node).state() == "unconfigured"
