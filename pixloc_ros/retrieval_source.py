"""Asking where the robot might be: what the image pipeline needs of a retrieval service."""

from dataclasses import dataclass
from typing import Protocol

from pixloc_core.geometry import Pose
from pixloc_ros.rig_messages import CameraMessage


@dataclass(frozen=True)
class RetrievalQuery:
    """An image to ask about, and what is needed to use the answer later.

    Attributes:
        camera: Image and calibration.
        base_from_cam: Where that camera is on the robot.
        odom_from_base: Odometry at the stamp of the image, or None.
    """

    camera: CameraMessage
    base_from_cam: Pose
    odom_from_base: Pose | None


@dataclass(frozen=True)
class RetrievalAnswer:
    """Poses from which the map knows views like this one.

    Attributes:
        query: What was asked.
        map_from_cam: Poses (k) of similar map images, best first.
        images: Their names.
        scores: Their similarity.
    """

    query: RetrievalQuery
    map_from_cam: Pose
    images: tuple[str, ...]
    scores: tuple[float, ...]

    def map_from_base(self, odom_from_base: Pose | None) -> Pose:
        """Poses (k) of the robot now: moved by the odometry since the image that was asked for."""
        poses = self.map_from_cam @ self.query.base_from_cam.inv()
        then = self.query.odom_from_base
        if odom_from_base is None or then is None:
            return poses
        return poses @ (then.inv() @ odom_from_base)


class RetrievalSource(Protocol):
    """Answers sooner or later; asking never blocks."""

    @property
    def is_available(self) -> bool:
        """Whether it is worth waiting for an answer."""
        ...

    @property
    def problem(self) -> str:
        """Why there was no answer last time, in one line; empty if there was one."""
        ...

    def request(self, query: RetrievalQuery) -> None:
        """Ask, unless an answer is under way or the service is being left in peace."""
        ...

    def take(self) -> RetrievalAnswer | None:
        """The answer that has come since the last call, if any."""
        ...

    def cancel(self) -> None:
        """An answer to what was asked so far is of no use any more."""
        ...
