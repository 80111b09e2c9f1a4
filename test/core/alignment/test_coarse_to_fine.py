"""Coarse-to-fine alignment: recovery of known poses, many hypotheses, all that can fail."""

from dataclasses import replace

import pytest
import torch
from synthetic import Scene, make_scene, perturb

from pixloc_core.alignment.aligner_config import AlignerConfig
from pixloc_core.alignment.coarse_to_fine import align
from pixloc_core.config import load
from pixloc_core.errors import ConfigError, ShapeError
from pixloc_core.features.pyramid import FeatureLevel, FeaturePyramid
from pixloc_core.features.reference import PointFeatures
from pixloc_core.geometry import Pose
from pixloc_core.optim.damping import ConstantDamping
from pixloc_core.optim.levenberg_marquardt import LmConfig, LmStatus
from pixloc_core.optim.trace import Trace

# Follow all hypotheses to the end.
KEEP_ALL = AlignerConfig(keep=(100,))
REFERENCE = replace(AlignerConfig.reference(), keep=(100,))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(1, noise=0.05)


def change_level(scene: Scene, index: int, **changes: torch.Tensor) -> FeaturePyramid:
    levels = list(scene.pyramid)
    levels[index] = replace(levels[index], **changes)
    return FeaturePyramid(tuple(levels))


def change_points(scene: Scene, keep: slice | torch.Tensor) -> PointFeatures:
    points = scene.points
    return PointFeatures(
        points.points_map[keep],
        tuple(x[keep] for x in points.descriptors),
        tuple(x[keep] for x in points.confidences),
        points.point_idx[keep],
    )


@pytest.mark.parametrize("motion_px", [5, 20, 60])
def test_a_pose_is_recovered_from_a_wrong_one(scene: Scene, motion_px: float) -> None:
    start = perturb(scene, motion_px, 1)
    result = align(scene.pyramid, scene.points, start, AlignerConfig())
    assert scene.motion_px(start)[0] > 0.9 * motion_px
    assert scene.motion_px(result.cam_from_map)[0] < 0.2
    angle_deg, _ = (result.cam_from_map[0] @ scene.cam_from_map.inv()).magnitude()
    center = (result.cam_from_map[0].center - scene.cam_from_map.center).norm()
    assert angle_deg < 0.02
    assert center < 0.003
    assert result.status.tolist() == [LmStatus.CONVERGED]
    assert result.level.tolist() == [0]
    assert bool(result.covariance.determined)


@pytest.mark.parametrize("config", [KEEP_ALL, REFERENCE], ids=["default", "reference"])
def test_many_hypotheses_end_where_each_ends_alone(scene: Scene, config: AlignerConfig) -> None:
    starts = perturb(scene, 40.0, 6)
    if config is REFERENCE:
        # Its stop test looks at the whole batch: let every run be equally long.
        config = replace(config, optimizer=LmConfig.training(), max_iterations=(12,))
    together = align(scene.pyramid, scene.points, starts, config)
    assert sorted(together.hypothesis.tolist()) == list(range(6))
    for rank, start in enumerate(together.hypothesis.tolist()):
        alone = align(scene.pyramid, scene.points, starts[start : start + 1], config)
        torch.testing.assert_close(
            together.cam_from_map.data[rank], alone.cam_from_map.data[0], rtol=0, atol=1e-6
        )
        assert together.num_iterations[rank] == alone.num_iterations[0]
        torch.testing.assert_close(
            together.cost_per_level[rank], alone.cost_per_level[0], rtol=1e-4, atol=1e-7
        )
    assert (together.cost.diff() >= 0).all()


def test_the_right_hypothesis_is_found_among_wrong_ones(scene: Scene) -> None:
    wrong = perturb(scene, 150.0, 15, seed=3)
    right = perturb(scene, 20.0, 1)
    starts = Pose(torch.cat((wrong.data[:8], right.data, wrong.data[8:])))
    config = AlignerConfig(keep=(1, 2, 4))
    result = align(scene.pyramid, scene.points, starts, config)
    assert len(result.cam_from_map) == 1
    assert scene.motion_px(result.cam_from_map)[0] < 0.1


