"""Whether the robot is localized: a state machine over the answers to single images.

The rules are drawn in docs/node.md. Nothing here looks at pixels or at a clock: the same answers
give the same states.
"""

import math
from dataclasses import dataclass, replace
from enum import IntEnum

import torch

from pixloc_core.geometry import Pose
from pixloc_core.localizer.evidence_grade import NO_DOUBT, Grade, GradedEvidence
from pixloc_core.localizer.fix import Fix, difference
from pixloc_core.localizer.state_config import StateConfig

# Metres and radians within which two priors are one.
_SAME_POSE = 0.05


class State(IntEnum):
    """What is known of the pose; numbers as in LocalizationStatus.msg."""

    UNINITIALIZED = 0
    INITIALIZING = 1
    TRACKING = 2
    DEGRADED = 3
    LOST = 4


@dataclass(frozen=True)
class Prediction:
    """Where the robot is believed to be before an image is looked at.

    Attributes:
        map_from_base: Poses (k), the likeliest first.
        source: As `prior_source` in LocalizationStatus.msg.
        is_near: Believed so much that looking around it would be a waste of time.
    """

    map_from_base: Pose
    source: str
    is_near: bool


@dataclass(frozen=True)
class FrameReport:
    """What became of one image.

    Attributes:
        fix: Pose found, with stamp and odometry; None where the image was not localized.
        stamp_ns: Stamp of the image.
        evidence: Verdict over its checks.
        failure: Why it was not localized.
        expected: Pose of a filter at the stamp, where the prior was one: a pose near it passes
            the gate, too.
    """

    stamp_ns: int
    fix: Fix | None = None
    evidence: GradedEvidence = NO_DOUBT
    failure: str = ""
    expected: Pose | None = None


@dataclass(frozen=True)
class Decision:
    """What to do with one image.

    Attributes:
        state: State after it.
        reason: Why it is in this state.
        publish: Whether the pose of the image may be published.
        begins_anew: Whether that pose does not follow from those published before.
        covariance_factor: What its covariance is multiplied by.
        refusal: Why a pose that was found is not published; empty otherwise.
        innovation: Metres and radians from the pose foretold to the one found; NaN if unknown.
    """

    state: State
    reason: str
    publish: bool = False
    begins_anew: bool = False
    covariance_factor: float = 1.0
    refusal: str = ""
    innovation: tuple[float, float] = (math.nan, math.nan)


@dataclass(frozen=True)
class _Candidate:
    """A pose that is not believed yet."""

    fix: Fix
    needed: int
    span_ns: int
    first_ns: int = 0
    count: int = 0
    failures: int = 0


