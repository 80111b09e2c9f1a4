"""Covariance of the pose, and of the robot in the map: against formulas and random draws."""

from pathlib import Path

import pytest
import torch
import yaml
from toy_world import ToyWorld

from pixloc_core.alignment.coarse_to_fine import AlignmentResult
from pixloc_core.alignment.cost import PointResiduals
from pixloc_core.alignment.uncertainty import PoseCovariance
from pixloc_core.config import load
from pixloc_core.geometry import Pose, so3
from pixloc_core.localizer.config import LocalizerConfig
from pixloc_core.localizer.covariance import (
    UNKNOWN_SHIFT_PX,
    CovarianceConfig,
    PoseSpread,
    base_covariance,
    spread_of,
)
from pixloc_core.localizer.localizer import Localizer
from pixloc_core.localizer.prior import Prior
from pixloc_core.optim.normal_equations import NormalEquations

CONFIGS = Path(__file__).resolve().parents[3] / "config"


def random_pose(seed: int) -> Pose:
    generator = torch.Generator().manual_seed(seed)
    aa, t = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    return Pose.from_aa(aa, 10 * t)


def test_covariance_of_the_base_agrees_with_random_draws() -> None:
    generator = torch.Generator().manual_seed(0)
    cam_from_map, cam_from_base = random_pose(4), random_pose(5)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64) * 2e-4
    covariance = root @ root.mT
    # Draw increments of the camera pose, and look where they put the base.
    xi = torch.randn(200_000, 6, generator=generator, dtype=torch.float64) @ root.mT
    map_from_base = cam_from_map.retract(xi).inv() @ cam_from_base
    mean = cam_from_map.inv() @ cam_from_base
    position = map_from_base.t - mean.t
    rotation = so3.log(map_from_base.R @ mean.R.mT)
    drawn = torch.cat((position, rotation), -1).T.cov()
    computed = base_covariance(covariance, cam_from_map, cam_from_base)
    # 200 000 draws fix a variance to 1/sqrt(100 000) = 0.3 %; 5 of these.
    scale = computed.diagonal().sqrt()
    error = (drawn - computed) / (scale[:, None] * scale[None, :])
    assert error.abs().max() < 0.016
    assert torch.linalg.eigvalsh(computed).min() > 0


def test_lever_arm_turns_rotation_into_position_uncertainty() -> None:
    cam_from_base = Pose.from_aa(torch.zeros(3).double(), torch.tensor([0.0, 0.0, -2.0]).double())
    covariance = torch.diag(torch.tensor([0, 0, 0, 1e-4, 0, 0], dtype=torch.float64))
    found = base_covariance(covariance, Pose.identity(), cam_from_base)
    # Turning the camera about its x axis moves a base 2 m behind it along y.
    expected = torch.zeros(6, 6, dtype=torch.float64)
    expected[1, 1], expected[3, 3] = 4e-4, 1e-4
    assert found[1, 3].abs() == pytest.approx(2e-4)
    torch.testing.assert_close(found.diagonal(), expected.diagonal())


def spread(shift_px: float = 0.5) -> PoseSpread:
    generator = torch.Generator().manual_seed(1)
    roots = torch.randn(2, 6, 6, generator=generator, dtype=torch.float64)
    sandwich, geometry = roots @ roots.mT * torch.tensor([[[1e-6]], [[1e-2]]])
    return PoseSpread(sandwich, geometry, torch.tensor(shift_px, dtype=torch.float64))


def test_scale_and_floor_add_up_as_documented() -> None:
    config = CovarianceConfig(scale=4.0, floor_px=0.2)
    known = spread()
    # The last level moved the points by half a pixel: a quarter more.
    expected = 20 * known.sandwich + 0.04 * known.geometry + 1e-9 * torch.eye(6).double()
    torch.testing.assert_close(known.covariance(config), expected)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("covariance_*.yaml")), ids=lambda p: p.stem)
def test_shipped_files_hold_the_settings_of_the_node(path: Path) -> None:
    parameters = yaml.safe_load(path.read_text())["/**"]["ros__parameters"]
    assert list(parameters) == ["localizer"]
    found = load(LocalizerConfig, **parameters["localizer"]).covariance
    assert found != CovarianceConfig()
    assert float(torch.linalg.eigvalsh(spread().covariance(found)).min()) > 0


