"""What a localizer made of a stream of images: availability, errors, latency, rate."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixloc_core.bags.trajectory import Stamps, Trajectory
from pixloc_core.config import check, setting
from pixloc_core.evaluation.pose_error import FloatArray, quantile
from pixloc_core.evaluation.report import number, percent
from pixloc_core.evaluation.trajectory_error import TrajectoryErrors, compare

LOCALIZED = "localized"
# A robot that believes such a pose is worse off than with none.
WRONG_POSITION, WRONG_ROTATION_DEG = 0.5, 5.0
_WRONG = f"wrong poses (over {WRONG_POSITION:g} m or {WRONG_ROTATION_DEG:g} deg)"


@dataclass(frozen=True, kw_only=True)
class StreamBar:
    """What a stream must reach to pass."""

    min_availability: float = setting(
        0.95, doc="Share of images taken up with a pose.", ge=0, le=1
    )
    min_taken: float = setting(0.5, doc="Share of the images taken up.", ge=0, le=1)
    max_position: float = setting(0.05, doc="Median position error.", unit="m", ge=0)
    max_rotation_deg: float = setting(0.5, doc="Median rotation error.", unit="deg", ge=0)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class FrameOutcome:
    """What was said of one image that the localizer took up.

    Attributes:
        stamp_ns: Stamp of the image.
        status: `localized`, or what else happened in two words.
        reason: One line for people.
        score: Belief in the result, in [0, 1].
        latency_ms: From the publication of the image to the arrival of the answer.
        stages: Wall time by stage, in milliseconds.
    """

    stamp_ns: int
    status: str
    reason: str
    score: float
    latency_ms: float
    stages: dict[str, float]


@dataclass(frozen=True)
class StreamRun:
    """One replay of a bag.

    Attributes:
        name: Name of the bag or stream.
        image_stamps_ns: Every image published.
        outcomes: Every image taken up, in the order of the answers.
        estimate: `map_from_base` as it was answered.
        truth: `map_from_base` as it was.
        seconds: Wall time from the first image published to the last answer.
        taken: Images that the localizer says it took up; more than outcomes if it failed to tell
            what became of some.
    """

    name: str
    image_stamps_ns: Stamps
    outcomes: tuple[FrameOutcome, ...]
    estimate: Trajectory
    truth: Trajectory
    seconds: float
    taken: int = 0

    @property
    def latency_ms(self) -> FloatArray:
        """Latency of every image taken up."""
        return np.array([outcome.latency_ms for outcome in self.outcomes], np.float64)

    @property
    def localized_stamps_ns(self) -> Stamps:
        """Stamps of the images that got a pose."""
        stamps = [o.stamp_ns for o in self.outcomes if o.status == LOCALIZED]
        return np.array(stamps, dtype=np.int64)

    def missed_stamps_ns(self) -> Stamps:
        """Stamps of the images that were taken up and got no pose."""
        stamps = [o.stamp_ns for o in self.outcomes if o.status != LOCALIZED]
        return np.array(stamps, dtype=np.int64)


@dataclass(frozen=True)
class StreamSummary:
    """Numbers of one replay; errors are over the images that got a pose.

    Attributes:
        frames: Images in the bag.
        taken: Images taken up by the localizer; a newer image replaces one that waits.
        localized: Images that got a pose.
        errors: Errors of every pose, in the order of time.
        latency_ms: p50 and p95 of the latency.
        rate_hz: Poses per second of wall time.
        failures: How often each other status came.
    """

    frames: int
    taken: int
    localized: int
    errors: TrajectoryErrors
    latency_ms: tuple[float, float]
    rate_hz: float
    failures: dict[str, int]

    @property
    def wrong(self) -> int:
        """Poses that are off by more than `WRONG_POSITION` or `WRONG_ROTATION_DEG`."""
        errors = self.errors.errors
        is_far = errors.position > WRONG_POSITION
        return int((is_far | (errors.rotation_deg > WRONG_ROTATION_DEG)).sum())

    @property
    def availability(self) -> float:
        """Share of the images taken up that got a pose."""
        return self.localized / self.taken if self.taken else 0.0

    @property
    def taken_share(self) -> float:
        """Share of the images of the bag that were taken up."""
        return self.taken / self.frames if self.frames else 0.0

    def position(self, share: float) -> float:
        """Quantile of the position error."""
        return quantile(self.errors.errors.position, share)

    def rotation_deg(self, share: float) -> float:
        """Quantile of the rotation error."""
        return quantile(self.errors.errors.rotation_deg, share)


def summarize_stream(run: StreamRun) -> StreamSummary:
    """Reduce a replay to its numbers.

    Raises:
        FormatError: If there is no ground truth.
    """
    answered = {outcome.stamp_ns for outcome in run.outcomes}
    localized = set(run.localized_stamps_ns.tolist())
    latency = run.latency_ms
    return StreamSummary(
        frames=len(run.image_stamps_ns),
        taken=max(len(answered), run.taken),
        localized=len(localized),
        errors=compare(run.estimate, run.truth),
        latency_ms=(quantile(latency, 0.5), quantile(latency, 0.95)),
        rate_hz=len(localized) / run.seconds if run.seconds > 0 else 0.0,
        failures=dict(Counter(o.status for o in run.outcomes if o.status != LOCALIZED)),
    )


def stream_rows(summary: StreamSummary) -> list[tuple[str, str]]:
    """Name and value of every number, for tables."""
    position, degrees = summary.position, summary.rotation_deg
    rows = [
        ("images in the bag", str(summary.frames)),
        ("taken up (newest wins)", f"{summary.taken} ({percent(summary.taken_share)})"),
        ("availability", f"{percent(summary.availability)} ({summary.localized} poses)"),
        ("position error, median / 95 %", _pair(100 * position(0.5), 100 * position(0.95), "cm")),
        ("rotation error, median / 95 %", _pair(degrees(0.5), degrees(0.95), "deg")),
        (_WRONG, str(summary.wrong)),
        ("latency, p50 / p95", _pair(*summary.latency_ms, "ms", digits=0)),
        ("rate", f"{summary.rate_hz:.2f} poses/s"),
    ]
    rows += [(f"not localized: {name}", str(n)) for name, n in summary.failures.items()]
    return rows


def shortfalls(summary: StreamSummary, bar: StreamBar) -> list[str]:
    """One line for each number that misses its bar."""
    position, degrees = summary.position(0.5), summary.rotation_deg(0.5)
    checks = [
        (
            summary.availability >= bar.min_availability,
            f"availability {percent(summary.availability)} is under "
            f"{percent(bar.min_availability)}",
        ),
        (
            summary.taken_share >= bar.min_taken,
            f"only {percent(summary.taken_share)} of the images were taken up, "
            f"expected {percent(bar.min_taken)}",
        ),
        (
            position <= bar.max_position,
            f"median position error {number(100 * position, 1, ' cm')} is over "
            f"{100 * bar.max_position:g} cm",
        ),
        (
            degrees <= bar.max_rotation_deg,
            f"median rotation error {number(degrees, 2, ' deg')} is over "
            f"{bar.max_rotation_deg:g} deg",
        ),
    ]
    return [line for passed, line in checks if not passed]


def seconds_since(stamps_ns: Stamps, begin_ns: int) -> NDArray[np.float64]:
    """Times for the axis of a plot."""
    return np.asarray((stamps_ns - begin_ns) / 1e9, np.float64)


def _pair(first: float, second: float, unit: str, *, digits: int = 2) -> str:
    return f"{number(first, digits)} / {number(second, digits)} {unit}"
