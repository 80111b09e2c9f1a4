"""Interpolation of poses over time, and stamps that keep their nanoseconds."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pixloc_core.bags.odometry import OdometryConfig, simulate_odometry
from pixloc_core.bags.trajectory import Trajectory, parse_stamp, write_tum
from pixloc_core.errors import FormatError
from pixloc_core.geometry import Pose

SECOND = 1_000_000_000


def screw_motion(times_s: np.ndarray) -> Pose:
    """Turns and moves at constant speed along z."""
    twist = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 0.5], dtype=torch.float64)
    return Pose.exp(torch.from_numpy(times_s)[:, None] * twist)


def circle(count: int = 40, seconds: float = 8.0) -> Trajectory:
    times = np.linspace(0, seconds, count)
    angle = torch.from_numpy(2 * np.pi * times / seconds)
    zero = torch.zeros_like(angle)
    poses = Pose.from_aa(
        torch.stack([zero, zero, angle], -1),
        torch.stack([2 * angle.cos(), 2 * angle.sin(), zero], -1),
    )
    return Trajectory((times * SECOND).astype(np.int64) + 100 * SECOND, poses)


def test_interpolation_of_constant_motion_is_exact() -> None:
    coarse, fine = np.arange(0, 5.0, 0.5), np.arange(0, 4.5, 0.05)
    trajectory = Trajectory((coarse * SECOND).astype(np.int64), screw_motion(coarse))
    found, inside = trajectory.at(np.round(fine * SECOND).astype(np.int64))
    assert inside.all()
    torch.testing.assert_close(found.data, screw_motion(fine).data, atol=1e-9, rtol=0)


def test_stamps_outside_or_in_a_long_gap_are_not_backed() -> None:
    stamps = np.array([0, 1, 9], dtype=np.int64) * SECOND
    trajectory = Trajectory(stamps, screw_motion(np.array([0.0, 1.0, 9.0])))
    wanted = np.array([-1, 0, 0.5, 5, 9, 10]) * SECOND
    _, inside = trajectory.at(wanted.astype(np.int64), max_gap_ns=2 * SECOND)
    assert inside.tolist() == [False, True, True, False, True, False]


def test_an_empty_trajectory_and_falling_stamps_are_refused() -> None:
    with pytest.raises(FormatError, match="empty"):
        Trajectory.from_samples({}).at(np.array([1], dtype=np.int64))
    with pytest.raises(FormatError, match="rise"):
        Trajectory(np.array([2, 1], dtype=np.int64), Pose.identity(2))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1305031229.729064", 1305031229729064000), ("0.5", 500000000), ("7", 7 * SECOND)],
)
def test_decimal_seconds_become_exact_nanoseconds(text: str, expected: int) -> None:
    assert parse_stamp(text) == expected


@pytest.mark.parametrize("text", ["", "-1.0", "1e9", "nan", "1,5"])
def test_anything_but_a_plain_decimal_number_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="time in seconds"):
        parse_stamp(text)


def test_a_tum_file_holds_position_and_quaternion_with_w_last(tmp_path: Path) -> None:
    pose = Pose.from_quat_wxyz([0.5, -0.5, 0.5, 0.5], [1.0, 2.0, 3.0])
    write_tum(tmp_path / "poses.tum", Trajectory.from_samples({1_500_000_001: pose}))
    fields = (tmp_path / "poses.tum").read_text().split()
    assert fields[0] == "1.500000001"
    assert [float(f) for f in fields[1:]] == pytest.approx([1, 2, 3, -0.5, 0.5, 0.5, 0.5])


def test_odometry_without_drift_repeats_the_true_motion() -> None:
    truth = circle(count=81)
    config = OdometryConfig(drift=0.0, heading_drift_deg=0.0, rate_hz=20.0)
    odometry = simulate_odometry(truth, config)
    begin = truth.poses[0]
    at_truth, _ = odometry.at(truth.stamps_ns)
    moved = begin.reshape(1) @ at_truth
    torch.testing.assert_close(moved.data, truth.poses.data, atol=1e-9, rtol=0)


def test_odometry_drifts_by_about_its_share_of_the_way_and_repeats_with_its_seed() -> None:
    truth, config = circle(), OdometryConfig(drift=0.02, heading_drift_deg=0.5, seed=3)
    odometry = simulate_odometry(truth, config)
    way = float((truth.poses.t[1:] - truth.poses.t[:-1]).norm(dim=-1).sum())
    end, _ = odometry.at(truth.stamps_ns[-1:])
    error = float((truth.poses[:1] @ end).t.sub(truth.poses.t[-1]).norm())
    assert 0.001 * way < error < 0.1 * way
    torch.testing.assert_close(odometry.poses.data, simulate_odometry(truth, config).poses.data)
    other = simulate_odometry(truth, OdometryConfig(drift=0.02, seed=4))
    assert not torch.allclose(odometry.poses.data, other.poses.data)


def test_odometry_reaches_beyond_the_last_stamp_so_that_it_brackets_every_image() -> None:
    truth = circle()
    odometry = simulate_odometry(truth, OdometryConfig())
    assert odometry.stamps_ns[0] == truth.stamps_ns[0]
    assert odometry.stamps_ns[-1] >= truth.stamps_ns[-1]
