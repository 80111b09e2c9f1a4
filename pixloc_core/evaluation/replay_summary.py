"""The numbers of a replay: `summary.json`, and what thresholds are held against."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixloc_core.evaluation.consistency import AXES, Consistency
from pixloc_core.evaluation.losses import Kidnap, Silence
from pixloc_core.evaluation.pose_error import FloatArray, PoseErrors, quantile


@dataclass(frozen=True)
class Spread:
    """Distribution of some numbers; NaN where there are none."""

    rmse: float
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: FloatArray) -> "Spread":
        """Of values (n,); those that are not finite are left out."""
        known = values[np.isfinite(values)]
        if not known.size:
            return cls(*[math.nan] * 7)
        return cls(
            rmse=float(np.sqrt((known**2).mean())),
            mean=float(known.mean()),
            p50=quantile(known, 0.5),
            p90=quantile(known, 0.9),
            p95=quantile(known, 0.95),
            p99=quantile(known, 0.99),
            max=float(known.max()),
        )


@dataclass(frozen=True)
class ErrorSpread:
    """Distribution of pose errors: map units (metres) and degrees, or these by second or metre."""

    count: int
    position: Spread
    rotation_deg: Spread

    @classmethod
    def of(cls, errors: PoseErrors) -> "ErrorSpread":
        """Of pose errors."""
        return cls(len(errors), Spread.of(errors.position), Spread.of(errors.rotation_deg))


@dataclass(frozen=True)
class RelativeSpread:
    """Distribution of the relative errors, see `relative_error`."""

    per_frame: ErrorSpread
    per_second: ErrorSpread
    per_metre: ErrorSpread


@dataclass(frozen=True)
class ImageCounts:
    """Images of the bag, taken up, dropped for a newer one, and with a pose."""

    total: int
    taken: int
    dropped: int
    published: int
    taken_share: float


@dataclass(frozen=True)
class Availability:
    """Share of images with a pose.

    Attributes:
        of_taken: Of the images taken up.
        of_all: Of all images of the bag.
        since_prior: Of those taken up since the first prior; where none was given, since the
            first pose.
    """

    of_taken: float
    of_all: float
    since_prior: float


@dataclass(frozen=True)
class FalseAccepts:
    """Poses published that are wrong, and what that means."""

    count: int
    share: float
    position_bound: float
    rotation_bound_deg: float


@dataclass(frozen=True)
class CovarianceSummary:
    """How the covariances fit the errors, see `consistency`.

    Attributes:
        count: Poses with truth and covariance.
        nees_mean: 6 where the covariances are right.
        nees_low: Lower end of the 99 % band of the mean, for as many independent samples as the
            poses count for.
        nees_high: Its upper end.
        nees_in_band: Whether the mean lies there: 1 or 0.
        coverage: Share of the errors within sigma, by "1_sigma" ... and axis.
        coverage_2_sigma_min: The lowest share of an axis at two sigma.
        coverage_2_sigma_max: The highest.
    """

    count: int
    nees_mean: float
    nees_low: float
    nees_high: float
    nees_in_band: int
    coverage: dict[str, dict[str, float]]
    coverage_2_sigma_min: float
    coverage_2_sigma_max: float

    @classmethod
    def of(cls, found: Consistency) -> "CovarianceSummary":
        """Of a consistency."""
        table = {
            f"{sigma}_sigma": dict(zip(AXES, row.tolist(), strict=True))
            for sigma, row in enumerate(found.coverage, start=1)
        }
        two_sigma = found.coverage[1]
        return cls(
            found.count,
            found.nees_mean,
            *found.nees_band,
            int(found.in_band),
            table,
            float(two_sigma.min()),
            float(two_sigma.max()),
        )


@dataclass(frozen=True)
class KidnapSummary:
    """All kidnaps; the times are the longest ones, NaN without kidnaps."""

    count: int
    undetected: int
    unrecovered: int
    false_poses: int
    detection_s: float
    recovery_s: float
    events: tuple[Kidnap, ...]


@dataclass(frozen=True)
class SilenceSummary:
    """Long times without a pose; the longest is NaN if there is none."""

    count: int
    unrecovered: int
    longest_s: float
    events: tuple[Silence, ...]


@dataclass(frozen=True)
class ReplaySummary:
    """Numbers of one replay; docs/replay.md defines each.

    Attributes:
        name: Of the stream.
        seconds: From the first image to the last answer.
        rate_hz: Poses per second of that time.
        images: How many.
        availability: Shares of images with a pose.
        ate: Errors against the truth, in the frame of the map.
        ate_aligned: The same after a rigid alignment of the positions; None for few poses.
        rpe: Relative errors.
        false_accepts: Wrong poses.
        latency_ms: "total", then by stage.
        covariance: How covariances and errors agree; None where there are none.
        time_to_first_pose_s: From the first image to the answer with the first pose.
        time_from_prior_s: From the first prior to the answer with the first pose after it.
        kidnaps: What followed when the robot was put elsewhere.
        silences: Other long times without a pose.
        states_s: Seconds in each state.
        failures: How often each other status came.
        without_truth: Poses that could not be judged.
    """

    name: str
    seconds: float
    rate_hz: float
    images: ImageCounts
    availability: Availability
    ate: ErrorSpread
    ate_aligned: ErrorSpread | None
    rpe: RelativeSpread
    false_accepts: FalseAccepts
    latency_ms: dict[str, Spread]
    covariance: CovarianceSummary | None
    time_to_first_pose_s: float
    time_from_prior_s: float
    kidnaps: KidnapSummary
    silences: SilenceSummary
    states_s: dict[str, float]
    failures: dict[str, int]
    without_truth: int

    def to_json(self) -> dict[str, Any]:
        """Nested dictionary fit for JSON; what is not known is None."""
        cleaned = _without_nan(dataclasses.asdict(self))
        assert isinstance(cleaned, dict)
        return cleaned


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
