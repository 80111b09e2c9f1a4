"""What is known before the image is looked at: poses, or map images that look alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pixloc_core.errors import ShapeError
from pixloc_core.geometry import Pose


@dataclass(frozen=True)
class Prior:
    """Where the camera may be.

    Attributes:
        cam_from_map: Candidate poses (batch shape (k,)), the likeliest first, in the map's own
            coordinates; None where only references are known.
        references: Names of map images that show the same place, best first; may be empty.
    """

    cam_from_map: Pose | None = None
    references: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.cam_from_map is None and not self.references:
            raise ShapeError("a prior needs poses, reference images, or both; it has neither")
        pose = self.cam_from_map
        if pose is not None and (len(pose.shape) != 1 or pose.shape[0] < 1):
            raise ShapeError(f"poses of a prior have shape {tuple(pose.shape)}, expected (k,)")
        if pose is not None and not bool(torch.isfinite(pose.data).all()):
            raise ShapeError("a pose of the prior is not finite")

    @classmethod
    def from_pose(cls, cam_from_map: Pose, references: Sequence[str] = ()) -> "Prior":
        """One pose (batch shape () or (k,)), with or without references."""
        data = cam_from_map.data.double().reshape(-1, 12)
        return cls(Pose(data), tuple(references))

    @classmethod
    def from_references(cls, references: Sequence[str]) -> "Prior":
        """Ranked map images, as a retrieval gives them."""
        return cls(None, tuple(references))
