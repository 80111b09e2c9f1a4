"""MegaDepth: one undistorted COLMAP model and one folder of images per scene."""

import math
from dataclasses import replace

import torch

from pixloc_core.errors import MapError
from pixloc_core.geometry import Pose
from pixloc_core.map.colmap_format import from_colmap
from pixloc_core.shapes import Float, Int, Tensor
from pixloc_core.training.collections.colmap import collection_of_map
from pixloc_core.training.collections.image_collection import (
    ImageCollection,
    observations_by_image,
)
from pixloc_core.training.collections.megadepth import MIN_SIDE
from pixloc_core.training.collections.quarter_turns import turned_camera, turned_from_cam
from pixloc_core.training.preprocess.layout import Layout, fill

MODELS = ("{}/sparse", "{}/sparse/0", "{}/sfm")
IMAGES = "{}/images"

# An image lies on its side if down differs from the common down by more than this.
_MAX_TILT_DEG = 60.0


def gather_scene(layout: Layout, scene: str) -> ImageCollection:
    """A scene without its small images, those lying on their side marked to be turned.

    Raises:
        MapError: If the model is missing or empty, an image is missing, or all are too small.
    """
    sparse = from_colmap(layout.model_of(scene))
    images = fill(layout.images, scene)
    collection = collection_of_map(sparse, layout.root, name=scene)
    prefixed = tuple(f"{images}/{name}" for name in collection.image_names)
    collection = _without_small_images(replace(collection, image_names=prefixed))
    collection.check_files()
    return turned_upright(collection)


def turned_upright(collection: ImageCollection) -> ImageCollection:
    """The same with quarter turns, and cameras and poses of the turned images."""
    turns = upright_turns(collection.cam_from_world)
    cameras = tuple(
        turned_camera(collection.camera_of(image), turn)
        for image, turn in enumerate(turns.tolist())
    )
    rotations = torch.stack([turned_from_cam(turn).data for turn in turns.tolist()])
    return replace(
        collection,
        cameras=cameras,
        image_camera=torch.arange(collection.num_images),
        cam_from_world=Pose(rotations) @ collection.cam_from_world,
        quarter_turns=turns,
    )


def upright_turns(cam_from_world: Pose) -> Int[Tensor, " m"]:
    """Quarter turns to the left that make images upright: down is what most cameras take for it.

    Images that lean by less than 60 degrees are left as they are.
    """
    down_world = _down_axes(cam_from_world).median(dim=0).values
    down_cam = cam_from_world.R @ down_world
    lean = torch.rad2deg(torch.atan2(down_cam[:, 0], down_cam[:, 1]))
    # Down to the right (90 deg) needs one turn to the right, which is three to the left.
    turns = (-lean / 90).round().long() % 4
    return torch.where(lean.abs() > _MAX_TILT_DEG, turns, 0)


def _down_axes(cam_from_world: Pose) -> Float[Tensor, "m 3"]:
    """The y axis of each camera in the world."""
    return cam_from_world.R[:, 1]


def _without_small_images(collection: ImageCollection) -> ImageCollection:
    sides = torch.stack([camera.size.min() for camera in collection.cameras])
    kept = torch.nonzero(sides[collection.image_camera] >= MIN_SIDE)[:, 0]
    if not len(kept):
        raise MapError(
            f"{collection.name}: all {collection.num_images} images have a side below "
            f"{MIN_SIDE} px (largest: {math.floor(sides.max())} px)"
        )
    images = kept.tolist()
    offsets, obs_point = observations_by_image(
        [collection.points_of(image).numpy() for image in images]
    )
    return replace(
        collection,
        image_names=tuple(collection.image_names[image] for image in images),
        image_camera=collection.image_camera[kept],
        cam_from_world=collection.cam_from_world[kept],
        obs_offsets=offsets,
        obs_point=obs_point,
        is_reference=collection.is_reference[kept],
        is_query=collection.is_query[kept],
        quarter_turns=collection.quarter_turns[kept],
    )
