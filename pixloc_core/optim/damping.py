"""Damping policies of the Levenberg-Marquardt loop: constant, adaptive, learned.

A policy holds no state: the loop carries the tensor made by `start` through `update`.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from pixloc_core.config import check, setting
from pixloc_core.errors import ConfigError
from pixloc_core.shapes import Bool, Float, Tensor

LEARNED_EXPONENT_RANGE = (-6.0, 5.0)
"""Powers of ten between which a learned damping lies."""


class Damping(Protocol):
    """How the factors on the diagonal of the normal equations start and change."""

    def start(self, like: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b #6"]:
        """Factors of the first step, for a batch, dtype and device as those of `like`."""
        ...

    def update(
        self,
        factors: Float[Tensor, "*b p"],
        accepted: Bool[Tensor, "*b"],
        gain: Float[Tensor, "*b"],
    ) -> Float[Tensor, "*b p"]:
        """Factors of the next step.

        Args:
            factors: Those of the step just tried.
            accepted: Where that step was taken.
            gain: Decrease of the cost over the decrease that the linear model foretold.
        """
        ...


@dataclass(frozen=True)
class ConstantDamping:
    """The same factor for all parameters and steps; zero makes it Gauss-Newton."""

    factor: float = 1e-2

    def __post_init__(self) -> None:
        if not self.factor >= 0.0:
            raise ConfigError(f"ConstantDamping.factor is {self.factor!r}, expected at least 0")

    def start(self, like: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 1"]:
        """The factor, once per element."""
        return like.new_full((*like.shape[:-1], 1), self.factor)

    def update(
        self,
        factors: Float[Tensor, "*b p"],
        accepted: Bool[Tensor, "*b"],
        gain: Float[Tensor, "*b"],
    ) -> Float[Tensor, "*b p"]:
        """No change."""
        return factors


@dataclass(frozen=True, kw_only=True)
class AdaptiveDamping:
    """Damping that falls while the linear model foretells the cost, and rises when it does not.

    After a step that was taken it is multiplied by `max(down, 1 - (2 gain - 1)^3)`, at most 2
    (Nielsen's rule); after one that was rejected, by `up`. Without `use_gain`, by `down` and `up`.
    """

    init: float = setting(1e-2, doc="Damping of the first step.", ge=0.0)
    up: float = setting(10.0, doc="Factor after a rejected step.", ge=1.0)
    down: float = setting(0.1, doc="Smallest factor after a step that was taken.", ge=0.0, le=1.0)
    smallest: float = setting(1e-7, doc="Lower bound of the damping.", ge=0.0)
    largest: float = setting(1e4, doc="Upper bound of the damping.", ge=0.0)
    use_gain: bool = setting(True, doc="Let the gain ratio decide how far the damping falls.")

    def __post_init__(self) -> None:
        check(self)
        if self.smallest > self.largest:
            raise ConfigError(
                f"AdaptiveDamping.smallest is {self.smallest!r}, expected at most largest, "
                f"which is {self.largest!r}"
            )

    def start(self, like: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 1"]:
        """The initial damping, once per element."""
        return like.new_full((*like.shape[:-1], 1), self.init)

    def update(
        self,
        factors: Float[Tensor, "*b p"],
        accepted: Bool[Tensor, "*b"],
        gain: Float[Tensor, "*b"],
    ) -> Float[Tensor, "*b p"]:
        """Scale each element by how its last step went (eq. 5.7)."""
        scale = self.scale(accepted, gain)
        return (factors * scale[..., None]).clamp(min=self.smallest, max=self.largest)

    def scale(
        self, accepted: Bool[Tensor, "*b"], gain: Float[Tensor, "*b"]
    ) -> Float[Tensor, "*b"]:
        """What the factors are multiplied by after a step, before the bounds."""
        taken = torch.full_like(gain, self.down)
        if self.use_gain:
            taken = (1 - (2 * gain - 1) ** 3).clamp(min=self.down, max=2.0)
        return torch.where(accepted, taken, torch.full_like(gain, self.up))


class LearnedDamping(nn.Module):
    """One factor per parameter (vx, vy, vz, wx, wy, wz), trained with the network.

    Its parameter has the name and meaning of that in the official checkpoints:
    `optimizer.{level}.dampingnet.const`.
    """

    def __init__(self, const: Float[Tensor, "6"] | None = None) -> None:
        super().__init__()
        self.const = nn.Parameter(torch.zeros(6) if const is None else const.clone())

    def start(self, like: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 6"]:
        """The learned factors, the same for all elements."""
        return learned_factors(self.const, like)

    def update(
        self,
        factors: Float[Tensor, "*b p"],
        accepted: Bool[Tensor, "*b"],
        gain: Float[Tensor, "*b"],
    ) -> Float[Tensor, "*b p"]:
        """No change."""
        return factors


@dataclass(frozen=True)
class AdaptedDamping:
    """Learned factors to begin with, scaled together by how the steps go.

    Training takes every step with the factors as they are; at test time this keeps their ratios,
    which tell how far each parameter can be trusted, and adapts what they have in common.

    Attributes:
        const: Parameters of `LearnedDamping`.
        adaptive: How the factors change; its `init` is not used. The largest of them stays above
            its lower bound, the smallest one below its upper bound.
    """

    const: Float[Tensor, "6"]
    adaptive: AdaptiveDamping

    def start(self, like: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 6"]:
        """The learned factors, the same for all elements."""
        return learned_factors(self.const, like)

    def update(
        self,
        factors: Float[Tensor, "*b p"],
        accepted: Bool[Tensor, "*b"],
        gain: Float[Tensor, "*b"],
    ) -> Float[Tensor, "*b p"]:
        """Scale all factors of an element alike."""
        scale = self.adaptive.scale(accepted, gain)
        low = self.adaptive.smallest / factors.amax(-1)
        high = self.adaptive.largest / factors.amin(-1)
        return factors * torch.minimum(torch.maximum(scale, low), high)[..., None]


def learned_factors(
    const: Float[Tensor, "6"], like: Float[Tensor, "*b 6"]
) -> Float[Tensor, "*b 6"]:
    """The factors `10 ** (-6 + 11 sigmoid(const))` for a batch, dtype and device as of `like`."""
    low, high = LEARNED_EXPONENT_RANGE
    exponent = low + const.to(like).sigmoid() * (high - low)
    return torch.pow(10.0, exponent).expand(like.shape)