def test_doubles_give_way_to_different_hypotheses(scene: Scene) -> None:
    """Five starts that end alike take one of the two places, not both."""
    near = perturb(scene, 5.0, 5)
    away = scene.cam_from_map.retract(torch.tensor([0, 0, 0, 0, 0.5, 0]).double())
    starts = Pose(torch.cat((near.data, away.data[None])))
    config = AlignerConfig(keep=(2,), max_iterations=(20,))
    result = align(scene.pyramid, scene.points, starts, config)
    assert result.hypothesis.tolist()[1] == 5
    assert result.cost[0] < result.cost[1]


def test_many_hypotheses_at_once_use_fewer_points(scene: Scene) -> None:
    starts = perturb(scene, 10.0, 8)
    config = AlignerConfig(keep=(8,), max_rows=8 * 150)
    result = align(scene.pyramid, scene.points, starts, config)
    assert (result.num_valid <= 150).all()
    assert (scene.motion_px(result.cam_from_map) < 0.2).all()
    # The evidence speaks of all points again.
    assert result.points.valid.shape == (300,)


def test_far_starts_succeed_as_often_as_with_the_reference_in_far_fewer_steps(
    scene: Scene,
) -> None:
    """Half the width of the image away; the reference takes 150 steps, here it is about 30."""
    starts = perturb(scene, 140.0, 32, seed=5)
    success, steps = {}, {}
    for name, config in (("default", KEEP_ALL), ("reference", REFERENCE)):
        result = align(scene.pyramid, scene.points, starts, config)
        success[name] = (scene.motion_px(result.cam_from_map) < 1.0).sum().item()
        steps[name] = result.num_iterations.sum().item()
    assert success["default"] >= success["reference"] - 1
    assert success["default"] > 16
    assert steps["default"] < 0.5 * steps["reference"]


def test_a_price_for_points_out_of_sight_widens_the_basin(scene: Scene) -> None:
    starts = perturb(scene, 140.0, 32, seed=5)
    success = {}
    for price in (0.0, AlignerConfig().outside_residual):
        config = replace(KEEP_ALL, outside_residual=price)
        result = align(scene.pyramid, scene.points, starts, config)
        success[price] = (scene.motion_px(result.cam_from_map) < 1.0).sum().item()
    assert success[AlignerConfig().outside_residual] > success[0.0]


def test_no_level_ends_with_a_higher_cost_than_it_began_with(scene: Scene) -> None:
    trace = Trace()
    starts = perturb(scene, 100.0, 8, seed=2)
    result = align(scene.pyramid, scene.points, starts, KEEP_ALL, trace=trace)
    labels = ["stride 16", "stride 4", "stride 1"]
    assert {step.label for step in trace.steps} == set(labels)
    for column, label in enumerate(labels):
        begin = next(step for step in trace.steps if step.label == label).equations.cost
        end = result.cost_per_level[result.hypothesis.argsort(), column]
        if column == 0:
            assert (end <= begin).all()
        assert end.max() <= begin.max()


@pytest.mark.parametrize("config", [KEEP_ALL, REFERENCE], ids=["default", "reference"])
def test_a_failing_fine_level_keeps_the_coarse_pose(scene: Scene, config: AlignerConfig) -> None:
    start = perturb(scene, 20.0, 2)
    nothing = torch.full_like(scene.pyramid[0].features, torch.nan)
    result = align(change_level(scene, 0, features=nothing), scene.points, start, config)
    coarse = align(scene.pyramid, scene.points, start, replace(config, levels=(1, 2)))
    torch.testing.assert_close(result.cam_from_map.data, coarse.cam_from_map.data)
    assert result.level.tolist() == [1, 1]
    assert result.points_level == 1
    assert all(LmStatus(s).has_pose for s in result.status.tolist())
    assert result.cost_per_level.isnan().tolist() == [[False, False, True]] * 2
    torch.testing.assert_close(result.cost, coarse.cost)
    assert (scene.motion_px(result.cam_from_map) < 1.0).all()


