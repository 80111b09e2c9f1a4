"""Which steps the Levenberg-Marquardt loop takes, and when it has done enough.

Localization and training run the same loop; these policies and the damping tell them apart.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

from pixloc_core.optim.normal_equations import NormalEquations, quadratic_form
from pixloc_core.shapes import Bool, Float, Tensor


class Acceptance(Protocol):
    """Decides per element whether a step is taken.

    Attributes:
        keeps_best: Whether the result is the best pose seen, rather than the last one.
    """

    @property
    def keeps_best(self) -> bool:
        """See the class."""
        ...

    def __call__(self, best: NormalEquations, trial: NormalEquations) -> Bool[Tensor, "*b"]:
        """Where the trial pose replaces the current one, given the best pose seen."""
        ...


@dataclass(frozen=True)
class AcceptAlways:
    """Takes every step, as the reference does: smooth to differentiate, but free to diverge."""

    keeps_best: bool = False

    def __call__(self, best: NormalEquations, trial: NormalEquations) -> Bool[Tensor, "*b"]:
        """Everywhere."""
        return torch.ones_like(trial.cost, dtype=torch.bool)


@dataclass(frozen=True)
class AcceptDecrease:
    """Takes a step unless it raises the mean robust cost.

    A small rise over the lowest cost seen is tolerated (non-monotone descent: Grippo,
    Lampariello and Lucidi, 1986): central differences look farther than the cost does, and lead
    out of shallow minima in which a strict descent stays. The result is the best pose seen.

    Attributes:
        min_points: A pose that sees fewer points is refused whatever its cost.
        tolerated_rise: Fraction of the lowest cost.
        keeps_best: See `Acceptance`.
    """

    min_points: int
    tolerated_rise: float = 0.0
    keeps_best: bool = True

    def __call__(self, best: NormalEquations, trial: NormalEquations) -> Bool[Tensor, "*b"]:
        """Where the cost stays low; one that is not finite never does."""
        enough = trial.num_valid >= self.min_points
        return (trial.cost < best.cost * (1 + self.tolerated_rise)) & enough


class Stopping(Protocol):
    """Decides which steps are too small to go on.

    Attributes:
        every: Iterations between two looks at the whole batch (each a host sync).
        per_element: Whether an element stands still from its first small step on; otherwise the
            batch goes on together until all steps of one iteration looked at are small.
    """

    @property
    def every(self) -> int:
        """See the class."""
        ...

    @property
    def per_element(self) -> bool:
        """See the class."""
        ...

    def is_small(
        self, equations: NormalEquations, delta: Float[Tensor, "*b 6"]
    ) -> Bool[Tensor, "*b"]:
        """Where the step `delta`, solved from the equations, is too small to go on."""
        ...


@dataclass(frozen=True)
class StopOnMotion:
    """Stops where the step moves the points by less than a fraction of a pixel of the map.

    Free of the scale of the scene, its distance and the number of points.

    Attributes:
        motion_px: Root mean square motion over the valid points.
        every: See `Stopping`.
    """

    motion_px: float
    every: int = 1
    per_element: bool = True

    def is_small(
        self, equations: NormalEquations, delta: Float[Tensor, "*b 6"]
    ) -> Bool[Tensor, "*b"]:
        """Where the points move less than the limit (eq. 5.8)."""
        return quadratic_form(equations.motion, delta) < self.motion_px**2


@dataclass(frozen=True)
class StopOnStep:
    """The rule of the reference, in units of the scene, tested every tenth iteration.

    Attributes:
        translation: Step in units of the map.
        rotation_deg: Step in degrees.
        gradient: Length of the gradient, not normalized by the number of points.
        every: See `Stopping`.
    """

    translation: float = 5e-3
    rotation_deg: float = 5e-2
    gradient: float = 1e-4
    every: int = 10
    per_element: bool = False

    def is_small(
        self, equations: NormalEquations, delta: Float[Tensor, "*b 6"]
    ) -> Bool[Tensor, "*b"]:
        """Where step or gradient are below the limits."""
        translation = torch.linalg.vector_norm(delta[..., :3], dim=-1)
        rotation_deg = torch.rad2deg(torch.linalg.vector_norm(delta[..., 3:], dim=-1))
        small_gradient = torch.linalg.vector_norm(equations.g, dim=-1) < self.gradient
        small_step = (translation < self.translation) & (rotation_deg < self.rotation_deg)
        small: Tensor = small_step | small_gradient
        return small


@dataclass(frozen=True)
class NeverStop:
    """Runs all iterations: training, where the number of unrolled steps must not vary."""

    every: int = 0
    per_element: bool = False

    def is_small(
        self, equations: NormalEquations, delta: Float[Tensor, "*b 6"]
    ) -> Bool[Tensor, "*b"]:
        """Nowhere."""
        return torch.zeros_like(equations.cost, dtype=torch.bool)
