"""Covariance of the robot in the map: against random draws."""

import pytest
import torch

from pixloc_core.geometry import Pose, so3
from pixloc_core.localizer.covariance import base_covariance


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
