"""One image and a prior against the map of the toy room."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from toy_world import ToyWorld

from pixloc_core.alignment.aligner_config import AlignerConfig
from pixloc_core.errors import ImageError, MapError, ShapeError
from pixloc_core.features.agreement import Agreement
from pixloc_core.features.extractor import create_extractor
from pixloc_core.features.gradients import PREFERENCES, GradientExtractor
from pixloc_core.geometry import Camera, Pose
from pixloc_core.localizer.localizer import Localizer, LocalizerConfig
from pixloc_core.localizer.prior import Prior
from pixloc_core.localizer.result import LocalizationStatus
from pixloc_core.localizer.verification import Verdict, VerificationConfig, verify
from pixloc_core.optim.damping import AdaptiveDamping

# A view that no map image has, in the middle of them.
TRUE_POSE = Pose.exp(torch.tensor([0.15, -0.05, 0.1, 0.02, -0.03, 0.04], dtype=torch.float64))
NEAR = torch.tensor([0.06, -0.04, 0.05, 0.01, 0.015, -0.01], dtype=torch.float64)
FAR = torch.tensor([0.4, -0.2, 0.3, 0.05, -0.08, 0.06], dtype=torch.float64)


def errors(found: Pose | None, truth: Pose = TRUE_POSE) -> tuple[float, float]:
    """Distance of the camera centres in metres, and angle in degrees."""
    assert found is not None
    angle, _ = (found @ truth.inv()).magnitude()
    return float((found.center - truth.center).norm()), float(angle)


@pytest.fixture(scope="module")
def image(world: ToyWorld) -> np.ndarray:
    return world.render(TRUE_POSE)[0]


@pytest.mark.parametrize("offset", [NEAR, FAR], ids=["near", "far"])
def test_a_new_view_is_localized_from_a_rough_prior(
    localizer: Localizer, world: ToyWorld, image: np.ndarray, offset: torch.Tensor
) -> None:
    prior = Prior.from_pose(TRUE_POSE.retract(offset))
    result = localizer.localize(image, world.camera, prior)
    distance, angle = errors(result.cam_from_map)
    assert distance < 0.01
    assert angle < 0.1
    assert result.score > 0.8


def test_ranked_references_are_prior_enough(
    localizer: Localizer, world: ToyWorld, image: np.ndarray
) -> None:
    names = [world.names[index] for index in (1, 3, 2)]
    result = localizer.localize(image, world.camera, Prior.from_references(names))
    distance, angle = errors(result.cam_from_map)
    assert distance < 0.01
    assert angle < 0.1


def test_one_good_hypothesis_among_bad_ones_wins(
    localizer: Localizer, world: ToyWorld, image: np.ndarray
) -> None:
    away = torch.tensor([[1.5, 0.5, -1.0, 0.1, 0.5, 0.2], [-1.0, 0.3, 0.5, 0.0, -0.6, 0.3]])
    poses = torch.cat([TRUE_POSE.retract(x.double()).data[None] for x in (*away, NEAR)])
    result = localizer.localize(image, world.camera, Prior(Pose(poses)))
    assert errors(result.cam_from_map)[0] < 0.01


def test_the_covariance_covers_the_error(
    localizer: Localizer, world: ToyWorld, image: np.ndarray
) -> None:
    result = localizer.localize(image, world.camera, Prior.from_pose(TRUE_POSE.retract(NEAR)))
    assert result.covariance is not None
    assert result.cam_from_map is not None
    assert bool((torch.linalg.eigvalsh(result.covariance) > 0).all())
    error = (TRUE_POSE @ result.cam_from_map.inv()).log()
    mahalanobis = float(error @ torch.linalg.solve(result.covariance, error))
    # Interpolation adds a bias that no spread shows, hence the wide bound on a chi square of 6.
    assert mahalanobis < 100


def test_the_wrong_place_is_not_localized(localizer: Localizer, world: ToyWorld) -> None:
    elsewhere = np.random.default_rng(5).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    result = localizer.localize(elsewhere, world.camera, Prior.from_pose(TRUE_POSE))
    assert not result.localized
    assert result.cam_from_map is None
    assert result.covariance is None
    assert result.reason


def test_a_prior_that_sees_nothing_of_the_map_is_an_answer(
    localizer: Localizer, world: ToyWorld, image: np.ndarray
) -> None:
    backwards = Pose.from_aa(torch.tensor([0.0, np.pi, 0.0]).double(), torch.zeros(3).double())
    result = localizer.localize(image, world.camera, Prior.from_pose(backwards))
    assert result.status is LocalizationStatus.NO_REFERENCES


def test_the_confidence_image_has_the_geometry_of_the_query(
    localizer: Localizer, world: ToyWorld
) -> None:
    pose = world.cam_from_map[0]
    image, _ = world.render(pose)
    result = localizer.localize(image, world.camera, Prior.from_pose(pose))
    confidence = result.confidence_image()
    assert confidence.shape == image.shape[:2]
    assert confidence.dtype == np.float32
    assert 0 <= confidence.min() < confidence.max() <= 1
    # The black void beside the wall has nothing to hold on to.
    void = (image == 0).all(-1)
    assert confidence[void].mean() < confidence[~void].mean()


def test_evidence_lies_where_the_pose_projects_the_points(
    localizer: Localizer, world: ToyWorld, image: np.ndarray
) -> None:
    result = localizer.localize(image, world.camera, Prior.from_pose(TRUE_POSE.retract(NEAR)))
    evidence = result.evidence
    assert evidence is not None
    points = localizer.sparse.points_map[evidence.point_idx] + localizer.sparse.origin
    truth_px, _ = world.camera.world2image(TRUE_POSE * points)
    distance = (evidence.points_px - truth_px).norm(dim=-1)[evidence.valid]
    assert float(distance.median()) < 0.5
    assert int(evidence.valid.sum()) == result.num_points


def test_the_answer_does_not_depend_on_what_was_asked_before(
    localizer: Localizer, world: ToyWorld, image: np.ndarray
) -> None:
    prior = Prior.from_pose(TRUE_POSE.retract(NEAR))
    first = localizer.localize(image, world.camera, prior)
    localizer.localize(image[:, ::-1].copy(), world.camera, prior)
    second = localizer.localize(image, world.camera, prior)
    assert first.cam_from_map is not None
    assert second.cam_from_map is not None
    # Vectorized sums may start at another address: equal up to the rounding of float32 features.
    torch.testing.assert_close(
        first.cam_from_map.data, second.cam_from_map.data, rtol=0, atol=1e-6
    )


def test_a_map_far_from_its_origin_keeps_its_millimetres(
    localizer: Localizer, world: ToyWorld, image: np.ndarray
) -> None:
    """The same map in national grid coordinates gives the same pose, moved."""
    grid = torch.tensor([4.5e5, 5.4e6, 320.0], dtype=torch.float64)
    moved_map = Localizer.open(localizer.feature_map.path).feature_map
    moved_map.sparse = dataclasses.replace(moved_map.sparse, origin=moved_map.sparse.origin + grid)
    moved = Localizer(moved_map, create_extractor(moved_map.extractor_config))
    start = TRUE_POSE.retract(NEAR)
    shifted = Pose.from_Rt(start.R, start.t - start.R @ grid)
    here = localizer.localize(image, world.camera, Prior.from_pose(start)).cam_from_map
    there = moved.localize(image, world.camera, Prior.from_pose(shifted)).cam_from_map
    assert here is not None
    assert there is not None
    torch.testing.assert_close(there.center - grid, here.center, rtol=0, atol=1e-6)


def test_an_image_without_structure_is_refused(localizer: Localizer, world: ToyWorld) -> None:
    black = np.zeros((240, 320, 3), np.uint8)
    with pytest.raises(ImageError, match="320x240"):
        localizer.localize(black, world.camera, Prior.from_pose(TRUE_POSE))


def test_an_image_of_another_size_than_its_camera_is_refused(
    localizer: Localizer, world: ToyWorld
) -> None:
    large = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    with pytest.raises(ImageError, match=r"640x480.*320x240"):
        localizer.localize(large, world.camera, Prior.from_pose(TRUE_POSE))


def test_a_reference_that_is_not_in_the_map_is_named(
    localizer: Localizer, world: ToyWorld, image: np.ndarray
) -> None:
    with pytest.raises(MapError, match=r"'nowhere\.jpg' is not in the map"):
        localizer.localize(image, world.camera, Prior.from_references(["nowhere.jpg"]))


def test_a_map_made_with_other_features_is_refused(map_path: Path) -> None:
    localizer = Localizer.open(map_path)
    other = create_extractor(localizer.feature_map.extractor_config)

    class Other:
        """The same extractor under another fingerprint."""

        strides, channels = other.strides, other.channels
        fingerprint, config_dict = "0" * 64, other.config_dict
        extract = staticmethod(other.extract)

    with pytest.raises(MapError, match="other weights or feature settings"):
        Localizer(localizer.feature_map, Other(), LocalizerConfig())


@pytest.mark.parametrize(
    ("pose", "message"),
    [
        (Pose(torch.full((1, 12), torch.nan)), "not finite"),
        (Pose.identity(), "expected \\(k,\\)"),
        (None, "neither"),
    ],
)
def test_a_prior_that_says_nothing_is_refused(pose: Pose | None, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Prior(pose)


def test_every_camera_model_localizes_what_it_sees(localizer: Localizer, world: ToyWorld) -> None:
    """A fisheye query against a map made of pinhole images."""
    fisheye = {
        "model": "OPENCV_FISHEYE",
        "width": 320,
        "height": 240,
        "params": [220.0, 220.0, 160.0, 120.0, 0.03, -0.01, 0.002, 0.0],
    }
    camera = Camera.from_colmap(fisheye).double()
    image, _ = world.render(TRUE_POSE, camera)
    result = localizer.localize(image, camera, Prior.from_pose(TRUE_POSE.retract(NEAR)))
    assert errors(result.cam_from_map)[0] < 0.02


class StubbornExtractor(GradientExtractor):
    """Training-free features that say to have learned the largest damping there is."""

    damping = torch.full((5, 6), 30.0)


@pytest.mark.parametrize("learned_damping", [True, False])
def test_learned_damping_of_the_features_is_where_the_optimizer_starts(
    map_path: Path, world: ToyWorld, image: np.ndarray, learned_damping: bool
) -> None:
    """One that large, and not adapted, lets no pose move."""
    stiff = AdaptiveDamping(up=1.0, down=1.0, largest=1e5, use_gain=False)
    aligner = AlignerConfig(damping=stiff, learned_damping=learned_damping)
    limits = VerificationConfig(min_score=0.0, min_search_score=0.0)
    config = LocalizerConfig(aligner=aligner, verification=limits)
    localizer = Localizer.open(map_path, config, StubbornExtractor())
    start = TRUE_POSE.retract(NEAR)
    result = localizer.localize(image, world.camera, Prior.from_pose(start))
    moved, _ = errors(result.cam_from_map, start)
    assert (moved < 1e-3) is learned_damping


class CredulousExtractor(GradientExtractor):
    """The same features, said to agree wherever they are."""

    preferences = dataclasses.replace(
        PREFERENCES, agreement=Agreement(inlier_residual=2.0, min_score=0.0, min_search_score=0.0)
    )


@pytest.mark.parametrize("asked", [False, True])
def test_features_say_when_a_pose_is_believed_unless_the_settings_do(
    map_path: Path, world: ToyWorld, asked: bool
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    noise = cv2.resize(noise, tuple(int(side) for side in world.camera.size))
    limits = VerificationConfig(inlier_residual=0.45, min_score=0.32, min_search_score=0.45)
    config = LocalizerConfig(verification=limits if asked else VerificationConfig())
    localizer = Localizer.open(map_path, config, CredulousExtractor())
    prior = Prior.from_pose(TRUE_POSE)
    credulous = localizer.localize(noise, world.camera, prior)
    assert credulous.localized is not asked
    assert not Localizer.open(map_path).localize(noise, world.camera, prior).localized


class FarSightedExtractor(GradientExtractor):
    """The same features, said to bear no try of a single pose."""

    preferences = dataclasses.replace(PREFERENCES, near_stride=0)


@pytest.mark.parametrize(
    ("near_stride", "tried_alone"), [(-1, False), (0, False), (4, True), (1000, True)]
)
def test_a_single_pose_is_tried_alone_up_to_the_stride_of_features_or_settings(
    map_path: Path, world: ToyWorld, image: np.ndarray, near_stride: int, tried_alone: bool
) -> None:
    # What many hypotheses find is never believed: only the try of the prior alone can answer.
    limits = VerificationConfig(min_search_score=1.0)
    config = LocalizerConfig(near_stride=near_stride, verification=limits)
    localizer = Localizer.open(map_path, config, FarSightedExtractor())
    result = localizer.localize(image, world.camera, Prior.from_pose(TRUE_POSE.retract(NEAR)))
    assert result.localized is tried_alone


@pytest.mark.parametrize(("min_search_score", "believed"), [(0.3, True), (1.0, False)])
def test_a_single_pose_that_agrees_too_little_is_believed_if_nothing_around_it_is_better(
    map_path: Path, world: ToyWorld, image: np.ndarray, monkeypatch: pytest.MonkeyPatch,
    min_search_score: float, believed: bool,
) -> None:  # fmt: skip
    away = Pose.from_aa(torch.tensor([0.0, 3.0, 0.0]).double(), torch.zeros(3).double())
    monkeypatch.setattr("pixloc_core.localizer.localizer.fan_out", lambda poses, *_: away @ poses)
    # Not even a right pose is believed at once.
    limits = VerificationConfig(min_score=1.0, min_search_score=min_search_score)
    localizer = Localizer.open(map_path, LocalizerConfig(verification=limits))
    prior = Prior.from_pose(TRUE_POSE.retract(NEAR))
    result = localizer.localize(image, world.camera, prior)
    assert result.localized is believed
    if believed:
        moved, _ = errors(result.cam_from_map, TRUE_POSE)
        assert moved < 0.01


def test_a_try_that_is_no_answer_never_replaces_one(
    map_path: Path, world: ToyWorld, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However well its few points agree."""
    localizer = Localizer.open(map_path, LocalizerConfig(near_stride=8, reselect_px=1e9))
    judged = []

    def judge(*args: object) -> Verdict:
        verdict = verify(*args)  # type: ignore[arg-type]
        judged.append(verdict)
        if len(judged) == 2:  # the search
            return verdict
        status = LocalizationStatus.TOO_FEW_POINTS
        return dataclasses.replace(verdict, status=status, score=1.0, num_points=10)

    monkeypatch.setattr("pixloc_core.localizer.attempt.verify", judge)
    result = localizer.localize(image, world.camera, Prior.from_pose(TRUE_POSE.retract(NEAR)))
    assert len(judged) == 3
    assert result.localized
    assert result.score == judged[1].score


