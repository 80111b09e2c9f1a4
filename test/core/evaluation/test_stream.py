"""Numbers of a stream: shares, errors against interpolated truth, the bar that must be met."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from pixloc_core.bags.trajectory import Trajectory
from pixloc_core.errors import FormatError
from pixloc_core.evaluation.stream import (
    FrameOutcome,
    StreamBar,
    StreamRun,
    shortfalls,
    stream_rows,
    summarize_stream,
)
from pixloc_core.evaluation.trajectory_error import compare
from pixloc_core.geometry import Pose

SECOND = 1_000_000_000


def straight(stamps: np.ndarray, offset: tuple[float, float, float] = (0, 0, 0)) -> Trajectory:
    """Moves at 1 m/s along x."""
    t = torch.zeros(len(stamps), 3, dtype=torch.float64) + torch.tensor(offset).double()
    t[:, 0] += torch.from_numpy(stamps / SECOND)
    return Trajectory(stamps, Pose.from_Rt(torch.eye(3).double().expand(len(stamps), 3, 3), t))


def run_of(statuses: list[str], offset: tuple[float, float, float] = (0, 0, 0)) -> StreamRun:
    """Ten images in two seconds; the first ones were taken up, with these statuses."""
    images = (np.arange(10) * 0.2 * SECOND + SECOND).astype(np.int64)
    outcomes = tuple(
        FrameOutcome(int(stamp), status, "", 0.9, 100.0 + 10 * index, {"align": 50.0})
        for index, (stamp, status) in enumerate(zip(images, statuses, strict=False))
    )
    good = np.array([o.stamp_ns for o in outcomes if o.status == "localized"], np.int64)
    truth = straight(np.arange(0, 6, dtype=np.int64) * SECOND // 2 + SECOND // 2)
    estimate = straight(good, offset) if len(good) else Trajectory.from_samples({})
    return StreamRun("test", images, outcomes, estimate, truth, seconds=2.0)


def test_availability_is_of_the_images_taken_up_and_taken_of_all() -> None:
    summary = summarize_stream(run_of(["localized", "localized", "no prior", "localized"]))
    assert (summary.frames, summary.taken, summary.localized) == (10, 4, 3)
    assert summary.availability == 0.75
    assert summary.taken_share == 0.4
    assert summary.rate_hz == 1.5
    assert summary.failures == {"no prior": 1}


def test_images_taken_up_without_any_answer_count_against_availability() -> None:
    run = dataclasses.replace(run_of(["localized"] * 3), taken=4)
    assert summarize_stream(run).availability == 0.75


def test_errors_are_measured_against_the_truth_between_its_samples() -> None:
    summary = summarize_stream(run_of(["localized"] * 6, offset=(0.0, 0.03, 0.04)))
    assert summary.position(0.5) == pytest.approx(0.05)
    assert summary.position(0.95) == pytest.approx(0.05)
    assert summary.rotation_deg(0.5) == pytest.approx(0.0, abs=1e-6)
    assert summary.errors.offset_map[0] == pytest.approx([0.0, 0.03, 0.04])


def test_poses_without_truth_near_their_time_are_left_out_and_counted() -> None:
    truth = straight(np.array([1, 2, 9], dtype=np.int64) * SECOND)
    estimate = straight(np.array([0, 1.5 * SECOND, 5 * SECOND, 9 * SECOND], dtype=np.int64))
    errors = compare(estimate, truth, max_gap_ns=2 * SECOND)
    assert errors.stamps_ns.tolist() == [1.5 * SECOND, 9 * SECOND]
    assert errors.without_truth == 2
    with pytest.raises(FormatError, match="empty"):
        compare(estimate, Trajectory.from_samples({}))


def test_a_stream_that_meets_the_bar_has_no_shortfall() -> None:
    assert shortfalls(summarize_stream(run_of(["localized"] * 6)), StreamBar()) == []


@pytest.mark.parametrize(
    ("statuses", "offset", "expected"),
    [
        (["localized"] * 5 + ["no prior"], (0, 0, 0), "availability 83 %"),
        (["localized"] * 4, (0, 0, 0), "only 40 % of the images"),
        (["localized"] * 6, (0, 0.06, 0), "median position error 6.0 cm"),
    ],
)
def test_each_shortfall_is_told_with_its_figure(
    statuses: list[str], offset: tuple[float, float, float], expected: str
) -> None:
    (line,) = shortfalls(summarize_stream(run_of(statuses, offset)), StreamBar())
    assert expected in line


def test_a_stream_without_any_pose_fails_every_bar_and_still_has_a_table() -> None:
    summary = summarize_stream(run_of([]))
    assert len(shortfalls(summary, StreamBar())) == 4
    assert math.isnan(summary.position(0.5))
    rows = dict(stream_rows(summary))
    assert rows["position error, median / 95 %"] == "- / - cm"
