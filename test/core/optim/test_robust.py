"""Robust losses: parity with the reference numbers, derivatives, behaviour at the ends."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pixloc_core.errors import ConfigError
from pixloc_core.optim.robust import (
    LOSSES,
    BarronLoss,
    CauchyLoss,
    HuberLoss,
    LossConfig,
    RobustLoss,
    SquaredLoss,
    create_loss,
)

REFERENCE = {
    "squared": SquaredLoss(),
    "huber": HuberLoss(),
    "huber_scaled_0.5": HuberLoss(0.5),
    "barron_a0_c0.1": BarronLoss(0.0, 0.1),
    "barron_a0_c1.0": BarronLoss(0.0, 1.0),
    "barron_a1_c0.1": BarronLoss(1.0, 0.1),
    "barron_a1.0_c2.0": BarronLoss(1.0, 2.0),
    "barron_a0.5_c1.0": BarronLoss(0.5, 1.0),
    "barron_a2_c1.0": BarronLoss(2.0, 1.0),
    "barron_a-2.0_c0.5": BarronLoss(-2.0, 0.5),
}
LOSS_OBJECTS = {**REFERENCE, "cauchy": CauchyLoss(0.3)}


@pytest.fixture(scope="module")
def fixture(shared_dir: Path) -> dict[str, torch.Tensor]:
    with np.load(shared_dir / "fixtures" / "e_losses.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.mark.parametrize("name", REFERENCE)
def test_losses_equal_those_of_the_reference(fixture: dict[str, torch.Tensor], name: str) -> None:
    loss, weight, curvature = REFERENCE[name](fixture["x"])
    torch.testing.assert_close(loss, fixture[f"{name}_loss"], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(weight, fixture[f"{name}_d1"], rtol=1e-12, atol=1e-12)
    if "barron" not in name:  # The reference returns zeros for the second derivative there.
        torch.testing.assert_close(curvature, fixture[f"{name}_d2"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", REFERENCE)
def test_float32_losses_equal_those_of_the_reference(
    fixture: dict[str, torch.Tensor], name: str
) -> None:
    loss, weight, _ = REFERENCE[name](fixture["x"].float())
    torch.testing.assert_close(loss, fixture[f"{name}_loss_f32"], rtol=3e-5, atol=1e-6)
    torch.testing.assert_close(weight, fixture[f"{name}_d1_f32"], rtol=3e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOSS_OBJECTS)
def test_weight_and_curvature_are_the_derivatives_of_the_loss(name: str) -> None:
    # Not at 0.25 and 1, where the Huber losses have a corner in the weight.
    x = torch.logspace(-4, 3, 50, dtype=torch.float64, requires_grad=True)
    loss, weight, curvature = LOSS_OBJECTS[name](x)
    (slope,) = torch.autograd.grad(loss.sum(), x, retain_graph=True)
    torch.testing.assert_close(weight, slope)
    if weight.requires_grad:
        (bend,) = torch.autograd.grad(weight.sum(), x)
        torch.testing.assert_close(curvature, bend)


@pytest.mark.parametrize("name", LOSS_OBJECTS)
def test_a_perfect_residual_costs_nothing_and_has_full_weight(name: str) -> None:
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    loss, weight, curvature = LOSS_OBJECTS[name](x)
    assert loss.item() == 0.0
    assert weight.item() == 1.0
    (slope,) = torch.autograd.grad((loss + weight + curvature).sum(), x)
    assert torch.isfinite(slope).all()


def test_cauchy_weight_halves_at_its_scale() -> None:
    _, weight, _ = CauchyLoss(0.5)(torch.tensor(0.25))
    assert weight.item() == 0.5


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("squared", SquaredLoss),
        ("huber", HuberLoss),
        ("cauchy", CauchyLoss),
        ("barron", BarronLoss),
    ],
)
def test_each_name_in_the_config_gives_its_loss(name: str, kind: type[RobustLoss]) -> None:
    assert type(create_loss(LossConfig(name=name), 0.5)) is kind
    assert name in LOSSES


def test_an_unknown_loss_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"LossConfig\.name is 'l2', expected one of squared"):
        LossConfig(name="l2")


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("name", ["huber", "cauchy", "barron"])
def test_a_scale_that_is_not_positive_is_a_config_error(name: str, scale: float) -> None:
    with pytest.raises(ConfigError, match="expected a positive number"):
        create_loss(LossConfig(name=name, alpha=1.0), scale)
