"""The last pose, kept in a file for the next start; and how far odometry moves it."""

import json
import math
import time
from pathlib import Path

import pytest
import torch
from fake_localizer import (
    BASE_FROM_CAM,
    SECOND,
    FakeLocalizer,
    FakeMap,
    camera_info,
    image_message,
    pose,
)
from knowing_localizer import KnowingLocalizer
from robot_bench import wait
from robot_calls import CLEANUP, DEACTIVATE, Operator

from pixloc_core.errors import FormatError
from pixloc_core.localizer.fix import Fix
from pixloc_core.localizer.state_config import StateConfig
from pixloc_core.localizer.supervisor import State
from pixloc_ros.conversions import pose_to_transform
from pixloc_ros.frames import TreeFrames
from pixloc_ros.image_pipeline import ImagePipeline
from pixloc_ros.interfaces import LocalizationStatus, TFMessage
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.outcome import Outcome
from pixloc_ros.prior_poses import InitialPose, PoseBuffer, StampedPose
from pixloc_ros.rig_messages import CameraMessage, RigMessage
from pixloc_ros.saved_odometry import SavedOdometry
from pixloc_ros.saved_pose import SavedPose, restore_pose, save_pose
from pixloc_ros.transform_tree import RigidTransform

UNINITIALIZED = LocalizationStatus.UNINITIALIZED


def test_the_pose_of_the_last_run_is_confirmed_by_three_images(make_bench, tmp_path):
    file = tmp_path / "pose.json"
    save_pose(file, SavedPose(pose(10.0), "feed", 77))
    bench = make_bench("-p", f"saved_pose_filepath:={file}")
    statuses = [bench.ask(seconds) for seconds in (3.0, 3.4, 3.8)]
    assert [status.published for status in statuses] == [False, False, True]
    assert statuses[0].prior_source == "saved"


def test_a_pose_of_another_map_is_not_restored(make_bench, tmp_path):
    file = tmp_path / "pose.json"
    save_pose(file, SavedPose(pose(10.0), "beef", 77))
    bench = make_bench("-p", f"saved_pose_filepath:={file}")
    status = bench.ask(3.0)
    assert (status.status, status.state) == (LocalizationStatus.NO_PRIOR, UNINITIALIZED)
    with pytest.raises(FormatError, match="saved in map beef, this one is feed"):
        restore_pose(file, "feed")


DAMAGED = {
    "cut off": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "not finite": lambda text: text.replace("10.0", "NaN"),
    "no rotation": lambda text: json.dumps({**json.loads(text), "quat_wxyz": [0.0] * 4}),
    "other version": lambda text: json.dumps({**json.loads(text), "version": 99}),
    "a list": lambda text: "[1, 2]",
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, case):
    file = tmp_path / "pose.json"
    save_pose(file, SavedPose(pose(10.0), "feed", 77))
    file.write_text(DAMAGED[case](file.read_text()))
    with pytest.raises(FormatError) as error:
        restore_pose(file, "feed")
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_damaged_file_does_not_stop_the_node(make_bench, tmp_path):
    file = tmp_path / "pose.json"
    file.write_text('{"version": 1, "map_')
    bench = make_bench("-p", f"saved_pose_filepath:={file}")
    assert bench.ask(3.0).status == LocalizationStatus.NO_PRIOR
    bench.give_initialpose(pose(10.0))
    assert bench.ask(4.0).published


def test_the_pose_is_saved_while_it_is_believed_and_at_the_end(make_bench, tmp_path):
    file = tmp_path / "pose.json"
    parameters = ("-p", f"saved_pose_filepath:={file}", "-p", "save_pose_rate:=20.0")
    bench = make_bench(*parameters)
    bench.give_initialpose(pose(10.0))
    bench.ask(3.0)
    wait(file.exists, "saved pose")
    assert restore_pose(file, "feed").map_from_base.t.tolist() == pytest.approx([10.25, 0, 0])
    bench.ask(4.0)
    operator = Operator(bench.robot.node)
    assert operator.change_state(DEACTIVATE)
    assert restore_pose(file, "feed").map_from_base.t.tolist() == pytest.approx([10.5, 0, 0])
    # A pose given up is not saved over the last good one.
    saved = file.read_text()
    operator.reinitialize()
    time.sleep(0.2)
    assert operator.change_state(CLEANUP)
    assert file.read_text() == saved


# Version 1 of the file had no odometry

OLD = {
    "version": 1,
    "map_id": "feed",
    "stamp_ns": 77,
    "position": [1.0, 2.0, 3.0],
    "quat_wxyz": [1.0, 0.0, 0.0, 0.0],
}


def test_a_file_without_odometry_is_still_read(tmp_path):
    file = tmp_path / "pose.json"
    file.write_text(json.dumps(OLD))
    saved = restore_pose(file, "feed")
    assert saved.map_from_base.t.tolist() == [1.0, 2.0, 3.0]
    assert (saved.stamp_ns, saved.odometry) == (77, None)


