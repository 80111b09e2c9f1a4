import re
import time

import numpy as np
import pytest
import torch
from fake_localizer import (
    BASE_FROM_CAM,
    SECOND,
    FakeLocalizer,
    camera_info,
    image_message,
    pose,
)

from pixloc_core.geometry import Pose
from pixloc_core.localizer.state_config import StateConfig
from pixloc_core.localizer.supervisor import State
from pixloc_ros.conversions import pose_to_transform
from pixloc_ros.frames import TreeFrames
from pixloc_ros.image_pipeline import ImagePipeline
from pixloc_ros.interfaces import LocalizationStatus, TFMessage
from pixloc_ros.node_config import InitialPoseConfig, NodeConfig
from pixloc_ros.outcome import Outcome
from pixloc_ros.prior_poses import InitialPose, PoseBuffer, StampedPose
from pixloc_ros.rig_messages import CameraMessage, RigMessage
from pixloc_ros.transform_tree import RigidTransform


class Bench:
    """A pipeline with a robot that drives along x at 1 m/s of odometry."""

    def __init__(
        self, *, odometry: bool = True, retrieval=None, prior_poses=None, now_ns=None, **settings
    ) -> None:
        settings = {"transform_timeout": 0.05, **settings}
        self.config = NodeConfig(**settings)
        self.frames = TreeFrames(10.0, print)
        self.localizer = FakeLocalizer()
        self.pipeline = ImagePipeline(
            self.localizer, self.frames, self.config, retrieval, prior_poses, now_ns
        )
        self.add("base_link", "camera", 0, BASE_FROM_CAM, static=True)
        if odometry:
            for second in range(1, 11):
                self.add("odom", "base_link", second * SECOND, pose(float(second)))

    def add(self, parent: str, child: str, stamp: int, value: Pose, *, static: bool = False):
        transform = pose_to_transform(value, parent, child, stamp)
        self.frames.add_message(TFMessage(transforms=[transform]), static=static)

    def run(self, seconds: float, value: int = 200, info=None, message=None) -> Outcome:
        message = message or image_message(round(seconds * SECOND), value)
        camera = CameraMessage("", message, info or camera_info())
        return self.pipeline.run(RigMessage((camera,), time.monotonic()))

    def give(self, value: Pose, seconds: float) -> None:
        self.pipeline.give(InitialPose(value, round(seconds * SECOND)))


@pytest.fixture
def bench():
    return Bench()


def assert_pose(found: Pose | None, expected: Pose) -> None:
    assert found is not None
    torch.testing.assert_close(found.data, expected.data, atol=1e-9, rtol=0)


def test_image_without_any_prior_waits_for_an_initial_pose(bench):
    outcome = bench.run(2.0)
    assert outcome.status == LocalizationStatus.NO_PRIOR
    assert "waiting for initialpose" in outcome.reason
    assert outcome.map_from_base is None
    assert not bench.localizer.priors


class Broken(FakeLocalizer):
    """Fails in ways that nobody foresaw, each time in other words."""

    def localize_views(self, views, prior, *, search=True):
        self.priors.append(prior)
        if len(self.priors) > 5:
            return 1 / 0
        raise RuntimeError(f"out of luck {len(self.priors)}")


def test_the_traceback_of_a_fault_is_told_once_for_each_place(bench, caplog):
    bench.pipeline.use(Broken(), bench.config)
    for tenth in range(30, 40):
        bench.give(pose(10.0), tenth / 10)
        outcome = bench.run(tenth / 10)
        assert outcome.status == LocalizationStatus.INTERNAL_ERROR
    assert outcome.reason == "ZeroDivisionError: division by zero"
    told = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert told == [RuntimeError, ZeroDivisionError]


@pytest.mark.parametrize(
    ("tf_broadcast", "problem"),
    [
        (True, "nothing on /tf names frame 'odom': map -> odom cannot be published"),
        (False, ""),
    ],
)
def test_that_there_is_no_odometry_is_a_problem_where_it_must_be_corrected(tf_broadcast, problem):
    bench = Bench(odometry=False, tf_broadcast=tf_broadcast)
    bench.give(pose(10.0), 2.0)
    assert bench.run(2.0).published
    assert bench.pipeline.report().odometry_problem == problem
    assert bench.pipeline.map_from_odom is None


def test_core_is_asked_with_the_camera_pose_at_the_stamp_of_the_image(bench):
    bench.give(pose(10.0, 5.0), 2.0)
    outcome = bench.run(4.5)
    assert (outcome.status, outcome.prior_source) == (LocalizationStatus.LOCALIZED, "initialpose")
    expected = pose(12.5, 5.0)
    assert_pose(bench.localizer.priors[0].cam_from_map[0], (expected @ BASE_FROM_CAM).inv())
    assert_pose(outcome.map_from_base, expected)


def test_correction_of_one_image_is_carried_to_the_next_by_odometry(bench):
    bench.localizer.step = 0.25
    bench.give(pose(10.0), 1.0)
    assert_pose(bench.run(2.0).map_from_base, pose(11.25))
    outcome = bench.run(5.0)
    assert outcome.prior_source == "odometry"
    assert_pose(outcome.map_from_base, pose(14.5))
    assert_pose(bench.pipeline.map_from_odom, pose(9.5))


