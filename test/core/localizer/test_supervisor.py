"""The state machine: answers to images in, states out; no pixels, no clock."""

import math

import pytest
import torch

from pixloc_core.geometry import Pose
from pixloc_core.localizer.evidence_grade import Grade, GradedEvidence
from pixloc_core.localizer.fix import Fix, difference
from pixloc_core.localizer.state_config import StateConfig
from pixloc_core.localizer.supervisor import Decision, FrameReport, State, Supervisor

SECOND = 1_000_000_000
WEAK = GradedEvidence(Grade.WEAK, "levels disagree")
BAD = GradedEvidence(Grade.BAD, "nothing fits")


def at(x: float, angle: float = 0.0) -> Pose:
    aa = torch.tensor([0.0, 0.0, angle], dtype=torch.float64)
    return Pose.from_aa(aa, torch.tensor([x, 0.0, 0.0], dtype=torch.float64))


class Drive:
    """A robot at 1 m/s of perfect odometry, whose map starts at x = 10."""

    def __init__(self, **settings: float) -> None:
        self.supervisor = Supervisor(StateConfig(**settings))
        self.now = 0.0

    def odometry(self) -> Pose:
        return at(self.now)

    def start(self, x: float, *, given: bool = True, source: str = "initialpose") -> None:
        fix = Fix(round(self.now * SECOND), at(x), self.odometry(), source)
        self.supervisor.start(fix, given=given)

    def see(self, x: float | None, evidence: GradedEvidence | None = None, **more) -> Decision:
        """The next image, 0.2 s later: pose found at x + way driven, or none."""
        self.now += 0.2
        stamp = round(self.now * SECOND)
        if x is None:
            return self.supervisor.judge(FrameReport(stamp, failure="nothing agrees"))
        prediction = self.supervisor.predict(stamp, self.odometry())
        source = more.pop("source", prediction.source if prediction else "retrieval")
        fix = Fix(stamp, at(x + self.now), self.odometry(), source)
        grades = {} if evidence is None else {"evidence": evidence}
        return self.supervisor.judge(FrameReport(stamp, fix, **grades, **more))


@pytest.fixture
def drive() -> Drive:
    return Drive()


@pytest.fixture
def tracking(drive: Drive) -> Drive:
    drive.start(10.0)
    assert drive.see(10.0).publish
    return drive


def test_nothing_is_known_at_first(drive):
    assert drive.supervisor.state is State.UNINITIALIZED
    assert drive.supervisor.predict(SECOND, at(0.0)) is None
    assert drive.supervisor.needs_help
    assert not drive.see(None).publish


def test_given_pose_is_believed_with_the_first_image_and_may_be_corrected_by_any_amount(drive):
    drive.start(10.0)
    assert drive.supervisor.state is State.INITIALIZING
    decision = drive.see(12.5)
    assert (decision.state, decision.publish) == (State.TRACKING, True)
    assert decision.innovation[0] == pytest.approx(2.5)


def test_guess_must_be_confirmed_by_three_images_that_agree():
    drive = Drive(confirm_time=0.3)
    decisions = [drive.see(10.0, source="retrieval") for _ in range(3)]
    assert [d.publish for d in decisions] == [False, False, True]
    assert [d.state for d in decisions] == [State.INITIALIZING] * 2 + [State.TRACKING]


def test_images_of_one_moment_confirm_no_guess(drive):
    decisions = [drive.see(10.0, source="retrieval") for _ in range(4)]
    assert [d.publish for d in decisions] == [False] * 3 + [True]


def test_guesses_that_disagree_are_never_believed(drive):
    for index in range(12):
        assert not drive.see(10.0 + 3 * (index % 2), source="retrieval").publish


def test_retrieved_pose_does_not_pass_for_the_given_one(drive):
    drive.start(10.0)
    drive.see(None)
    assert not drive.see(25.0, source="retrieval").publish
    states = [drive.see(25.0).state for _ in range(3)]
    assert states == [State.INITIALIZING] * 2 + [State.TRACKING]


def test_given_pose_that_no_image_confirms_is_given_up(drive):
    drive.start(10.0)
    states = [drive.see(None).state for _ in range(5)]
    assert states == [State.INITIALIZING] * 4 + [State.UNINITIALIZED]
    assert drive.supervisor.predict(SECOND * 9, None) is None


def test_prediction_follows_odometry(tracking):
    prediction = tracking.supervisor.predict(5 * SECOND, at(5.0))
    assert (prediction.source, prediction.is_near) == ("odometry", True)
    assert prediction.map_from_base.t[0, 0].item() == pytest.approx(15.0)


def test_without_odometry_the_last_pose_is_the_prediction(drive):
    drive.supervisor.start(Fix(0, at(3.0), None, "initialpose"), given=True)
    drive.supervisor.judge(FrameReport(SECOND, Fix(SECOND, at(3.1), None, "initialpose")))
    prediction = drive.supervisor.predict(2 * SECOND, None)
    assert (prediction.source, prediction.is_near) == ("last_pose", False)
    assert prediction.map_from_base.t[0, 0].item() == pytest.approx(3.1)