def test_odometry_and_its_frames_are_read_as_they_were_written(tmp_path):
    file = tmp_path / "pose.json"
    fix = Fix(77, pose(10.0, angle=0.3), pose(3.0, 2.0, -0.4))
    save_pose(file, SavedPose.of(fix, "feed", NodeConfig(odom_frame_id="wheels")))
    found = restore_pose(file, "feed")
    torch.testing.assert_close(found.map_from_base.data, fix.map_from_base.data)
    assert found.odometry is not None
    torch.testing.assert_close(found.odometry.odom_from_base.data, fix.odom_from_base.data)
    frames = (found.odometry.odom_frame, found.odometry.base_frame)
    assert (found.odometry.stamp_ns, *frames) == (77, "wheels", "base_link")


@pytest.mark.parametrize("lacking", ["odom_frame", "base_frame", "position", "quat_wxyz"])
def test_a_file_with_half_an_odometry_is_refused(tmp_path, lacking):
    file = tmp_path / "pose.json"
    fix = Fix(77, pose(10.0), pose(3.0))
    save_pose(file, SavedPose.of(fix, "feed", NodeConfig()))
    content = json.loads(file.read_text())
    del content["odometry"][lacking]
    file.write_text(json.dumps(content))
    with pytest.raises(FormatError, match="not a saved pose"):
        restore_pose(file, "feed")


# When odometry is believed

FRAMES = ("odom", "base_link")
SAVED = SavedOdometry(100 * SECOND, *FRAMES, pose(30.0))
STARTED_ANEW = "it was started anew"


@pytest.mark.parametrize(
    ("now", "seconds", "words"),
    [
        (pose(35.0), 10.0, ""),
        (pose(30.0, angle=3.0), 2.0, ""),
        (pose(30.0), 599.0, ""),
        # At its origin.
        (pose(0.0), 60.0, STARTED_ANEW),
        (pose(0.9, 0.0, 0.4), 60.0, STARTED_ANEW),
        # The robot itself has come back, and looks elsewhere; or nearly so.
        (pose(0.0, angle=2.0), 60.0, ""),
        (pose(1.1), 60.0, ""),
        # Further than 0.3 m and 3 m/s, 8 deg and 120 deg/s.
        (pose(30.0, 3.4), 1.0, "odometry went 3.4 m and 0 deg in 1.0 s, expected 3.3 m and 128"),
        (pose(30.0, 3.2), 1.0, ""),
        (pose(30.0, angle=math.radians(130)), 1.0, STARTED_ANEW),
        # By the stamps.
        (pose(30.0), -1.0, "saved -1.0 s ago, expected 0 to 600 s"),
        (pose(30.0), 601.0, "saved 601.0 s ago, expected 0 to 600 s"),
    ],
)
def test_odometry_is_believed_where_one_run_of_it_can_have_gone(now, seconds, words):
    stamp_ns = SAVED.stamp_ns + round(seconds * SECOND)
    doubt = SAVED.doubt(stamp_ns, now, FRAMES, StateConfig())
    assert words in doubt
    assert bool(doubt) == bool(words)


def test_odometry_that_had_not_left_its_origin_is_believed():
    saved = SavedOdometry(100 * SECOND, *FRAMES, pose(0.5))
    assert saved.doubt(101 * SECOND, pose(0.2), FRAMES, StateConfig()) == ""


@pytest.mark.parametrize("frames", [("other", "base_link"), ("odom", "other")])
def test_odometry_of_other_frames_is_not_believed(frames):
    doubt = SAVED.doubt(101 * SECOND, pose(30.0), frames, StateConfig())
    assert doubt == f"it was of 'base_link' in 'odom', and is of {frames[1]!r} in {frames[0]!r}"


# In the pipeline


class Start:
    """A pipeline that restores a pose; odometry said 30 m when it was saved at second 100."""

    def __init__(self, prior_poses: PoseBuffer | None = None) -> None:
        config = NodeConfig(transform_timeout=0.05)
        self.frames, self.localizer = TreeFrames(10.0, print), FakeLocalizer()
        self.pipeline = ImagePipeline(self.localizer, self.frames, config, None, prior_poses)
        self._add("base_link", "camera", 0.0, BASE_FROM_CAM, static=True)
        self.pipeline.give(InitialPose(pose(10.0), 0, "saved", SAVED))

    def _add(self, parent: str, child: str, seconds: float, value, *, static=False) -> None:
        transform = pose_to_transform(value, parent, child, round(seconds * SECOND))
        self.frames.add_message(TFMessage(transforms=[transform]), static=static)

    def drive(self, x: float, *seconds: float) -> None:
        """Odometry stands at x at these stamps."""
        for stamp in seconds:
            self._add("odom", "base_link", stamp, pose(x))

    def see(self, seconds: float) -> Outcome:
        camera = CameraMessage("", image_message(round(seconds * SECOND)), camera_info())
        return self.pipeline.run(RigMessage((camera,), time.monotonic()))


