"""Poses that others say the robot has: of a filter's topic, and of a person."""

import bisect
import threading
from collections import deque
from dataclasses import dataclass

import torch

from pixloc_core.errors import FrameError
from pixloc_core.geometry import Pose
from pixloc_ros.conversions import pose_from_rigid
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.saved_odometry import SavedOdometry
from pixloc_ros.transform_tree import RigidTransform

_BACKWARD_NS = 1_000_000_000


@dataclass(frozen=True)
class InitialPose:
    """A pose somebody gave.

    Attributes:
        map_from_base: The pose.
        stamp_ns: When it holds; 0: now.
        source: "initialpose" or "saved".
        odometry: Of a saved one, what odometry said when it was saved.
    """

    map_from_base: Pose
    stamp_ns: int
    source: str = "initialpose"
    odometry: SavedOdometry | None = None


def configured_pose(config: NodeConfig) -> InitialPose | None:
    """The first pose of the parameters, if it is to be used (rotations: fixed axes, x first)."""
    if not config.set_initial_pose:
        return None
    given = config.initial_pose
    angles = torch.tensor([given.roll, given.pitch, given.yaw], dtype=torch.float64)
    zero = torch.zeros(3, dtype=torch.float64)
    about_x, about_y, about_z = (Pose.from_aa(torch.diag(angles)[axis], zero) for axis in range(3))
    position = torch.tensor([given.x, given.y, given.z], dtype=torch.float64)
    return InitialPose(Pose.from_Rt((about_z @ about_y @ about_x).R, position), 0)


@dataclass(frozen=True)
class StampedPose:
    """`map_from_base` at a stamp."""

    stamp_ns: int
    map_from_base: RigidTransform


class PoseBuffer:
    """The newest poses of a topic, interpolated between the two around a stamp. Thread-safe."""

    def __init__(self, history_s: float) -> None:
        """Begin empty; poses older than `history_s` before the newest are dropped."""
        self._history_ns = round(history_s * 1e9)
        self._poses: deque[StampedPose] = deque()
        self._lock = threading.Lock()

    def add(self, pose: StampedPose) -> None:
        """Take in a pose; one far in the past means that time was set back."""
        with self._lock:
            if self._poses and pose.stamp_ns <= self._poses[-1].stamp_ns:
                if self._poses[-1].stamp_ns - pose.stamp_ns < _BACKWARD_NS:
                    return
                self._poses.clear()
            self._poses.append(pose)
            while pose.stamp_ns - self._poses[0].stamp_ns > self._history_ns:
                self._poses.popleft()

    def clear(self) -> None:
        """Forget all poses."""
        with self._lock:
            self._poses.clear()

    def at(self, stamp_ns: int, max_age_s: float) -> tuple[Pose, int]:
        """Pose at a stamp, interpolated, or the newest one before it.

        Args:
            stamp_ns: Wanted.
            max_age_s: Oldest pose that is given where no later one has come yet.

        Returns:
            The pose, and the stamp it holds for: the one wanted, or an earlier one.

        Raises:
            FrameError: If there is none, or only older or later ones.
        """
        with self._lock:
            poses = list(self._poses)
        if not poses:
            raise FrameError("no message on prior_pose yet")
        after = bisect.bisect_left(poses, stamp_ns, key=lambda pose: pose.stamp_ns)
        if after == len(poses):
            age_s = (stamp_ns - poses[-1].stamp_ns) / 1e9
            if age_s > max_age_s:
                raise FrameError(
                    f"newest prior_pose is {age_s:.2f} s older than the image, "
                    f"limit {max_age_s:g} s (prior_max_age)"
                )
            return pose_from_rigid(poses[-1].map_from_base), poses[-1].stamp_ns
        if poses[after].stamp_ns == stamp_ns:
            return pose_from_rigid(poses[after].map_from_base), stamp_ns
        if after == 0:
            age_s = (poses[0].stamp_ns - stamp_ns) / 1e9
            raise FrameError(f"every prior_pose is later than the image, by {age_s:.2f} s or more")
        before, later = poses[after - 1], poses[after]
        share = (stamp_ns - before.stamp_ns) / (later.stamp_ns - before.stamp_ns)
        blended = before.map_from_base.interpolate(later.map_from_base, share)
        return pose_from_rigid(blended), stamp_ns
