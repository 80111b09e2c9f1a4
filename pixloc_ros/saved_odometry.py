"""What odometry said when a pose was saved, and whether it tells how far the robot went since."""

import logging
import math
from dataclasses import dataclass

import torch

from pixloc_core.geometry import Pose
from pixloc_core.localizer.fix import Fix, difference
from pixloc_core.localizer.state_config import StateConfig

logger = logging.getLogger(__name__)

# A node is started again within seconds. The longer ago, the likelier that odometry was started
# again, too, and has left its origin since: then nothing betrays it.
_LONGEST_S = 600.0
# Odometry that starts begins here (metres, radians), give or take a robot that drives off at once.
_ORIGIN_M, _ORIGIN_RAD = 1.0, math.radians(30.0)


@dataclass(frozen=True)
class SavedOdometry:
    """Odometry at the stamp of a saved pose.

    Attributes:
        stamp_ns: The stamp.
        odom_frame: Name of the frame of odometry.
        base_frame: Name of the frame of the robot.
        odom_from_base: Where odometry had the robot (batch shape (), float64).
    """

    stamp_ns: int
    odom_frame: str
    base_frame: str
    odom_from_base: Pose

    def doubt(
        self,
        stamp_ns: int,
        odom_from_base: Pose,
        frames: tuple[str, str],
        config: StateConfig,
    ) -> str:
        """Why odometry does not tell the motion since, in one line; empty if it does.

        Args:
            stamp_ns: Now.
            odom_from_base: Odometry now.
            frames: Names of the frames of odometry and robot now.
            config: Speeds and gate of the state machine.
        """
        then = (self.odom_frame, self.base_frame)
        if then != frames:
            odom, base = frames
            return f"it was of {then[1]!r} in {then[0]!r}, and is of {base!r} in {odom!r}"
        seconds = (stamp_ns - self.stamp_ns) / 1e9
        if not 0 <= seconds <= _LONGEST_S:
            return f"the pose was saved {seconds:.1f} s ago, expected 0 to {_LONGEST_S:g} s"
        if _is_at_origin(odom_from_base) and not _is_at_origin(self.odom_from_base):
            return "odometry is at its origin: it was started anew"
        return self._leap(seconds, odom_from_base, config)

    def _leap(self, seconds: float, odom_from_base: Pose, config: StateConfig) -> str:
        distance, angle = difference(self.odom_from_base, odom_from_base)
        angle_deg = math.degrees(angle)
        farthest = config.gate_position + config.max_speed * seconds
        widest_deg = config.gate_rotation_deg + config.max_turn_rate_deg * seconds
        if distance <= farthest and angle_deg <= widest_deg:
            return ""
        return (
            f"odometry went {distance:.1f} m and {angle_deg:.0f} deg in {seconds:.1f} s, expected "
            f"{farthest:.1f} m and {min(widest_deg, 180.0):.0f} deg at most: it was started anew"
        )


def resume(
    map_from_base: Pose,
    saved: SavedOdometry,
    stamp_ns: int,
    odom_from_base: Pose | None,
    frames: tuple[str, str],
    config: StateConfig,
) -> Fix:
    """A saved pose at the stamp of an image: moved by odometry where that is believable.

    Args:
        map_from_base: Pose that was saved.
        saved: Odometry then.
        stamp_ns: Stamp of the image.
        odom_from_base: Odometry at that stamp, or None.
        frames: As in `SavedOdometry.doubt`.
        config: As there.
    """
    doubt = "there is none at the stamp of the image"
    if odom_from_base is not None:
        doubt = saved.doubt(stamp_ns, odom_from_base, frames, config)
        if not doubt:
            then = Fix(saved.stamp_ns, map_from_base, saved.odom_from_base)
            distance, _ = difference(saved.odom_from_base, odom_from_base)
            logger.info("the saved pose is moved by odometry, %.2f m", distance)
            map_from_base = then.moved(odom_from_base)
    if doubt:
        logger.warning("the saved pose is not moved by odometry: %s", doubt)
    return Fix(stamp_ns, map_from_base, odom_from_base, "saved")


def _is_at_origin(odom_from_base: Pose) -> bool:
    origin = Pose.from_aa(*torch.zeros(2, 3, dtype=torch.float64))
    distance, angle = difference(origin, odom_from_base)
    return distance <= _ORIGIN_M and angle <= _ORIGIN_RAD