def test_a_saved_pose_waits_for_odometry_that_comes_later_than_the_first_images():
    start = Start()
    statuses = [start.see(seconds).status for seconds in (105.0, 106.0)]
    assert statuses == [LocalizationStatus.NO_PRIOR] * 2
    start.drive(35.0, 106.5, 110.0)
    outcome = start.see(106.9)
    assert outcome.prior_source == "saved"
    assert outcome.map_from_base.t.tolist() == pytest.approx([15.0, 0.0, 0.0])


def test_without_odometry_a_saved_pose_is_tried_as_it_is_after_two_seconds():
    start = Start()
    assert start.see(105.0).status == LocalizationStatus.NO_PRIOR
    outcome = start.see(107.0)
    assert outcome.prior_source == "saved"
    assert outcome.map_from_base.t.tolist() == pytest.approx([10.0, 0.0, 0.0])


def test_a_saved_pose_is_not_moved_by_odometry_of_before_the_image():
    start = Start()
    start.drive(35.0, 104.0)
    assert start.see(105.0).status == LocalizationStatus.NO_PRIOR
    outcome = start.see(107.0)
    assert outcome.prior_source == "saved"
    assert outcome.map_from_base.t.tolist() == pytest.approx([10.0, 0.0, 0.0])


def test_a_pose_that_is_found_while_a_saved_one_waits_is_kept():
    poses = PoseBuffer(10.0)
    poses.add(StampedPose(105 * SECOND, RigidTransform.checked([50.0, 0, 0], [0, 0, 0, 1.0])))
    start = Start(poses)
    assert start.see(105.0).prior_source == "topic"
    start.drive(35.0, 105.1, 110.0)
    outcome = start.see(105.5)
    assert start.pipeline.state[0] is State.INITIALIZING
    assert outcome.map_from_base.t.tolist() == pytest.approx([50.0, 0.0, 0.0])


# The node, over DDS


class Restart:
    """A node that has saved the robot at x = 10 while odometry said 30, and is started again."""

    def __init__(self, make_bench, spin, file: Path) -> None:
        self.localizer = KnowingLocalizer(pose(10.0), reach=0.5)
        self._spin = spin
        self.bench = make_bench("-p", f"saved_pose_filepath:={file}", opener=self._open)
        self.drive(30.0, 10, 19)
        operator = Operator(self.bench.robot.node)
        assert operator.set_initial_pose(pose(10.0)).success
        assert self.bench.ask(12.0).published
        assert operator.change_state(DEACTIVATE)
        assert restore_pose(file, "feed").stamp_ns == 12 * SECOND

    def _open(self, config, path: str) -> FakeMap:
        return FakeMap(self.localizer)

    def drive(self, x: float, *seconds: int) -> None:
        """Odometry stands at x at these stamps."""
        robot, frames = self.bench.robot, self.bench.node._frames
        for stamp in seconds:
            transform = pose_to_transform(pose(x), "odom", "base_link", stamp * SECOND)
            robot.tf.publish(TFMessage(transforms=[transform]))

        def is_heard() -> bool:
            found = frames.lookup("odom", "base_link", None, 0.0)
            return float(found.t[0]) == pytest.approx(x)

        wait(is_heard, "odometry")

    def start_again(self) -> None:
        """Another node, which has heard nothing of before, and another robot at its side."""
        self._spin.stop()
        self.bench.node.close()
        self.bench.robot.node.destroy_node()
        self.bench.__init__(lambda *_: None, self._spin, opener=self._open)


@pytest.fixture
def restart(make_bench, spin, tmp_path) -> Restart:
    return Restart(make_bench, spin, tmp_path / "pose.json")


MOVES = {
    "the robot drives on by 5 m": (35.0, 15.0),
    "odometry starts at its origin": (0.3, 10.0),
    "odometry leaps": (200.0, 10.0),
}


@pytest.mark.parametrize("case", MOVES)
def test_a_node_that_is_started_again_starts_where_odometry_says(restart, case):
    odometry, there = MOVES[case]
    restart.localizer.here = pose(there)
    restart.start_again()
    restart.drive(odometry, 21, 30)
    statuses = [restart.bench.ask(seconds) for seconds in (25.0, 25.4, 25.8)]
    assert [status.published for status in statuses] == [False, False, True]
    assert statuses[0].prior_source == "saved"
    wait(lambda: restart.bench.robot.poses, "pose")
    assert restart.bench.robot.poses[-1].pose.pose.position.x == pytest.approx(there)