def test_several_spreads_are_those_of_each() -> None:
    config = CovarianceConfig()
    several = PoseSpread.stack([spread(0.1), spread(2.0)])
    torch.testing.assert_close(several.covariance(config)[1], spread(2.0).covariance(config))
    torch.testing.assert_close(several[1].covariance(config), spread(2.0).covariance(config))


@pytest.mark.parametrize("config", [CovarianceConfig(scale=0, floor_px=0), CovarianceConfig()])
def test_no_variance_is_zero_whatever_the_frame(config: CovarianceConfig) -> None:
    """Filters take variances from 1e-9 on, in the map and at the end of any lever arm."""
    nothing = torch.zeros(6, 6, dtype=torch.float64)
    none = PoseSpread(nothing, nothing, torch.tensor(0.0, dtype=torch.float64))
    for seed in range(5):
        found = base_covariance(none.covariance(config), random_pose(seed), random_pose(seed + 9))
        assert float(found.diagonal().min()) >= 0.999e-9
        assert float(torch.linalg.eigvalsh(found).min()) > 0


def test_an_answer_says_the_covariance_of_its_settings(
    localizer: Localizer, world: ToyWorld
) -> None:
    """From the image to the matrix, and with other settings another one."""
    pose = world.cam_from_map[2]
    image, _ = world.render(pose)
    prior = Prior.from_pose(pose.retract(0.01 * torch.ones(6, dtype=torch.float64)))
    found = localizer.localize(image, world.camera, prior)
    assert found.spread is not None
    assert found.covariance is not None
    torch.testing.assert_close(found.covariance, found.spread.covariance(CovarianceConfig()))
    assert float(torch.linalg.eigvalsh(found.covariance).min()) >= 0.99e-9
    # The geometry is of errors that move the points by 1 px at a width of 1024: 0.3 px here.
    points = torch.from_numpy(world.points)
    before, seen = world.camera.world2image(pose * points)
    root = torch.linalg.cholesky(found.spread.geometry)
    generator = torch.Generator().manual_seed(0)
    moved = [
        world.camera.world2image(
            pose.retract(root @ torch.randn(6, generator=generator, dtype=torch.float64)) * points
        )[0]
        for _ in range(200)
    ]
    motion = torch.stack([(after - before)[seen].square().sum(-1) for after in moved])
    assert motion.mean().sqrt().item() == pytest.approx(320 / 1024, rel=0.15)


def test_the_shift_is_that_between_the_last_two_levels_that_gave_a_pose(
    world: ToyWorld,
) -> None:
    poses = world.cam_from_map[:3]
    step = (poses[2:3] @ poses[1:2].inv()).log()[0]
    result = alignment(poses, [1.0, 1.0, 1.0])
    assert float(spread_of(result, 256.0).level_shift_px) == pytest.approx(4 * float(step.norm()))
    failed = alignment(poses, [1.0, float("nan"), 1.0])
    step = (poses[2:3] @ poses[0:1].inv()).log()[0]
    assert float(spread_of(failed, 1024.0).level_shift_px) == pytest.approx(float(step.norm()))
    alone = alignment(poses, [float("nan"), float("nan"), 1.0])
    assert float(spread_of(alone, 1024.0).level_shift_px) == UNKNOWN_SHIFT_PX


def alignment(poses: Pose, costs: list[float]) -> AlignmentResult:
    """A result of three levels whose points move by a pixel with each unit of an increment."""
    unit, zero = torch.eye(6, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    count = torch.full((1,), 100)
    equations = NormalEquations(unit[None], zero.expand(1, 6), zero, count, zero, unit[None])
    return AlignmentResult(
        cam_from_map=poses[2:3],
        hypothesis=count,
        status=count,
        level=torch.zeros(1, dtype=torch.int64),
        equations=equations,
        cost_per_level=torch.tensor([costs], dtype=torch.float64),
        pose_per_level=tuple(poses[index : index + 1] for index in range(3)),
        candidates=poses[2:3],
        num_iterations=count,
        points_level=0,
        points=PointResiduals(zero, zero, zero, zero > 0, zero),
        covariance=PoseCovariance(unit, torch.tensor(True)),
    )
