"""Errors of a stream of poses against a ground truth with stamps of its own."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixloc_core.bags.trajectory import Stamps, Trajectory
from pixloc_core.evaluation.pose_error import PoseErrors, pose_errors

_MAX_GAP_NS = 500_000_000


@dataclass(frozen=True)
class TrajectoryErrors:
    """Errors of the poses that have a ground truth at their time.

    Attributes:
        stamps_ns: Times (n,).
        errors: Position and rotation (n,).
        offset_map: Position of the estimate minus that of the truth, in the map (n, 3).
        without_truth: Number of poses left out, as there is no truth near their time.
    """

    stamps_ns: Stamps
    errors: PoseErrors
    offset_map: NDArray[np.float64]
    without_truth: int


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
    return TrajectoryErrors(
        estimate.stamps_ns[known],
        pose_errors(given.inv(), true.inv()),
        (given.t - true.t).numpy(),
        int((~known).sum()),
    )
