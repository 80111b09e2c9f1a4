"""The loss of PixLoc: how far the points lie from where they belong, at the end of each level.

Source: Sarlin et al., CVPR 2021; docs/math.md, section 7.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pixloc_core.config import check, setting
from pixloc_core.geometry import Camera, Pose
from pixloc_core.optim.robust import BarronLoss
from pixloc_core.shapes import Bool, Float, Tensor

# Pixels beyond which a displacement counts linearly.
_LINEAR_FROM_PX = 2.0


@dataclass(frozen=True, kw_only=True)
class ReprojectionLossConfig:
    """Which errors count, and up to where."""

    clamp: float = setting(
        50.0, doc="Errors beyond it have no gradient: such a pose is lost.", unit="px", ge=1.0
    )
    success: float = setting(
        3.0,
        doc="A level counts where the error of the coarser one is below this many cells of it.",
        ge=0.1,
    )
    min_points: int = setting(
        10, doc="A pair counts if so many points are visible at the start and at the end.", ge=1
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class ReprojectionLoss:
    """Errors of a batch in pixels of the input image; levels from coarse to fine.

    Attributes:
        total: What training minimizes: errors of the levels that count, over their number.
        errors: Error at the end of each level, clamped.
        initial: Error of the initial pose, not clamped.
        success: Whether each level ended within the range of the next one.
        too_few: Pairs that do not count.
    """

    total: Float[Tensor, " b"]
    errors: Float[Tensor, "l b"]
    initial: Float[Tensor, " b"]
    success: Bool[Tensor, "l b"]
    too_few: Bool[Tensor, " b"]


@dataclass(frozen=True)
class TruePoints:
    """Where points truly are in the query.

    Attributes:
        points_ref: Points in the reference frame.
        points_px: Their true pixels.
        counted: Visible both from the true and from the initial pose.
    """

    camera: Camera
    points_ref: Float[Tensor, "b n 3"]
    points_px: Float[Tensor, "b n 2"]
    counted: Bool[Tensor, "b n"]

    @classmethod
    def of(
        cls,
        camera: Camera,
        points_ref: Float[Tensor, "b n 3"],
        is_point: Bool[Tensor, "b n"],
        truth: Pose,
        start: Pose,
    ) -> "TruePoints":
        """Project points by the true poses; `is_point` tells which are no padding."""
        points_px, visible = camera.world2image(truth * points_ref)
        _, visible_at_start = camera.world2image(start * points_ref)
        return cls(camera, points_ref, points_px, visible & visible_at_start & is_point)

    def error(self, query_from_ref: Pose) -> Float[Tensor, " b"]:
        """Robust mean displacement (eq. 7.1): `d^2 / 4` for small, `|d| - 2` for large ones."""
        return masked_mean(self._robust(query_from_ref), self.counted)

    def displacement(self, query_from_ref: Pose) -> Float[Tensor, "b n"]:
        """Distance of each point from its true pixel; NaN where it does not count."""
        points_px, _ = self.camera.world2image(query_from_ref * self.points_ref)
        distance = (points_px - self.points_px).norm(dim=-1)
        return torch.where(self.counted, distance, torch.nan)

    def _robust(self, query_from_ref: Pose) -> Float[Tensor, "b n"]:
        points_px, _ = self.camera.world2image(query_from_ref * self.points_ref)
        squared = (points_px - self.points_px).square().sum(-1)
        loss, _, _ = BarronLoss(1.0, _LINEAR_FROM_PX)(squared)
        return loss / 4


def reprojection_loss(
    points: TruePoints,
    start: Pose,
    poses: Sequence[Pose],
    strides: Sequence[int],
    config: ReprojectionLossConfig,
) -> ReprojectionLoss:
    """Errors of the poses of all levels, each counted where the level before has succeeded.

    Args:
        points: The truth.
        start: Initial poses.
        poses: Poses `(b)` at the end of each level, coarse to fine.
        strides: Of these levels, in pixels of the input image.
        config: Limits.
    """
    total = points.points_px.new_zeros(len(start))
    counts = torch.ones_like(total, dtype=torch.bool)
    errors, successes = [], []
    for pose, stride in zip(poses, strides, strict=True):
        error = points.error(pose).clamp(max=config.clamp)
        # Not a product with the mask: an error that is not finite must not reach other pairs.
        total = total + torch.where(counts, error / len(poses), 0.0)
        counts = error < config.success * stride
        errors.append(error)
        successes.append(counts)
    too_few = points.counted.sum(-1) < config.min_points
    return ReprojectionLoss(
        torch.where(too_few, 0.0, total),
        torch.stack(errors),
        points.error(start).detach(),
        torch.stack(successes),
        too_few,
    )


def masked_mean(values: Float[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """Mean of the values on the mask, 0 where it is empty; the others may be anything."""
    total = torch.where(mask, values, 0.0).sum(-1)
    return total / mask.sum(-1).clamp(min=1)
