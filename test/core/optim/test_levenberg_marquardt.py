"""The optimization loop on small problems whose answer is known."""

from dataclasses import dataclass, field

import pytest
import torch

from pixloc_core.errors import ConfigError
from pixloc_core.geometry import Pose
from pixloc_core.optim.damping import AdaptiveDamping, ConstantDamping, LearnedDamping
from pixloc_core.optim.levenberg_marquardt import LmConfig, LmStatus, optimize
from pixloc_core.optim.normal_equations import NormalEquations
from pixloc_core.optim.trace import Trace


@dataclass
class Registration:
    """Distance between transformed points and where they should be; not linear in the pose.

    Attributes:
        points: `(n, 3)`.
        target: `(n, 3)`, or one set per element.
        num_calls: How often it was linearized.
        num_poses: Of how many poses, all calls together.
    """

    points: torch.Tensor
    target: torch.Tensor
    num_calls: int = field(default=0)
    num_poses: int = field(default=0)

    @property
    def is_shared(self) -> bool:
        return self.target.ndim == 2

    def linearize(self, pose: Pose) -> NormalEquations:
        self.num_calls += 1
        self.num_poses += pose.shape.numel()
        moved = pose * self.points
        r = moved - self.target
        J = pose.J_transform(moved).flatten(-3, -2)
        H, g = J.mT @ J, (J.mT @ r.flatten(-2)[..., None])[..., 0]
        count = torch.full(r.shape[:-2], r.shape[-2])
        normalizer = count.to(r.dtype)
        cost = r.square().sum((-1, -2)) / normalizer
        return NormalEquations(H, g, cost, count, normalizer, H / normalizer[..., None, None])


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def truth() -> Pose:
    return Pose.exp(draw(5, 6, seed=1))


@pytest.fixture
def problem(truth: Pose) -> Registration:
    points = draw(20, 3)
    return Registration(points, truth * points)


def far_from(truth: Pose, angle: float = 1.5) -> Pose:
    xi = draw(len(truth), 6, seed=2)
    return truth.retract(angle * xi / xi.norm(dim=-1, keepdim=True))


def error(pose: Pose, truth: Pose) -> torch.Tensor:
    return (pose @ truth.inv()).log().norm(dim=-1)


def test_the_default_policy_finds_the_minimum(problem: Registration, truth: Pose) -> None:
    result = optimize(
        problem, far_from(truth), AdaptiveDamping(), LmConfig(motion_px=1e-8), max_iterations=50
    )
    assert (error(result.pose, truth) < 1e-8).all()
    assert (result.status == LmStatus.CONVERGED).all()
    assert (result.equations.cost < 1e-15).all()
    assert (result.initial_cost > 0.1).all()


def test_the_problem_is_linearized_once_per_iteration(problem: Registration, truth: Pose) -> None:
    result = optimize(problem, far_from(truth), AdaptiveDamping(), LmConfig())
    assert problem.num_calls == int(result.num_iterations.max()) + 1


def test_a_rejected_step_never_raises_the_cost(problem: Registration, truth: Pose) -> None:
    """With too little damping and far from the truth some steps overshoot."""
    trace = Trace()
    start = far_from(truth, 3.0)
    damping = AdaptiveDamping(init=1e-7, down=1.0, use_gain=False)
    strict = LmConfig(tolerated_rise=0.0)
    optimize(problem, start, damping, strict, max_iterations=30, trace=trace)
    accepted = torch.stack([step.accepted for step in trace.steps])
    cost = torch.stack([step.cost for step in trace.steps])
    assert (~accepted).any()
    assert accepted.any()
    assert (cost.diff(dim=0) <= 0).all()
    before = torch.stack([step.equations.cost for step in trace.steps])
    assert (cost[~accepted] == before[~accepted]).all()


