"""Covariance of the pose: against repeated experiments, and where there is none."""

from dataclasses import dataclass, replace

import pytest
import torch
from synthetic import Scene, make_scene, perturb

from pixloc_core.alignment.aligner_config import AlignerConfig
from pixloc_core.alignment.coarse_to_fine import align, align_rig, level_cost
from pixloc_core.alignment.cost import CostConfig, FeatureMetricCost
from pixloc_core.alignment.rig_cost import Sight
from pixloc_core.alignment.uncertainty import (
    CELLS,
    LEAST_BEND,
    energy_curvature,
    image_cells,
    pose_covariance,
)
from pixloc_core.geometry import Pose
from pixloc_core.optim.damping import AdaptiveDamping
from pixloc_core.optim.levenberg_marquardt import LmConfig, optimize
from pixloc_core.optim.normal_equations import NormalEquations
from pixloc_core.optim.robust import CauchyLoss, RobustLoss, SquaredLoss

# Repeated experiments: scenes and runs in each.
NUM_SCENES = 3
NUM_RUNS = 50
LEVEL = 1

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Experiment:
    """Noise, drawn anew in each run, and how the covariances then fit the errors (math.md, 6.5).

    Noise is per channel. For either matrix in the place of A: by what factor the standard
    deviations said are larger than the errors (root mean square, every axis), and the mean NEES.
    """

    loss: RobustLoss
    descriptor_noise: float
    image_noise: float
    outliers: float
    by_curvature: tuple[Bounds, Bounds]
    by_gauss_newton: tuple[Bounds, Bounds]


EXPERIMENTS = {
    "squared": Experiment(
        SquaredLoss(), 0.05, 0.0, 0.0, ((1.05, 1.45), (3.5, 5.0)), ((1.05, 1.45), (3.5, 5.0))
    ),
    "robust": Experiment(
        CauchyLoss(0.5), 0.05, 0.0, 0.0, ((1.05, 1.45), (3.5, 5.5)), ((1.0, 1.35), (4.0, 6.0))
    ),
    "robust, with outliers": Experiment(
        CauchyLoss(0.2), 0.05, 0.0, 0.3, ((1.25, 1.8), (2.5, 4.5)), ((0.9, 1.35), (5.0, 7.0))
    ),
    # Slopes of noise count in the Gauss-Newton matrix, but the energy does not bend by them.
    "robust, noise in the image": Experiment(
        CauchyLoss(0.5), 0.0, 0.35, 0.0, ((0.9, 1.4), (6.0, 10.0)), ((0.3, 0.55), (30.0, 50.0))
    ),
}


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_covariance_is_that_of_repeated_experiments(experiment: Experiment) -> None:
    """Fresh noise in each run: the errors spread as is said, up to the factors that are known."""
    generator = torch.Generator().manual_seed(5)
    errors, measured, plain = [], [], []
    for seed in range(NUM_SCENES):
        scene = make_scene(seed, num_points=150)
        for _ in range(NUM_RUNS):
            cost = noisy_cost(experiment, scene, generator)
            start = Pose(scene.cam_from_map.data[None])
            result = optimize(cost, start, AdaptiveDamping(init=1e-4), LmConfig(motion_px=1e-3))
            pose = result.pose[0]
            here, scores = cost.linearize(pose), cost.points(pose).scores
            curvature = energy_curvature(cost, pose, here)
            errors.append((pose @ scene.cam_from_map.inv()).log())
            measured.append(pose_covariance(here.H, scores, curvature=curvature))
            plain.append(pose_covariance(here.H, scores))
    for covariances, expected in (
        (measured, experiment.by_curvature),
        (plain, experiment.by_gauss_newton),
    ):
        assert all(bool(covariance.determined) for covariance in covariances)
        matrices = torch.stack([covariance.matrix for covariance in covariances])
        factors, nees = fit_of(torch.stack(errors), matrices)
        (low, high), (least, most) = expected
        assert ((factors > low) & (factors < high)).all(), factors
        assert least < nees < most


def noisy_cost(
    experiment: Experiment, scene: Scene, generator: torch.Generator
) -> FeatureMetricCost:
    level, seen = scene.pyramid[LEVEL], scene.points.descriptors[LEVEL]

    def normal(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator)

    random = torch.nn.functional.normalize(normal(seen), dim=-1)
    is_outlier = torch.rand(len(seen), 1, generator=generator) < experiment.outliers
    seen = seen + experiment.descriptor_noise * normal(seen)
    features = level.features + experiment.image_noise * normal(level.features)
    return FeatureMetricCost(
        replace(level, features=features),
        scene.points.points_map,
        torch.where(is_outlier, random, seen),
        scene.points.confidences[LEVEL],
        experiment.loss,
        CostConfig(),
    )


def fit_of(errors: torch.Tensor, covariances: torch.Tensor) -> tuple[torch.Tensor, float]:
    """By what factor each axis is said to err more than it does (6), and the mean NEES."""
    variances = covariances.diagonal(dim1=-2, dim2=-1)
    factors = (errors.square() / variances).mean(0).rsqrt()
    normalized = torch.linalg.solve(covariances, errors[..., None])[..., 0]
    return factors, (normalized * errors).sum(-1).mean().item()


@pytest.mark.parametrize("count", [1, 2], ids=["one camera", "a rig of two"])
def test_the_aligner_takes_the_measured_curvature(count: int) -> None:
    first, second = make_scene(1, noise=0.05), make_scene(2, noise=0.05)
    second_from_first = second.cam_from_map @ first.cam_from_map.inv()
    config, start = AlignerConfig(), perturb(first, 5.0, 1)
    sights = [
        Sight(first.pyramid, first.points),
        Sight(second.pyramid, second.points, second_from_first),
    ][:count]
    if count == 1:
        result = align(first.pyramid, first.points, start, config)
    else:
        result = align_rig(sights, start, config)
    pose, level = result.cam_from_map[0], result.points_level
    cost = level_cost(sights, config, level)
    here, points = cost.linearize(pose), cost.points(pose)
    cells = torch.cat(
        [
            index * CELLS**2 + image_cells(part, sight.pyramid[level].camera.size)
            for index, (part, sight) in enumerate(
                zip(points.points_px.chunk(count), sights, strict=True)
            )
        ]
    )
    measured = pose_covariance(
        here.H, points.scores, cells, energy_curvature(cost, pose, here)
    ).matrix
    plain = pose_covariance(here.H, points.scores, cells).matrix
    torch.testing.assert_close(result.covariance.matrix, measured)
    # The two are not alike: this test would see the other one.
    assert (measured.diagonal() / plain.diagonal() - 1).abs().max() > 0.05


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