def test_who_asks_for_more_of_a_single_pose_wants_no_less_of_a_search() -> None:
    limits = VerificationConfig(min_score=0.9).for_features(PREFERENCES.agreement)
    assert limits.after_search().min_score == 0.9
    both = VerificationConfig(min_score=0.9, min_search_score=0.5)
    assert both.for_features(PREFERENCES.agreement).after_search().min_score == 0.5


def test_what_the_settings_leave_open_is_as_the_features_have_it() -> None:
    filled = LocalizerConfig().for_features(PREFERENCES)
    assert filled.near_stride == PREFERENCES.near_stride
    assert filled.verification.min_score == PREFERENCES.agreement.min_score
    assert filled.aligner.robust_scale == PREFERENCES.robust_scale
    assert filled.aligner.interpolation == PREFERENCES.interpolation
    given = LocalizerConfig(
        near_stride=0,
        verification=VerificationConfig(min_score=0.0),
        aligner=AlignerConfig(robust_scale=(0.7,), interpolation=("cubic",)),
    )
    filled = given.for_features(PREFERENCES)
    assert filled.aligner.robust_scale == (0.7,)
    assert filled.aligner.interpolation == ("cubic",)
    assert filled.near_stride == 0
    assert filled.verification.min_score == 0.0
    assert filled.verification.inlier_residual == PREFERENCES.agreement.inlier_residual
