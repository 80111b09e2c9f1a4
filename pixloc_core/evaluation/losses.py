"""Times in which a localizer had lost the robot: after a kidnap, and in silence."""

import itertools
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from pixloc_core.bags.edit_plan import Cut
from pixloc_core.bags.trajectory import NANOSECONDS, Stamps, Trajectory
from pixloc_core.evaluation.stream import FrameOutcome, StreamRun

# A jump of the ground truth is a kidnap if it is so far beyond the steps around it...
_JUMP_FACTOR = 10.0
# ... and, as a turn, beyond what a robot does between two samples (degrees).
_MIN_TURN_DEG = 20.0


@dataclass(frozen=True)
class Kidnap:
    """What followed when the robot was put elsewhere; times on the clock of the bag.

    Attributes:
        stamp_ns: When.
        detection_s: Until the first answer that is no wrong pose and is followed by none before
            the recovery; None if there is no such answer.
        recovery_s: Until the first pose that is right; None if none came.
        false_poses: Wrong poses published before the recovery, for images taken after the kidnap.
    """

    stamp_ns: int
    detection_s: float | None
    recovery_s: float | None
    false_poses: int


@dataclass(frozen=True)
class Silence:
    """A long time without a pose.

    Attributes:
        begin_ns: Stamp of the last image with a pose.
        seconds: Time until the next one, or until the last image.
        recovered: Whether there was a next one.
        reason: Why the first image without a pose got none; empty if none was taken up.
    """

    begin_ns: int
    seconds: float
    recovered: bool
    reason: str


def kidnap_stamps(cuts: Collection[Cut], truth: Trajectory, bounds: tuple[float, float]) -> Stamps:
    """When the robot was put elsewhere.

    Args:
        cuts: Those of the bag; where there are none, jumps of the truth count.
        truth: True poses.
        bounds: Shorter jumps (map units) by smaller angles (degrees) are no kidnap.
    """
    if cuts:
        far = [c for c in cuts if c.position > bounds[0] or c.rotation_deg > bounds[1]]
        return np.array(sorted(cut.stamp_ns for cut in far), dtype=np.int64)
    if len(truth) < 2:
        return np.zeros(0, np.int64)
    step = truth.poses[:-1].inv() @ truth.poses[1:]
    far, angle = step.t.norm(dim=-1).numpy(), step.magnitude()[0].numpy()
    jumps = far > np.maximum(_JUMP_FACTOR * np.median(far), bounds[0])
    jumps |= angle > np.maximum(_JUMP_FACTOR * np.median(angle), max(bounds[1], _MIN_TURN_DEG))
    return np.asarray(truth.stamps_ns[1:][jumps], np.int64)


def find_kidnaps(
    run: StreamRun, kidnaps_ns: Stamps, wrong_ns: Collection[int]
) -> tuple[Kidnap, ...]:
    """What became of each kidnap.

    Args:
        run: The replay.
        kidnaps_ns: When the robot was put elsewhere.
        wrong_ns: Stamps of the poses published that are wrong.
    """
    begins = [*kidnaps_ns.tolist(), np.iinfo(np.int64).max]
    return tuple(
        _follow(run, begin, [o for o in run.outcomes if begin <= o.stamp_ns < end], wrong_ns)
        for begin, end in itertools.pairwise(begins)
    )


def _follow(
    run: StreamRun, begin: int, outcomes: list[FrameOutcome], wrong_ns: Collection[int]
) -> Kidnap:
    published = run.published
    is_right = [o.stamp_ns in published and o.stamp_ns not in wrong_ns for o in outcomes]
    recovered = is_right.index(True) if any(is_right) else len(outcomes)
    false = [i for i, o in enumerate(outcomes[:recovered]) if o.stamp_ns in wrong_ns]
    detected = false[-1] + 1 if false else 0

    def until(place: int) -> float | None:
        if place >= len(outcomes):
            return None
        return (outcomes[place].answered_ns - begin) / NANOSECONDS

    return Kidnap(begin, until(detected), until(recovered), len(false))


def find_silences(run: StreamRun, min_seconds: float) -> tuple[Silence, ...]:
    """Times without a pose after the first one that are longer than `min_seconds`.

    Images that never came, that waited too long and that were not localized count alike.
    """
    stamps = run.estimate.stamps_ns
    if not len(stamps) or not len(run.image_stamps_ns):
        return ()
    last = int(run.image_stamps_ns.max())
    after = np.append(stamps[1:], max(last, int(stamps[-1])))
    missed = [o for o in run.outcomes if o.stamp_ns not in run.published]
    return tuple(
        Silence(
            begin,
            (end - begin) / NANOSECONDS,
            index + 1 < len(stamps),
            next((f"{o.status}: {o.reason}" for o in missed if begin < o.stamp_ns <= end), ""),
        )
        for index, (begin, end) in enumerate(zip(stamps.tolist(), after.tolist(), strict=True))
        if (end - begin) / NANOSECONDS > min_seconds
    )


def seconds_in_states(run: StreamRun) -> dict[str, float]:
    """How long the localizer was in each state, from one answer to the next."""
    found: dict[str, float] = {}
    if not run.outcomes:
        return found
    stamps = [o.stamp_ns for o in run.outcomes]
    last = max([*run.image_stamps_ns.tolist(), *stamps])
    for outcome, (begin, end) in zip(
        run.outcomes, itertools.pairwise([*stamps, last]), strict=True
    ):
        seconds = (end - begin) / NANOSECONDS
        found[outcome.state] = found.get(outcome.state, 0.0) + seconds
    return found