class Supervisor:
    """Keeps the pose that is believed, and a rival or first one that is being confirmed.

    Not safe for threads: the worker's own.
    """

    def __init__(self, config: StateConfig) -> None:
        """Begin with nothing."""
        self.config = config
        self.reset("waiting for a first pose")

    def reset(self, reason: str) -> None:
        """Forget everything."""
        self.state = State.UNINITIALIZED
        self.reason = reason
        self.failures = 0
        self._fix: Fix | None = None
        self._candidate: _Candidate | None = None
        self._was_tracking = False
        self._weak_run = self._good_run = 0

    def lose(self, reason: str) -> None:
        """Give the pose up, and do not try it again."""
        was_tracking = self._was_tracking
        self.reset(reason)
        if was_tracking:
            self.state, self._was_tracking = State.LOST, True

    @property
    def published_fix(self) -> Fix | None:
        """The pose believed in; None unless TRACKING or DEGRADED."""
        return self._fix if self._is_localized else None

    @property
    def needs_help(self) -> bool:
        """Whether it is worth asking where the robot might be."""
        if self.state in (State.UNINITIALIZED, State.LOST):
            return True
        return self.state is State.INITIALIZING and bool(self.failures)

    @property
    def was_tracking(self) -> bool:
        """Whether a pose has been believed since the last reset."""
        return self._was_tracking

    @property
    def is_fresh(self) -> bool:
        """Whether a pose was given that no image has been held against yet."""
        candidate = self._candidate
        return candidate is not None and not (candidate.count or candidate.failures)

    @property
    def fresh_source(self) -> str:
        """Who gave that pose; empty if there is none."""
        return self._candidate.fix.source if self._candidate and self.is_fresh else ""

    def _guess(self, fix: Fix) -> _Candidate:
        """A pose that needs as many images, over as much time, as any that nobody vouches for."""
        span_ns = round(self.config.confirm_time * 1e9)
        return _Candidate(fix, self.config.confirm_frames, span_ns)

    @property
    def _is_localized(self) -> bool:
        return self.state in (State.TRACKING, State.DEGRADED)

    def start(self, fix: Fix, *, given: bool) -> None:
        """Begin anew at a pose.

        Args:
            fix: Where the robot is said to be.
            given: By a person, or a filter named for it, who may know; otherwise it is a guess,
                which more images must confirm.
        """
        self._fix = None
        self._candidate = _Candidate(fix, self.config.confirm_given, 0)
        if not given:
            self._candidate = self._guess(fix)
        self.failures = self._weak_run = self._good_run = 0
        self._move(State.INITIALIZING, f"{fix.source}: waiting for images that confirm it")

    def predict(self, stamp_ns: int, odom_from_base: Pose | None) -> Prediction | None:
        """Where to look for the robot in the next image; None if there is no idea."""
        if self._candidate is not None:
            fix, fresh = self._candidate.fix, self._candidate.count == 0
            return _prediction(fix, odom_from_base, fix.source if fresh else "", near=not fresh)
        if self._fix is None:
            return None
        if self._is_localized:
            # Not even after failures is there a search: it would hold the next images up.
            return _prediction(self._fix, odom_from_base, "", near=True)
        age_s = (stamp_ns - self._fix.stamp_ns) / 1e9
        if age_s > self.config.forget_after:
            return None
        found = _prediction(self._fix, odom_from_base, "", near=False)
        # Odometry itself may have failed: the robot may still be where it was.
        stayed = self._fix.map_from_base
        if max(difference(found.map_from_base[0], stayed)) < _SAME_POSE:
            return found
        both = torch.stack([found.map_from_base[0].data, stayed.data])
        return replace(found, map_from_base=Pose(both))

    def judge(self, report: FrameReport) -> Decision:
        """Take in the answer to one image."""
        fix = report.fix
        if fix is None:
            return self._failed(report.stamp_ns, report.failure)
        innovation = self._innovation(fix, report.expected)
        if report.evidence.grade is Grade.BAD:
            decision = self._failed(report.stamp_ns, report.evidence.reason)
        elif self._is_localized and self._fix is not None and self._goes_on(self._fix, report):
            decision = self._follow(fix, report.evidence)
        else:
            decision = self._confirm(fix, report)
        return replace(decision, innovation=innovation)

    def _follow(self, fix: Fix, evidence: GradedEvidence) -> Decision:
        """The pose goes on where it was expected."""
        self._fix, self._candidate, self.failures = fix, None, 0
        is_weak = evidence.grade is Grade.WEAK
        self._weak_run = self._weak_run + 1 if is_weak else 0
        self._good_run = 0 if is_weak else self._good_run + 1
        if self._weak_run >= self.config.degrade_frames:
            self._move(State.DEGRADED, f"weak evidence: {evidence.reason}")
        elif self.state is State.DEGRADED and self._good_run >= self.config.recover_frames:
            self._move(State.TRACKING, "good images again")
        factor = self.config.weak_covariance if is_weak or self.state is State.DEGRADED else 1.0
        return Decision(self.state, self.reason, publish=True, covariance_factor=factor)

    def _confirm(self, fix: Fix, report: FrameReport) -> Decision:
        """A pose that nothing believed foretells: it must be seen again."""
        candidate = self._candidate
        if report.evidence.grade is Grade.WEAK:
            return self._failed(report.stamp_ns, report.evidence.reason)
        if candidate is None or not self._continues(candidate, report):
            candidate = self._guess(fix)
        first_ns = candidate.first_ns if candidate.count else fix.stamp_ns
        candidate = replace(
            candidate, fix=fix, count=candidate.count + 1, first_ns=first_ns, failures=0
        )
        is_long_enough = fix.stamp_ns - first_ns >= candidate.span_ns
        if candidate.count >= candidate.needed and is_long_enough:
            return self._believe(candidate)
        self._candidate = candidate
        seen = f"seen in {candidate.count} of {candidate.needed} images"
        if not self._is_localized:
            self.failures = 0
            self._move(State.INITIALIZING, f"a pose from {fix.source} is being confirmed, {seen}")
            return Decision(self.state, self.reason, refusal=self.reason)
        jump = "the pose found contradicts the last one and odometry"
        return self._failed(report.stamp_ns, f"{jump}, {seen}", keep=True)

    def _believe(self, candidate: _Candidate) -> Decision:
        reason = f"confirmed by {candidate.count} image{'s' * (candidate.count > 1)}"
        if self._is_localized and self._fix is not None:
            expected = self._fix.moved(candidate.fix.odom_from_base)
            distance, angle = difference(expected, candidate.fix.map_from_base)
            reason = f"jumped by {distance:.2f} m, {math.degrees(angle):.1f} deg: {reason}"
        self._fix, self._candidate = candidate.fix, None
        self.failures = self._weak_run = self._good_run = 0
        self._was_tracking = True
        self._move(State.TRACKING, reason)
        return Decision(self.state, self.reason, publish=True, begins_anew=True)

    def _failed(self, stamp_ns: int, why: str, *, keep: bool = False) -> Decision:
        """No pose, or none that may be believed.

        Args:
            stamp_ns: Stamp of the image.
            why: Reason.
            keep: The candidate has just been seen.
        """
        self.failures += 1
        self._good_run = 0
        if self._is_localized:
            self._candidate = self._candidate if keep else None
            self._doubt(stamp_ns, why)
        elif self._candidate is not None:
            self._give_up_later(why)
        return Decision(self.state, self.reason, refusal=why)

    def _doubt(self, stamp_ns: int, why: str) -> None:
        """From TRACKING over DEGRADED to LOST."""
        assert self._fix is not None
        gap_s = (stamp_ns - self._fix.stamp_ns) / 1e9
        is_long = gap_s >= self.config.lost_after and self.failures > 1
        if self.failures >= self.config.lost_frames or is_long:
            reason = f"no pose for {gap_s:.1f} s and {self.failures} images: {why}"
            self._move(State.INITIALIZING if self._candidate else State.LOST, reason)
            self.failures = 0 if self._candidate else self.failures
        elif self.failures >= self.config.degrade_frames:
            self._move(State.DEGRADED, f"{self.failures} images without a pose: {why}")

    def _give_up_later(self, why: str) -> None:
        assert self._candidate is not None
        count = self._candidate.failures + 1
        if count < self.config.max_init_failures and self._candidate.count == 0:
            # Nobody has seen it yet: the first images may be bad ones.
            self._candidate = replace(self._candidate, failures=count)
            return
        self._candidate = None
        state = State.LOST if self._was_tracking else State.UNINITIALIZED
        self._move(state, f"the pose was not confirmed: {why}")

    def _continues(self, candidate: _Candidate, report: FrameReport) -> bool:
        """Whether the pose found speaks for the candidate."""
        assert report.fix is not None
        if candidate.count:
            return self._fits(candidate.fix, report.fix)
        # The first pose may correct what was given by any amount, if it was looked for there.
        return candidate.fix.source == report.fix.source

    def _goes_on(self, fix: Fix, report: FrameReport) -> bool:
        """Whether the pose found is where the last one and odometry, or a filter, foretell it."""
        found, config = report.fix, self.config
        assert found is not None
        if self._fits(fix, found):
            return True
        if report.expected is None:
            return False
        distance, angle = difference(report.expected, found.map_from_base)
        return distance <= config.gate_position and angle <= math.radians(config.gate_rotation_deg)

    def _fits(self, fix: Fix, found: Fix) -> bool:
        """Whether a pose is where a fix and the motion since foretell it."""
        config = self.config
        turn_rate = math.radians(config.max_turn_rate_deg)
        motion = fix.motion(found.stamp_ns, found.odom_from_base, config.max_speed, turn_rate)
        distance, angle = difference(fix.moved(found.odom_from_base), found.map_from_base)
        share = config.gate_drift if motion.is_measured else 1.0
        # Odometry that has turned by a wrong angle is off sideways by the way times that angle.
        angle_limit = math.radians(config.gate_rotation_deg) + share * motion.angle
        distance_limit = config.gate_position + share * motion.distance
        return distance <= distance_limit and angle <= angle_limit

    def _innovation(self, found: Fix, expected: Pose | None) -> tuple[float, float]:
        if expected is None:
            fix = self._fix or (self._candidate.fix if self._candidate else None)
            if fix is None:
                return math.nan, math.nan
            expected = fix.moved(found.odom_from_base)
        return difference(expected, found.map_from_base)

    def _move(self, state: State, reason: str) -> None:
        self.state, self.reason = state, reason


def _prediction(fix: Fix, odom_from_base: Pose | None, source: str, *, near: bool) -> Prediction:
    """Prediction of a fix; one of our own is named by what moved it."""
    has_odometry = odom_from_base is not None and fix.odom_from_base is not None
    own = "odometry" if has_odometry else "last_pose"
    pose = Pose(fix.moved(odom_from_base).data[None])
    return Prediction(pose, source or own, near and has_odometry)
