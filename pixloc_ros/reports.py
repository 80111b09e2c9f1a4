"""What the parts of the node say of themselves, once a second: what /diagnostics is made of."""

from dataclasses import dataclass, field

from pixloc_core.localizer.supervisor import State
from pixloc_ros.latest_worker import WorkerCounts
from pixloc_ros.outcome import Outcome


@dataclass(frozen=True)
class InputReport:
    """What came in.

    Attributes:
        received: Images since the activation, of all cameras.
        received_lately: Those since the last report.
        given_up: Exposures of a rig of which not all images came in time.
        uncalibrated: Cameras without a camera_info so far.
        silent: Cameras of a rig that deliver no images, while others do.
        apart: Which cameras of a rig are out of step, in one line; else empty.
    """

    received: int = 0
    received_lately: int = 0
    given_up: int = 0
    uncalibrated: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    apart: str = ""


@dataclass(frozen=True)
class PipelineReport:
    """What is known of the pose.

    Attributes:
        state: State.
        reason: Why.
        failures: Images in a row without a pose that was believed.
        camera_problem: Why cameras of the rig are left out, or empty.
        odometry_problem: Why the newest image had no odometry, although there is some, or
            `tf_broadcast` needs it; or empty.
    """

    state: State = State.UNINITIALIZED
    reason: str = ""
    failures: int = 0
    camera_problem: str = ""
    odometry_problem: str = ""


@dataclass(frozen=True)
class SessionReport:
    """What became of the exposures.

    Attributes:
        is_paused: Whether images are not looked at, as somebody asked for.
        outcome: Of the newest exposure taken up.
        latency_ms: Of that exposure, from its arrival to its pose.
        counts: Exposures received, taken and dropped since the activation.
        localized: Exposures localized since then.
        exposure_rate_hz: Exposures per second, over the last ones.
        dropped_share: Share of them that were given up for newer ones.
        period_s: Time since the last report.
        heard: What came in.
    """

    is_paused: bool = False
    outcome: Outcome | None = None
    latency_ms: float = 0.0
    counts: WorkerCounts = field(default_factory=WorkerCounts)
    localized: int = 0
    exposure_rate_hz: float = 0.0
    dropped_share: float = 0.0
    period_s: float = 1.0
    heard: InputReport = field(default_factory=InputReport)


@dataclass(frozen=True)
class NodeReport:
    """All of it.

    Attributes:
        lifecycle: Label of the lifecycle state.
        map_path: Map file, with its full path.
        map_id: Its content hash, empty while it is not open.
        problem: Why nothing can be localized at all (no map), or empty.
        pipeline: What is known of the pose.
        session: What became of the exposures.
        refused_transform: The newest transform that was refused, or empty.
        retrieval: Whether the service is there, and why it did not answer last time.
        tf_owner: Who publishes map -> odom.
    """

    lifecycle: str
    map_path: str
    map_id: str
    problem: str
    pipeline: PipelineReport
    session: SessionReport
    refused_transform: str
    retrieval: tuple[bool, str]
    tf_owner: str
