"""Several cameras of one robot in the toy room, and masks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_world import ToyWorld

from pixloc_core.errors import ConfigError, ImageError, ShapeError
from pixloc_core.geometry import Pose
from pixloc_core.localizer.localizer import Localizer, LocalizerConfig
from pixloc_core.localizer.prior import Prior
from pixloc_core.localizer.result import LocalizationStatus
from pixloc_core.localizer.view import View

# The first camera looks 30 degrees to the left, the second one as much to the right.
FIRST = Pose.exp(torch.tensor([0.1, 0.0, 0.1, 0.0, 0.5, 0.0], dtype=torch.float64))
SECOND_FROM_FIRST = Pose.exp(torch.tensor([0.1, 0.02, 0.03, 0.02, -1.05, 0.01]).double())
NEAR = torch.tensor([0.05, -0.03, 0.04, 0.01, 0.012, -0.01], dtype=torch.float64)


def views_of(world: ToyWorld, poses: Sequence[Pose]) -> list[View]:
    """Images of a rig whose first camera is at `FIRST`."""
    return [View(world.render(pose @ FIRST)[0], world.camera, pose) for pose in poses]


@pytest.fixture(scope="module")
def views(world: ToyWorld) -> list[View]:
    return views_of(world, [Pose.identity(), SECOND_FROM_FIRST])


def distance(found: Pose | None, truth: Pose = FIRST) -> float:
    """Of the camera centres, metres."""
    assert found is not None
    assert float((found @ truth.inv()).magnitude()[0]) < 1.0
    return float((found.center - truth.center).norm())


def test_a_rig_is_localized_by_both_of_its_cameras(
    localizer: Localizer, views: list[View]
) -> None:
    prior = Prior.from_pose(FIRST.retract(NEAR))
    result = localizer.localize_views(views, prior)
    alone = localizer.localize_views(views[:1], prior)
    assert distance(result.cam_from_map) < 0.01
    assert result.num_points > 1.3 * alone.num_points
    assert result.covariance is not None
    assert alone.covariance is not None
    assert result.covariance.trace() < alone.covariance.trace()
    assert result.checks is not None
    assert result.checks.restart_agreement == 1.0
    assert result.checks.heldout_score > 0.8


def test_each_camera_of_a_rig_has_its_own_evidence(
    localizer: Localizer, views: list[View], world: ToyWorld
) -> None:
    result = localizer.localize_views(views, Prior.from_pose(FIRST.retract(NEAR)))
    assert len(result.views) == 2
    assert result.views[0].evidence is result.evidence
    assert result.views[0].confidence is result.confidence
    counts = 0
    for view, seen in zip(views, result.views, strict=True):
        assert seen.image_size == (320, 240)
        assert seen.confidence_image().shape == (240, 320)
        assert seen.evidence is not None
        points = localizer.sparse.points_map[seen.evidence.point_idx] + localizer.sparse.origin
        truth_px, _ = world.camera.world2image(view.cam_from_first @ FIRST * points)
        off = (seen.evidence.points_px - truth_px).norm(dim=-1)[seen.evidence.valid]
        assert float(off.median()) < 0.5
        counts += int(seen.evidence.valid.sum())
    assert counts == result.num_points


def test_the_order_of_the_other_cameras_does_not_matter(
    localizer: Localizer, world: ToyWorld
) -> None:
    ahead = Pose.exp(torch.tensor([0.0, 0.05, 0.0, 0.0, -0.5, 0.0]).double())
    views = views_of(world, [Pose.identity(), SECOND_FROM_FIRST, ahead])
    prior = Prior.from_pose(FIRST.retract(NEAR))
    one_way = localizer.localize_views(views, prior).cam_from_map
    other_way = localizer.localize_views([views[0], views[2], views[1]], prior).cam_from_map
    assert one_way is not None
    assert other_way is not None
    torch.testing.assert_close(one_way.data, other_way.data, rtol=0, atol=1e-5)


def test_a_camera_that_sees_nothing_of_the_map_is_carried_by_the_others(
    localizer: Localizer, world: ToyWorld
) -> None:
    """The first one looks at the wall behind, where the map has no points."""
    backwards = Pose.from_aa(torch.tensor([0.0, np.pi, 0.0]).double(), torch.zeros(3).double())
    other_from_first = backwards.inv()
    truth = backwards @ world.cam_from_map[2]
    street = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    seen = world.render(other_from_first @ truth)[0]
    views = [View(street, world.camera), View(seen, world.camera, other_from_first)]
    result = localizer.localize_views(views, Prior.from_pose(truth.retract(NEAR)))
    assert distance(result.cam_from_map, truth) < 0.01
    assert result.evidence is None
    assert result.views[1].evidence is not None
    alone = localizer.localize_views(views[:1], Prior.from_pose(truth.retract(NEAR)))
    assert alone.status is LocalizationStatus.NO_REFERENCES


def test_a_covered_camera_does_not_stop_the_others(
    localizer: Localizer, views: list[View], world: ToyWorld
) -> None:
    black = np.zeros((240, 320, 3), np.uint8)
    prior = Prior.from_pose(FIRST.retract(NEAR))
    covered = [views[0], View(black, world.camera, SECOND_FROM_FIRST)]
    result = localizer.localize_views(covered, prior)
    assert distance(result.cam_from_map) < 0.01
    assert not result.views[1].confidence_image().any()
    with pytest.raises(ImageError, match="none of 2 images shows anything"):
        localizer.localize_views([View(black, world.camera), covered[1]], prior)


def test_a_prior_of_references_speaks_of_the_first_camera(
    localizer: Localizer, world: ToyWorld
) -> None:
    truth = world.cam_from_map[2].retract(NEAR)
    ahead = Pose.exp(torch.tensor([0.1, 0.0, 0.0, 0.0, 0.3, 0.0]).double())
    views = [
        View(world.render(one @ truth)[0], world.camera, one) for one in (Pose.identity(), ahead)
    ]
    result = localizer.localize_views(views, Prior.from_references([world.names[2]]))
    assert distance(result.cam_from_map, truth) < 0.01


def test_without_search_a_wrong_prior_is_an_answer(map_path: Path, views: list[View]) -> None:
    localizer = Localizer.open(map_path, LocalizerConfig(near_stride=1))
    far = FIRST.retract(torch.tensor([0.2, -0.1, 0.1, 0.02, -0.25, 0.02]).double())
    quick = localizer.localize_views(views[:1], Prior.from_pose(far), search=False)
    assert quick.status is LocalizationStatus.LOW_SCORE
    assert distance(localizer.localize_views(views[:1], Prior.from_pose(far)).cam_from_map) < 0.01
    near = localizer.localize_views(views[:1], Prior.from_pose(FIRST), search=False)
    assert near.localized


def test_what_does_not_belong_to_the_map_is_masked_out(
    localizer: Localizer, world: ToyWorld
) -> None:
    """The left half shows what another camera position saw: it pulls the pose away."""
    truth = world.cam_from_map[3].retract(NEAR)
    image, _ = world.render(truth)
    elsewhere, _ = world.render(truth.retract(torch.tensor([0, 0, 0, 0, 0.1, 0]).double()))
    image[:, :176] = elsewhere[:, :176]
    mask = np.ones((240, 320), bool)
    mask[:, :176] = False
    prior = Prior.from_pose(truth.retract(NEAR))
    misled = localizer.localize_views([View(image, world.camera)], prior)
    masked = localizer.localize_views([View(image, world.camera, mask=mask)], prior)
    assert distance(masked.cam_from_map, truth) < 0.01
    assert masked.score > 0.8
    assert misled.cam_from_map is not None
    assert float((misled.cam_from_map @ truth.inv()).magnitude()[0]) > 1.0
    evidence = masked.evidence
    assert evidence is not None
    assert float(evidence.points_px[evidence.valid, 0].min()) > 175
    assert masked.num_points < 0.7 * misled.num_points
    confidence = masked.confidence_image()
    assert not confidence[:, :170].any()
    assert confidence[:, 190:].mean() > 0.1


def test_a_mask_may_be_an_image_of_bytes_and_hide_everything(
    localizer: Localizer, views: list[View], world: ToyWorld
) -> None:
    nothing = View(views[0].image, world.camera, mask=np.zeros((240, 320), np.uint8))
    with pytest.raises(ImageError, match="320x240"):
        localizer.localize_views([nothing], Prior.from_pose(FIRST))
    everything = View(views[0].image, world.camera, mask=np.full((240, 320), 255, np.uint8))
    prior = Prior.from_pose(FIRST.retract(NEAR))
    masked = localizer.localize_views([everything], prior).cam_from_map
    plain = localizer.localize_views(views[:1], prior).cam_from_map
    assert masked is not None
    assert plain is not None
    torch.testing.assert_close(masked.data, plain.data, rtol=0, atol=1e-6)


def test_views_that_cannot_be_are_refused(
    localizer: Localizer, views: list[View], world: ToyWorld
) -> None:
    image, prior = views[0].image, Prior.from_pose(FIRST)
    with pytest.raises(ImageError, match=r"mask of shape \(120, 160\), expected \(240, 320\)"):
        View(image, world.camera, mask=np.ones((120, 160), bool))
    with pytest.raises(ImageError, match="mask of type float32, expected bool or uint8"):
        View(image, world.camera, mask=np.ones((240, 320), np.float32))
    with pytest.raises(ShapeError, match="cam_from_first of a view has shape"):
        View(image, world.camera, Pose.identity(2))
    with pytest.raises(ConfigError, match="no views given"):
        localizer.localize_views([], prior)
    with pytest.raises(ConfigError, match="first view is not the identity"):
        localizer.localize_views([views[1]], prior)


def test_all_poses_followed_to_the_end_are_told(map_path: Path, views: list[View]) -> None:
    localizer = Localizer.open(map_path, LocalizerConfig(reselect_px=1e9))
    starts = Pose(torch.stack([FIRST.retract(NEAR).data, FIRST.retract(-8 * NEAR).data]))
    result = localizer.localize_views(views[:1], Prior(starts))
    assert result.hypotheses is not None
    assert len(result.hypotheses) > 1
    assert result.cam_from_map is not None
    torch.testing.assert_close(result.hypotheses[0].data, result.cam_from_map.data)
