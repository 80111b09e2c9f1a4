"""The one Levenberg-Marquardt loop, for localization and training (docs/math.md, section 5)."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import torch

from pixloc_core.config import check, setting
from pixloc_core.geometry import Pose
from pixloc_core.optim.damping import Damping
from pixloc_core.optim.linear_solve import solve_damped
from pixloc_core.optim.normal_equations import Cost, NormalEquations
from pixloc_core.optim.policies import (
    AcceptAlways,
    Acceptance,
    AcceptDecrease,
    NeverStop,
    StopOnMotion,
    StopOnStep,
    Stopping,
)
from pixloc_core.optim.trace import Trace
from pixloc_core.shapes import Bool, Float, Int, Tensor

# Iterations between stop tests: on a CPU a look at the result costs nothing.
TEST_EVERY_ON_CPU, TEST_EVERY_ON_DEVICE = 1, 5

# Share of a batch still moving at which the rest of it is left behind.
SHRINK_AT = 0.7


class LmStatus(IntEnum):
    """How the optimization of one batch element ended; the order is not a ranking."""

    CONVERGED = 0
    """The last step was smaller than the limit."""
    MAX_ITERATIONS = 1
    """All iterations were used up."""
    TOO_FEW_POINTS = 2
    """Too few points project into the image; the pose stands where this was noticed."""
    DIVERGED = 3
    """Numbers are not finite; the pose is the last finite one."""

    @property
    def has_pose(self) -> bool:
        """Whether the pose is a result."""
        return self in (LmStatus.CONVERGED, LmStatus.MAX_ITERATIONS)


@dataclass(frozen=True, kw_only=True)
class LmConfig:
    """Acceptance and stopping of the loop; the damping is an object of its own."""

    min_points: int = setting(10, doc="Fewest points in the image for a step.", ge=1)
    acceptance: str = setting(
        "decrease", doc="Which steps are taken.", choices=("decrease", "always")
    )
    tolerated_rise: float = setting(
        0.05,
        doc="Acceptance 'decrease' also takes steps that raise the cost by this fraction of the "
        "lowest one seen; the best pose is kept.",
        ge=0.0,
    )
    stopping: str = setting(
        "motion", doc="What ends the iteration.", choices=("motion", "step", "never")
    )
    motion_px: float = setting(
        0.02, doc="Stop below this mean motion of the points.", unit="px of the map", ge=0.0
    )

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def reference(cls) -> "LmConfig":
        """The policy of PixLoc at test time."""
        return cls(acceptance="always", stopping="step")

    @classmethod
    def training(cls) -> "LmConfig":
        """The policy of PixLoc in training: every step taken, a fixed number of them."""
        return cls(acceptance="always", stopping="never")

    def create_acceptance(self) -> Acceptance:
        """The policy that `acceptance` names."""
        if self.acceptance == "always":
            return AcceptAlways()
        return AcceptDecrease(self.min_points, self.tolerated_rise)

    def create_stopping(self, device: torch.device) -> Stopping:
        """The policy that `stopping` names."""
        if self.stopping == "never":
            return NeverStop()
        if self.stopping == "step":
            return StopOnStep()
        on_cpu = device.type == "cpu"
        return StopOnMotion(self.motion_px, TEST_EVERY_ON_CPU if on_cpu else TEST_EVERY_ON_DEVICE)


@dataclass(frozen=True)
class LmResult:
    """Where the optimization of each batch element ended.

    Attributes:
        pose: Poses of the lowest cost seen (with the acceptance "always": the last ones).
        equations: The system at `pose`, undamped.
        status: `LmStatus` per element, int8.
        num_iterations: Steps tried per element.
        initial_cost: Cost at the initial poses.
    """

    pose: Pose
    equations: NormalEquations
    status: Int[Tensor, "*b"]
    num_iterations: Int[Tensor, "*b"]
    initial_cost: Float[Tensor, "*b"]


class _State(NamedTuple):
    pose: Pose
    equations: NormalEquations
    best_pose: Pose
    best: NormalEquations
    damping: Float[Tensor, "*b p"]
    failed: Bool[Tensor, "*b"]
    converged: Bool[Tensor, "*b"]
    num_iterations: Int[Tensor, "*b"]

    def select(self, index: Int[Tensor, " s"]) -> "_State":
        """Some elements of a batch."""
        return self._map(self, lambda mine, _: mine[index])

    def put(self, index: Int[Tensor, " s"], some: "_State") -> "_State":
        """This batch with some elements replaced."""
        return self._map(some, lambda mine, its: mine.index_copy(0, index, its))

    def _map(self, other: "_State", function: Callable[[Tensor, Tensor], Tensor]) -> "_State":
        def join(mine: NormalEquations, its: NormalEquations) -> NormalEquations:
            return NormalEquations(*(function(*pair) for pair in zip(mine, its, strict=True)))

        return _State(
            Pose(function(self.pose.data, other.pose.data)),
            join(self.equations, other.equations),
            Pose(function(self.best_pose.data, other.best_pose.data)),
            join(self.best, other.best),
            *(function(*pair) for pair in zip(self[4:], other[4:], strict=True)),
        )


class _Policies(NamedTuple):
    damping: Damping
    acceptance: Acceptance
    stopping: Stopping
    min_points: int


def optimize(
    cost: Cost,
    pose0: Pose,
    damping: Damping,
    config: LmConfig,
    *,
    max_iterations: int = 30,
    trace: Trace | None = None,
) -> LmResult:
    """Minimize a cost over one pose per batch element; no element can spoil another.

    The problem is linearized once per iteration, at the trial pose: if that is refused, the
    system at the pose kept is solved again with more damping. Nothing waits for the device
    except the stop test. All steps are differentiable.

    Args:
        cost: The problem.
        pose0: Initial poses, `(*b)`, float64.
        damping: Damping policy.
        config: Acceptance and stopping.
        max_iterations: Largest number of steps.
        trace: Records every iteration if given.
    """
    stopping = config.create_stopping(pose0.device)
    policies = _Policies(damping, config.create_acceptance(), stopping, config.min_points)
    state = _start(cost, pose0, damping)
    initial_cost = state.equations.cost
    # A trace has the whole batch at each step.
    may_shrink = stopping.per_element and cost.is_shared and pose0.ndim == 1 and trace is None
    everything, index = state, None
    for iteration in range(max_iterations):
        state = _step(state, cost, policies, trace)
        if stopping.every == 0 or iteration % stopping.every > 0:
            continue
        moving = ~(state.converged | state.failed)
        num_moving = int(moving.sum())
        if num_moving == 0:
            break
        if may_shrink and num_moving <= SHRINK_AT * len(moving):
            # Elements at rest cost as much as the others: go on without them.
            everything = state if index is None else everything.put(index, state)
            rest = moving.nonzero()[:, 0]
            index = rest if index is None else index[rest]
            state = state.select(rest)
    state = state if index is None else everything.put(index, state)
    status = _status(state, policies)
    return LmResult(state.best_pose, state.best, status, state.num_iterations, initial_cost)


def _start(cost: Cost, pose0: Pose, damping: Damping) -> _State:
    equations = cost.linearize(pose0)
    none = torch.zeros_like(equations.cost, dtype=torch.bool)
    start = damping.start(equations.g)
    return _State(pose0, equations, pose0, equations, start, none, none, none.int())


def _step(state: _State, cost: Cost, policies: _Policies, trace: Trace | None) -> _State:
    """Solve, try, and keep the better pose (eq. 5.3 to 5.7)."""
    current = state.equations
    failed = state.failed | (current.num_valid < policies.min_points) | ~current.is_finite()
    active = ~failed
    if policies.stopping.per_element:
        active = active & ~state.converged
    delta, solved = solve_damped(
        current.H, current.g, state.damping, active, current.damping_floor()
    )
    trial_pose = state.pose.retract(delta)
    trial = cost.linearize(trial_pose)

    accepted = solved & policies.acceptance(state.best, trial)
    predicted = current.predicted_decrease(delta)
    tiny = torch.finfo(predicted.dtype).tiny
    gain = (current.cost - trial.cost) / predicted.clamp(min=tiny)
    factors = policies.damping.update(state.damping, accepted, gain)

    pose = _where(accepted, trial_pose, state.pose)
    equations = trial.where(accepted, current)
    best_pose, best = pose, equations
    if policies.acceptance.keeps_best:
        better = accepted & (trial.cost < state.best.cost)
        best_pose, best = (
            _where(better, trial_pose, state.best_pose),
            trial.where(better, state.best),
        )
    small = solved & policies.stopping.is_small(current, delta)
    converged = small | (state.converged & ~active)
    if trace is not None:
        trace.record(current, state.damping, delta, accepted, pose=pose, cost=equations.cost)
    iterations = state.num_iterations + active
    return _State(pose, equations, best_pose, best, factors, failed, converged, iterations)


def _where(mask: Bool[Tensor, "*b"], pose: Pose, other: Pose) -> Pose:
    return Pose(torch.where(mask[..., None], pose.data, other.data))


def _status(state: _State, policies: _Policies) -> Int[Tensor, "*b"]:
    few = state.equations.num_valid < policies.min_points
    finite = state.equations.is_finite()
    failed = state.failed | ((state.num_iterations == 0) & (few | ~finite))
    status = torch.where(state.converged, LmStatus.CONVERGED, LmStatus.MAX_ITERATIONS)
    reason = torch.where(finite, LmStatus.TOO_FEW_POINTS, LmStatus.DIVERGED)
    return torch.where(failed, reason, status).to(torch.int8)
