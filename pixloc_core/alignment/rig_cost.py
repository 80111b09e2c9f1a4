"""Several cameras that are carried rigidly: their costs add up to one cost of one pose."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pixloc_core.alignment.cost import FeatureMetricCost, PointResiduals
from pixloc_core.errors import ShapeError
from pixloc_core.features.pyramid import FeaturePyramid
from pixloc_core.features.reference import PointFeatures
from pixloc_core.geometry import Pose, so3
from pixloc_core.optim.normal_equations import NormalEquations
from pixloc_core.shapes import Float, Tensor


@dataclass(frozen=True)
class Sight:
    """What one camera of a rig is aligned by.

    Attributes:
        pyramid: Features of its image; also of a batch of images (training).
        points: Map points and their descriptors, with the levels of the pyramid.
        cam_from_first: Pose (batch shape ()) of this camera on the rig, float64; None: it is the
            first one, whose pose is sought.
    """

    pyramid: FeaturePyramid
    points: PointFeatures
    cam_from_first: Pose | None = None

    def __post_init__(self) -> None:
        if len(self.points.descriptors) != len(self.pyramid):
            raise ShapeError(
                f"points have descriptors for {len(self.points.descriptors)} levels, expected "
                f"{len(self.pyramid)} as the pyramid has"
            )

    def cam_from_map(self, first_from_map: Pose) -> Pose:
        """Poses of this camera at poses of the first one."""
        return pose_of_camera(self.cam_from_first, first_from_map)


def pose_of_camera(cam_from_first: Pose | None, first_from_map: Pose) -> Pose:
    """Poses of a camera at poses of the first one; None: it is the first one."""
    if cam_from_first is None:
        return first_from_map
    return cam_from_first.to(first_from_map.data) @ first_from_map


def increment_of_camera(cam_from_first: Pose) -> Float[Tensor, "6 6"]:
    """`A` with `xi_cam = A xi`: how this camera moves when the first one moves by xi (eq. 5.11).

    Args:
        cam_from_first: One pose (batch shape ()).
    """
    R = cam_from_first.R
    upper = torch.cat((R, so3.hat(cam_from_first.t) @ R), -1)
    return torch.cat((upper, torch.cat((torch.zeros_like(R), R), -1)), -2)


class RigCost:
    """Sum of the costs of the cameras of a rig, as a cost of the pose of the first (eq. 5.12)."""

    def __init__(self, costs: Sequence[FeatureMetricCost], sights: Sequence[Sight]) -> None:
        self._costs, self._sights = costs, sights

    @property
    def is_shared(self) -> bool:
        """Whether one image of each camera serves all poses."""
        return all(cost.is_shared for cost in self._costs)

    def linearize(self, pose: Pose) -> NormalEquations:
        """Cost and 6x6 system at poses `(*b)` of the first camera."""
        parts = [
            _system_of_first(cost.linearize(sight.cam_from_map(pose)), sight)
            for cost, sight in zip(self._costs, self._sights, strict=True)
        ]
        num_valid = _total([part.num_valid for part in parts])
        normalizer = _total([part.normalizer for part in parts])
        cost = _total([part.cost * part.normalizer for part in parts])
        motion = _total([part.motion * part.num_valid[..., None, None] for part in parts])
        return NormalEquations(
            H=_total([part.H for part in parts]),
            g=_total([part.g for part in parts]),
            cost=cost / normalizer,
            num_valid=num_valid,
            normalizer=normalizer,
            motion=motion / num_valid.clamp(min=1)[..., None, None],
        )

    def points(self, pose: Pose) -> PointResiduals:
        """How each point fits at poses `(*b)` of the first camera; camera after camera."""
        parts = [
            cost.points(sight.cam_from_map(pose))
            for cost, sight in zip(self._costs, self._sights, strict=True)
        ]
        scores = [
            _of_first(part.scores, sight) for part, sight in zip(parts, self._sights, strict=True)
        ]
        return PointResiduals(
            torch.cat([part.points_px for part in parts], -2),
            torch.cat([part.residual for part in parts], -1),
            torch.cat([part.weight for part in parts], -1),
            torch.cat([part.valid for part in parts], -1),
            torch.cat(scores, -2),
        )


def rig_cost(
    costs: Sequence[FeatureMetricCost], sights: Sequence[Sight]
) -> FeatureMetricCost | RigCost:
    """The cost of a rig; of a single first camera its own, at no extra price.

    Args:
        costs: One cost per camera, of its own pose.
        sights: Where the cameras are.
    """
    if len(costs) == 1 and sights[0].cam_from_first is None:
        return costs[0]
    return RigCost(costs, sights)


def _of_first(gradients: Float[Tensor, "*b 6"], sight: Sight) -> Float[Tensor, "*b 6"]:
    """Gradients by the increment of the first camera, of those by the increment of another."""
    if sight.cam_from_first is None:
        return gradients
    return gradients @ increment_of_camera(sight.cam_from_first.to(gradients))


def _system_of_first(equations: NormalEquations, sight: Sight) -> NormalEquations:
    if sight.cam_from_first is None:
        return equations
    A = increment_of_camera(sight.cam_from_first.to(equations.H))
    return equations._replace(
        H=A.mT @ equations.H @ A, g=equations.g @ A, motion=A.mT @ equations.motion @ A
    )


def _total(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(parts)).sum(0)
