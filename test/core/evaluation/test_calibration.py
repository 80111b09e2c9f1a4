"""The fit of scale and floor: gives back what errors were drawn from."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pixloc_core.errors import FormatError
from pixloc_core.evaluation.calibration import calibrate, fit_covariance
from pixloc_core.evaluation.posed_answers import PosedAnswers
from pixloc_core.geometry import Pose
from pixloc_core.localizer.covariance import CovarianceConfig, PoseSpread

START = CovarianceConfig(scale=4.0, floor_px=0.2)


def random_covariances(count: int, size: float, generator: torch.Generator) -> torch.Tensor:
    units = torch.tensor([1e-2, 2e-2, 3e-2, 1e-3, 2e-3, 3e-3], dtype=torch.float64)
    roots = torch.randn(count, 6, 12, generator=generator, dtype=torch.float64)
    roots = size * units[:, None] * roots
    return roots @ roots.mT / 12


def drawn(config: CovarianceConfig, count: int = 300, seed: int = 0) -> PosedAnswers:
    """Poses whose errors have the covariance of these settings."""
    generator = torch.Generator().manual_seed(seed)
    spread = PoseSpread(
        random_covariances(count, 0.03, generator),
        random_covariances(count, 1.0, generator),
        torch.rand(count, generator=generator, dtype=torch.float64),
    )
    root = torch.linalg.cholesky(spread.covariance(config))
    noise = torch.randn(count, 6, 1, generator=generator, dtype=torch.float64)
    truth = Pose.exp(torch.randn(count, 6, generator=generator, dtype=torch.float64))
    mounted = Pose.exp(torch.tensor([0.1, -0.2, 0.3, 0.5, 1.0, -1.5], dtype=torch.float64))
    return PosedAnswers(truth.retract((root @ noise)[..., 0]), truth, mounted, spread)


@pytest.mark.parametrize(
    ("scale", "floor_px"), [(10.0, 0.1), (20.0, 1.0), (3.0, 0.3), (4.0, 0.05)]
)
def test_settings_are_recovered(scale: float, floor_px: float) -> None:
    found = fit_covariance([drawn(CovarianceConfig(scale=scale, floor_px=floor_px))], START)
    assert found.scale == pytest.approx(scale, rel=0.2)
    assert found.floor_px == pytest.approx(floor_px, rel=0.2)


def test_fitted_answers_are_consistent_where_wrong_settings_are_not() -> None:
    truth = CovarianceConfig(scale=20.0, floor_px=0.2)
    seen, unseen = drawn(truth, seed=1), drawn(truth, seed=2)
    found = unseen.consistency(fit_covariance([seen], START))
    assert found.nees_band[0] - 0.3 < found.nees_mean < found.nees_band[1] + 0.3
    assert ((found.coverage[1] > 0.9) & (found.coverage[1] < 0.99)).all()
    assert not unseen.consistency(CovarianceConfig(scale=5.0, floor_px=0.05)).in_band


def test_a_stream_that_changes_is_calibrated_more_widely() -> None:
    """One half with twice the errors of the other: neither tells of both."""
    steady = drawn(CovarianceConfig(scale=0, floor_px=0.2), 200)
    first = drawn(CovarianceConfig(scale=0, floor_px=0.1), 100)
    second = drawn(CovarianceConfig(scale=0, floor_px=0.2), 100, seed=1)
    changing = PosedAnswers(
        Pose(torch.cat((first.estimate.data, second.estimate.data))),
        Pose(torch.cat((first.truth.data, second.truth.data))),
        first.cam_from_base,
        PoseSpread(
            torch.cat((first.spread.sandwich, second.spread.sandwich)),
            torch.cat((first.spread.geometry, second.spread.geometry)),
            torch.cat((first.spread.level_shift_px, second.spread.level_shift_px)),
        ),
    )
    plain, wider = fit_covariance([steady]), calibrate([steady])
    assert wider.floor_px == pytest.approx(plain.floor_px, rel=0.1)
    plain, wider = fit_covariance([changing]), calibrate([changing])
    assert wider.floor_px > 1.2 * plain.floor_px
    assert wider.scale / plain.scale == pytest.approx(wider.floor_px / plain.floor_px)


def test_few_poses_are_not_halved() -> None:
    few = drawn(START, count=8)
    assert calibrate([few], START) == fit_covariance([few], START)


def test_each_group_counts_alike() -> None:
    """Twenty times more poses of one place do not drown those of the other."""
    one, other = CovarianceConfig(scale=0, floor_px=0.1), CovarianceConfig(scale=0, floor_px=0.4)
    alike = fit_covariance([drawn(one, 200), drawn(other, 200, seed=1)], START)
    uneven = fit_covariance([drawn(one, 1000), drawn(other, 50, seed=1)], START)
    assert uneven.floor_px == pytest.approx(alike.floor_px, rel=0.15)


def test_what_the_data_do_not_show_stays_at_the_start() -> None:
    """Where the residuals tell nothing, nothing tells of the scale."""
    answers = drawn(CovarianceConfig(scale=0, floor_px=0.4))
    silent = replace(answers.spread, sandwich=torch.zeros_like(answers.spread.sandwich))
    answers = replace(answers, spread=silent)
    assert fit_covariance([answers], START).scale == pytest.approx(START.scale, rel=0.01)


def test_wrong_poses_take_no_part() -> None:
    answers = drawn(CovarianceConfig(scale=0, floor_px=0.4))
    xi = torch.zeros(300, 6, dtype=torch.float64)
    xi[7, 0] = 5.0
    wrong = PosedAnswers(
        answers.estimate.retract(xi), answers.truth, answers.cam_from_base, answers.spread
    )
    assert wrong.errors_px().argmax() == 7
    kept = wrong.within(10.0)
    assert len(kept) == 299
    expected = np.delete(answers.errors(), 7, axis=0)
    np.testing.assert_allclose(kept.errors(), expected, atol=1e-12)


def test_errors_in_pixels_are_those_of_the_geometry() -> None:
    """Errors as large as the geometry says for 1 px move the points by 1 px."""
    answers = drawn(CovarianceConfig(scale=0, floor_px=1.0), count=2000)
    plain = PoseSpread(
        torch.zeros_like(answers.spread.sandwich),
        answers.spread.geometry,
        answers.spread.level_shift_px,
    )
    answers = PosedAnswers(answers.estimate, answers.truth, answers.cam_from_base, plain)
    assert np.square(answers.errors_px()).mean() ** 0.5 == pytest.approx(1.0, rel=0.05)


def test_halves_follow_time() -> None:
    answers = drawn(START, count=7)
    first, second = answers.halves()
    assert (len(first), len(second)) == (3, 4)
    together = torch.cat((first.truth.data, second.truth.data))
    torch.testing.assert_close(together, answers.truth.data)


def test_errors_of_the_truth_are_allowed_for() -> None:
    """Truths off by 0.3 px, said so: the fit is that of exact ones."""
    config = CovarianceConfig(scale=0, floor_px=0.4)
    answers = drawn(CovarianceConfig(scale=0, floor_px=0.5), 1000)
    blind, told = fit_covariance([answers], START), replace(answers, truth_px=0.3)
    assert blind.floor_px == pytest.approx(0.5, rel=0.05)
    assert fit_covariance([told], START).floor_px == pytest.approx(0.4, rel=0.05)
    assert told.select(slice(0, 500)).consistency(config).in_band
    assert not answers.consistency(config).in_band


def test_too_few_poses_are_refused() -> None:
    with pytest.raises(FormatError, match="4 poses with truth, expected at least 5"):
        fit_covariance([drawn(START, count=4)])
