"""A pose of the robot at one moment, and where odometry says that it is now."""

from dataclasses import dataclass

import torch

from pixloc_core.geometry import Pose


@dataclass(frozen=True)
class Motion:
    """How far the robot may have gone between two stamps.

    Attributes:
        distance: Metres.
        angle: Radians.
        is_measured: By odometry; otherwise bounded by the largest speed only.
    """

    distance: float
    angle: float
    is_measured: bool


@dataclass(frozen=True)
class Fix:
    """Where the robot was.

    Attributes:
        stamp_ns: When, nanoseconds.
        map_from_base: Pose (batch shape (), float64).
        odom_from_base: Odometry at the same stamp, or None where there was none.
        source: Who said so, as `prior_source` in LocalizationStatus.msg.
    """

    stamp_ns: int
    map_from_base: Pose
    odom_from_base: Pose | None
    source: str = ""

    @property
    def map_from_odom(self) -> Pose | None:
        """What odometry lacks; None without odometry."""
        if self.odom_from_base is None:
            return None
        return (self.map_from_base @ self.odom_from_base.inv()).normalized()

    def moved(self, odom_from_base: Pose | None) -> Pose:
        """`map_from_base` now: moved by odometry where both moments have it."""
        if odom_from_base is None or self.odom_from_base is None:
            return self.map_from_base
        base_then_from_now = self.odom_from_base.inv() @ odom_from_base
        return (self.map_from_base @ base_then_from_now).normalized()

    def motion(
        self, stamp_ns: int, odom_from_base: Pose | None, speed: float, turn_rate: float
    ) -> Motion:
        """How far the robot has gone since.

        Args:
            stamp_ns: Until when.
            odom_from_base: Odometry then, or None.
            speed: Largest speed, m/s, where there is no odometry.
            turn_rate: Likewise, rad/s.
        """
        if odom_from_base is None or self.odom_from_base is None:
            seconds = abs(stamp_ns - self.stamp_ns) / 1e9
            return Motion(speed * seconds, turn_rate * seconds, is_measured=False)
        distance, angle = difference(self.odom_from_base, odom_from_base)
        return Motion(distance, angle, is_measured=True)


def difference(a: Pose, b: Pose) -> tuple[float, float]:
    """Distance (metres) and angle (radians) between two poses (batch shape ()) of one frame."""
    turn = a.R.mT @ b.R
    cosine = ((turn.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1.0, 1.0)
    sine = torch.stack(
        [turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]
    ).norm()
    # atan2 keeps small angles exact, where the arc cosine loses half of its digits.
    return float((b.t - a.t).norm()), float(torch.atan2(sine / 2, cosine))
