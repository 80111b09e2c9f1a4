"""Covariance of the pose: against repeated experiments, and where there is none."""

from dataclasses import replace

import pytest
import torch
from synthetic import make_scene

from pixloc_core.alignment.cost import CostConfig, FeatureMetricCost
from pixloc_core.alignment.uncertainty import (
    CELLS,
    LEAST_BEND,
    energy_curvature,
    image_cells,
    pose_covariance,
)
from pixloc_core.features.pyramid import FeatureLevel
from pixloc_core.geometry import Pose
from pixloc_core.optim.damping import AdaptiveDamping
from pixloc_core.optim.levenberg_marquardt import LmConfig, optimize
from pixloc_core.optim.normal_equations import NormalEquations
from pixloc_core.optim.robust import CauchyLoss, RobustLoss, SquaredLoss

NUM_RUNS = 120
LEVEL = 1


@pytest.mark.parametrize(
    ("loss", "noise", "outliers"),
    [(SquaredLoss(), 0.05, 0.0), (CauchyLoss(0.5), 0.05, 0.0), (CauchyLoss(0.2), 0.05, 0.3)],
    ids=["squared", "robust", "robust with outliers"],
)
def test_covariance_is_that_of_repeated_experiments(
    loss: RobustLoss, noise: float, outliers: float
) -> None:
    """The same scene with fresh noise in each run: the errors spread as is said."""
    scene = make_scene(num_points=150)
    generator = torch.Generator().manual_seed(5)

    def repeat(x: torch.Tensor) -> torch.Tensor:
        return x.expand(NUM_RUNS, *x.shape).contiguous()

    level, seen = scene.pyramid[LEVEL], repeat(scene.points.descriptors[LEVEL])
    random = torch.nn.functional.normalize(torch.randn(seen.shape, generator=generator), dim=-1)
    is_outlier = torch.rand(*seen.shape[:2], 1, generator=generator) < outliers
    seen = seen + noise * torch.randn(seen.shape, generator=generator)
    cost = FeatureMetricCost(
        FeatureLevel(
            repeat(level.features),
            repeat(level.confidence),
            torch.stack([level.camera] * NUM_RUNS),
            level.stride,
        ),
        repeat(scene.points.points_map),
        torch.where(is_outlier, random, seen),
        repeat(scene.points.confidences[LEVEL]),
        loss,
        CostConfig(),
    )
    truth = Pose(repeat(scene.cam_from_map.data))
    result = optimize(cost, truth, AdaptiveDamping(init=1e-4), LmConfig(motion_px=1e-3))
    error = (result.pose @ truth.inv()).log()
    covariance = pose_covariance(result.equations.H, cost.points(result.pose).scores)
    assert covariance.determined.all()

    spread = error.square().mean(0).sqrt()
    said = covariance.matrix.diagonal(dim1=-2, dim2=-1).mean(0).sqrt()
    assert ((spread / said > 0.7) & (spread / said < 1.3)).all()
    # Six degrees of freedom: the mean of the squared normalized error is six.
    normalized = torch.linalg.solve(covariance.matrix, error[..., None])[..., 0]
    assert 4.0 < (normalized * error).sum(-1).mean().item() < 8.5


def test_noise_in_the_image_makes_no_pose_surer() -> None:
    """Slopes of noise count in the Gauss-Newton matrix, but the energy does not bend by them."""
    scene = make_scene(num_points=150)
    generator = torch.Generator().manual_seed(7)
    level = scene.pyramid[LEVEL]
    errors, measured, gauss_newton = [], [], []
    for _ in range(40):
        noise = 0.35 * torch.randn(level.features.shape, generator=generator)
        cost = FeatureMetricCost(
            replace(level, features=level.features + noise),
            scene.points.points_map,
            scene.points.descriptors[LEVEL],
            scene.points.confidences[LEVEL],
            CauchyLoss(0.5),
            CostConfig(),
        )
        start = Pose(scene.cam_from_map.data[None])
        result = optimize(cost, start, AdaptiveDamping(init=1e-4), LmConfig(motion_px=1e-3))
        pose = result.pose[0]
        here, scores = cost.linearize(pose), cost.points(pose).scores
        curvature = energy_curvature(cost, pose, here)
        errors.append((pose @ scene.cam_from_map.inv()).log())
        measured.append(pose_covariance(here.H, scores, curvature=curvature).matrix)
        gauss_newton.append(pose_covariance(here.H, scores).matrix)
    spread = torch.stack(errors).square().mean(0).sqrt()
    said, too_sure = (
        torch.stack(found).diagonal(dim1=-2, dim2=-1).mean(0).sqrt()
        for found in (measured, gauss_newton)
    )
    assert (spread / too_sure > 1.5).all()
    assert ((spread / said > 0.3) & (spread / said < 1.2)).all()


class BentEnergy:
    """An energy of given curvature around a pose, whatever its Gauss-Newton matrix says."""

    is_shared = True

    def __init__(self, minimum: Pose, H: torch.Tensor, curvature: torch.Tensor) -> None:
        self.minimum, self.H, self.curvature = minimum, H, curvature

    def linearize(self, pose: Pose) -> NormalEquations:
        g = (pose @ self.minimum.inv()).log() @ self.curvature
        one = torch.ones(g.shape[:-1], dtype=torch.float64)
        H = self.H.expand(*g.shape, 6)
        # An increment of 1 moves the points by 1000 pixels.
        return NormalEquations(H, g, one, one.long(), one, 1e6 * torch.eye(6).double())