def test_without_odometry_the_last_pose_is_the_prior():
    bench = Bench(odometry=False)
    bench.localizer.step = 0.25
    bench.give(pose(10.0), 1.0)
    bench.run(2.0)
    outcome = bench.run(3.0)
    assert outcome.prior_source == "last_pose"
    assert_pose(outcome.map_from_base, pose(10.5))


def test_missing_odometry_costs_no_waiting_when_nobody_publishes_it():
    bench = Bench(transform_timeout=5.0, odometry=False)
    bench.give(pose(10.0), 1.0)
    begin = time.perf_counter()
    bench.run(2.0)
    assert time.perf_counter() - begin < 4.0


def test_initial_pose_without_stamp_is_meant_for_the_newest_odometry(bench):
    bench.give(pose(20.0), 0.0)
    assert_pose(bench.run(10.0).map_from_base, pose(20.0))


def test_initial_pose_older_than_the_odometry_is_meant_for_the_newest(bench):
    bench.give(pose(20.0), 0.5)
    assert_pose(bench.run(10.0).map_from_base, pose(20.0))


def test_not_localized_says_why_and_keeps_the_prior(bench):
    bench.give(pose(10.0), 1.0)
    bench.run(2.0)
    outcome = bench.run(3.0, value=5)
    assert outcome.status == LocalizationStatus.NOT_LOCALIZED
    assert outcome.reason == "10% of the points agree"
    assert outcome.map_from_base is None
    outcome = bench.run(4.0)
    assert_pose(outcome.map_from_base, pose(13.0))


def bad_frame_message():
    message = image_message(3 * SECOND)
    message.header.frame_id = "nose"
    return message


def no_stamp_message():
    return image_message(0)


def wrong_encoding_message():
    message = image_message(3 * SECOND)
    message.encoding = "32FC1"
    return message


def empty_message():
    message = image_message(3 * SECOND)
    message.height = message.width = message.step = 0
    message.data = message.data[:0]
    return message


