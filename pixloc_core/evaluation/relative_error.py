"""Relative pose errors: how well the motion between two answers is that of the robot.

For two poses i < j the error is `(true_i^-1 true_j)^-1 (est_i^-1 est_j)`: its translation and its
angle. Pairs are the poses that follow each other ("per frame"), or each pose with the first one
at least a second, or a metre of the true path, further on; those errors are divided by the time or
path between the two. No pair reaches over a cut of the bag.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixloc_core.bags.trajectory import NANOSECONDS, Stamps
from pixloc_core.evaluation.pose_error import FloatArray, PoseErrors
from pixloc_core.evaluation.trajectory_error import TrajectoryErrors

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class RelativeErrors:
    """Relative errors of pairs of poses.

    Attributes:
        per_frame: Of poses that follow each other; map units and degrees.
        per_second: Of poses a second apart; units and degrees per second.
        per_metre: Of poses a metre of the true path apart; units and degrees per metre.
    """

    per_frame: PoseErrors
    per_second: PoseErrors
    per_metre: PoseErrors


def relative_errors(found: TrajectoryErrors, cuts_ns: Stamps) -> RelativeErrors:
    """Relative errors of all three kinds.

    Args:
        found: Poses and truth.
        cuts_ns: Times at which the robot was put elsewhere.
    """
    count = len(found)
    seconds = (found.stamps_ns - found.stamps_ns[:1]) / NANOSECONDS
    steps = np.linalg.norm(np.diff(found.truth.t.numpy(), axis=0), axis=1)
    metres = np.concatenate([np.zeros(min(count, 1)), np.cumsum(steps)])
    places = np.arange(count, dtype=np.float64)
    per_frame, per_second, per_metre = (
        _errors(found, along, cuts_ns) for along in (places, seconds, metres)
    )
    return RelativeErrors(per_frame, per_second, per_metre)


def _errors(found: TrajectoryErrors, along: FloatArray, cuts_ns: Stamps) -> PoseErrors:
    """Errors of the pairs that lie one unit apart, by that unit."""
    first, second = _pairs(along)
    later_cut = np.searchsorted(np.sort(cuts_ns), found.stamps_ns, side="right")
    together = later_cut[first] == later_cut[second]
    first, second = first[together], second[together]
    moved = found.estimate[first].inv() @ found.estimate[second]
    truly = found.truth[first].inv() @ found.truth[second]
    error = truly.inv() @ moved
    apart = along[second] - along[first]
    return PoseErrors(
        np.asarray(error.t.norm(dim=-1).numpy() / apart, np.float64),
        np.asarray(error.magnitude()[0].numpy() / apart, np.float64),
    )


def _pairs(along: FloatArray) -> tuple[Indices, Indices]:
    """Each place with the first one that lies at least one unit further, if there is one."""
    second = np.searchsorted(along, along + 1.0 - 1e-9, side="left")
    first = np.flatnonzero(second < len(along))
    return first, second[first]