def test_a_tolerated_rise_is_bounded_and_the_best_pose_is_returned(
    problem: Registration, truth: Pose
) -> None:
    """A cost with ripples on it: some steps go up, none by more than was allowed."""

    @dataclass
    class Rippled:
        """The cost goes up and down by four percent as the calls go on."""

        is_shared: bool = False
        calls: int = 0

        def linearize(self, pose: Pose) -> NormalEquations:
            self.calls += 1
            equations = problem.linearize(pose)
            return equations._replace(cost=(equations.cost + 1) * (1 + 0.04 * (self.calls % 2)))

    trace = Trace()
    config = LmConfig(tolerated_rise=0.05, motion_px=0.0)
    result = optimize(
        Rippled(), far_from(truth), AdaptiveDamping(), config, max_iterations=12, trace=trace
    )
    first = trace.steps[0].equations.cost[None]
    cost = torch.cat((first, torch.stack([step.cost for step in trace.steps])))
    assert (cost.diff(dim=0) > 0).any()
    lowest = cost.cummin(dim=0).values
    assert (cost[1:] <= lowest[:-1] * 1.05).all()
    torch.testing.assert_close(result.equations.cost, lowest[-1])


def test_elements_stop_one_by_one_and_do_not_depend_on_each_other(truth: Pose) -> None:
    points = draw(20, 3)
    start = far_from(truth)
    start = Pose(torch.cat((truth.data[:1], start.data[1:])))
    batch = Registration(points, truth * points)
    together = optimize(batch, start, AdaptiveDamping(), LmConfig())
    for i in range(len(truth)):
        alone = optimize(
            Registration(points, truth[i] * points), start[i], AdaptiveDamping(), LmConfig()
        )
        torch.testing.assert_close(together.pose.data[i], alone.pose.data)
        assert together.num_iterations[i] == alone.num_iterations
        assert together.status[i] == alone.status
    assert together.num_iterations[0] == 1
    assert (together.num_iterations[1:] > 2).all()


def test_elements_at_rest_are_left_behind_where_all_share_a_problem(truth: Pose) -> None:
    """Nearly all start at the truth: few poses are worked on, with the same result."""
    points = draw(20, 3)
    near = truth[0].reshape(1).expand(20).retract(1e-9 * draw(20, 6))
    start = Pose(torch.cat((near.data, far_from(truth)[:1].data)))
    target = truth[0] * points
    shared = Registration(points, target)
    one_each = Registration(points, target.expand(21, 20, 3))
    config = LmConfig(motion_px=1e-6)
    results = [optimize(p, start, AdaptiveDamping(), config) for p in (shared, one_each)]
    assert shared.num_poses < 0.6 * one_each.num_poses
    torch.testing.assert_close(results[0].pose.data, results[1].pose.data)
    assert results[0].status.tolist() == results[1].status.tolist()
    assert results[0].num_iterations.tolist() == results[1].num_iterations.tolist()
    assert results[0].num_iterations[20] > 3
    for mine, its in zip(results[0].equations, results[1].equations, strict=True):
        torch.testing.assert_close(mine, its)


def test_convergence_does_not_depend_on_the_unit_of_length(
    problem: Registration, truth: Pose
) -> None:
    """A map in millimetres takes the same steps as one in kilometres."""

    def in_unit(pose: Pose, unit: float) -> Pose:
        return Pose.from_Rt(pose.R, pose.t * unit)

    start = far_from(truth)
    results = []
    for unit in (1e-3, 1.0, 1e3):
        scaled = Registration(problem.points * unit, problem.target * unit)
        # The motion, too, is in that unit here; in an image it is in pixels.
        config = LmConfig(motion_px=0.01 * unit)
        results.append(optimize(scaled, in_unit(start, unit), AdaptiveDamping(), config))
        found = in_unit(results[-1].pose, 1 / unit)
        torch.testing.assert_close(found.data, in_unit(results[0].pose, 1e3).data)
    assert all((r.num_iterations == results[0].num_iterations).all() for r in results)


def test_a_cost_that_never_falls_leaves_the_pose_where_it_was(
    problem: Registration, truth: Pose
) -> None:
    @dataclass
    class Rising:
        """Its cost grows at each call, whatever the pose."""

        is_shared: bool = False
        calls: int = 0

        def linearize(self, pose: Pose) -> NormalEquations:
            self.calls += 1
            equations = problem.linearize(pose)
            return equations._replace(cost=torch.full_like(equations.cost, float(self.calls)))

    start = far_from(truth)
    result = optimize(Rising(), start, AdaptiveDamping(), LmConfig(motion_px=0.0))
    torch.testing.assert_close(result.pose.data, start.data, rtol=0, atol=0)
    assert (result.status == LmStatus.MAX_ITERATIONS).all()


