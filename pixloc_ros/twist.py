"""Velocity of the robot, from two of its poses."""

import numpy as np
import torch
from geometry_msgs.msg import TwistWithCovariance

from pixloc_core.geometry import so3
from pixloc_core.localizer.fix import Fix

# Poses further apart than this say nothing about the velocity now.
_LONGEST_S = 2.0
# Variance of a velocity that is not known, (m/s)^2 and (rad/s)^2: a standard deviation of 32 m/s
# weighs nothing beside anything measured. Filters that invert the sum with their own covariance
# lose digits with larger numbers; robot_localization asks not to inflate covariances.
UNKNOWN_VARIANCE = 1e3


def twist_between(
    before: tuple[Fix, np.ndarray] | None, now: tuple[Fix, np.ndarray]
) -> TwistWithCovariance:
    """Mean velocity between two poses, in the frame of the robot (as nav_msgs/Odometry asks).

    Args:
        before: An earlier pose with its covariance (6, 6) about the axes of the map, or None.
        now: A later one.

    Returns:
        Linear and angular velocity with their covariance; where there is no earlier pose within
        two seconds, zero with `UNKNOWN_VARIANCE`.
    """
    message = TwistWithCovariance()
    seconds = 0.0 if before is None else (now[0].stamp_ns - before[0].stamp_ns) / 1e9
    if before is None or not 0 < seconds <= _LONGEST_S:
        message.covariance = (np.eye(6) * UNKNOWN_VARIANCE).flatten().tolist()
        return message
    first, last = before[0].map_from_base, now[0].map_from_base
    base_from_map = last.R.mT
    linear = base_from_map @ (last.t - first.t) / seconds
    angular = so3.log(first.R.mT @ last.R) / seconds
    message.twist.linear.x, message.twist.linear.y, message.twist.linear.z = linear.tolist()
    message.twist.angular.x, message.twist.angular.y, message.twist.angular.z = angular.tolist()
    turn = torch.block_diag(base_from_map, base_from_map).numpy()
    covariance = turn @ (before[1] + now[1]) @ turn.T / seconds**2
    message.covariance = covariance.flatten().tolist()
    return message
