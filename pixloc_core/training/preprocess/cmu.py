"""Extended CMU Seasons: a COLMAP model, database images, query images and poses per slice."""

from pathlib import Path

import torch

from pixloc_core.errors import MapError
from pixloc_core.geometry import Pose
from pixloc_core.map.colmap_format import from_colmap
from pixloc_core.map.hloc_formats import read_poses
from pixloc_core.map.sparse_map import SparseMap
from pixloc_core.training.collections.cmu import PosedImages, camera_of, join_slice
from pixloc_core.training.collections.image_collection import ImageCollection
from pixloc_core.training.preprocess.layout import Layout

MODELS = ("{}/sparse", "{}/sfm", "{}/sfm_superpoint+superglue/model")


def gather_slice(layout: Layout, scene: str) -> ImageCollection:
    """A slice of its model and its queries with known poses.

    The cameras of the references are those of the model, those of the queries the two fixed ones
    of the data set.

    Raises:
        PixlocError: If a file is missing or malformed; the message names it.
    """
    sparse = from_colmap(layout.model_of(scene))
    references = PosedImages(
        tuple(f"{scene}/database/{name}" for name in sparse.image_names),
        tuple(sparse.camera_of(image) for image in range(sparse.num_images)),
        sparse.cam_from_map,
    )
    queries = _queries(layout.root, scene, sparse)
    shown = [
        sparse.obs_point[sparse.observations_of(image)].numpy()
        for image in range(sparse.num_images)
    ]
    collection = join_slice(scene, layout.root, (references, queries), sparse.points_map, shown)
    collection.check_files()
    return collection


def _queries(root: Path, scene: str, sparse: SparseMap) -> PosedImages:
    """The queries of the pose files, which give rotations world to camera and camera centres."""
    folder = root / scene / "camera-poses"
    cam_from_center: dict[str, Pose] = {}
    for path in sorted(folder.glob("*.txt")):
        cam_from_center.update(read_poses(path))
    if not cam_from_center:
        raise MapError(f"{folder}: no query poses, expected *.txt of 'name qw qx qy qz cx cy cz'")
    names = tuple(cam_from_center)
    rotations = torch.stack([pose.R for pose in cam_from_center.values()])
    centers = torch.stack([pose.t for pose in cam_from_center.values()])
    poses = Pose.from_Rt(rotations, -(rotations @ centers[..., None])[..., 0])
    return PosedImages(
        tuple(f"{scene}/query/{name}" for name in names),
        tuple(camera_of(name) for name in names),
        sparse.to_local(poses),
    )