def test_each_element_reports_what_went_wrong_with_it(problem: Registration, truth: Pose) -> None:
    @dataclass
    class Broken:
        """Element 0 sees too few points, 1 holds NaN, 2 has no information, the others work."""

        is_shared: bool = False

        def linearize(self, pose: Pose) -> NormalEquations:
            e = problem.linearize(pose)
            H, g, num_valid = e.H.clone(), e.g.clone(), e.num_valid.clone()
            num_valid[0] = 3
            H[1] = torch.nan
            H[2], g[2] = 0.0, 0.0
            return e._replace(H=H, g=g, num_valid=num_valid)

    start = far_from(truth)
    for config in (LmConfig(), LmConfig.reference(), LmConfig.training()):
        result = optimize(Broken(), start, ConstantDamping(1e-3), config, max_iterations=40)
        assert result.status[0] == LmStatus.TOO_FEW_POINTS
        assert result.status[1] == LmStatus.DIVERGED
        torch.testing.assert_close(result.pose.data[:3], start.data[:3])
        assert (error(result.pose, truth)[3:] < 0.05).all()
        assert torch.isfinite(result.pose.data).all()
        assert [LmStatus(s).has_pose for s in result.status.tolist()] == [False] * 2 + [True] * 3


def test_a_step_to_where_too_few_points_are_seen_is_refused(
    problem: Registration, truth: Pose
) -> None:
    start = far_from(truth)

    @dataclass
    class Blind:
        """Sees points only from the pose that it starts at, but promises a lower cost."""

        is_shared: bool = False

        def linearize(self, pose: Pose) -> NormalEquations:
            e = problem.linearize(pose)
            at_start = (pose.data == start.data).all(-1)
            return e._replace(num_valid=torch.where(at_start, e.num_valid, 4))

    result = optimize(Blind(), start, AdaptiveDamping(), LmConfig(), max_iterations=5)
    torch.testing.assert_close(result.pose.data, start.data, rtol=0, atol=0)
    assert (result.equations.num_valid == 20).all()


def test_unrolled_steps_are_differentiable(problem: Registration, truth: Pose) -> None:
    damping = LearnedDamping()
    target = problem.target.clone().requires_grad_()
    result = optimize(
        Registration(problem.points, target), far_from(truth), damping, LmConfig.training(),
        max_iterations=3,
    )  # fmt: skip
    error(result.pose, truth).sum().backward()
    assert torch.isfinite(target.grad).all()
    assert (target.grad.flatten(1).norm(dim=-1) > 0).all()
    assert (damping.const.grad.abs() > 0).all()


def test_training_runs_all_iterations(problem: Registration, truth: Pose) -> None:
    result = optimize(problem, truth, ConstantDamping(), LmConfig.training(), max_iterations=7)
    assert (result.num_iterations == 7).all()


def test_without_iterations_the_start_is_judged(problem: Registration, truth: Pose) -> None:
    start = far_from(truth)
    result = optimize(problem, start, AdaptiveDamping(), LmConfig(), max_iterations=0)
    assert (result.status == LmStatus.MAX_ITERATIONS).all()
    torch.testing.assert_close(result.equations.cost, result.initial_cost)
    blind = optimize(problem, start, AdaptiveDamping(), LmConfig(min_points=21), max_iterations=0)
    assert (blind.status == LmStatus.TOO_FEW_POINTS).all()


def test_a_single_pose_needs_no_batch(problem: Registration, truth: Pose) -> None:
    alone = Registration(problem.points, problem.target[0])
    result = optimize(alone, far_from(truth)[0], AdaptiveDamping(), LmConfig(motion_px=1e-6))
    assert result.pose.shape == ()
    assert error(result.pose, truth[0]) < 1e-6


def test_an_unknown_policy_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"LmConfig\.stopping is 'soon', expected one of"):
        LmConfig(stopping="soon")
