"""Damped 6x6 systems: parity, failure per element, gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pixloc_core.optim.linear_solve import solve_damped


@pytest.fixture(scope="module")
def fixture(shared_dir: Path) -> dict[str, torch.Tensor]:
    with np.load(shared_dir / "fixtures" / "f_lm.npz") as file:
        names = ("step_H", "step_g", "step_mask", "lambda", "step_gn", "step_lm_scalar")
        return {name: torch.from_numpy(file[name]) for name in (*names, "step_lm_vec")}


@pytest.mark.parametrize(
    ("run", "damping"), [("step_gn", 0.0), ("step_lm_scalar", 0.01), ("step_lm_vec", None)]
)
def test_steps_equal_those_of_the_reference(
    fixture: dict[str, torch.Tensor], run: str, damping: float | None
) -> None:
    """Among them a rank-deficient system, a zero one and one that is masked."""
    factors = (
        fixture["lambda"] if damping is None else torch.tensor([damping], dtype=torch.float64)
    )
    H, g, mask = fixture["step_H"], fixture["step_g"], fixture["step_mask"]
    delta, solved = solve_damped(H, g, factors, mask)
    torch.testing.assert_close(delta, fixture[run], rtol=1e-9, atol=1e-12)
    assert solved.tolist() == mask.tolist()


def random_systems(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    J = torch.randn(count, 20, 6, generator=generator, dtype=torch.float64)
    return J.mT @ J, torch.randn(count, 6, generator=generator, dtype=torch.float64)


def test_a_system_that_cannot_be_solved_fails_alone() -> None:
    H, g = random_systems(6)
    broken = H.clone()
    broken[1, 2, 2] = -5.0
    broken[2, 0, 0] = torch.nan
    broken[3, 5, 5] = torch.inf
    g = g.clone()
    g[4, 1] = torch.nan
    damping = torch.full((6, 1), 1e-3, dtype=torch.float64)
    delta, solved = solve_damped(broken, g, damping)
    assert solved.tolist() == [True, False, False, False, False, True]
    assert (delta[~solved] == 0).all()
    alone, _ = solve_damped(H[[0, 5]], g[[0, 5]], damping[[0, 5]])
    torch.testing.assert_close(delta[[0, 5]], alone)


def test_the_step_does_not_depend_on_the_units_of_the_parameters() -> None:
    """Why the column scaling of the reference (`jacobi_scaling`) needs no option here."""
    H, g = random_systems(4)
    unit = torch.logspace(-1, 2, 6, dtype=torch.float64)
    damping = torch.full((4, 1), 1e-2, dtype=torch.float64)
    delta, _ = solve_damped(H, g, damping)
    scaled, _ = solve_damped(H * unit[:, None] * unit, g * unit, damping)
    torch.testing.assert_close(scaled * unit, delta)


def test_gradients_stay_finite_beside_a_failed_element() -> None:
    H, g = random_systems(3)
    H = H.clone()
    H[1] = -torch.eye(6, dtype=torch.float64)
    H.requires_grad_()
    g.requires_grad_()
    delta, solved = solve_damped(H, g, torch.full((3, 1), 1e-3, dtype=torch.float64))
    assert solved.tolist() == [True, False, True]
    delta.square().sum().backward()
    assert torch.isfinite(H.grad).all()
    assert torch.isfinite(g.grad).all()
    assert (H.grad[1] == 0).all()
    assert (H.grad[0] != 0).any()
