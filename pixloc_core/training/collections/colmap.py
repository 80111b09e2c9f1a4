"""Any COLMAP model and its images as a collection."""

from pathlib import Path

import numpy as np
import torch

from pixloc_core.map.colmap_format import from_colmap
from pixloc_core.map.sparse_map import SparseMap
from pixloc_core.training.collections.image_collection import (
    ImageCollection,
    observations_by_image,
)


def open_colmap(sfm: str | Path, images: str | Path) -> ImageCollection:
    """Read a COLMAP model; every image may be reference and query.

    Args:
        sfm: Folder with cameras, images and points3D as .bin or .txt.
        images: Folder of the images.

    Raises:
        MapError: If the model cannot be read or has nothing in it, or an image is missing.
    """
    collection = collection_of_map(from_colmap(sfm), Path(images), name=str(sfm))
    collection.check_files()
    return collection


def collection_of_map(sparse: SparseMap, folder: Path, *, name: str) -> ImageCollection:
    """The images of a sparse map; poses and points stay relative to its origin."""
    everyone = torch.ones(sparse.num_images, dtype=torch.bool)
    points = [
        sparse.obs_point[sparse.observations_of(image)].numpy().astype(np.int64)
        for image in range(sparse.num_images)
    ]
    offsets, obs_point = observations_by_image(points)
    return ImageCollection(
        name=name,
        folder=folder,
        image_names=sparse.image_names,
        cameras=sparse.cameras,
        image_camera=sparse.image_camera,
        cam_from_world=sparse.cam_from_map,
        points_world=sparse.points_map,
        obs_offsets=offsets,
        obs_point=obs_point,
        is_reference=everyone,
        is_query=everyone.clone(),
        quarter_turns=torch.zeros(sparse.num_images, dtype=torch.int64),
    )
