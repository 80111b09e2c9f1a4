"""MegaDepth: photos of tourists, some of which lie on their side and are turned upright.

Names of images are relative to the folder of all scenes.
"""

from pathlib import Path

import numpy as np
import torch

from pixloc_core.geometry import Camera, Pose
from pixloc_core.training.collections.image_collection import (
    ImageCollection,
    observations_by_image,
)
from pixloc_core.training.collections.preprocessed import (
    Entries,
    indices_of,
    open_files,
    poses_of,
    texts_of,
)

MIN_SIDE = 480


def open_megadepth(pairs: str | Path, images: str | Path) -> tuple[ImageCollection, ...]:
    """Read scenes: files of `pixloc preprocess megadepth`, or PixLoc's own `*.pkl`.

    Args:
        pairs: Folder of the files, or one file.
        images: Folder with */images (`Undistorted_SfM`).

    Raises:
        MapError: If there are none or one cannot be read.
    """
    return open_files(pairs, images, _convert)


def _convert(entries: Entries, name: str, images: Path) -> ImageCollection:
    """A collection of the entries of PixLoc's file of a scene.

    Its intrinsics count from the centre of the first pixel already. It has no image sizes: they
    follow from the principal point, which undistortion puts into the middle. Its poses and
    intrinsics are those of the turned images. Images that are too small are known by having no
    overlap with any other.
    """
    names = texts_of(entries["image_names"])
    overlap = np.asarray(entries["overlap_matrix"], dtype=np.float64)
    kept = np.flatnonzero((overlap.reshape(len(names), len(names)) > 0).any(axis=1))
    rotations, shifts = poses_of(entries["poses"])
    shown = indices_of(entries["p3D_observed"])
    offsets, obs_point = observations_by_image([shown[image] for image in kept])
    everyone = torch.ones(len(kept), dtype=torch.bool)
    turns = np.asarray(entries["rotations"], dtype=np.int64)[kept]
    return ImageCollection(
        name=name,
        folder=images,
        image_names=tuple(f"{name}/images/{names[image]}" for image in kept),
        cameras=tuple(_camera(entries["intrinsics"][image]) for image in kept),
        image_camera=torch.arange(len(kept)),
        cam_from_world=Pose.from_Rt(rotations[kept], shifts[kept]),
        points_world=torch.from_numpy(np.asarray(entries["points3D"], dtype=np.float64)),
        obs_offsets=offsets,
        obs_point=obs_point,
        is_reference=everyone,
        is_query=everyone.clone(),
        quarter_turns=torch.from_numpy(turns),
    )


def _camera(intrinsics: np.ndarray) -> Camera:
    K = np.asarray(intrinsics, dtype=np.float64).reshape(3, 3)  # noqa: N806 (as in the equations)
    cx, cy = K[0, 2] + 0.5, K[1, 2] + 0.5
    size = round(2 * cx), round(2 * cy)
    params = [K[0, 0], K[1, 1], cx, cy]
    return Camera.from_colmap(
        {"model": "PINHOLE", "width": size[0], "height": size[1], "params": params}
    )
