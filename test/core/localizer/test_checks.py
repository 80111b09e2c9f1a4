"""Evidence beside the cost: high for right poses, low for wrong ones, and what it costs."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import Scene, make_scene, perturb
from toy_world import ToyWorld

from pixloc_core.alignment.aligner_config import AlignerConfig
from pixloc_core.alignment.coarse_to_fine import align
from pixloc_core.alignment.rig_cost import Sight
from pixloc_core.features.pyramid import FeaturePyramid
from pixloc_core.geometry import Pose
from pixloc_core.localizer.checks import CheckConfig, find_checks
from pixloc_core.localizer.localizer import Localizer, LocalizerConfig
from pixloc_core.localizer.prior import Prior
from pixloc_core.localizer.result import Checks
from pixloc_core.localizer.verification import VerificationConfig
from pixloc_core.localizer.view import View
from pixloc_core.optim.damping import AdaptiveDamping

TRUE_POSE = Pose.exp(torch.tensor([0.15, -0.05, 0.1, 0.02, -0.03, 0.04], dtype=torch.float64))
NEAR = torch.tensor([0.06, -0.04, 0.05, 0.01, 0.015, -0.01], dtype=torch.float64)
LIMITS = VerificationConfig(inlier_residual=0.5)
# Few points here, all of them near.
CONFIG = CheckConfig(min_heldout=5)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(1, noise=0.05)


def checks_of(
    scene: Scene,
    start: Pose,
    config: CheckConfig = CONFIG,
    aligner: AlignerConfig | None = None,
    found_by: AlignerConfig | None = None,
) -> Checks:
    """Align with some points, look at the others."""
    kept = config.kept_points(len(scene.points))
    aligner = aligner or AlignerConfig()
    used, other = scene.points.select(kept), scene.points.select(~kept)
    result = align(scene.pyramid, used, start, found_by or aligner)
    sights, heldout = [Sight(scene.pyramid, used)], [Sight(scene.pyramid, other)]
    return find_checks(sights, heldout, [scene.camera], result, (config, LIMITS, aligner))


def test_a_right_pose_passes_and_a_wrong_one_fails(scene: Scene) -> None:
    right = checks_of(scene, perturb(scene, 5.0, 1))
    assert right.heldout_score > 0.9
    assert right.restart_agreement == 1.0
    assert right.restart_spread_px < 1.0
    assert right.level_spread_px < 1.0
    turned = scene.cam_from_map.reshape(1).retract(torch.tensor([[0, 0, 0, 0, 0.3, 0]]).double())
    wrong = checks_of(scene, turned, aligner=AlignerConfig(levels=(0, 1)))
    assert wrong.heldout_score < 0.5
    assert wrong.restart_agreement < 0.5
    assert wrong.restart_spread_px > 3.0


def test_disturbances_move_the_points_as_far_as_is_said(scene: Scene) -> None:
    """Restarts that cannot move end where they began."""
    stiff = AlignerConfig(
        damping=AdaptiveDamping(init=1e8, up=1.0, down=1.0, largest=1e9, use_gain=False)
    )
    for distance in (8.0, 16.0):
        config = replace(CONFIG, restart_px=distance)
        start = perturb(scene, 3.0, 1)
        checks = checks_of(scene, start, config, stiff, found_by=AlignerConfig())
        assert checks.restart_agreement == 0.0
        assert checks.restart_spread_px == pytest.approx(distance, rel=0.05)


def test_the_spread_of_levels_is_how_far_the_last_one_moved_the_points(scene: Scene) -> None:
    aligner = AlignerConfig()
    start = perturb(scene, 10.0, 1)
    result = align(scene.pyramid, scene.points, start, aligner)
    before, after = (poses[0] for poses in result.pose_per_level[-2:])
    before_px, _ = scene.camera.world2image(before * scene.points.points_map)
    after_px, _ = scene.camera.world2image(after * scene.points.points_map)
    seen = result.points.valid
    expected = (after_px - before_px)[seen].square().sum(-1).mean().sqrt()
    checks = checks_of(scene, start, CheckConfig(heldout_every=0), aligner)
    assert checks.level_spread_px == pytest.approx(float(expected), rel=0.02)
    one_level = replace(aligner, levels=(0,))
    assert math.isnan(checks_of(scene, start, CONFIG, one_level).level_spread_px)


def test_the_confident_share_is_of_the_pixels_that_are_not_masked(scene: Scene) -> None:
    finest = scene.pyramid[0]
    confidence, features = torch.zeros_like(finest.confidence), finest.features.clone()
    confidence[:60], features[120:] = 0.9, torch.nan
    changed = replace(finest, confidence=confidence, features=features)
    masked = replace(scene, pyramid=FeaturePyramid((changed, *scene.pyramid.levels[1:])))
    start = perturb(scene, 2.0, 1)
    assert checks_of(masked, start).confident_share == pytest.approx(0.5)
    assert checks_of(masked, start, replace(CONFIG, confidence=0.95)).confident_share == 0.0


def test_what_is_not_asked_for_is_not_looked_at(scene: Scene) -> None:
    checks = checks_of(scene, perturb(scene, 5.0, 1), CheckConfig(heldout_every=0, restarts=0))
    assert math.isnan(checks.heldout_score)
    assert math.isnan(checks.restart_agreement)
    assert math.isnan(checks.restart_spread_px)


@pytest.mark.parametrize(("count", "used"), [(800, 700), (160, 140), (159, 159), (0, 0)])
def test_points_are_held_out_only_where_there_are_many(count: int, used: int) -> None:
    config = CheckConfig(heldout_every=8, min_heldout=20)
    kept = config.kept_points(count)
    assert kept.shape == (count,)
    assert int(kept.sum()) == used


def test_an_answer_comes_with_checks_of_points_that_it_did_not_use(
    localizer: Localizer, world: ToyWorld
) -> None:
    image, _ = world.render(TRUE_POSE)
    result = localizer.localize(image, world.camera, Prior.from_pose(TRUE_POSE.retract(NEAR)))
    assert result.checks is not None
    assert result.checks.heldout_score > 0.9
    assert result.checks.restart_agreement == 1.0
    assert result.checks.level_spread_px < 2.0
    assert 0 < result.checks.confident_share < 1
    assert 0 < result.timings.check_ms < result.timings.total_ms


def test_a_view_that_is_not_believed_has_no_checks_and_one_believed_blindly_bad_ones(
    map_path: object, localizer: Localizer, world: ToyWorld
) -> None:
    noise = np.random.default_rng(5).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    views = [View(noise, world.camera)]
    prior = Prior.from_pose(TRUE_POSE)
    assert localizer.localize_views(views, prior).checks is None
    blind = VerificationConfig(min_score=0.0, min_search_score=0.0)
    credulous = Localizer.open(str(map_path), LocalizerConfig(verification=blind))
    checks = credulous.localize_views(views, prior, search=False).checks
    assert checks is not None
    assert checks.heldout_score < 0.3
    assert checks.restart_agreement <= 0.5


def test_held_out_points_cost_next_to_no_accuracy(
    map_path: object, localizer: Localizer, world: ToyWorld
) -> None:
    image, _ = world.render(TRUE_POSE)
    prior = Prior.from_pose(TRUE_POSE.retract(NEAR))
    everything = LocalizerConfig(checks=CheckConfig(heldout_every=0))
    error = []
    for one in (localizer, Localizer.open(str(map_path), everything)):
        found = one.localize(image, world.camera, prior).cam_from_map
        assert found is not None
        error.append(float((found.center - TRUE_POSE.center).norm()))
    assert error[0] < error[1] + 0.002
