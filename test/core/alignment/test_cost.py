"""The feature-metric cost: derivatives, weights, and what counts when."""

from dataclasses import replace

import pytest
import torch
from synthetic import Scene, make_scene, perturb

from pixloc_core.alignment.cost import CostConfig, FeatureMetricCost
from pixloc_core.errors import ShapeError
from pixloc_core.features.pyramid import FeatureLevel
from pixloc_core.geometry import Pose, inside, sample
from pixloc_core.geometry.interpolation import Mode
from pixloc_core.optim.robust import BarronLoss, CauchyLoss, HuberLoss, RobustLoss, SquaredLoss

LEVEL = 1
LOSS = CauchyLoss(0.5)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(3, num_points=120, channels=5, noise=0.1, dtype=torch.float64)


def make_cost(
    scene: Scene,
    loss: RobustLoss = LOSS,
    config: CostConfig | None = None,
    level: FeatureLevel | None = None,
) -> FeatureMetricCost:
    return FeatureMetricCost(
        scene.pyramid[LEVEL] if level is None else level,
        scene.points.points_map,
        scene.points.descriptors[LEVEL],
        scene.points.confidences[LEVEL],
        loss,
        config or CostConfig(),
    )


def energy(scene: Scene, pose: Pose, loss: RobustLoss, mode: Mode) -> torch.Tensor:
    """`1/2 sum w rho` written out; the confidence of the query counts as a constant."""
    level = scene.pyramid[LEVEL]
    px, valid = level.camera.world2image(pose * scene.points.points_map)
    valid = valid & inside(px, level.size, 1 + (mode == "cubic"))
    r = sample(level.features, px, mode) - scene.points.descriptors[LEVEL]
    weight = sample(level.confidence[..., None], px.detach(), mode)[..., 0]
    weight = weight * scene.points.confidences[LEVEL] * valid
    return 0.5 * (weight * loss(r.square().sum(-1))[0]).sum(-1)


