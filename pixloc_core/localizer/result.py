"""What the localizer answers: a pose with its evidence, or the reason why there is none."""

import math
from dataclasses import dataclass, field, fields
from enum import Enum

import cv2
import numpy as np

from pixloc_core.geometry import Pose
from pixloc_core.localizer.covariance import PoseSpread
from pixloc_core.shapes import Bool, Float, Tensor


class LocalizationStatus(Enum):
    """Outcome of one query; anything but `LOCALIZED` carries no pose."""

    LOCALIZED = "localized"
    NO_PRIOR = "nothing is known of the pose"
    NO_REFERENCES = "no map image sees what the prior sees"
    TOO_FEW_POINTS = "too few map points fall into the image"
    NOT_CONVERGED = "the optimizer found no pose"
    LOW_SCORE = "the image does not look like the map at the pose found"
    SINGULAR = "the points do not determine all six degrees of freedom"


@dataclass(frozen=True)
class Timings:
    """Wall time of the stages of one query, in milliseconds."""

    extract_ms: float = 0.0
    select_ms: float = 0.0
    gather_ms: float = 0.0
    align_ms: float = 0.0
    verify_ms: float = 0.0
    check_ms: float = 0.0

    @property
    def total_ms(self) -> float:
        """Sum of all stages."""
        return float(sum(getattr(self, stage.name) for stage in fields(self)))


@dataclass(frozen=True)
class Evidence:
    """The map points of the final pose, as seen in the query: for overlays and scores.

    Attributes:
        points_px: Projections in the image given (origin: centre of its top-left pixel).
        residual: Norm of the feature difference at the level where points are judged.
        weight: Product of both confidences and the robust weight, in [0, 1].
        valid: Projections that may be used; the other entries mean nothing.
        point_idx: Index into the points of the map.
    """

    points_px: Float[Tensor, "n 2"]
    residual: Float[Tensor, "n"]
    weight: Float[Tensor, "n"]
    valid: Bool[Tensor, "n"]
    point_idx: Tensor


@dataclass(frozen=True)
class Checks:
    """What speaks for a pose apart from the cost that it minimizes; NaN where not looked at.

    Attributes:
        heldout_score: Share of the points kept out of the alignment that agree with the image.
        restart_agreement: Share of disturbed poses that come back when they are refined.
        restart_spread_px: Median over these of the distance from where the pose itself ends when
            refined alike: mean motion of the points, pixels of the image.
        level_spread_px: The same between the poses of the last two levels of the pyramid.
        confident_share: Share of the pixels of the finest level that the features rely on, of
            those that are not masked, of all cameras.
    """

    heldout_score: float = math.nan
    restart_agreement: float = math.nan
    restart_spread_px: float = math.nan
    level_spread_px: float = math.nan
    confident_share: float = math.nan


@dataclass(frozen=True)
class ViewResult:
    """What the answer says of the image of one camera.

    Attributes:
        image_size: Width and height of the image in pixels.
        confidence: Confidence of the finest level, at that level's resolution; None if the image
            shows nothing.
        evidence: The map points that this camera was aligned to, at the final pose; None if there
            are none.
    """

    image_size: tuple[int, int]
    confidence: Float[Tensor, "h w"] | None = None
    evidence: Evidence | None = None

    def confidence_image(self) -> np.ndarray:
        """Confidence of every pixel, float32 (h, w) in [0, 1]; zeros if unknown."""
        width, height = self.image_size
        if self.confidence is None:
            return np.zeros((height, width), np.float32)
        small = self.confidence.detach().float().cpu().numpy()
        return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


@dataclass(frozen=True)
class Localization:
    """The answer to one query.

    Attributes:
        status: What happened.
        reason: One line for people; for `LOCALIZED` a short summary.
        cam_from_map: Pose found (float64, batch shape (), the map's own coordinates), or None.
        covariance: Of the increment `xi = (v, w)` of `cam_from_map` (left: metres and radians in
            the camera frame), 6x6 float64, positive definite, or None.
        score: Share of the visible map points that agree with the image, in [0, 1].
        num_points: Map points inside the image at the final pose.
        num_inliers: Those among them whose features agree.
        cost_per_level: Mean robust cost at the end of each level, coarse to fine.
        references: Names of the map images used.
        timings: Wall time per stage.
        confidence: Confidence of the finest level, at that level's resolution; this and the next
            two are those of the first camera.
        image_size: Width and height of the query in pixels.
        evidence: The points at the final pose, or None.
        views: The same three of every camera of a rig, the first one, too.
        hypotheses: Poses (batch shape (k,)) that were still followed at the end, best first, the
            one found among them; whether or not it is believed. None if no alignment was begun.
        checks: Evidence apart from the optimizer's own cost; None without a pose.
        spread: What `covariance` is made of, for its calibration; None without a pose.
    """

    status: LocalizationStatus
    reason: str
    cam_from_map: Pose | None = None
    covariance: Float[Tensor, "6 6"] | None = None
    score: float = 0.0
    num_points: int = 0
    num_inliers: int = 0
    cost_per_level: tuple[float, ...] = ()
    references: tuple[str, ...] = ()
    timings: Timings = field(default_factory=Timings)
    confidence: Float[Tensor, "h w"] | None = None
    image_size: tuple[int, int] = (0, 0)
    evidence: Evidence | None = None
    views: tuple[ViewResult, ...] = ()
    hypotheses: Pose | None = None
    checks: Checks | None = None
    spread: PoseSpread | None = None

    @property
    def localized(self) -> bool:
        """True where there is a pose that may be used."""
        return self.status is LocalizationStatus.LOCALIZED

    def confidence_image(self) -> np.ndarray:
        """Confidence of every pixel of the query, float32 (h, w) in [0, 1]; zeros if unknown."""
        return ViewResult(self.image_size, self.confidence).confidence_image()
