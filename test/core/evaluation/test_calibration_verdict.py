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


def shortfalls(found: dict[str, Consistency]) -> list[str]:
    return [line for name, row in found.items() for line in calibration_shortfalls(name, row)]


def test_a_steady_stream_passes_by_its_own_blocks() -> None:
    found = judge_held_out({"a": drawn(np.full(400, 0.2))})
    assert list(found) == ["a, blocks by the others"]
    assert found["a, blocks by the others"].count == 400
    assert shortfalls(found) == []


def test_no_block_is_judged_by_a_fit_that_saw_it() -> None:
    """The last block errs five times more: a fit that saw it would say so."""
    sizes = np.full(400, 0.2)
    sizes[-400 // BLOCKS :] *= 5
    stream = drawn(sizes)
    unseen = judge_held_out({"a": stream})["a, blocks by the others"]
    seen = stream.consistency(calibrate([stream]))
    assert seen.nees_mean < 6
    assert unseen.nees_mean > 12
    assert "(too little error is said)" in "; ".join(shortfalls({"a": unseen}))


def test_streams_are_judged_by_the_others() -> None:
    quiet, loud = drawn(np.full(200, 0.1)), drawn(np.full(200, 0.5), seed=1)
    found = judge_held_out({"quiet": quiet, "loud": loud})
    assert list(found) == ["quiet, by the others", "loud, by the others"]
    text = "; ".join(shortfalls(found))
    assert "quiet, by the others: mean NEES is 0." in text
    assert "(too much error is said)" in text
    assert "(too little error is said)" in text
    assert "loud, by the others: x is within 2 sigma in" in text
    alike = judge_held_out({"one": quiet, "other": drawn(np.full(200, 0.1), seed=2)})
    assert shortfalls(alike) == []


@pytest.fixture
def right() -> Consistency:
    normal = np.random.default_rng(4).standard_normal((500, 6))
    return consistency(normal, np.broadcast_to(np.eye(6), (500, 6, 6)))


def test_single_axes_are_told(right: Consistency) -> None:
    assert calibration_shortfalls("a", right) == []
    shares = right.coverage.copy()
    shares[1, 2], shares[1, 5] = 0.85, 1.0
    told = calibration_shortfalls("a", replace(right, coverage=shares, independent=5000.0))
    assert told == [
        "a: z is within 2 sigma in 85.0 %, expected 90 to 99 %",
        "a: rotZ is within 2 sigma in 100.0 %, expected 90 to 99 %",
    ]


def test_too_few_independent_poses_are_no_evidence(right: Consistency) -> None:
    few = replace(right, independent=FEWEST_INDEPENDENT - 1.0)
    assert "500 poses count as 9 independent ones" in calibration_shortfalls("a", few)[0]


def test_bounds_of_the_coverage_widen_where_poses_are_few() -> None:
    assert coverage_bounds(5000) == WANTED_SHARE
    low, high = coverage_bounds(20)
    assert low < WANTED_SHARE[0]
    assert high == 1.0
    generator = np.random.default_rng(5)
    shares = generator.binomial(20, GAUSSIAN_SHARE, 20_000) / 20
    assert ((shares >= low) & (shares <= high)).mean() >= 0.99
