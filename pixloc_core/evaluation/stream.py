"""Record of a stream of images: what a localizer said of each, and what was true."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pixloc_core.bags.trajectory import NANOSECONDS, Stamps, Trajectory
from pixloc_core.evaluation.pose_error import FloatArray

LOCALIZED = "localized"


@dataclass(frozen=True)
class FrameOutcome:
    """What was said of one image that the localizer took up.

    Attributes:
        stamp_ns: Stamp of the image.
        status: `localized`, or what else happened in two words.
        reason: One line for people.
        score: Belief in the result, in [0, 1].
        latency_ms: From the publication of the image to the arrival of the answer.
        answered_ns: Time of the answer on the clock of the bag.
        stages: Time by stage, in milliseconds.
        state: What the localizer knows of the robot, such as `TRACKING`; empty if untold.
        prior_source: Where the alignment started from.
    """

    stamp_ns: int
    status: str
    reason: str
    score: float
    latency_ms: float
    answered_ns: int
    stages: dict[str, float] = field(default_factory=dict)
    state: str = ""
    prior_source: str = ""


@dataclass(frozen=True)
class StreamRun:
    """One replay of a bag.

    Attributes:
        name: Name of the bag or stream.
        image_stamps_ns: Every image published.
        outcomes: Every image taken up, in the order of the stamps.
        estimate: `map_from_base` as it was published.
        truth: `map_from_base` as it was.
        seconds: Time from the first image published to the last answer.
        taken: Images that the localizer says it took up; more than outcomes if it failed to tell
            what became of some.
        covariances: Of the poses of `estimate`, (n, 6, 6) in the order and axes of ROS; None
            where they are not known.
        first_prior_ns: Stamp of the first prior given from outside, if any.
        bag_start_ns: Time of the first message of the bag; None where it is not known.
        budget_ms: Time that every image was said to take; 0: latencies were measured.
    """

    name: str
    image_stamps_ns: Stamps
    outcomes: tuple[FrameOutcome, ...]
    estimate: Trajectory
    truth: Trajectory
    seconds: float
    taken: int = 0
    covariances: FloatArray | None = None
    first_prior_ns: int | None = None
    bag_start_ns: int | None = None
    budget_ms: float = 0.0

    @property
    def begin_ns(self) -> int:
        """Stamp of the first image; 0 if there is none."""
        return int(self.image_stamps_ns.min()) if self.image_stamps_ns.size else 0

    @property
    def zero_ns(self) -> int:
        """Zero of times in the bag: its first message, else the first image."""
        return self.begin_ns if self.bag_start_ns is None else self.bag_start_ns

    @property
    def latency_ms(self) -> FloatArray:
        """Latency of every image taken up."""
        return np.array([outcome.latency_ms for outcome in self.outcomes], np.float64)

    @property
    def published(self) -> frozenset[int]:
        """Stamps of the images whose pose was published."""
        return frozenset(self.estimate.stamps_ns.tolist())

    def missed_stamps_ns(self) -> Stamps:
        """Stamps of the images that were taken up and got no pose."""
        published = self.published
        stamps = [o.stamp_ns for o in self.outcomes if o.stamp_ns not in published]
        return np.array(stamps, dtype=np.int64)


def seconds_since(stamps_ns: Stamps, begin_ns: int) -> NDArray[np.float64]:
    """Times for the axis of a plot."""
    return np.asarray((stamps_ns - begin_ns) / NANOSECONDS, np.float64)
