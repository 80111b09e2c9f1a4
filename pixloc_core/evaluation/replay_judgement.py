"""A replay held against the truth: from the record to the numbers."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixloc_core.bags.trajectory import NANOSECONDS, Stamps
from pixloc_core.config import check, setting
from pixloc_core.errors import ShapeError
from pixloc_core.evaluation.consistency import consistency, pose_errors
from pixloc_core.evaluation.losses import (
    Kidnap,
    Silence,
    find_kidnaps,
    find_silences,
    seconds_in_states,
)
from pixloc_core.evaluation.pose_error import FloatArray
from pixloc_core.evaluation.relative_error import relative_errors
from pixloc_core.evaluation.replay_summary import (
    Availability,
    CovarianceSummary,
    ErrorSpread,
    FalseAccepts,
    ImageCounts,
    KidnapSummary,
    RelativeSpread,
    ReplaySummary,
    SilenceSummary,
    Spread,
)
from pixloc_core.evaluation.stream import StreamRun
from pixloc_core.evaluation.trajectory_error import TrajectoryErrors, aligned, compare


@dataclass(frozen=True, kw_only=True)
class ReplayBounds:
    """What counts as wrong, and as long."""

    position: float = setting(
        0.5, doc="A pose further off is wrong; 0.1 m suits rooms.", unit="m", ge=0
    )
    rotation_deg: float = setting(
        5.0, doc="A pose turned further is wrong; 3 deg suits rooms.", unit="deg", ge=0
    )
    silence: float = setting(1.0, doc="A longer time without a pose is reported.", unit="s", ge=0)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class JudgedRun:
    """A replay with everything that its report is made of.

    Attributes:
        run: What was recorded.
        errors: Of its poses.
        is_wrong: Which of these are off by more than the bounds (n,).
        kidnaps_ns: When the robot was put elsewhere.
        bounds: What counts as wrong.
        summary: The numbers.
    """

    run: StreamRun
    errors: TrajectoryErrors
    is_wrong: NDArray[np.bool_]
    kidnaps_ns: Stamps
    bounds: ReplayBounds
    summary: ReplaySummary


def judge_run(run: StreamRun, kidnaps_ns: Stamps, bounds: ReplayBounds) -> JudgedRun:
    """Hold a replay against the truth.

    Args:
        run: The replay.
        kidnaps_ns: When the robot was put elsewhere, see `kidnap_stamps`.
        bounds: What counts as wrong.

    Raises:
        FormatError: If there is no ground truth.
    """
    errors = compare(run.estimate, run.truth)
    position, angle = errors.errors.position, errors.errors.rotation_deg
    is_wrong = (position > bounds.position) | (angle > bounds.rotation_deg)
    wrong_ns = set(errors.stamps_ns[is_wrong].tolist())
    kidnaps = find_kidnaps(run, kidnaps_ns, wrong_ns)
    published = len(run.estimate)
    relative = relative_errors(errors, kidnaps_ns)
    after = aligned(errors)
    summary = ReplaySummary(
        name=run.name,
        seconds=run.seconds,
        rate_hz=published / run.seconds if run.seconds > 0 else 0.0,
        images=_counts(run),
        availability=_availability(run),
        ate=ErrorSpread.of(errors.errors),
        ate_aligned=None if after is None else ErrorSpread.of(after),
        rpe=RelativeSpread(
            ErrorSpread.of(relative.per_frame),
            ErrorSpread.of(relative.per_second),
            ErrorSpread.of(relative.per_metre),
        ),
        false_accepts=FalseAccepts(
            len(wrong_ns),
            len(wrong_ns) / published if published else 0.0,
            bounds.position,
            bounds.rotation_deg,
        ),
        latency_ms=_latencies(run),
        covariance=_covariances(run, errors),
        time_to_first_pose_s=_first_pose_s(run, run.begin_ns),
        time_from_prior_s=_first_pose_s(run, run.first_prior_ns),
        kidnaps=_kidnap_summary(kidnaps),
        silences=_silence_summary(find_silences(run, bounds.silence)),
        states_s=seconds_in_states(run),
        failures=dict(Counter(o.status for o in run.outcomes if o.stamp_ns not in run.published)),
        without_truth=errors.without_truth,
    )
    return JudgedRun(run, errors, is_wrong, kidnaps_ns, bounds, summary)


def covariances_with_truth(run: StreamRun, errors: TrajectoryErrors) -> FloatArray | None:
    """Covariances (n, 6, 6) of the poses that were compared; None where they are not known."""
    return None if run.covariances is None else run.covariances[errors.has_truth]


def _counts(run: StreamRun) -> ImageCounts:
    total = len(run.image_stamps_ns)
    taken = _taken(run)
    share = taken / total if total else 0.0
    return ImageCounts(total, taken, max(total - taken, 0), len(run.estimate), share)


def _taken(run: StreamRun) -> int:
    return max(len({o.stamp_ns for o in run.outcomes}), run.taken)


def _availability(run: StreamRun) -> Availability:
    published, taken, total = len(run.estimate), _taken(run), len(run.image_stamps_ns)
    begin = run.first_prior_ns
    if begin is None:
        begin = int(run.estimate.stamps_ns[0]) if published else 0
    # What was not told of was taken up at some time, too.
    untold = taken - len({o.stamp_ns for o in run.outcomes})
    since = len({o.stamp_ns for o in run.outcomes if o.stamp_ns >= begin}) + untold
    answered = int((run.estimate.stamps_ns >= begin).sum())
    return Availability(
        of_taken=published / taken if taken else 0.0,
        of_all=published / total if total else 0.0,
        since_prior=answered / since if since and published else 0.0,
    )


def _latencies(run: StreamRun) -> dict[str, Spread]:
    stages = dict.fromkeys(name for outcome in run.outcomes for name in outcome.stages)
    found = {"total": Spread.of(run.latency_ms)}
    for name in stages:
        times = [o.stages[name] for o in run.outcomes if name in o.stages]
        found[name] = Spread.of(np.array(times, np.float64))
    return found


def _covariances(run: StreamRun, errors: TrajectoryErrors) -> CovarianceSummary | None:
    covariances = covariances_with_truth(run, errors)
    if covariances is None:
        return None
    try:
        found = consistency(pose_errors(errors.estimate, errors.truth), covariances)
    except ShapeError:
        # No pose, or covariances that nobody could use: the report says that there are none.
        return None
    return CovarianceSummary.of(found)


def _first_pose_s(run: StreamRun, since_ns: int | None) -> float:
    published = run.published
    if since_ns is None:
        return math.nan
    answers = (o for o in run.outcomes if o.stamp_ns in published and o.stamp_ns >= since_ns)
    first = min((o.answered_ns for o in answers), default=None)
    return math.nan if first is None else (first - since_ns) / NANOSECONDS


def _kidnap_summary(kidnaps: tuple[Kidnap, ...]) -> KidnapSummary:
    detections = [k.detection_s for k in kidnaps if k.detection_s is not None]
    recoveries = [k.recovery_s for k in kidnaps if k.recovery_s is not None]
    return KidnapSummary(
        count=len(kidnaps),
        undetected=len(kidnaps) - len(detections),
        unrecovered=len(kidnaps) - len(recoveries),
        false_poses=sum(kidnap.false_poses for kidnap in kidnaps),
        detection_s=max(detections, default=math.nan),
        recovery_s=max(recoveries, default=math.nan),
        events=kidnaps,
    )


def _silence_summary(silences: tuple[Silence, ...]) -> SilenceSummary:
    return SilenceSummary(
        count=len(silences),
        unrecovered=sum(not silence.recovered for silence in silences),
        longest_s=max((silence.seconds for silence in silences), default=math.nan),
        events=silences,
    )