def test_a_failing_coarse_level_leaves_the_start_to_the_finer_ones(scene: Scene) -> None:
    start = perturb(scene, 5.0, 1)
    nothing = torch.full_like(scene.pyramid[2].features, torch.nan)
    result = align(change_level(scene, 2, features=nothing), scene.points, start, AlignerConfig())
    assert result.level.tolist() == [0]
    assert result.cost_per_level.isnan().tolist() == [[True, False, False]]
    assert scene.motion_px(result.cam_from_map)[0] < 0.2


def looking_away(scene: Scene) -> Pose:
    turn = torch.tensor([[0, 0, 0, 0, 3.0, 0]], dtype=torch.float64)
    return scene.cam_from_map.reshape(1).retract(turn)


@pytest.mark.parametrize("config", [AlignerConfig(), REFERENCE], ids=["default", "reference"])
@pytest.mark.parametrize("case", ["away", "three points", "no points", "NaN map", "NaN pose"])
def test_hopeless_input_gives_a_status_and_the_pose_it_came_with(
    scene: Scene, case: str, config: AlignerConfig
) -> None:
    pyramid, points, start = scene.pyramid, scene.points, perturb(scene, 5.0, 1)
    if case == "away":
        start = looking_away(scene)
    elif case == "three points":
        points = change_points(scene, slice(0, 3))
    elif case == "no points":
        points = change_points(scene, slice(0, 0))
    elif case == "NaN map":
        holes = [replace(x, features=torch.full_like(x.features, torch.nan)) for x in pyramid]
        pyramid = FeaturePyramid(tuple(holes))
    else:
        start = Pose(torch.full((1, 12), torch.nan, dtype=torch.float64))
    result = align(pyramid, points, start, config)
    reason = LmStatus.DIVERGED if case == "NaN pose" else LmStatus.TOO_FEW_POINTS
    assert result.status.tolist() == [reason]
    assert result.level.tolist() == [-1]
    torch.testing.assert_close(result.cam_from_map.data, start.data, equal_nan=True)
    assert not bool(result.covariance.determined)
    assert result.covariance.matrix.diagonal().isinf().all()


def test_one_hopeless_hypothesis_does_not_spoil_the_others(scene: Scene) -> None:
    good = perturb(scene, 10.0, 2)
    starts = Pose(torch.cat((torch.full((1, 12), torch.nan), looking_away(scene).data, good.data)))
    result = align(scene.pyramid, scene.points, starts, KEEP_ALL)
    assert sorted(result.hypothesis.tolist()[:2]) == [2, 3]
    assert sorted(result.status.tolist()[2:]) == [LmStatus.TOO_FEW_POINTS, LmStatus.DIVERGED]
    assert (scene.motion_px(result.cam_from_map[:2]) < 0.1).all()


def test_points_on_a_line_are_flagged_as_not_determining_the_pose(scene: Scene) -> None:
    """The rotation about the line cannot be seen."""
    first, second = scene.points.points_map[0], scene.points.points_map[1]
    along = torch.linspace(0.1, 0.9, 100, dtype=torch.float64)[:, None]
    on_line = first + along * (second - first)
    level = scene.pyramid[0]
    px = level.camera.world2image(scene.cam_from_map * on_line)[0]
    nearest = px.round().long()
    seen = level.features[nearest[:, 1], nearest[:, 0]]
    points = PointFeatures(on_line, (seen,), (torch.ones(100),), torch.arange(100))
    pyramid = FeaturePyramid((level,))
    result = align(pyramid, points, perturb(scene, 2.0, 1), AlignerConfig())
    assert LmStatus(result.status.item()).has_pose
    assert torch.isfinite(result.cam_from_map.data).all()
    assert not bool(result.covariance.determined)


def test_a_map_that_varies_in_one_direction_only_gives_a_finite_pose(scene: Scene) -> None:
    striped = [
        replace(x, features=x.features[:1].expand_as(x.features).contiguous())
        for x in scene.pyramid
    ]
    result = align(FeaturePyramid(tuple(striped)), scene.points, perturb(scene, 5.0, 3), KEEP_ALL)
    assert torch.isfinite(result.cam_from_map.data).all()
    assert torch.isfinite(result.cost).all()


