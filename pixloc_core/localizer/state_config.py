"""Settings of the state machine: when a stream of poses is believed, doubted, given up."""

from dataclasses import dataclass

from pixloc_core.config import check, setting


@dataclass(frozen=True, kw_only=True)
class StateConfig:
    """Hysteresis, the gate against odometry, and limits of the evidence.

    Lengths are in units of the map, metres where it is metric.
    """

    confirm_frames: int = setting(
        3,
        doc="Images in a row that must agree on a pose from retrieval, on one after a loss, and "
        "on a jump that odometry contradicts.",
        ge=1,
    )
    confirm_time: float = setting(
        0.5,
        doc="These images must span this time: those of a fast camera that stands still are one.",
        unit="s",
        ge=0.0,
    )
    confirm_given: int = setting(
        1,
        doc="The same for a pose that a person gave, or the filter that prior_source names.",
        ge=1,
    )
    max_init_failures: int = setting(
        5, doc="Images without a pose while initializing before the start is given up.", ge=1
    )
    degrade_frames: int = setting(
        2, doc="Images in a row with weak evidence, or without a pose, until DEGRADED.", ge=1
    )
    recover_frames: int = setting(2, doc="Good images in a row from DEGRADED to TRACKING.", ge=1)
    lost_frames: int = setting(6, doc="Images in a row without a pose until LOST.", ge=1)
    lost_after: float = setting(
        2.0, doc="Time without a pose until LOST, of two images at least.", unit="s", ge=0.0
    )
    forget_after: float = setting(
        30.0,
        doc="While LOST the last pose, moved by odometry, is tried for this long.",
        unit="s",
        ge=0.0,
    )
    gate_position: float = setting(
        0.3, doc="Distance from the pose that odometry foretells that is believed.", unit="m", ge=0
    )
    gate_rotation_deg: float = setting(
        8.0, doc="Angle from it that is believed.", unit="deg", ge=0.0
    )
    gate_drift: float = setting(
        0.1, doc="Error of odometry, in parts of the way; widens the gate.", ge=0.0, le=1.0
    )
    max_speed: float = setting(
        3.0, doc="Speed that bounds the motion where there is no odometry.", unit="m/s", ge=0.0
    )
    max_turn_rate_deg: float = setting(
        120.0, doc="Turn rate that bounds it.", unit="deg/s", ge=0.0
    )
    min_heldout_score: float = setting(
        0.12, doc="Share of held-out points that must agree with the image.", ge=0.0, le=1.0
    )
    min_restart_agreement: float = setting(
        0.5, doc="Share of disturbed restarts that must come back.", ge=0.0, le=1.0
    )
    max_restart_spread: float = setting(
        5.0, doc="Largest distance at which they end from the pose.", unit="px", ge=0.0
    )
    max_level_spread: float = setting(
        6.0, doc="Largest disagreement of the last two levels of the pyramid.", unit="px", ge=0.0
    )
    min_confident_share: float = setting(
        0.02, doc="Share of pixels that the features must rely on.", ge=0.0, le=1.0
    )
    bad_checks: int = setting(
        2, doc="So many checks that fail at once make a pose unbelievable; fewer, weak.", ge=1
    )
    weak_covariance: float = setting(
        4.0, doc="Factor of the covariance of a pose with weak evidence.", ge=1.0
    )

    def __post_init__(self) -> None:
        check(self)
