"""What became of one exposure: from the pipeline to everything that is published."""

from dataclasses import dataclass, field

from std_msgs.msg import Header

from pixloc_core.geometry import Pose
from pixloc_core.localizer.result import Localization
from pixloc_core.localizer.supervisor import Decision
from pixloc_core.shapes import Float, Tensor


@dataclass(frozen=True)
class Outcome:
    """What became of one exposure.

    Attributes:
        header: Of the image of its first camera.
        status: One of the constants of LocalizationStatus.msg.
        decision: What the state machine made of it.
        reason: One line; empty if localized.
        prior_source: As in LocalizationStatus.msg.
        cameras: Names of the cameras that took part, as `localization.views`.
        headers: Of their images.
        localization: The answer of the core, if it was asked.
        base_from_cam: Where the first camera is on the robot, if that is known.
        map_from_base: Pose of the robot, if localized; published only if the decision says so.
        covariance: Its covariance, fixed axes of the map.
        odom_from_base: Odometry at the stamp, if there is any.
        stage_ms: Time by stage in milliseconds.
    """

    header: Header
    status: int
    decision: Decision
    reason: str = ""
    prior_source: str = ""
    cameras: tuple[str, ...] = ()
    headers: tuple[Header, ...] = ()
    localization: Localization | None = None
    base_from_cam: Pose | None = None
    map_from_base: Pose | None = None
    covariance: Float[Tensor, "6 6"] | None = None
    odom_from_base: Pose | None = None
    stage_ms: dict[str, float] = field(default_factory=dict)

    @property
    def published(self) -> bool:
        """Whether it puts a pose on `pose`."""
        return self.decision.publish and self.map_from_base is not None