def test_weak_evidence_degrades_with_more_covariance_and_recovers_with_hysteresis(tracking):
    first, second = tracking.see(10.0, WEAK), tracking.see(10.0, WEAK)
    assert (first.state, first.covariance_factor) == (State.TRACKING, 4.0)
    assert (second.state, second.publish) == (State.DEGRADED, True)
    assert "levels disagree" in second.reason
    good = [tracking.see(10.0) for _ in range(2)]
    assert [d.state for d in good] == [State.DEGRADED, State.TRACKING]
    assert [d.covariance_factor for d in good] == [4.0, 1.0]


def test_bad_evidence_is_not_published(tracking):
    decision = tracking.see(10.0, BAD)
    assert (decision.publish, decision.refusal) == (False, "nothing fits")


def test_images_without_a_pose_lead_over_degraded_to_lost(tracking):
    states = [tracking.see(None).state for _ in range(7)]
    assert states == [State.TRACKING] + [State.DEGRADED] * 4 + [State.LOST] * 2
    assert tracking.supervisor.published_fix is None


def test_time_without_a_pose_loses_a_slow_camera_sooner(tracking):
    tracking.see(None)
    tracking.now += 2.0
    assert tracking.see(None).state is State.LOST


def test_lost_robot_is_believed_only_when_it_is_confirmed(tracking):
    for _ in range(6):
        tracking.see(None)
    decisions = [tracking.see(10.0) for _ in range(4)]
    assert [d.publish for d in decisions] == [False, False, False, True]


def test_lost_robot_tries_its_last_pose_for_a_while_and_never_calls_it_near(tracking):
    for _ in range(6):
        tracking.see(None)
    prediction = tracking.supervisor.predict(round(10 * SECOND), at(10.0))
    assert prediction is not None
    assert not prediction.is_near
    # Where odometry says, and, should odometry be wrong, where it was.
    assert prediction.map_from_base.t[:, 0].tolist() == pytest.approx([20.0, 10.2])
    assert tracking.supervisor.predict(round(60 * SECOND), at(60.0)) is None


def test_pose_that_contradicts_odometry_waits_until_it_is_confirmed(tracking):
    decisions = [tracking.see(11.0) for _ in range(4)]
    assert [d.publish for d in decisions] == [False, False, False, True]
    assert "contradicts" in decisions[0].refusal
    assert decisions[3].reason.startswith("jumped by 1.00 m")


def test_single_outlier_changes_nothing(tracking):
    assert not tracking.see(11.0).publish
    decision = tracking.see(10.0)
    assert (decision.publish, decision.state) == (True, State.TRACKING)
    assert tracking.supervisor.predict(SECOND, at(0.0)).map_from_base.t[0, 0].item() == 10.0


@pytest.mark.parametrize(("way", "publish"), [(1.0, False), (8.0, True)])
def test_gate_widens_with_the_way_driven(tracking, way, publish):
    tracking.now += way
    assert tracking.see(10.0 + 0.3 + 0.05 * 8).publish is publish


def test_pose_where_a_filter_says_passes_the_gate(tracking):
    far = at(30.0 + tracking.now + 0.2)
    assert tracking.see(30.0, expected=far).publish
    assert not tracking.see(40.0, expected=at(0.0)).publish


def test_filter_that_is_off_cannot_silence_poses_that_agree_among_themselves(drive):
    drive.start(9.0, source="topic")
    wrong = [drive.see(10.0, source="topic", expected=at(9.0 + drive.now)) for _ in range(20)]
    assert sum(decision.publish for decision in wrong) == 20


def test_jump_beside_a_filter_that_is_off_is_believed_in_the_end(tracking):
    seen = [tracking.see(12.0, source="topic", expected=at(10.0 + tracking.now)) for _ in range(9)]
    assert [decision.publish for decision in seen] == [False] * 3 + [True] * 6


def test_rotation_is_gated_too(tracking):
    tracking.now += 0.2
    stamp = round(tracking.now * SECOND)
    fix = Fix(stamp, at(10.0 + tracking.now, math.radians(10.0)), tracking.odometry(), "odometry")
    assert not tracking.supervisor.judge(FrameReport(stamp, fix)).publish


def test_giving_the_pose_up_leaves_nothing_to_try(tracking):
    tracking.supervisor.lose("asked to")
    assert tracking.supervisor.state is State.LOST
    assert tracking.supervisor.predict(SECOND, at(0.0)) is None
    assert tracking.supervisor.needs_help


def test_rival_seen_once_does_not_survive_a_failure(tracking):
    tracking.see(11.0)
    tracking.see(None)
    decisions = [tracking.see(11.0) for _ in range(2)]
    assert not any(d.publish for d in decisions)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 0.5, math.pi - 1e-6, math.pi])
def test_difference_of_poses_is_exact_at_all_angles(angle):
    distance, found = difference(at(1.0, 0.3), at(4.0, 0.3 + angle))
    assert distance == pytest.approx(3.0)
    assert found == pytest.approx(angle, abs=1e-9)
