"""From the covariance of the optimizer to that of the robot (docs/covariance.md)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pixloc_core.alignment.coarse_to_fine import AlignmentResult
from pixloc_core.config import check, setting
from pixloc_core.geometry import Pose, so3
from pixloc_core.optim.normal_equations import quadratic_form
from pixloc_core.shapes import Float, Tensor

# Pixels are those of an image of this width: the same view has the same numbers at any resolution.
WIDTH_PX = 1024
# Of a pose that only one level found: as much as hard images move between two levels.
UNKNOWN_SHIFT_PX = 1.0
# Added to every variance (square units of the map, square radians): filters take no smaller one.
LEAST_VARIANCE = 1e-9


@dataclass(frozen=True, kw_only=True)
class CovarianceConfig:
    """How wrong a pose is said to be; `pixloc calibrate` fits both numbers to a map and a camera.

    The defaults are those that fit the shipped network on six image streams and sets, and on
    blurred and darkened copies of them, against their poses as published: errors of map, lens and
    clock that real cameras have are in them (docs/covariance.md).
    """

    scale: float = setting(
        1.35,
        doc="Standard deviations that the residuals tell are multiplied by this.",
        ge=0.0,
        le=1e4,
    )
    floor_px: float = setting(
        0.11,
        doc="The pose is at least so uncertain that its errors move the points by this, at an "
        "image width of 1024.",
        unit="px",
        ge=0.0,
        le=100.0,
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class PoseSpread:
    """What the covariance of a pose is made of, before anything is fitted; also of many poses.

    Attributes:
        sandwich: Covariance of the increment `xi = (v, w)` that the optimizer's residuals tell,
            units of the map and radians, in the camera frame.
        geometry: Covariance of an increment that moves the points of the pose by 1 px in all
            (root mean square, at an image width of 1024), evenly in all directions.
        level_shift_px: Root mean square motion of the points from the last pyramid level but one
            to the last, in the same pixels.
    """

    sandwich: Float[Tensor, "*b 6 6"]
    geometry: Float[Tensor, "*b 6 6"]
    level_shift_px: Float[Tensor, "*b"]

    @classmethod
    def stack(cls, items: Sequence["PoseSpread"]) -> "PoseSpread":
        """Those of several poses as one."""
        return cls(
            torch.stack([item.sandwich for item in items]),
            torch.stack([item.geometry for item in items]),
            torch.stack([item.level_shift_px for item in items]),
        )

    def __getitem__(self, index: Any) -> "PoseSpread":
        """Some of several poses."""
        return PoseSpread(self.sandwich[index], self.geometry[index], self.level_shift_px[index])

    def covariance(self, config: CovarianceConfig) -> Float[Tensor, "*b 6 6"]:
        """Covariance of the increment, positive definite (docs/covariance.md, eq. 1)."""
        factor = config.scale**2 * (1 + self.level_shift_px**2)
        least = LEAST_VARIANCE * torch.eye(6, dtype=self.geometry.dtype)
        floor = config.floor_px**2 * self.geometry
        return factor[..., None, None] * self.sandwich + floor + least


def spread_of(result: AlignmentResult, width: float) -> PoseSpread:
    """What is known of the errors of the best pose of an alignment, which must be determined.

    Args:
        result: The alignment.
        width: Width of the (first) camera's map at the level of the pose.
    """
    motion = result.equations.motion[0].double().cpu() * (WIDTH_PX / width) ** 2
    scale = motion.diagonal().clamp(min=torch.finfo(torch.float64).tiny).rsqrt()
    unit = motion * scale[:, None] * scale
    # A direction that moves no point adds nothing here; the sandwich is what tells of it.
    geometry = torch.linalg.pinv(unit, rtol=1e-9, hermitian=True) * scale[:, None] * scale / 6
    return PoseSpread(
        sandwich=result.covariance.matrix.double().cpu(),
        geometry=(geometry + geometry.mT) / 2,
        level_shift_px=_level_shift_px(result, motion),
    )


def _level_shift_px(result: AlignmentResult, motion: Float[Tensor, "6 6"]) -> Float[Tensor, ""]:
    """Motion of the points between the poses of the last two levels that gave one."""
    gave = (~result.cost_per_level[0].isnan()).tolist()
    poses = [pose for pose, good in zip(result.pose_per_level, gave, strict=True) if good]
    if len(poses) < 2:
        return torch.tensor(UNKNOWN_SHIFT_PX, dtype=torch.float64)
    before, after = poses[-2][0].double().cpu(), poses[-1][0].double().cpu()
    return quadratic_form(motion, (after @ before.inv()).log()).clamp(min=0).sqrt()


def base_covariance(
    covariance: Float[Tensor, "*b 6 6"], cam_from_map: Pose, cam_from_base: Pose
) -> Float[Tensor, "*b 6 6"]:
    """Covariance of the base in the map, of that of the increment of `cam_from_map`.

    Args:
        covariance: Of `xi = (v, w)`, on the left of `cam_from_map`, in the camera frame.
        cam_from_map: Pose it belongs to, or several.
        cam_from_base: Where the base is in the camera: the lever arm.

    Returns:
        Of x, y, z, rotX, rotY, rotZ: metres and radians, about the fixed axes of the map. No
        variance is smaller than the smallest eigenvalue of `covariance`.

    Source: docs/covariance.md (eq. 2 and 3).
    """
    map_from_cam = cam_from_map.R.mT.double()
    lever = map_from_cam @ so3.hat(cam_from_base.t.double())
    nothing = torch.zeros_like(lever)
    upper = torch.cat((-map_from_cam, lever), -1)
    jacobian = torch.cat((upper, torch.cat((nothing, -map_from_cam), -1)), -2)
    result = jacobian @ covariance.double() @ jacobian.mT
    return (result + result.mT) / 2
