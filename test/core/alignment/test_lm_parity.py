"""Policy "reference" takes the steps of PixLoc: poses per iteration, systems, failures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from pixloc_core.alignment.cost import CostConfig, FeatureMetricCost
from pixloc_core.features.pyramid import FeatureLevel
from pixloc_core.geometry import Camera, DistortionModel, Pose
from pixloc_core.geometry.interpolation import Mode
from pixloc_core.optim.damping import AdaptiveDamping, ConstantDamping, Damping, LearnedDamping
from pixloc_core.optim.levenberg_marquardt import LmConfig, LmResult, LmStatus, optimize
from pixloc_core.optim.robust import BarronLoss, HuberLoss, RobustLoss, SquaredLoss
from pixloc_core.optim.trace import Trace

Arrays = dict[str, torch.Tensor]


DAMPING = ConstantDamping(0.01)
LOSS = BarronLoss(0.0, 0.1)
POLICY = LmConfig.reference()


@dataclass(frozen=True)
class Run:
    """How one run of the reference is set up here; damping None: the learned one."""

    damping: Damping | None = DAMPING
    loss: RobustLoss = LOSS
    confidence: bool = True
    few_points: bool = False
    mode: Mode = "linear"
    normalize: bool = False
    first_only: bool = False
    policy: LmConfig = POLICY
    max_iterations: int = 15
    is_scaled: bool = False


RUNS = {
    "learned": Run(damping=None),
    "learned_train": Run(damping=None, policy=LmConfig.training()),
    "learned_noconf": Run(damping=None, confidence=False),
    "learned_few": Run(damping=None, few_points=True),
    # Its columns are scaled; the step does not depend on that (see test_linear_solve).
    "learned_jacobi": Run(damping=None, is_scaled=True),
    "base_lambda0.01": Run(),
    "base_gn": Run(damping=ConstantDamping(0.0), loss=SquaredLoss()),
    "base_huber": Run(damping=ConstantDamping(0.1), loss=HuberLoss()),
    "base_normalize": Run(normalize=True, first_only=True),
    "base_cubic_unbatched": Run(mode="cubic", confidence=False, first_only=True),
    # Accepts and rejects, as our default does, but by the mean over the valid points only.
    "classic_fixed": Run(
        damping=AdaptiveDamping(init=1e-2, use_gain=False),
        confidence=False,
        policy=LmConfig(stopping="never", tolerated_rise=0.0),
        max_iterations=11,
    ),
}


@pytest.fixture(scope="module")
def arrays(shared_dir: Path) -> Arrays:
    found: Arrays = {}
    for name in ("f_lm.npz", "f_lm_extra.npz"):
        with np.load(shared_dir / "fixtures" / name) as file:
            found.update({key: torch.from_numpy(file[key]) for key in file.files})
    return found


def make_cost(arrays: Arrays, name: str, run: Run) -> FeatureMetricCost:
    features = arrays["F_query"].movedim(1, -1).contiguous() * (3 if run.normalize else 1)
    confidence, weight = arrays["W_query"][:, 0], arrays["W_ref"][..., 0]
    if not run.confidence:
        confidence, weight = torch.ones_like(confidence), torch.ones_like(weight)
    weight = weight * arrays["mask_few" if run.few_points else "mask"]
    camera = Camera(arrays["cam_data"], DistortionModel.RADIAL)
    points, descriptors = arrays["p3D"], arrays["F_ref"]
    if run.first_only:
        subset = arrays.get(f"{name}/index", torch.arange(points.shape[1]))
        features, confidence, camera = features[0], confidence[0], camera[0]
        points, descriptors, weight = (x[0, subset] for x in (points, descriptors, weight))
    return FeatureMetricCost(
        FeatureLevel(features, confidence, camera, 1),
        points,
        descriptors,
        weight,
        run.loss,
        CostConfig(pad=2, mode=run.mode, normalize=run.normalize, outside_residual=None),
    )


def execute(arrays: Arrays, name: str) -> tuple[LmResult, Trace]:
    run = RUNS[name]
    pose0 = Pose(arrays["T_init"][0] if run.first_only else arrays["T_init"])
    trace = Trace()
    damping = run.damping or LearnedDamping(arrays["damping_const"])
    with torch.no_grad():
        result = optimize(
            make_cost(arrays, name, run), pose0, damping, run.policy,
            max_iterations=run.max_iterations, trace=trace,
        )  # fmt: skip
    return result, trace


@pytest.mark.parametrize("name", RUNS)
def test_poses_of_all_iterations_equal_those_of_the_reference(arrays: Arrays, name: str) -> None:
    """Also as many iterations: the stop test agrees."""
    result, trace = execute(arrays, name)
    poses = torch.stack([step.pose.data for step in trace.steps])
    assert poses.shape == arrays[f"{name}/T"].shape
    torch.testing.assert_close(poses, arrays[f"{name}/T"], rtol=0, atol=1e-8)
    torch.testing.assert_close(result.pose.data, arrays[f"{name}/T_final"], rtol=0, atol=1e-8)
    failed = (result.status != LmStatus.CONVERGED) & (result.status != LmStatus.MAX_ITERATIONS)
    assert failed.tolist() == arrays[f"{name}/failed"].tolist()


@pytest.mark.parametrize("name", [name for name in RUNS if not RUNS[name].is_scaled])
def test_systems_and_costs_equal_those_of_the_reference(arrays: Arrays, name: str) -> None:
    _, trace = execute(arrays, name)
    H = torch.stack([step.equations.H for step in trace.steps])
    torch.testing.assert_close(H, arrays[f"{name}/H"], rtol=1e-6, atol=1e-5)
    if name != "classic_fixed":
        g = torch.stack([step.equations.g for step in trace.steps])
        torch.testing.assert_close(g, arrays[f"{name}/g"], rtol=1e-6, atol=1e-9)
        valid = arrays[f"{name}/valid"]
        num_valid = torch.stack([step.equations.num_valid for step in trace.steps])
        assert num_valid.tolist() == valid.sum(-1).tolist()
    if not RUNS[name].confidence and name != "classic_fixed":
        cost = torch.stack([step.equations.cost for step in trace.steps])
        expected = (arrays[f"{name}/cost"] * valid).sum(-1) / valid.sum(-1)
        torch.testing.assert_close(cost, expected, rtol=1e-6, atol=1e-12)


def test_classic_run_rejects_the_same_steps_with_the_same_damping(arrays: Arrays) -> None:
    _, trace = execute(arrays, "classic_fixed")
    accepted = torch.stack([step.accepted for step in trace.steps])
    assert accepted.tolist() == arrays["classic_fixed/accept"].tolist()
    # Ours is recorded before the step, that of the reference after it.
    damping = torch.stack([step.damping[:, 0] for step in trace.steps[1:]])
    torch.testing.assert_close(damping, arrays["classic_fixed/lambda_"][:-1])


def test_float32_maps_follow_the_float32_run_of_the_reference(arrays: Arrays) -> None:
    """Poses stay in float64 here, so only the features round alike."""
    single = {name: arrays[name] for name in arrays if not name.startswith("learned")}
    for name in ("F_query", "F_ref", "W_query", "W_ref"):
        single[name] = arrays[name].float()
    result, _ = execute(single, "learned")
    expected = arrays["learned_f32/T_final"].double()
    torch.testing.assert_close(result.pose.data, expected, rtol=0, atol=1e-4)
