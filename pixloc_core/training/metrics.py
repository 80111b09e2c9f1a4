"""What is reported of a batch: errors of poses and points, level by level."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pixloc_core.geometry import Pose
from pixloc_core.shapes import Float, Tensor
from pixloc_core.training.losses import ReprojectionLoss, TruePoints

# Baselines shorter than this do not tell what a long error is, in units of the scene.
_SHORTEST_BASELINE = 1e-6


@dataclass(frozen=True)
class PoseErrors:
    """Errors against the truth, `(b)`.

    Attributes:
        rotation_deg: Angle.
        translation: Distance of the translations; over the true one if normalized.
    """

    rotation_deg: Float[Tensor, " b"]
    translation: Float[Tensor, " b"]


def pose_errors(pose: Pose, truth: Pose, *, normalize: bool = False) -> PoseErrors:
    """Errors of poses, with translations in units of the scene, or of the true baseline."""
    rotation_deg, distance = (pose @ truth.inv()).magnitude()
    if normalize:
        baseline = truth.t.norm(dim=-1)
        distance = distance / baseline.clamp(min=_SHORTEST_BASELINE)
    return PoseErrors(rotation_deg, distance)


@torch.no_grad()
def summarize(
    loss: ReprojectionLoss,
    points: TruePoints,
    truth: Pose,
    start: Pose,
    poses: Sequence[Pose],
) -> dict[str, Float[Tensor, " b"]]:
    """Named numbers of each pair; NaN where they mean nothing.

    Displacements are medians over the points, in pixels of the training images. Levels are
    counted from coarse (0) to fine.
    """
    numbers = {"reprojection/start": _median(points.displacement(start))}
    for level, pose in enumerate((start, *poses)):
        name = "start" if level == 0 else f"{level - 1}"
        errors = pose_errors(pose, truth, normalize=True)
        numbers[f"rotation_deg/{name}"] = errors.rotation_deg
        numbers[f"translation/{name}"] = errors.translation
        if level > 0:
            numbers[f"reprojection/{name}"] = _median(points.displacement(pose))
            numbers[f"success/{name}"] = loss.success[level - 1].to(loss.total)
    final = _median(points.displacement(poses[-1]))
    numbers["localized"] = (final < 0.003 * points.camera.size[..., 0]).to(loss.total)
    return {
        name: torch.where(loss.too_few, torch.nan, value).to(loss.total)
        for name, value in numbers.items()
    }


def _median(distance: Float[Tensor, "b n"]) -> Float[Tensor, " b"]:
    return distance.nanmedian(-1).values