@pytest.mark.parametrize(
    "loss", [SquaredLoss(), HuberLoss(0.3), LOSS, BarronLoss(-1.0, 0.4)], ids=str
)
@pytest.mark.parametrize("mode", ["cubic", "linear_analytic"])
def test_g_is_the_gradient_of_the_energy(scene: Scene, loss: RobustLoss, mode: Mode) -> None:
    """In the modes whose gradient is that of the interpolated map."""
    pose = perturb(scene, 6.0, 3)
    xi = torch.zeros(3, 6, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(energy(scene, pose.retract(xi), loss, mode).sum(), xi)
    equations = make_cost(scene, loss, CostConfig(mode=mode)).linearize(pose)
    torch.testing.assert_close(equations.g, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_system_equals_the_one_built_from_the_full_jacobian(mode: Mode) -> None:
    """N x C x 6: the map differentiated by differences, all else by autograd; then summed."""
    scene = make_scene(3, num_points=30, channels=5, noise=0.1, dtype=torch.float64)
    pose = perturb(scene, 6.0, 1)[0]
    level, points = scene.pyramid[LEVEL], scene.points

    def project(xi: torch.Tensor) -> torch.Tensor:
        return level.camera.world2image(pose.retract(xi) * points.points_map)[0]

    J_px = torch.autograd.functional.jacobian(project, torch.zeros(6, dtype=torch.float64))
    px, valid = level.camera.world2image(pose * points.points_map)
    valid = valid & inside(px, level.size, 1 + (mode == "cubic"))

    def at(x: float, y: float) -> torch.Tensor:
        return sample(level.features, px + torch.tensor([x, y], dtype=torch.float64), mode)

    step = 1.0 if mode == "linear" else 1e-4
    slopes = [at(step, 0) - at(-step, 0), at(0, step) - at(0, -step)]
    J = torch.stack(slopes, -1) / (2 * step) @ J_px
    r = at(0, 0) - points.descriptors[LEVEL]
    weight = sample(level.confidence[..., None], px, mode)[..., 0] * points.confidences[LEVEL]
    weight = weight * LOSS(r.square().sum(-1))[1] * valid
    equations = make_cost(scene, config=CostConfig(mode=mode)).linearize(pose)
    H = torch.einsum("n,nci,ncj->ij", weight, J, J)
    g = torch.einsum("n,nci,nc->i", weight, J, r)
    # Finite differences of the cubic map are good to 1e-5 or so.
    tolerance = 1e-10 if mode == "linear" else 1e-4
    torch.testing.assert_close(equations.H, H, rtol=0, atol=tolerance * float(H.max()))
    torch.testing.assert_close(equations.g, g, rtol=0, atol=tolerance * float(g.abs().max()))
    assert equations.num_valid == valid.sum()


def test_predicted_decrease_is_that_of_the_cost(scene: Scene) -> None:
    # Of one confidence everywhere: its change is no part of the model.
    level = scene.pyramid[LEVEL]
    level = replace(level, confidence=torch.full_like(level.confidence, 0.7))
    cost = make_cost(scene, config=CostConfig(mode="cubic", outside_residual=0.8), level=level)
    pose = perturb(scene, 4.0, 1)
    here = cost.linearize(pose)
    delta = -1e-6 * here.g / here.g.norm()
    there = cost.linearize(pose.retract(delta))
    assert there.num_valid == here.num_valid
    decrease = here.cost - there.cost
    torch.testing.assert_close(here.predicted_decrease(delta), decrease, rtol=1e-3, atol=0)
    assert decrease > 0


def test_motion_is_the_mean_square_displacement_in_the_map(scene: Scene) -> None:
    cost, level = make_cost(scene), scene.pyramid[LEVEL]
    pose = perturb(scene, 4.0, 1)[0]
    delta = 1e-6 * torch.tensor([1.0, -2, 3, 0.5, -0.3, 0.2], dtype=torch.float64)
    before = level.camera.world2image(pose * scene.points.points_map)[0]
    after = level.camera.world2image(pose.retract(delta) * scene.points.points_map)[0]
    valid = cost.points(pose).valid
    expected = (after - before)[valid].square().sum(-1).mean()
    motion = cost.linearize(pose).motion
    torch.testing.assert_close(delta @ motion @ delta, expected, rtol=1e-4, atol=0)


def test_many_hypotheses_give_what_each_gives_alone(scene: Scene) -> None:
    cost = make_cost(scene)
    poses = perturb(scene, 10.0, 6).reshape(2, 3)
    together = cost.linearize(poses)
    for i in range(2):
        for j in range(3):
            alone = cost.linearize(poses[i, j])
            for mine, its in zip(together, alone, strict=True):
                torch.testing.assert_close(mine[i, j], its)


def test_a_batch_of_maps_gives_what_each_gives_alone() -> None:
    scenes = [make_scene(seed, num_points=40, channels=3) for seed in range(3)]
    levels = [scene.pyramid[LEVEL] for scene in scenes]
    level = FeatureLevel(
        torch.stack([level.features for level in levels]),
        torch.stack([level.confidence for level in levels]),
        torch.stack([level.camera for level in levels]),
        levels[0].stride,
    )
    points = torch.stack([scene.points.points_map for scene in scenes])
    descriptors = torch.stack([scene.points.descriptors[LEVEL] for scene in scenes])
    confidences = torch.stack([scene.points.confidences[LEVEL] for scene in scenes])
    poses = torch.stack([perturb(scene, 5.0, 1)[0] for scene in scenes])
    together = FeatureMetricCost(
        level, points, descriptors, confidences, LOSS, CostConfig()
    ).linearize(poses)
    for i, scene in enumerate(scenes):
        for mine, its in zip(together, make_cost(scene).linearize(poses[i]), strict=True):
            torch.testing.assert_close(mine[i], its)


def test_gradients_reach_maps_descriptors_and_pose() -> None:
    """What training needs; the gradient of the confidence reaches its map as well."""
    scene = make_scene(1, num_points=12, channels=2, size=(48, 32), dtype=torch.float64)
    level, points = scene.pyramid[LEVEL], scene.points
    pose = perturb(scene, 2.0, 1)[0]

    def summary(
        features: torch.Tensor,
        confidence: torch.Tensor,
        descriptors: torch.Tensor,
        xi: torch.Tensor,
    ) -> torch.Tensor:
        cost = FeatureMetricCost(
            replace(level, features=features, confidence=confidence),
            points.points_map,
            descriptors,
            points.confidences[LEVEL],
            LOSS,
            CostConfig(mode="cubic", pad=0),
        )
        equations = cost.linearize(pose.retract(xi))
        return torch.cat((equations.H.flatten(), equations.g, equations.cost[None]))

    inputs = (level.features, level.confidence, points.descriptors[LEVEL], torch.zeros(6).double())
    inputs = tuple(tensor.clone().requires_grad_() for tensor in inputs)
    assert torch.autograd.gradcheck(summary, inputs, atol=1e-4, rtol=1e-4, fast_mode=True)


def test_looking_away_costs_as_much_as_the_price_of_points_out_of_sight(scene: Scene) -> None:
    """Leaving the image is no escape: without a price it would cost nothing."""
    turn = torch.tensor([0, 0, 0, 0, torch.pi, 0], dtype=torch.float64)
    away = scene.cam_from_map.retract(turn)
    priced = make_cost(scene, config=CostConfig(outside_residual=0.9)).linearize(away)
    assert priced.num_valid == 0
    expected = LOSS(torch.tensor(0.81, dtype=torch.float64))[0]
    torch.testing.assert_close(priced.cost, expected)
    assert make_cost(scene, config=CostConfig(outside_residual=None)).linearize(away).cost == 0
    assert priced.is_finite()


def test_a_hole_in_the_map_loses_the_points_that_touch_it_only(scene: Scene) -> None:
    level = scene.pyramid[LEVEL]
    holed = level.features.clone()
    holed[20:30, 30:50, 2] = torch.nan
    pose = scene.cam_from_map
    whole = make_cost(scene).points(pose)
    cost = make_cost(scene, level=replace(level, features=holed))
    left = cost.points(pose)
    u, v = whole.points_px.unbind(-1)
    # The pixels that a point reads lie within one and two pixels of it.
    near = (u > 28) & (u < 51) & (v > 18) & (v < 31)
    touched = (u > 29) & (u < 50) & (v > 19) & (v < 30)
    assert touched.any()
    assert not (left.valid & touched).any()
    assert (left.valid == whole.valid)[~near].all()
    torch.testing.assert_close(left.residual[~near], whole.residual[~near])
    assert cost.linearize(pose).is_finite()


def test_points_of_confidence_zero_do_not_count(scene: Scene) -> None:
    confidences = scene.points.confidences[LEVEL].clone()
    confidences[::2] = 0
    points = replace(scene.points, confidences=(confidences, confidences, confidences))
    half = replace(scene, points=points)
    pose = perturb(scene, 3.0, 1)[0]
    equations = make_cost(half).linearize(pose)
    alone = FeatureMetricCost(
        scene.pyramid[LEVEL],
        scene.points.points_map[1::2],
        scene.points.descriptors[LEVEL][1::2],
        confidences[1::2],
        LOSS,
        CostConfig(),
    ).linearize(pose)
    for mine, its in zip(equations, alone, strict=True):
        torch.testing.assert_close(mine, its)


def test_scores_add_up_to_the_gradient(scene: Scene) -> None:
    cost, pose = make_cost(scene), perturb(scene, 3.0, 4)
    torch.testing.assert_close(cost.points(pose).scores.sum(-2), cost.linearize(pose).g)


def test_half_precision_maps_give_nearly_the_same_system(scene: Scene) -> None:
    level = scene.pyramid[LEVEL]
    half = replace(level, features=level.features.half(), confidence=level.confidence.half())
    pose = perturb(scene, 3.0, 1)[0]
    exact, rounded = make_cost(scene).linearize(pose), make_cost(scene, level=half).linearize(pose)
    torch.testing.assert_close(rounded.H, exact.H, rtol=1e-2, atol=1e-2 * float(exact.H.max()))
    assert rounded.H.dtype == torch.float64


def test_descriptors_that_do_not_fit_the_level_are_a_shape_error(scene: Scene) -> None:
    points = scene.points
    with pytest.raises(
        ShapeError, match=r"descriptors have shape \(120, 4\), expected \(120, 5\)"
    ):
        FeatureMetricCost(
            scene.pyramid[LEVEL],
            points.points_map,
            points.descriptors[LEVEL][:, :4],
            points.confidences[LEVEL],
            LOSS,
            CostConfig(),
        )
