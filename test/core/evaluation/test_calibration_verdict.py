"""The verdict of a calibration: right fits pass, others fail with the reason."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pixloc_core.evaluation.calibration import calibrate
from pixloc_core.evaluation.calibration_verdict import (
    BLOCKS,
    FEWEST_INDEPENDENT,
    GAUSSIAN_SHARE,
    WANTED_SHARE,
    calibration_shortfalls,
    coverage_bounds,
    judge_held_out,
)
from pixloc_core.evaluation.consistency import Consistency, consistency
from pixloc_core.evaluation.posed_answers import PosedAnswers
from pixloc_core.geometry import Pose
from pixloc_core.localizer.covariance import PoseSpread


def drawn(floors_px: np.ndarray, seed: int = 0) -> PosedAnswers:
    """Poses of a plain geometry whose errors move the points by so many pixels, one each."""
    count = len(floors_px)
    generator = torch.Generator().manual_seed(seed)
    units = torch.tensor([1e-2, 2e-2, 3e-2, 1e-3, 2e-3, 3e-3], dtype=torch.float64)
    geometry = torch.diag(units**2).expand(count, 6, 6)
    sizes = torch.from_numpy(floors_px)[:, None]
    xi = sizes * units * torch.randn(count, 6, generator=generator, dtype=torch.float64)
    truth = Pose.exp(torch.randn(count, 6, generator=generator, dtype=torch.float64))
    still = torch.zeros(count, dtype=torch.float64)
    spread = PoseSpread(torch.zeros_like(geometry), geometry, still)
    return PosedAnswers(truth.retract(xi), truth, Pose.identity(), spread)


def correlated(count: int, alike: float, rng: np.random.Generator) -> np.ndarray:
    """Errors of variance 1 on each axis; neighbours in time are correlated by `alike`."""
    errors = rng.standard_normal((count, 6))
    for index in range(1, count):
        fresh = np.sqrt(1 - alike**2) * errors[index]
        errors[index] = alike * errors[index - 1] + fresh
    return errors


def judged(errors: np.ndarray, sigma: float = 1.0) -> Consistency:
    """Errors held against the same standard deviation everywhere."""
    return consistency(errors, np.broadcast_to(sigma**2 * np.eye(6), (len(errors), 6, 6)))


def test_a_steady_stream_passes_by_its_own_blocks() -> None:
    found = judge_held_out({"a": drawn(np.full(400, 0.2))})
    assert list(found) == ["a, blocks by the others"]
    assert found["a, blocks by the others"].count == 400
    assert calibration_shortfalls(found) == []


def test_no_block_is_judged_by_a_fit_that_saw_it() -> None:
    """The last block errs five times more: a fit that saw it would say so."""
    sizes = np.full(400, 0.2)
    sizes[-400 // BLOCKS :] *= 5
    stream = drawn(sizes)
    unseen = judge_held_out({"a": stream})["a, blocks by the others"]
    seen = stream.consistency(calibrate([stream]))
    assert seen.nees_mean < 6
    assert unseen.nees_mean > 12
    assert "(too little error is said)" in "; ".join(calibration_shortfalls({"a": unseen}))


def test_streams_are_judged_by_the_others() -> None:
    quiet, loud = drawn(np.full(200, 0.1)), drawn(np.full(200, 0.5), seed=1)
    found = judge_held_out({"quiet": quiet, "loud": loud})
    assert list(found) == ["quiet, by the others", "loud, by the others"]
    text = "; ".join(calibration_shortfalls(found))
    assert "quiet, by the others: mean NEES is 0." in text
    assert "(too much error is said)" in text
    assert "(too little error is said)" in text
    assert "loud, by the others: x is within 2 sigma in" in text
    alike = judge_held_out({"one": quiet, "other": drawn(np.full(200, 0.1), seed=2)})
    assert calibration_shortfalls(alike) == []


@pytest.fixture
def right() -> Consistency:
    return judged(np.random.default_rng(4).standard_normal((500, 6)))


def test_single_axes_are_told(right: Consistency) -> None:
    assert calibration_shortfalls({"a": right}) == []
    shares = right.coverage.copy()
    shares[1, 2], shares[1, 5] = 0.85, 1.0
    off = replace(right, coverage=shares, independent=5000.0)
    assert calibration_shortfalls({"fine": right, "a": off}) == [
        "a: z is within 2 sigma in 85.0 %, expected 90 to 99 %",
        "a: rotZ is within 2 sigma in 100.0 %, expected 90 to 99 %",
    ]


def test_too_few_independent_poses_are_no_evidence(right: Consistency) -> None:
    few = replace(right, independent=FEWEST_INDEPENDENT - 1.0)
    told = calibration_shortfalls({"a": few})
    assert f"500 poses count as {FEWEST_INDEPENDENT - 1} independent ones" in told[0]


def test_bounds_of_the_coverage_widen_where_poses_are_few() -> None:
    assert coverage_bounds(5000, 0.01) == WANTED_SHARE
    low, high = coverage_bounds(20, 0.01)
    assert low < WANTED_SHARE[0]
    assert high == 1.0
    assert coverage_bounds(20, 0.001)[0] < low
    generator = np.random.default_rng(5)
    shares = generator.binomial(20, GAUSSIAN_SHARE, 20_000) / 20
    assert ((shares >= low) & (shares <= high)).mean() >= 0.99


@pytest.mark.parametrize("streams", [1, 2, 5])
@pytest.mark.parametrize(("count", "alike"), [(25, 0.0), (100, 0.0), (100, 0.5), (300, 0.8)])
def test_right_covariances_hardly_ever_fail(streams: int, count: int, alike: float) -> None:
    """However many streams are judged, and however much alike neighbours in time are."""
    rng, runs = np.random.default_rng(6), 100
    failed = 0
    for _ in range(runs):
        found = {str(i): judged(correlated(count, alike, rng)) for i in range(streams)}
        failed += bool(calibration_shortfalls(found))
    assert failed <= 0.04 * runs


@pytest.mark.parametrize(("streams", "count", "runs"), [(2, 100, 30), (1, 60, 15)])
def test_right_fits_hardly_ever_fail(streams: int, count: int, runs: int) -> None:
    """The whole way: fitted, and judged by what the fit has not seen."""
    failed = 0
    for run in range(runs):
        steady = {
            str(i): drawn(np.full(count, 0.2), seed=streams * run + i) for i in range(streams)
        }
        failed += bool(calibration_shortfalls(judge_held_out(steady)))
    assert failed <= 0.05 * runs


@pytest.mark.parametrize("sigma", [0.5, 2.0])
@pytest.mark.parametrize("streams", [1, 5])
@pytest.mark.parametrize(("count", "alike"), [(25, 0.0), (100, 0.5), (300, 0.8)])
def test_a_factor_of_two_always_fails(
    sigma: float, streams: int, count: int, alike: float
) -> None:
    """Where one of the streams errs twice or half as much as is said."""
    rng = np.random.default_rng(7)
    too = "much" if sigma > 1 else "little"
    for _ in range(20):
        found = {str(i): judged(correlated(count, alike, rng)) for i in range(streams - 1)}
        found["wrong"] = judged(correlated(count, alike, rng), sigma)
        told = "; ".join(calibration_shortfalls(found))
        assert "wrong: mean NEES is" in told
        assert f"(too {too} error is said)" in told
