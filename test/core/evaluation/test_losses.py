"""When a loss is noticed and made good, counted by hand."""

import numpy as np
import pytest
import torch
from stream_runs import BEGIN, PERIOD, SECOND, run_of, stamps_of, straight

from pixloc_core.bags.edit_plan import Cut
from pixloc_core.bags.trajectory import Trajectory
from pixloc_core.evaluation.losses import (
    Kidnap,
    find_kidnaps,
    find_silences,
    kidnap_stamps,
    seconds_in_states,
)
from pixloc_core.geometry import Pose

# Answers come 0.1 s after their image.
LATE = 0.1
BOUNDS = (0.5, 5.0)


def kidnaps_of(answers: str, at: list[int]) -> tuple[Kidnap, ...]:
    """Kidnaps at the images of these places."""
    stamps = stamps_of(len(answers))
    wrong = {int(s) for s, letter in zip(stamps, answers, strict=True) if letter in "wW"}
    return find_kidnaps(run_of(answers), stamps[at], wrong)


def test_a_kidnap_is_detected_with_the_first_silence_and_over_with_the_first_right_pose() -> None:
    (kidnap,) = kidnaps_of("ppwwnnpp", [2])
    assert kidnap.detection_s == pytest.approx(1.0 + LATE)
    assert kidnap.recovery_s == pytest.approx(2.0 + LATE)
    assert kidnap.false_poses == 2


def test_silence_between_wrong_poses_is_no_detection() -> None:
    (kidnap,) = kidnaps_of("pnwnwnnp", [1])
    assert kidnap.detection_s == pytest.approx(2.0 + LATE)
    assert kidnap.false_poses == 2


def test_a_right_pose_at_once_is_detection_and_recovery_in_one() -> None:
    (kidnap,) = kidnaps_of("pppp", [2])
    assert kidnap == Kidnap(BEGIN + 2 * PERIOD, pytest.approx(LATE), pytest.approx(LATE), 0)


def test_wrong_poses_to_the_end_are_neither_detection_nor_recovery() -> None:
    (kidnap,) = kidnaps_of("ppwww", [2])
    assert (kidnap.detection_s, kidnap.recovery_s, kidnap.false_poses) == (None, None, 3)


def test_each_kidnap_ends_with_the_next() -> None:
    first, second = kidnaps_of("pwnnwnp", [1, 4])
    assert (first.recovery_s, first.false_poses) == (None, 1)
    assert first.detection_s == pytest.approx(0.5 + LATE)
    assert second.recovery_s == pytest.approx(1.0 + LATE)


def test_without_kidnaps_there_is_nothing_to_detect() -> None:
    assert kidnaps_of("pppp", []) == ()


def test_only_cuts_that_move_the_robot_are_kidnaps() -> None:
    cuts = (Cut(3, 2.0, 0.0), Cut(1, 0.01, 90.0), Cut(2, 0.2, 4.0))
    truth = straight(stamps_of(3))
    assert kidnap_stamps(cuts, truth, BOUNDS).tolist() == [1, 3]
    assert kidnap_stamps(cuts, truth, (0.1, 5.0)).tolist() == [1, 2, 3]


def test_without_a_list_of_cuts_jumps_of_the_truth_are_kidnaps() -> None:
    stamps = stamps_of(20)
    calm = straight(stamps)
    assert kidnap_stamps((), calm, BOUNDS).size == 0
    t = calm.poses.t.clone()
    t[12:, 1] += 8.0
    moved = Trajectory(stamps, Pose.from_Rt(calm.poses.R, t))
    assert kidnap_stamps((), moved, BOUNDS).tolist() == [int(stamps[12])]
    turned = torch.zeros(20, 3, dtype=torch.float64)
    turned[5:, 2] = 2.0
    moved = Trajectory(stamps, Pose.from_aa(turned, calm.poses.t))
    assert kidnap_stamps((), moved, BOUNDS).tolist() == [int(stamps[5])]


def test_long_silences_are_told_with_their_reason_and_whether_they_ended() -> None:
    first, last = find_silences(run_of("nppnnn-pnn--"), min_seconds=1.0)
    assert first.begin_ns == BEGIN + 2 * PERIOD
    assert first.seconds == pytest.approx(2.5)
    assert (first.recovered, first.reason) == (True, "not localized: image 3")
    assert last.seconds == pytest.approx(2.0)
    assert (last.recovered, last.reason) == (False, "not localized: image 8")


def test_a_short_gap_and_a_silence_before_the_first_pose_are_no_silence() -> None:
    assert find_silences(run_of("nnnnppnp"), min_seconds=1.0) == ()
    assert find_silences(run_of("nnnn"), min_seconds=1.0) == ()


def test_the_time_in_a_state_lasts_to_the_next_answer() -> None:
    found = seconds_in_states(run_of("pp-NNp"))
    assert found == {"TRACKING": pytest.approx(1.5), "LOST": pytest.approx(1.0)}
    assert sum(found.values()) == pytest.approx((stamps_of(6)[-1] - BEGIN) / SECOND)
    assert seconds_in_states(run_of("--")) == {}
    assert np.isfinite(list(found.values())).all()
