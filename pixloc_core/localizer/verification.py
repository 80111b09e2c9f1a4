"""Whether a pose can be believed: do the points look, at that pose, as the map remembers them?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pixloc_core.alignment.aligner_config import AlignerConfig
from pixloc_core.alignment.coarse_to_fine import AlignmentResult, level_cost
from pixloc_core.alignment.rig_cost import Sight
from pixloc_core.config import check, setting
from pixloc_core.features.agreement import Agreement
from pixloc_core.geometry import Camera, Pose
from pixloc_core.localizer.result import Evidence, LocalizationStatus
from pixloc_core.optim.levenberg_marquardt import LmStatus


@dataclass(frozen=True, kw_only=True)
class VerificationConfig:
    """When the answer is that the image cannot be localized.

    Points are judged one level above the finest: what noise, blur and another light do to the
    finest features is much like what a wrong pose does, one level up it is not.
    """

    level: int = setting(1, doc="Pyramid level at which points are judged, 0 = finest.", ge=0)
    inlier_residual: float = setting(
        -1.0,
        doc="Largest feature difference of a point that agrees with the image; "
        "-1: as the features have it.",
        ge=-1.0,
        le=2.0,
    )
    min_points: int = setting(20, doc="Fewest map points inside the image of an answer.", ge=6)
    min_score: float = setting(
        -1.0,
        doc="Smallest share of points that agree with the image; a single pose with less is "
        "searched around. -1: as the features have it.",
        ge=-1.0,
        le=1.0,
    )
    min_search_score: float = setting(
        -1.0,
        doc="The same after a search, which leaves nothing better to be found, but agrees more "
        "often by chance.",
        ge=-1.0,
        le=1.0,
    )

    def __post_init__(self) -> None:
        check(self)

    def for_features(self, agreement: Agreement) -> "VerificationConfig":
        """The limits, where none are set those of the features."""
        # Who asks for more of a single pose wants no less of a search.
        least = max(self.min_score, agreement.min_search_score)
        return replace(
            self,
            inlier_residual=_given(self.inlier_residual, agreement.inlier_residual),
            min_score=_given(self.min_score, agreement.min_score),
            min_search_score=_given(self.min_search_score, least),
        )

    def after_search(self) -> "VerificationConfig":
        """The limits for the best of many hypotheses."""
        return replace(self, min_score=self.min_search_score)


def _given(value: float, otherwise: float) -> float:
    return otherwise if value < 0 else value


@dataclass(frozen=True)
class Verdict:
    """What the points say about the best pose of an alignment.

    Attributes:
        status: `LOCALIZED`, or why the pose is not believed.
        reason: One line for people.
        score: Share of the points in the images that agree.
        num_points: Points in the images.
        num_inliers: Those that agree.
        evidence: The points, camera after camera as they were given.
    """

    status: LocalizationStatus
    reason: str
    score: float
    num_points: int
    num_inliers: int
    evidence: tuple[Evidence, ...]


def has_pose(result: AlignmentResult) -> bool:
    """Whether any level gave the best hypothesis a pose."""
    return int(result.level[0]) >= 0


def verify(
    sights: Sequence[Sight],
    cameras: Sequence[Camera],
    result: AlignmentResult,
    configs: tuple[VerificationConfig, AlignerConfig],
) -> Verdict:
    """Judge the best pose of an alignment.

    Args:
        sights: What each camera was aligned by.
        cameras: Their cameras, in pixels of the images given.
        result: The alignment.
        configs: Limits, and the settings of the alignment.
    """
    config, _ = configs
    pose = result.cam_from_map[0]
    pairs = zip(sights, cameras, strict=True)
    evidence = tuple(find_evidence(sight, camera, pose, configs) for sight, camera in pairs)
    num_points, num_inliers = count_agreeing(evidence, config)
    score = num_inliers / max(num_points, 1)
    if not has_pose(result):
        outcome = LmStatus(int(result.status[0])).name.lower().replace("_", " ")
        status, reason = LocalizationStatus.NOT_CONVERGED, f"no pose found: {outcome}"
    elif num_points < config.min_points:
        status = LocalizationStatus.TOO_FEW_POINTS
        reason = f"{num_points} map points in the image, expected {config.min_points}"
    elif score < config.min_score:
        status = LocalizationStatus.LOW_SCORE
        reason = f"{score:.0%} of the points agree with the image, "
        reason += f"expected {config.min_score:.0%}"
    elif not bool(result.covariance.determined):
        status, reason = LocalizationStatus.SINGULAR, LocalizationStatus.SINGULAR.value
    else:
        status = LocalizationStatus.LOCALIZED
        reason = f"{score:.0%} of {num_points} points agree"
    return Verdict(status, reason, score, num_points, num_inliers, evidence)


def count_agreeing(evidence: Sequence[Evidence], config: VerificationConfig) -> tuple[int, int]:
    """Points in the images, and those among them that agree."""
    agree = [seen.valid & (seen.residual < config.inlier_residual) for seen in evidence]
    return sum(int(seen.valid.sum()) for seen in evidence), sum(int(one.sum()) for one in agree)


def find_evidence(
    sight: Sight,
    camera: Camera,
    pose: Pose,
    configs: tuple[VerificationConfig, AlignerConfig],
) -> Evidence:
    """The points of one camera at one pose of the first camera of its rig."""
    config, aligner = configs
    level, points = min(config.level, len(sight.pyramid) - 1), sight.points
    fit = level_cost((replace(sight, cam_from_first=None),), aligner, level)
    cam_from_map = sight.cam_from_map(pose)
    residuals = fit.points(cam_from_map)
    points_cam = cam_from_map * points.points_map
    points_px, _ = camera.to(points_cam).world2image(points_cam)
    return Evidence(
        points_px=points_px.float().cpu(),
        residual=residuals.residual.float().cpu(),
        weight=residuals.weight.float().cpu(),
        valid=residuals.valid.cpu(),
        point_idx=points.point_idx.cpu(),
    )
