"""Absolute and relative errors of trajectories, against numbers worked out by hand."""

import numpy as np
import pytest
import torch
from stream_runs import BEGIN, SECOND, stamps_of, straight

from pixloc_core.bags.trajectory import Trajectory
from pixloc_core.errors import FormatError
from pixloc_core.evaluation.relative_error import relative_errors
from pixloc_core.evaluation.trajectory_error import aligned, compare
from pixloc_core.geometry import Pose

NO_CUTS = np.zeros(0, np.int64)


def test_errors_are_measured_against_the_truth_between_its_samples() -> None:
    truth = straight(BEGIN + SECOND * np.arange(4, dtype=np.int64))
    estimate = straight(BEGIN + np.array([SECOND // 4, SECOND * 2]), 0.05)
    found = compare(estimate, truth, max_gap_ns=SECOND)
    assert found.errors.position == pytest.approx([0.05, 0.05])
    assert found.offset_map[0] == pytest.approx([0.0, 0.05, 0.0])


def test_poses_without_truth_near_their_time_are_left_out_and_counted() -> None:
    truth = straight(BEGIN + np.array([1, 2, 9], dtype=np.int64) * SECOND)
    estimate = straight(BEGIN + np.array([0, SECOND * 3 // 2, 5 * SECOND, 9 * SECOND]))
    found = compare(estimate, truth, max_gap_ns=2 * SECOND)
    assert (found.stamps_ns - BEGIN).tolist() == [1.5 * SECOND, 9 * SECOND]
    assert found.without_truth == 2
    assert found.has_truth.tolist() == [False, True, False, True]
    with pytest.raises(FormatError, match="empty"):
        compare(estimate, Trajectory.from_samples({}))


def circle(count: int = 20) -> Trajectory:
    angle = torch.linspace(0, 5, count, dtype=torch.float64)
    zero = torch.zeros_like(angle)
    t = torch.stack([angle.cos(), angle.sin(), 0.1 * angle], -1)
    return Trajectory(stamps_of(count), Pose.from_aa(torch.stack([zero, zero, angle], -1), t))


def test_alignment_takes_a_wrong_map_frame_away_and_nothing_else() -> None:
    truth = circle()
    twist = torch.tensor([0.3, -0.2, 0.1, 0.1, 0.2, -0.3], dtype=torch.float64)
    moved = Trajectory(truth.stamps_ns, Pose.exp(twist) @ truth.poses)
    found = compare(moved, truth)
    assert found.errors.position.min() > 0.1
    after = aligned(found)
    assert after is not None
    assert after.position == pytest.approx(np.zeros(20), abs=1e-9)
    assert after.rotation_deg == pytest.approx(np.zeros(20), abs=1e-4)


def test_alignment_is_not_a_mirror_and_keeps_the_scale() -> None:
    truth = circle()
    mirrored = truth.poses.t * torch.tensor([1.0, 1.0, -1.0])
    after = aligned(
        compare(Trajectory(truth.stamps_ns, Pose.from_Rt(truth.poses.R, mirrored)), truth)
    )
    assert after is not None
    assert after.position.max() > 0.05
    larger = Trajectory(truth.stamps_ns, Pose.from_Rt(truth.poses.R, 1.1 * truth.poses.t))
    after = aligned(compare(larger, truth))
    assert after is not None
    assert after.position.max() > 0.05


def test_two_poses_are_not_aligned() -> None:
    assert aligned(compare(straight(stamps_of(2)), straight(stamps_of(2)))) is None


def test_relative_errors_by_frame_second_and_metre() -> None:
    # 1 m/s, 2 Hz: steps of 0.5 m; the estimate goes 0.1 m aside from the third pose on.
    stamps = stamps_of(5)
    found = compare(straight(stamps, [0.0, 0.0, 0.1, 0.1, 0.1]), straight(stamps))
    relative = relative_errors(found, NO_CUTS)
    assert relative.per_frame.position == pytest.approx([0.0, 0.1, 0.0, 0.0])
    # Two poses make a second, and a metre.
    assert relative.per_second.position == pytest.approx([0.1, 0.1, 0.0])
    assert relative.per_metre.position == pytest.approx([0.1, 0.1, 0.0])
    assert relative.per_metre.rotation_deg == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)


def test_pairs_that_lie_further_apart_are_divided_by_what_lies_between() -> None:
    # Poses every 1.5 s and 1.5 m.
    stamps = stamps_of(10)[::3]
    found = compare(straight(stamps, [0.0, 0.3, 0.0, 0.0]), straight(stamps))
    relative = relative_errors(found, NO_CUTS)
    assert relative.per_frame.position == pytest.approx([0.3, 0.3, 0.0])
    assert relative.per_second.position == pytest.approx([0.2, 0.2, 0.0])
    assert relative.per_metre.position == pytest.approx([0.2, 0.2, 0.0])


def test_the_error_of_a_turn_is_its_angle() -> None:
    stamps = stamps_of(3)
    truth = straight(stamps)
    aa = torch.tensor([[0, 0, 0], [0, 0, 0.1], [0, 0, 0.1]], dtype=torch.float64)
    turned = Trajectory(stamps, Pose.from_aa(aa, truth.poses.t))
    relative = relative_errors(compare(turned, truth), NO_CUTS)
    assert relative.per_frame.rotation_deg == pytest.approx([np.rad2deg(0.1), 0.0], abs=1e-6)
    # Turned by 0.1 rad, the step of 0.5 m points elsewhere: a chord of 2 * 0.5 * sin(0.05).
    assert relative.per_frame.position == pytest.approx([0.0, np.sin(0.05)], abs=1e-6)


def test_no_pair_reaches_over_a_cut() -> None:
    stamps = stamps_of(6)
    found = compare(straight(stamps, [0, 0, 0, 7, 7, 7]), straight(stamps))
    relative = relative_errors(found, stamps[3:4])
    assert relative.per_frame.position == pytest.approx([0.0] * 4)
    assert relative.per_second.position == pytest.approx([0.0] * 2)


def test_an_empty_trajectory_has_no_relative_errors() -> None:
    found = compare(Trajectory.from_samples({}), straight(stamps_of(3)))
    relative = relative_errors(found, NO_CUTS)
    assert len(relative.per_frame) == len(relative.per_metre) == 0