def test_evidence_tells_good_points_from_outliers(scene: Scene) -> None:
    descriptors = list(scene.points.descriptors)
    generator = torch.Generator().manual_seed(0)
    for level, seen in enumerate(descriptors):
        wrong = seen.clone()
        noise = torch.randn(wrong[::3].shape, generator=generator)
        wrong[::3] = torch.nn.functional.normalize(noise, dim=-1)
        descriptors[level] = wrong
    points = replace(scene.points, descriptors=tuple(descriptors))
    result = align(scene.pyramid, points, perturb(scene, 10.0, 1), AlignerConfig())
    assert scene.motion_px(result.cam_from_map)[0] < 0.2
    evidence = result.points
    outlier = torch.zeros(300, dtype=torch.bool)
    outlier[::3] = True
    valid = evidence.valid
    assert evidence.residual[valid & outlier].median() > 0.5
    assert evidence.residual[valid & ~outlier].median() < 0.3
    truth_px = scene.camera.world2image(scene.cam_from_map * points.points_map)[0]
    assert (evidence.points_px - truth_px)[valid].norm(dim=-1).mean() < 0.2


def test_a_training_batch_gives_what_each_query_gives_alone() -> None:
    scenes = [make_scene(seed, num_points=60, channels=4) for seed in (1, 2, 3)]
    levels = tuple(
        FeatureLevel(
            torch.stack([scene.pyramid[i].features for scene in scenes]),
            torch.stack([scene.pyramid[i].confidence for scene in scenes]),
            torch.stack([scene.pyramid[i].camera for scene in scenes]),
            scenes[0].pyramid[i].stride,
        )
        for i in range(3)
    )
    points = PointFeatures(
        torch.stack([scene.points.points_map for scene in scenes]),
        tuple(torch.stack([s.points.descriptors[i] for s in scenes]) for i in range(3)),
        tuple(torch.stack([s.points.confidences[i] for s in scenes]) for i in range(3)),
        torch.arange(60).expand(3, 60),
    )
    starts = torch.stack([perturb(scene, 8.0, 1)[0] for scene in scenes])
    # One query alone may start again at finer levels; a training batch never does.
    config = replace(KEEP_ALL, optimizer=LmConfig.training(), max_iterations=(5,), restart=False)
    damping = [ConstantDamping(0.1)] * 3
    together = align(FeaturePyramid(levels), points, starts, config, damping=damping)
    for i, scene in enumerate(scenes):
        alone = align(scene.pyramid, scene.points, starts[i : i + 1], config, damping=damping)
        torch.testing.assert_close(
            together.cam_from_map.data[i], alone.cam_from_map.data[0], rtol=0, atol=1e-6
        )
        torch.testing.assert_close(together.points.residual[i], alone.points.residual)


def test_settings_are_read_by_name_and_checked() -> None:
    config = load(
        AlignerConfig,
        overrides=["keep=[1, 3]", "damping.init=0.5", "loss.name=huber", "levels=[0, 2]"],
    )
    assert config.keep == (1, 3)
    assert config.damping.init == 0.5
    assert config.loss.name == "huber"
    assert config.levels == (0, 2)
    with pytest.raises(ConfigError, match=r"AlignerConfig\.keep is 0, expected at least 1"):
        load(AlignerConfig, overrides=["keep=[0]"])
    with pytest.raises(ConfigError, match="interpolation"):
        load(AlignerConfig, overrides=["interpolation=[nearest]"])


def test_input_that_does_not_fit_is_one_clear_line(scene: Scene) -> None:
    start = perturb(scene, 5.0, 1)
    with pytest.raises(ConfigError, match=r"\.levels is \(3,\), expected levels below 3"):
        align(scene.pyramid, scene.points, start, AlignerConfig(levels=(3,)))
    with pytest.raises(ShapeError, match=r"initial poses have shape \(\), expected \(k,\)"):
        align(scene.pyramid, scene.points, start[0], AlignerConfig())
    short = replace(scene.points, descriptors=scene.points.descriptors[:2])
    with pytest.raises(ShapeError, match="descriptors for 2 levels, expected 3"):
        align(scene.pyramid, short, start, AlignerConfig())
