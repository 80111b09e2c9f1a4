"""Optional record of what the optimizer did: for tests, plots and the viewer."""

from dataclasses import dataclass, field

from pixloc_core.geometry import Pose
from pixloc_core.optim.normal_equations import NormalEquations
from pixloc_core.shapes import Bool, Float, Tensor


@dataclass(frozen=True)
class TraceStep:
    """One iteration of a batch.

    Attributes:
        label: What was optimized, e.g. the stride of the level.
        equations: The system the step was solved from, before damping.
        damping: Factors on its diagonal.
        delta: The step, `xi = (v, w)`.
        accepted: Where it was taken.
        pose: Poses after the iteration.
        cost: Cost at these poses.
    """

    label: str
    equations: NormalEquations
    damping: Float[Tensor, "*b p"]
    delta: Float[Tensor, "*b 6"]
    accepted: Bool[Tensor, "*b"]
    pose: Pose
    cost: Float[Tensor, "*b"]


@dataclass
class Trace:
    """Collects steps while a caller holds it; tensors stay on their device, without gradients."""

    label: str = ""
    steps: list[TraceStep] = field(default_factory=list)

    def record(
        self,
        equations: NormalEquations,
        damping: Float[Tensor, "*b p"],
        delta: Float[Tensor, "*b 6"],
        accepted: Bool[Tensor, "*b"],
        *,
        pose: Pose,
        cost: Float[Tensor, "*b"],
    ) -> None:
        """Append one iteration under the current label."""
        detached = NormalEquations(*(tensor.detach() for tensor in equations))
        self.steps.append(
            TraceStep(
                self.label,
                detached,
                damping.detach(),
                delta.detach(),
                accepted,
                pose.detach(),
                cost.detach(),
            )
        )
