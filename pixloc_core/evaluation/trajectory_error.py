"""Errors of a stream of poses against a ground truth with stamps of its own."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.bags.trajectory import Stamps, Trajectory
from pixloc_core.evaluation.pose_error import PoseErrors, pose_errors
from pixloc_core.geometry import Pose

_MAX_GAP_NS = 500_000_000
# An alignment of fewer poses is no statement about the others.
_MIN_ALIGNED = 3


@dataclass(frozen=True)
class TrajectoryErrors:
    """Errors of the poses that have a ground truth at their time.

    Attributes:
        stamps_ns: Times (n,).
        estimate: `map_from_base` as it was answered (n,).
        truth: `map_from_base` as it was (n,).
        errors: Position and rotation (n,).
        has_truth: Which of the poses given these are (m,).
    """

    stamps_ns: Stamps
    estimate: Pose
    truth: Pose
    errors: PoseErrors
    has_truth: NDArray[np.bool_]

    @property
    def offset_map(self) -> NDArray[np.float64]:
        """Position of the estimate minus that of the truth, in the map (n, 3)."""
        return np.asarray((self.estimate.t - self.truth.t).numpy(), np.float64)

    @property
    def without_truth(self) -> int:
        """Number of poses left out, as there is no truth near their time."""
        return int((~self.has_truth).sum())

    def __len__(self) -> int:
        return len(self.errors)


def compare(
    estimate: Trajectory, truth: Trajectory, *, max_gap_ns: int = _MAX_GAP_NS
) -> TrajectoryErrors:
    """Hold every estimated pose against the ground truth interpolated at its stamp.

    The map frame of both is the same: nothing is aligned first.

    Args:
        estimate: `map_from_base` as it was answered.
        truth: `map_from_base` as it was.
        max_gap_ns: Do not interpolate the truth over longer gaps.

    Raises:
        FormatError: If there is no ground truth at all.
    """
    true, known = truth.at(estimate.stamps_ns, max_gap_ns=max_gap_ns)
    given, true = estimate.poses[known], true[known]
    errors = pose_errors(given.inv(), true.inv())
    return TrajectoryErrors(estimate.stamps_ns[known], given, true, errors, known)


def aligned(found: TrajectoryErrors) -> PoseErrors | None:
    """The same errors after the rigid motion of the map that fits the positions best.

    That is the alignment of `evo_ape --align` (Umeyama 1991 without scale). What it takes away is
    an error of the map's frame against that of the ground truth.

    Returns:
        The errors, or None where fewer than three poses leave the motion open.
    """
    if len(found) < _MIN_ALIGNED:
        return None
    given, true = found.estimate.t, found.truth.t
    centre, true_centre = given.mean(dim=0), true.mean(dim=0)
    left, _, right = torch.linalg.svd((true - true_centre).mT @ (given - centre))
    sign = torch.ones(3, dtype=left.dtype)
    sign[2] = torch.linalg.det(left @ right).sign()
    rotation = left @ torch.diag(sign) @ right
    true_from_given = Pose.from_Rt(rotation, true_centre - rotation @ centre)
    return pose_errors((true_from_given @ found.estimate).inv(), found.truth.inv())
