"""The benchmark of the covariance: blur moves nothing, the tables hold all rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import consistency
from pixloc_core.evaluation.posed_answers import PosedAnswers, PosedImage
from pixloc_core.geometry import Camera, Pose
from pixloc_core.localizer.covariance import PoseSpread
from pixloc_core.localizer.prior import Prior


@pytest.mark.parametrize(("reach", "angle"), [(3.0, 0.0), (7.3, 1.0), (20.0, 2.5)])
def test_blur_moves_nothing(reach: float, angle: float) -> None:
    kernel = consistency.line_kernel(reach, angle)
    assert kernel.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1])
    y, x = np.indices(kernel.shape) - kernel.shape[0] // 2
    along = np.cos(angle) * x + np.sin(angle) * y
    assert (kernel * along**2).sum() ** 0.5 == pytest.approx(reach / 3**0.5, rel=0.1)


def test_a_degraded_image_is_the_same_each_time_and_of_the_same_size() -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    camera = Camera.from_colmap(
        {"model": "PINHOLE", "width": 64, "height": 48, "params": [60.0, 60.0, 32.0, 24.0]}
    )
    item = PosedImage(image, camera, Prior.from_references(["a"]), Pose.identity())
    first, second = consistency.degrade(item, 4), consistency.degrade(item, 4)
    np.testing.assert_array_equal(first.image, second.image)
    assert first.image.shape == image.shape
    assert first.image.std() < 0.8 * image.std()
    assert not np.array_equal(first.image, consistency.degrade(item, 5).image)


def drawn(seed: int, count: int = 12) -> PosedAnswers:
    """Answers with errors of a pixel, in metres and radians as of a room."""
    generator = torch.Generator().manual_seed(seed)
    variances = torch.tensor([1e-4] * 3 + [1e-6] * 3, dtype=torch.float64)
    geometry = torch.diag(variances).expand(count, 6, 6)
    spread = PoseSpread(1e-3 * geometry, geometry, torch.ones(count, dtype=torch.float64))
    truth = Pose.exp(torch.randn(count, 6, generator=generator, dtype=torch.float64))
    xi = torch.randn(count, 6, generator=generator, dtype=torch.float64) * variances.sqrt()
    return PosedAnswers(truth.retract(xi), truth, Pose.identity(), spread)


def test_answers_survive_the_cache(tmp_path: Path) -> None:
    answers = drawn(1)
    consistency.save_answers(tmp_path / "a.npz", answers)
    found = consistency.read_answers(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.errors(), answers.errors())
    torch.testing.assert_close(found.spread.geometry, answers.spread.geometry)
    assert found.cam_from_base.shape == ()


def test_the_report_judges_every_scene_by_the_others() -> None:
    names = list(consistency.SCENE)
    answers = {name: drawn(seed, 20) for seed, name in enumerate(names)}
    text = consistency.report(answers)
    for name in names:
        assert text.count(f"| {name} ") == 3
    assert "| kitti06_start, with the first 4 " in text
    assert "| evening, calibrated by day " in text
    assert "tum_fr1_rpy, 2nd half by the 1st" in text


def test_three_poses_of_each_image_tell_the_error_of_the_truth() -> None:
    """Answers, truth and a third party, that err by 1, 0.5 and 0.3 px."""
    exact = drawn(3, 4000)
    exact = replace(exact, estimate=exact.truth)
    answers = replace(exact, estimate=moved(exact, 1.0, 1), truth=moved(exact, 0.5, 2))
    baseline = replace(answers, truth=moved(exact, 0.3, 3))
    assert consistency.truth_error_px(answers, baseline) == pytest.approx(0.5, rel=0.1)
    perfect = replace(answers, truth=exact.truth)
    assert consistency.truth_error_px(perfect, baseline) < 0.2


def moved(answers: PosedAnswers, size_px: float, seed: int) -> Pose:
    """True poses with errors that move the points by so much."""
    generator = torch.Generator().manual_seed(seed)
    roots = answers.spread.geometry.diagonal(dim1=-2, dim2=-1).sqrt()
    normal = torch.randn(len(answers), 6, generator=generator, dtype=torch.float64)
    return answers.truth.retract(size_px * roots * normal)


def test_errors_of_truths_are_told_and_taken_away_again() -> None:
    answers = {name: drawn(seed, 20) for seed, name in enumerate(consistency.SCENE)}
    answers["fox"] = replace(answers["fox"], truth_px=0.25)
    text = consistency.report(answers)
    assert "Errors of the truths: fox 0.25 px." in text
    rows = [line for line in text.splitlines() if line.startswith("| fox ")]
    mean_nees = [float(row.split("|")[-3]) for row in rows]
    # Alone, under the fit to the others, and the same without the allowance.
    assert len(rows) == 3
    assert mean_nees[2] > mean_nees[1]
