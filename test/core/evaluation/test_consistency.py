"""NEES and coverage: right covariances pass, wrong ones are told, axes are those of ROS."""

import numpy as np
import pytest
import torch

from pixloc_core.errors import ShapeError
from pixloc_core.evaluation.consistency import (
    consistency,
    consistency_table,
    coverage,
    increment_errors,
    independent_count,
    nees,
    nees_band,
    pose_errors,
)
from pixloc_core.geometry import Pose

COUNT = 4000


def drawn(scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Errors of random covariances in metres and radians, `scale` times as large as is said."""
    generator = np.random.default_rng(3)
    units = np.array([1e-2, 3e-3, 1e-1, 1e-4, 1e-3, 1e-2])
    roots = units[:, None] * generator.standard_normal((COUNT, 6, 8))
    covariances = roots @ roots.swapaxes(-1, -2)
    errors = (roots @ generator.standard_normal((COUNT, 8, 1)))[..., 0]
    return scale * errors, covariances


def test_right_covariances_are_consistent() -> None:
    found = consistency(*drawn())
    assert found.in_band
    assert found.count == COUNT
    gaussian = np.array([0.683, 0.954, 0.997])[:, None]
    np.testing.assert_allclose(found.coverage, gaussian.repeat(6, axis=1), atol=0.03)


@pytest.mark.parametrize("scale", [0.8, 1.2])
def test_wrong_covariances_leave_the_band(scale: float) -> None:
    found = consistency(*drawn(scale))
    assert not found.in_band
    assert found.nees_mean == pytest.approx(6 * scale**2, rel=0.1)


def test_fewer_independent_poses_widen_the_band() -> None:
    errors, covariances = drawn()
    all_count = consistency(errors, covariances).nees_band
    few = consistency(errors, covariances, independent=10).nees_band
    assert few[0] < all_count[0] < 6 < all_count[1] < few[1]
    assert few == nees_band(10)


def test_numbers_that_follow_each_other_count_less() -> None:
    """Of a first-order process of correlation r the mean is worth n (1 - r) / (1 + r) samples."""
    generator = np.random.default_rng(2)
    noise = generator.standard_normal(COUNT)
    assert independent_count(noise) == pytest.approx(COUNT, rel=0.1)
    series = np.zeros(COUNT)
    for index in range(1, COUNT):
        series[index] = 0.8 * series[index - 1] + noise[index]
    assert independent_count(series) == pytest.approx(COUNT / 9, rel=0.3)
    assert independent_count(np.ones(5)) == 5
    assert independent_count(np.arange(10.0)) >= 1


def test_nees_is_that_of_the_plain_formula() -> None:
    errors, covariances = drawn()
    plain = np.einsum("ni,nij,nj->n", errors, np.linalg.inv(covariances), errors)
    np.testing.assert_allclose(nees(errors, covariances), plain, rtol=1e-4)


def test_coverage_counts_each_axis_for_itself() -> None:
    errors = np.zeros((4, 6))
    errors[:, 1] = [0.5, 1.5, 2.5, -3.5]
    found = coverage(errors, np.eye(6)[None].repeat(4, axis=0))
    np.testing.assert_allclose(found[:, 1], [0.25, 0.5, 0.75])
    np.testing.assert_allclose(np.delete(found, 1, axis=1), 1.0)


def test_errors_are_about_the_fixed_axes_of_the_map() -> None:
    """A robot that faces north (yaw 90 deg) and rolls about its own x axis turns about map y."""
    quarter = torch.tensor([0.0, 0.0, torch.pi / 2], dtype=torch.float64)
    truth = Pose.from_aa(quarter[None], torch.tensor([[5.0, 1.0, 2.0]], dtype=torch.float64))
    roll = Pose.from_aa(torch.tensor([[0.01, 0.0, 0.0]]).double(), torch.zeros(1, 3).double())
    moved = truth @ roll
    shift = torch.tensor([[0.1, -0.2, 0.3]], dtype=torch.float64)
    errors = pose_errors(Pose.from_Rt(moved.R, moved.t + shift), truth)
    np.testing.assert_allclose(errors, [[0.1, -0.2, 0.3, 0.0, 0.01, 0.0]], atol=1e-9)


def test_increment_errors_undo_a_retraction() -> None:
    generator = torch.Generator().manual_seed(0)
    xi = 0.1 * torch.randn(5, 6, generator=generator, dtype=torch.float64)
    truth = Pose.exp(torch.randn(5, 6, generator=generator, dtype=torch.float64))
    np.testing.assert_allclose(increment_errors(truth.retract(xi), truth), xi.numpy(), atol=1e-9)


@pytest.mark.parametrize(
    ("errors", "covariances"),
    [
        (np.zeros((0, 6)), np.zeros((0, 6, 6))),
        (np.zeros((2, 5)), np.zeros((2, 5, 5))),
        (np.zeros((2, 6)), np.zeros((2, 6, 6))),
        (np.zeros((1, 6)), np.full((1, 6, 6), np.nan)),
        (np.zeros((1, 6)), np.ones((1, 6, 6))),
    ],
    ids=["empty", "five axes", "zero", "NaN", "singular"],
)
def test_what_has_no_nees_is_refused(errors: np.ndarray, covariances: np.ndarray) -> None:
    with pytest.raises(ShapeError):
        consistency(errors, covariances)


def test_table_has_a_row_for_each_name() -> None:
    found = consistency(*drawn())
    lines = consistency_table([("before", found), ("after", found)]).splitlines()
    assert "rotZ" in lines[0]
    assert lines[2].startswith("| before")
    assert f"{found.nees_mean:.1f}" in lines[3]
