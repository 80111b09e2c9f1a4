"""Robust losses: functions of the squared residual that stop growing for outliers.

Each maps `x = ||r||^2` to `(rho(x), rho'(x), rho''(x))`. All are scaled such that `rho(x) ~ x` for
small `x`: `rho'(0) = 1`, and `rho'` is the weight of a point in the normal equations.

Source: docs/math.md, section 4. Barron, "A General and Adaptive Robust Loss Function", CVPR 2019.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from pixloc_core.config import check, setting
from pixloc_core.errors import ConfigError
from pixloc_core.shapes import Float, Tensor

Scaled = tuple[Float[Tensor, "*s"], Float[Tensor, "*s"], Float[Tensor, "*s"]]


class RobustLoss(Protocol):
    """Maps squared residuals to a loss with its first and second derivative."""

    def __call__(self, squared_residual: Float[Tensor, "*s"]) -> Scaled:
        """Loss, its derivative (the weight), and the derivative of that."""
        ...


@dataclass(frozen=True)
class SquaredLoss:
    """No robustness: `rho(x) = x`."""

    def __call__(self, squared_residual: Float[Tensor, "*s"]) -> Scaled:
        """Loss, weight and curvature (eq. 4.1)."""
        return (
            squared_residual,
            torch.ones_like(squared_residual),
            torch.zeros_like(squared_residual),
        )


@dataclass(frozen=True)
class HuberLoss:
    """Quadratic up to `||r|| = scale`, linear beyond."""

    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_scale("HuberLoss", self.scale)

    def __call__(self, squared_residual: Float[Tensor, "*s"]) -> Scaled:
        """Loss, weight and curvature (eq. 4.2)."""
        x = squared_residual / self.scale**2
        inlier = x <= 1.0
        # The untaken branch must be finite too, or its gradient is NaN at x = 0.
        outer = x.clamp(min=1.0)
        root = outer.sqrt()
        loss = torch.where(inlier, x, 2 * root - 1) * self.scale**2
        weight = torch.where(inlier, torch.ones_like(x), 1 / root)
        curvature = torch.where(inlier, torch.zeros_like(x), -0.5 / (outer * root))
        return loss, weight, curvature / self.scale**2


@dataclass(frozen=True)
class CauchyLoss:
    """Logarithmic: the weight halves at `||r|| = scale` and falls with the inverse square."""

    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_scale("CauchyLoss", self.scale)

    def __call__(self, squared_residual: Float[Tensor, "*s"]) -> Scaled:
        """Loss, weight and curvature (eq. 4.3)."""
        x = squared_residual / self.scale**2
        weight = 1 / (1 + x)
        return torch.log1p(x) * self.scale**2, weight, -weight.square() / self.scale**2


@dataclass(frozen=True)
class BarronLoss:
    """The general loss with shape `alpha`: 2 squared, 1 pseudo-Huber, 0 Cauchy, -2 Geman-McClure.

    With alpha = 0 it is a Cauchy loss of scale `scale * sqrt(2)`: the one PixLoc uses.
    """

    alpha: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_scale("BarronLoss", self.scale)

    def __call__(self, squared_residual: Float[Tensor, "*s"]) -> Scaled:
        """Loss, weight and curvature (eq. 4.4), times `2 scale^2` to have `rho'(0) = 1`."""
        if self.alpha == 2.0:
            return SquaredLoss()(squared_residual)
        if self.alpha == 0.0:
            return CauchyLoss(self.scale * math.sqrt(2.0))(squared_residual)
        b = abs(self.alpha - 2.0) * self.scale**2
        power = self.alpha / 2
        base = squared_residual / b + 1
        loss = (base**power - 1) * (b / power)
        return loss, base ** (power - 1), base ** (power - 2) * ((power - 1) / b)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Which robust loss, and its shape."""

    name: str = setting(
        "cauchy", doc="Kind of robust loss.", choices=("squared", "huber", "cauchy", "barron")
    )
    alpha: float = setting(0.0, doc="Shape of the loss 'barron'; 2 squared, 1 Huber, 0 Cauchy.")

    def __post_init__(self) -> None:
        check(self)


LOSSES: dict[str, Callable[[float, float], RobustLoss]] = {
    "squared": lambda alpha, scale: SquaredLoss(),
    "huber": lambda alpha, scale: HuberLoss(scale),
    "cauchy": lambda alpha, scale: CauchyLoss(scale),
    "barron": BarronLoss,
}


def create_loss(config: LossConfig, scale: float) -> RobustLoss:
    """The loss a config names, with the scale of one level."""
    return LOSSES[config.name](config.alpha, scale)


def _check_scale(name: str, scale: float) -> None:
    if not 0.0 < scale < math.inf:
        raise ConfigError(f"{name}.scale is {scale!r}, expected a positive number")