BAD_INPUT = {
    "zero K": ({"info": camera_info(k=[0.0] * 9)}, "k|calibrat"),
    "unknown distortion": ({"info": camera_info(distortion_model="mushroom")}, "mushroom"),
    "wrong encoding": ({"message": wrong_encoding_message()}, "encoding '32FC1'"),
    "empty image": ({"message": empty_message()}, "image is empty"),
    "all black": ({"value": 0}, "all black"),
    "larger than camera_info": (
        {"message": image_message(3 * SECOND, size=(64, 48))},
        "image is 64x48, but camera_info describes 32x24",
    ),
    "unknown frame": ({"message": bad_frame_message()}, "frame 'nose' is unknown"),
    "no stamp": ({"message": no_stamp_message()}, "stamp 0"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_told_in_one_line_and_the_next_good_image_is_localized(bench, case):
    arguments, words = BAD_INPUT[case]
    bench.give(pose(10.0), 1.0)
    outcome = bench.run(3.0, **arguments)
    assert outcome.status == LocalizationStatus.BAD_INPUT
    assert outcome.map_from_base is None
    assert "\n" not in outcome.reason
    assert re.search(words, outcome.reason), outcome.reason
    assert_pose(bench.run(4.0).map_from_base, pose(13.0))


def test_image_before_the_first_camera_info_is_bad_input(bench):
    camera = CameraMessage("", image_message(2 * SECOND), None)
    outcome = bench.pipeline.run(RigMessage((camera,), time.monotonic()))
    assert (outcome.status, outcome.reason) == (
        LocalizationStatus.BAD_INPUT,
        "there is no camera_info yet",
    )


def test_stages_of_node_and_core_are_timed(bench):
    bench.give(pose(10.0), 1.0)
    stages = bench.run(2.0).stage_ms
    assert {"decode", "frames", "extract", "align"} <= stages.keys()
    assert all(ms >= 0 for ms in stages.values())


def test_covariance_is_that_of_the_base_in_the_map(bench):
    bench.give(pose(10.0), 1.0)
    covariance = bench.run(2.0).covariance
    # A camera 0.54 m from the base adds its lever arm to 1 cm; rotations keep theirs.
    assert covariance.diagonal()[3:].tolist() == pytest.approx([1e-4] * 3)
    assert covariance.diagonal()[:3].sum().item() == pytest.approx(1e-4 * (3 + 2 * 0.29))


class SilentRetrieval:
    """Is there, and has not answered yet."""

    def __init__(self, problem: str = "") -> None:
        self.is_available, self.problem = True, problem
        self.asked = 0

    def request(self, query) -> None:
        self.asked += 1

    def take(self) -> None:
        return None

    def cancel(self) -> None:
        self.cancelled = True


def filter_at(x: float) -> PoseBuffer:
    """A filter that has said for ten seconds that the robot stands there."""
    buffer = PoseBuffer(20.0)
    for second in range(1, 12):
        place = RigidTransform(np.array([x, 0.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0]))
        buffer.add(StampedPose(second * SECOND, place))
    return buffer


def camera_x(bench: Bench) -> float:
    """x of the camera where the newest image was started."""
    return float(bench.localizer.priors[-1].cam_from_map[0].center[0])


def test_initial_pose_goes_before_the_topic_of_a_filter():
    bench = Bench(prior_source="topic", prior_poses=filter_at(50.0))
    bench.give(pose(10.0), 2.0)
    outcome = bench.run(2.0)
    assert outcome.prior_source == "initialpose"
    assert outcome.published
    assert camera_x(bench) == pytest.approx(10.5)


def test_robot_that_is_sought_in_the_whole_map_is_not_first_looked_for_where_a_filter_has_it():
    retrieval = SilentRetrieval()
    bench = Bench(retrieval=retrieval, prior_poses=filter_at(50.0))
    assert bench.run(2.0).prior_source == "topic"
    bench.pipeline.relocalize("asked to")
    outcome = bench.run(3.0)
    assert (outcome.status, outcome.prior_source) == (LocalizationStatus.NO_PRIOR, "")
    assert retrieval.asked == 1


GUESSED = [False, False, False, True]


@pytest.mark.parametrize(("source", "first"), [("auto", GUESSED), ("tf", [True] * 4)])
def test_a_filter_is_a_guess_unless_it_is_named_and_always_after_a_loss(source, first):
    bench = Bench(
        prior_poses=filter_at(50.0),
        prior_source=source,
        tf_broadcast=False,
        odometry=False,
        state=StateConfig(forget_after=0.0),
    )
    if source == "tf":
        for second in range(1, 11):
            bench.add("map", "base_link", second * SECOND, pose(50.0))
    assert [bench.run(1.0 + tenth / 5).published for tenth in range(4)] == first
    for tenth in range(1, 7):
        bench.run(2.0 + tenth / 10, value=5)
    assert bench.pipeline.state[0] is State.LOST
    assert [bench.run(5.0 + tenth / 5).published for tenth in range(4)] == GUESSED


@pytest.mark.parametrize(("problem", "search"), [("", False), ("another map", True)])
def test_search_around_the_last_pose_is_left_out_only_where_retrieval_works(problem, search):
    bench = Bench(retrieval=SilentRetrieval(problem))
    bench.give(pose(10.0), 1.0)
    bench.run(1.0)
    for tenth in range(1, 8):
        bench.run(1.0 + tenth / 10, value=5)
    assert bench.pipeline.state[0] is State.LOST
    bench.run(3.0, value=5)
    assert bench.localizer.searches[-1] is search


def test_image_of_the_future_is_refused_and_costs_nothing():
    bench = Bench(now_ns=lambda: 5 * SECOND)
    bench.give(pose(10.0), 1.0)
    assert bench.run(2.0).published
    outcome = bench.run(9.0)
    assert outcome.status == LocalizationStatus.BAD_INPUT
    assert "4.0 s in the future" in outcome.reason
    assert bench.run(3.0).published


def test_stamps_that_go_back_begin_anew_at_the_configured_pose():
    start = InitialPoseConfig(x=30.0)
    bench = Bench(set_initial_pose=True, initial_pose=start)
    bench.give(pose(10.0), 8.0)
    assert bench.run(8.0).published
    assert bench.run(2.0).published
    assert camera_x(bench) == pytest.approx(30.5)


def test_reset_while_an_image_is_in_work_holds_for_it():
    bench = Bench()
    bench.give(pose(10.0), 1.0)
    localize = bench.localizer.localize_views

    def reset_meanwhile(views, prior, *, search=True):
        bench.pipeline.relocalize("asked to")
        return localize(views, prior, search=search)

    bench.localizer.localize_views = reset_meanwhile
    outcome = bench.run(2.0)
    assert not outcome.published
    assert "was reset" in outcome.reason
    assert bench.pipeline.map_from_odom is None


@pytest.mark.parametrize("end", ["relocalize", "retire"])
@pytest.mark.parametrize("given", [True, False])
def test_reset_while_transforms_are_waited_for_holds_for_the_image(end, given):
    bench = Bench(prior_poses=None if given else filter_at(10.0))
    if given:
        bench.give(pose(10.0), 1.0)
    lookup = bench.frames.lookup

    def reset_meanwhile(*args):
        bench.frames.lookup = lookup
        getattr(bench.pipeline, end)("another map is in use now")
        return lookup(*args)

    bench.frames.lookup = reset_meanwhile
    outcome = bench.run(2.0)
    assert not outcome.published
    assert outcome.status == LocalizationStatus.NO_PRIOR
    assert "was reset" in outcome.reason
    assert not bench.localizer.priors


def test_a_pipeline_that_is_followed_by_another_says_nothing_any_more():
    bench = Bench(prior_poses=filter_at(10.0))
    bench.give(pose(10.0), 1.0)
    assert bench.run(2.0).published
    bench.pipeline.retire("another map is in use now")
    for seconds in (3.0, 4.0):
        assert not bench.run(seconds).published
    assert bench.pipeline.map_from_odom is None
    assert bench.pipeline.fix is None