def bent(parts: list[float]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A Gauss-Newton matrix, a matrix that has these parts of it, and what is measured of it."""
    H, _ = random_problem()
    root = torch.linalg.cholesky(H)
    axes = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(3)).double())
    half = root @ axes.Q
    curvature = half @ torch.diag(torch.tensor(parts, dtype=torch.float64)) @ half.mT
    minimum = Pose.exp(torch.linspace(-0.5, 0.5, 6, dtype=torch.float64))
    energy = BentEnergy(minimum, H, curvature)
    return H, curvature, energy_curvature(energy, minimum, energy.linearize(minimum))


def test_the_curvature_is_that_of_the_energy() -> None:
    _, curvature, measured = bent([0.1, 0.2, 0.3, 0.5, 0.8, 1.0])
    torch.testing.assert_close(measured, curvature, rtol=1e-4, atol=1e-4)


def test_the_curvature_stays_within_bounds() -> None:
    """Never more than Gauss-Newton says, and positive where the energy bends the other way."""
    H, _, measured = bent([-0.5, 0.0, 0.3, 0.5, 1.5, 4.0])
    parts = torch.linalg.eigvals(torch.linalg.solve(H, measured)).real.sort().values
    expected = torch.tensor([LEAST_BEND, LEAST_BEND, 0.3, 0.5, 1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(parts, expected, rtol=1e-3, atol=1e-4)


def test_without_a_determined_pose_there_is_no_curvature_to_measure() -> None:
    H = torch.zeros(6, 6, dtype=torch.float64)
    energy = BentEnergy(Pose.identity(), H, H)
    here = energy.linearize(Pose.identity())
    assert energy_curvature(energy, Pose.identity(), here) is here.H


def random_problem(count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    J = torch.randn(count, 6, generator=generator, dtype=torch.float64)
    residual = torch.randn(count, 1, generator=generator, dtype=torch.float64)
    return J.mT @ J, J * residual


def test_covariance_changes_with_the_units_as_it_must() -> None:
    H, scores = random_problem()
    unit = torch.logspace(-3, 3, 6, dtype=torch.float64)
    plain = pose_covariance(H, scores).matrix
    # Parameters in other units: the Jacobian is divided by what they are multiplied with.
    scaled = pose_covariance(H / unit / unit[:, None], scores / unit)
    assert bool(scaled.determined)
    torch.testing.assert_close(scaled.matrix, plain * unit * unit[:, None])


def test_points_that_do_not_count_change_nothing() -> None:
    H, scores = random_problem()
    padded = torch.cat((scores, torch.zeros(10, 6, dtype=torch.float64)))
    torch.testing.assert_close(
        pose_covariance(H, padded).matrix, pose_covariance(H, scores).matrix
    )


def test_each_element_without_a_determined_pose_is_flagged() -> None:
    """A missing direction, nothing at all, NaN, and as few points as parameters."""
    H, scores = random_problem()
    blind = scores.clone()
    blind[:, 2] = 0
    blind_H = H.clone()
    blind_H[2], blind_H[:, 2] = 0, 0
    few = torch.zeros_like(scores)
    few[:6] = scores[:6]
    batch_H = torch.stack((H, blind_H, torch.zeros_like(H), torch.full_like(H, torch.nan), H))
    batch = torch.stack((scores, blind, torch.zeros_like(scores), scores, few))
    covariance = pose_covariance(batch_H, batch)
    assert covariance.determined.tolist() == [True, False, False, False, False]
    assert torch.isfinite(covariance.matrix[0]).all()
    assert covariance.matrix[1:].diagonal(dim1=-2, dim2=-1).isinf().all()
    assert not covariance.matrix.isnan().any()
    torch.testing.assert_close(covariance.matrix[0], pose_covariance(H, scores).matrix)


def test_points_that_err_together_count_as_one() -> None:
    """Each of 200 measurements made four times: the pose is no surer than by 200."""
    generator = torch.Generator().manual_seed(1)
    J = torch.randn(200, 6, generator=generator, dtype=torch.float64)
    residual = torch.randn(200, 1, generator=generator, dtype=torch.float64)
    H, scores, cells = J.mT @ J, J * residual, torch.arange(200)
    once = pose_covariance(H, scores).matrix
    often = pose_covariance(4 * H, scores.repeat(4, 1), cells.repeat(4)).matrix
    blind = pose_covariance(4 * H, scores.repeat(4, 1)).matrix
    torch.testing.assert_close(often, once, rtol=0.05, atol=0)
    torch.testing.assert_close(blind, once / 4, rtol=0.05, atol=0)


def test_cells_of_one_point_are_as_good_as_none() -> None:
    H, scores = random_problem(200)
    alone = pose_covariance(H, scores, torch.arange(200)).matrix
    # But for the factor 200 / 199 of the cells.
    torch.testing.assert_close(alone, pose_covariance(H, scores).matrix * 200 / 199)


def test_cells_work_in_a_batch() -> None:
    H, scores = random_problem()
    other = scores.flip(0)
    cells = torch.stack((torch.arange(40) // 2, torch.arange(40) // 5))
    both = pose_covariance(torch.stack((H, H)), torch.stack((scores, other)), cells).matrix
    torch.testing.assert_close(both[0], pose_covariance(H, scores, cells[0]).matrix)
    torch.testing.assert_close(both[1], pose_covariance(H, other, cells[1]).matrix)


def test_image_is_cut_into_square_cells() -> None:
    size = torch.tensor([16.0, 8.0])
    points = torch.tensor([[0.0, 0.0], [1.4, 0.0], [1.6, 0.0], [15.4, 7.4], [0.0, 7.0]])
    assert image_cells(points, size).tolist() == [0, 0, 1, 3 * CELLS + 7, 3 * CELLS]
    outside = torch.tensor([[-9.0, -9.0], [99.0, 0.0], [torch.nan, 0.0]])
    assert image_cells(outside, size).tolist() == [0, CELLS - 1, 0]
