"""What is known before the image is looked at: poses, or map images that look alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pixloc_core.errors import MapError, ShapeError
from pixloc_core.geometry import Pose
from pixloc_core.map.sparse_map import SparseMap


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
            raise ShapeError(f"the poses of a prior have batch shape (k,), not {tuple(pose.shape)}")
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


def reference_indices(sparse: SparseMap, names: Sequence[str]) -> list[int]:
    """Indices of map images by name, in the order given, each once.

    Raises:
        MapError: If a name is not in the map.
    """
    found: dict[int, None] = {}
    for name in names:
        index = sparse.find(name)
        if index is None:
            raise MapError(f"image {name!r} is not in the map ({len(sparse.image_names)} images)")
        found[index] = None
    return list(found)


def shift_origin(cam_from_map: Pose, offset: torch.Tensor) -> Pose:
    """The same poses with respect to a map origin moved by `offset` (3,), in map axes."""
    moved = cam_from_map.t + (cam_from_map.R @ offset.to(cam_from_map.t))
    return Pose.from_Rt(cam_from_map.R, moved)
