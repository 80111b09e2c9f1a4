"""Whether the covariances said with poses tell how wrong these are (docs/covariance.md)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import chi2

from pixloc_core.errors import ShapeError
from pixloc_core.evaluation.pose_error import FloatArray
from pixloc_core.evaluation.report import markdown_table, number, percent
from pixloc_core.geometry import Pose, so3

AXES = ("x", "y", "z", "rotX", "rotY", "rotZ")
SIGMAS = (1.0, 2.0, 3.0)
BAND_SHARE = 0.99


@dataclass(frozen=True)
class Consistency:
    """How errors and the covariances said for them agree.

    Attributes:
        nees_mean: Mean normalized squared error; 6 for covariances that are right.
        nees_band: Where 99 % of such means lie, (low, high), for Gaussian errors.
        coverage: Share of the errors within 1, 2 and 3 sigma (3, 6), one column per axis; for a
            Gaussian 68.3, 95.4 and 99.7 %.
        count: Poses.
        independent: As how many independent poses they count.
    """

    nees_mean: float
    nees_band: tuple[float, float]
    coverage: FloatArray
    count: int
    independent: float

    @property
    def in_band(self) -> bool:
        """Whether the mean lies where that of right covariances would."""
        return self.nees_band[0] <= self.nees_mean <= self.nees_band[1]


def pose_errors(estimate: Pose, truth: Pose) -> FloatArray:
    """Errors (n, 6) in the order of ROS: x, y, z, rotX, rotY, rotZ about the fixed map axes.

    Args:
        estimate: `map_from_base` (or `map_from_cam`) as answered, batch shape (n,).
        truth: As it was, (n,).

    Returns:
        Metres and radians, float64: `t - t_true` and `Log(R R_true^T)`.
    """
    turned = so3.log(estimate.R.double() @ truth.R.double().mT)
    return torch.cat((estimate.t.double() - truth.t.double(), turned), -1).cpu().numpy()


def increment_errors(estimate: Pose, truth: Pose) -> FloatArray:
    """Errors (n, 6) as increments `xi = (v, w)` on the left of the true pose.

    That is what the core's covariance of `cam_from_map` speaks of.

    Args:
        estimate: `cam_from_map` as answered, batch shape (n,).
        truth: As it was, (n,).
    """
    return (estimate.double() @ truth.double().inv()).log().cpu().numpy()


def nees(errors: FloatArray, covariances: FloatArray) -> FloatArray:
    """Normalized squared error `e^T C^-1 e` of each pose (n,).

    Args:
        errors: (n, 6).
        covariances: (n, 6, 6), of the same six numbers.

    Raises:
        ShapeError: If the shapes do not fit, or a covariance is not positive definite.
    """
    errors, covariances = _checked(errors, covariances)
    scale = np.sqrt(covariances.diagonal(axis1=-2, axis2=-1))
    # Metres and radians differ by orders of magnitude: factor the correlations.
    scaled = covariances / scale[:, :, None] / scale[:, None, :]
    try:
        lower = np.linalg.cholesky(scaled)
    except np.linalg.LinAlgError as error:
        raise ShapeError("a covariance is not positive definite, so it has no NEES") from error
    whitened = np.linalg.solve(lower, (errors / scale)[..., None])[..., 0]
    return np.asarray((whitened**2).sum(-1), np.float64)


def coverage(
    errors: FloatArray, covariances: FloatArray, sigmas: Sequence[float] = SIGMAS
) -> FloatArray:
    """Share of the errors within so many standard deviations, (sigmas, 6).

    Args:
        errors: (n, 6).
        covariances: (n, 6, 6).
        sigmas: How many standard deviations, one row each.

    Raises:
        ShapeError: If the shapes do not fit, there is no pose, or a variance is not positive.
    """
    errors, covariances = _checked(errors, covariances)
    normalized = np.abs(errors) / np.sqrt(covariances.diagonal(axis1=-2, axis2=-1))
    return np.stack([(normalized <= sigma).mean(axis=0) for sigma in sigmas])


def nees_band(independent: float, share: float = BAND_SHARE) -> tuple[float, float]:
    """Where the mean NEES of that many independent, right poses lies with probability `share`."""
    tails = (0.5 * (1 - share), 0.5 * (1 + share))
    low, high = (float(chi2.ppf(tail, 6 * independent)) / independent for tail in tails)
    return low, high


def independent_count(values: FloatArray) -> float:
    """As how many independent samples the mean of a time series counts, from 1 to n.

    `n / (1 + 2 sum_k rho_k)`, the autocorrelations summed up to the first that is not positive.
    What all of the series shares, such as an error of the map, is not seen.

    Args:
        values: Numbers in the order of time (n,).
    """
    count = len(values)
    offsets = values - values.mean()
    power = float((offsets**2).sum())
    if count < 2 or power == 0:
        return float(count)
    total = 0.0
    for lag in range(1, count):
        correlation = float((offsets[lag:] * offsets[:-lag]).sum()) / power
        if correlation <= 0:
            break
        total += correlation
    return max(1.0, count / (1 + 2 * total))


def consistency(
    errors: FloatArray, covariances: FloatArray, *, independent: float | None = None
) -> Consistency:
    """Hold the errors of poses against the covariances said for them.

    Args:
        errors: (n, 6), see `pose_errors`, in the order of time.
        covariances: (n, 6, 6), of the same poses and axes.
        independent: As how many independent samples the poses count for the band: images that
            follow each other share the errors of the map points that both see. Unless given, what
            the NEES in the order of time tell (`independent_count`).

    Raises:
        ShapeError: If the shapes do not fit, there is no pose, or a covariance is not positive
            definite.
    """
    values = nees(errors, covariances)
    independent = independent_count(values) if independent is None else independent
    return Consistency(
        nees_mean=float(values.mean()),
        nees_band=nees_band(independent),
        coverage=coverage(errors, covariances),
        count=len(values),
        independent=independent,
    )


def consistency_row(name: str, found: Consistency) -> tuple[str, ...]:
    """One row of `consistency_table`."""
    low, high = found.nees_band
    shares = [percent(share) for share in found.coverage[1]]
    shares += [percent(float(found.coverage[row].mean())) for row in (0, 2)]
    band = f"{number(low, 1)}-{number(high, 1)}"
    return (name, str(found.count), *shares, number(found.nees_mean, 1), band)


def consistency_table(rows: Sequence[tuple[str, Consistency]]) -> str:
    """Coverage at 2 sigma per axis, at 1 and 3 sigma over all axes, and mean NEES, as Markdown.

    Of a Gaussian they are 95.4, 68.3 and 99.7 %, and 6.
    """
    header = ("", "poses", *AXES, "1 sigma", "3 sigma", "mean NEES", "99 % band")
    return markdown_table(header, [consistency_row(name, found) for name, found in rows])


def _checked(errors: FloatArray, covariances: FloatArray) -> tuple[FloatArray, FloatArray]:
    errors, covariances = np.asarray(errors, np.float64), np.asarray(covariances, np.float64)
    if errors.shape[1:] != (6,) or covariances.shape != (*errors.shape, 6) or not len(errors):
        raise ShapeError(
            f"errors and covariances have shapes {errors.shape} and {covariances.shape}, "
            "expected (n, 6) and (n, 6, 6), n > 0"
        )
    variances = covariances.diagonal(axis1=-2, axis2=-1)
    if not bool((variances > 0).all() and np.isfinite(covariances).all()):
        raise ShapeError(
            f"variances reach from {variances.min()} to {variances.max()}, "
            "expected positive, finite ones"
        )
    return errors, covariances
