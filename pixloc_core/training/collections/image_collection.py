"""ImageCollection: posed images that have points in common, whatever they were read from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pixloc_core.errors import MapError
from pixloc_core.geometry import Camera, Pose
from pixloc_core.shapes import Bool, Float, Int, Tensor


@dataclass(frozen=True, eq=False)
class ImageCollection:
    """Images, cameras, poses and which points each image shows, all on the CPU.

    Cameras and poses are those of the images after their quarter turns. The points of image i are
    `obs_point[obs_offsets[i]:obs_offsets[i + 1]]`, ascending.

    Attributes:
        name: What this is, for messages.
        folder: Folder of the images.
        image_names: Names relative to the folder, unique.
        cameras: The cameras used, in pixels counted from the centre of the top-left one.
        image_camera: Index into `cameras` of each image.
        cam_from_world: Poses of the images, batch shape (m,), float64.
        points_world: Points, float64, in the frame of the poses.
        obs_offsets: Start of the points of each image, and their total at the end.
        obs_point: Index into the points of each observation.
        is_reference: Images that may stand for the map.
        is_query: Images that may be aligned.
        quarter_turns: By how many quarter turns to the left each stored image is to be turned.
    """

    name: str
    folder: Path
    image_names: tuple[str, ...]
    cameras: tuple[Camera, ...]
    image_camera: Int[Tensor, " m"]
    cam_from_world: Pose
    points_world: Float[Tensor, "p 3"]
    obs_offsets: Int[Tensor, " m+1"]
    obs_point: Int[Tensor, " o"]
    is_reference: Bool[Tensor, " m"]
    is_query: Bool[Tensor, " m"]
    quarter_turns: Int[Tensor, " m"]

    def __post_init__(self) -> None:
        images, points = len(self.image_names), len(self.points_world)
        expected = {
            "image_camera": (images,),
            "points_world": (points, 3),
            "obs_offsets": (images + 1,),
            "is_reference": (images,),
            "is_query": (images,),
            "quarter_turns": (images,),
        }
        for entry, shape in expected.items():
            found = tuple(getattr(self, entry).shape)
            if found != shape:
                raise MapError(f"{self.name}: {entry} has shape {found}, expected {shape}")
        if tuple(self.cam_from_world.shape) != (images,):
            raise MapError(
                f"{self.name}: {tuple(self.cam_from_world.shape)} poses, expected ({images},)"
            )
        self._check_numbers()

    def _check_numbers(self) -> None:
        offsets = self.obs_offsets
        spans = int(offsets[0]) == 0 and int(offsets[-1]) == len(self.obs_point)
        if not spans or bool((offsets.diff() < 0).any()):
            raise MapError(f"{self.name}: obs_offsets does not span the observations in order")
        for entry, index, size in (
            ("obs_point", self.obs_point, len(self.points_world)),
            ("image_camera", self.image_camera, len(self.cameras)),
            ("quarter_turns", self.quarter_turns, 4),
        ):
            if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < size:
                raise MapError(f"{self.name}: {entry} has entries outside 0..{size - 1}")
        rises = self.obs_point.diff() > 0
        rises[offsets[(offsets > 0) & (offsets < len(self.obs_point))] - 1] = True
        if not bool(rises.all()):
            raise MapError(f"{self.name}: the points of an image are not in ascending order")
        if len(set(self.image_names)) != len(self.image_names):
            raise MapError(f"{self.name}: several images of the same name")
        poses = self.cam_from_world.data
        if not bool(poses.isfinite().all() and self.points_world.isfinite().all()):
            raise MapError(f"{self.name}: poses or points that are not finite")

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self.image_names)

    def path_of(self, image: int) -> Path:
        """File of an image."""
        return self.folder / self.image_names[image]

    def camera_of(self, image: int) -> Camera:
        """Camera of an image."""
        return self.cameras[int(self.image_camera[image])]

    def points_of(self, image: int) -> Int[Tensor, " n"]:
        """Ascending indices of the points that an image shows."""
        return self.obs_point[int(self.obs_offsets[image]) : int(self.obs_offsets[image + 1])]

    def common_points(self) -> csr_matrix:
        """Number of points that each reference (row) has in common with each query (column)."""
        shape = (self.num_images, len(self.points_world))
        ones = np.ones(len(self.obs_point), dtype=np.int32)
        seen = csr_matrix((ones, self.obs_point.numpy(), self.obs_offsets.numpy()), shape=shape)
        rows, columns = (_diagonal(mask) for mask in (self.is_reference, self.is_query))
        return csr_matrix((rows @ seen) @ (columns @ seen).T)

    def check_files(self) -> None:
        """Make sure that the file of every image exists.

        Raises:
            MapError: If one does not.
        """
        if not self.folder.is_dir():
            raise MapError(f"{self.folder}: no such folder, expected the images of {self.name}")
        missing = [image for image in self.image_names if not (self.folder / image).is_file()]
        if missing:
            raise MapError(
                f"{self.folder}: {len(missing)} of the {self.num_images} images of {self.name} "
                f"are missing (first: {missing[0]})"
            )


def observations_by_image(
    points: list[NDArray[np.int64]],
) -> tuple[Int[Tensor, " m+1"], Int[Tensor, " o"]]:
    """`obs_offsets` and `obs_point` of the points of each image, sorted, each once."""
    unique = [np.unique(indices) for indices in points]
    offsets = np.concatenate([[0], np.cumsum([len(indices) for indices in unique])])
    joined = np.concatenate([np.zeros(0, dtype=np.int64), *unique])
    return torch.from_numpy(offsets.astype(np.int64)), torch.from_numpy(joined.astype(np.int64))


def _diagonal(mask: Tensor) -> csr_matrix:
    kept = np.flatnonzero(mask.numpy())
    ones = np.ones(len(kept), dtype=np.int32)
    return csr_matrix((ones, (kept, kept)), shape=(len(mask), len(mask)))
