"""Extended CMU Seasons: references with points, and queries of other seasons without.

The points of a query are those of the reference next to it; a query without a reference within
1 m and 30 degrees is not used. Names of images are relative to the folder of all slices.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.errors import MapError
from pixloc_core.geometry import Camera, Pose
from pixloc_core.shapes import Float, Tensor
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

MAX_DISTANCE = 1.0
MAX_ANGLE_DEG = 30.0

# The two cameras of the data set, with COLMAP's half pixel.
CAMERAS = {
    "c0": (
        868.993378,
        866.063001,
        525.942323,
        420.042529,
        -0.399431,
        0.188924,
        0.000153,
        0.000571,
    ),
    "c1": (
        873.382641,
        876.489513,
        529.324138,
        397.272397,
        -0.397066,
        0.181925,
        0.000176,
        -0.000579,
    ),
}


@dataclass(frozen=True)
class PosedImages:
    """Some images of a slice.

    Attributes:
        names: Relative to the folder of all slices.
        cameras: Of each image.
        cam_from_world: Of each image.
    """

    names: tuple[str, ...]
    cameras: tuple[Camera, ...]
    cam_from_world: Pose


def open_cmu(pairs: str | Path, images: str | Path) -> tuple[ImageCollection, ...]:
    """Read slices: files of `pixloc preprocess cmu`, or PixLoc's own `slice*.pkl`.

    Args:
        pairs: Folder of the files, or one file.
        images: Folder with slice*/database and slice*/query.

    Raises:
        MapError: If there are none or one cannot be read.
    """
    return open_files(pairs, images, _convert)


def camera_of(name: str) -> Camera:
    """Camera of an image by the third part of its file name (`img_00119_c1_...jpg`).

    Raises:
        MapError: If that is neither c0 nor c1.
    """
    parts = Path(name).name.split("_")
    if len(parts) < 3 or parts[2] not in CAMERAS:
        raise MapError(f"image {name!r}: expected a name like img_00119_c0_1288792453us.jpg")
    params = CAMERAS[parts[2]]
    return Camera.from_colmap({"model": "OPENCV", "width": 1024, "height": 768, "params": params})


def join_slice(
    name: str,
    folder: Path,
    roles: tuple[PosedImages, PosedImages],
    points_world: Float[Tensor, "p 3"],
    shown: list[NDArray[np.int64]],
) -> ImageCollection:
    """A slice of its references and queries; `shown` are the points of each reference.

    Raises:
        MapError: If no query stands near a reference.
    """
    references, queries = roles
    closest = closest_references(references.cam_from_world, queries.cam_from_world)
    used = np.flatnonzero(closest >= 0)
    if not len(used):
        raise MapError(
            f"{name}: none of {len(queries.names)} queries is within {MAX_DISTANCE:g} m and "
            f"{MAX_ANGLE_DEG:g} deg of one of {len(references.names)} references"
        )
    cameras = (*references.cameras, *(queries.cameras[query] for query in used))
    distinct, index = _distinct(cameras)
    offsets, obs_point = observations_by_image(
        [*shown, *(shown[reference] for reference in closest[used])]
    )
    is_query = torch.arange(len(cameras)) >= len(references.names)
    poses = (references.cam_from_world, queries.cam_from_world[torch.from_numpy(used)])
    return ImageCollection(
        name=name,
        folder=folder,
        image_names=(*references.names, *(queries.names[query] for query in used)),
        cameras=distinct,
        image_camera=index,
        cam_from_world=Pose(torch.cat([pose.data for pose in poses])),
        points_world=points_world,
        obs_offsets=offsets,
        obs_point=obs_point,
        is_reference=~is_query,
        is_query=is_query,
        quarter_turns=torch.zeros(len(cameras), dtype=torch.int64),
    )


def closest_references(references: Pose, queries: Pose) -> NDArray[np.int64]:
    """The nearest reference of each query among those that look the same way; -1: none."""
    closest = np.full(len(queries), -1, dtype=np.int64)
    centers = references.center
    for query in range(len(queries)):
        distance = (centers - queries[query].center).norm(dim=-1)
        angle, _ = (references @ queries[query].inv()).magnitude()
        distance = torch.where(angle < MAX_ANGLE_DEG, distance, torch.inf)
        if len(distance) and float(distance.min()) <= MAX_DISTANCE:
            closest[query] = int(distance.argmin())
    return closest


def _convert(entries: Entries, name: str, images: Path) -> ImageCollection:
    """A collection of the entries of PixLoc's file of a slice."""
    roles = []
    for role, folder in (("ref", "database"), ("query", "query")):
        names = texts_of(entries[f"{role}_image_names"])
        roles.append(
            PosedImages(
                tuple(f"{name}/{folder}/{image}" for image in names),
                tuple(camera_of(image) for image in names),
                Pose.from_Rt(*poses_of(entries[f"{role}_poses"])),
            )
        )
    points = torch.from_numpy(np.asarray(entries["points3D"], dtype=np.float64))
    shown = indices_of(entries["p3D_observed"])
    return join_slice(name, images, (roles[0], roles[1]), points, shown)


def _distinct(cameras: tuple[Camera, ...]) -> tuple[tuple[Camera, ...], Tensor]:
    """The cameras that differ, and which of them each is."""
    seen: dict[tuple[object, ...], int] = {}
    kept: list[Camera] = []
    index: list[int] = []
    for camera in cameras:
        key = (camera.model, *camera.data.tolist())
        if key not in seen:
            seen[key] = len(kept)
            kept.append(camera)
        index.append(seen[key])
    return tuple(kept), torch.tensor(index, dtype=torch.int64)
