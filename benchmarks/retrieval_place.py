"""Maps with queries whose poses are known: which map images are useful starts for each query."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.image_set import ImageSet
from benchmarks.set_benchmark import REPOSITORY
from pixloc_core.bags.reader import BagReader
from pixloc_core.features.preprocessing import load_image
from pixloc_core.geometry import Camera, Pose
from pixloc_core.map.colmap_format import from_colmap
from pixloc_core.map.sparse_map import SparseMap
from pixloc_core.retrieval.map_images import MapImages

SAMPLE = REPOSITORY / "sample"
_IMAGES, _INFO, _TRUTH = "/camera/image/compressed", "/camera/camera_info", "/ground_truth"
# Every image of a drive is much like the one before.
_EVERY = 4
_MIN_SHARE, _MAX_ANGLE_DEG, _MAX_SCALE, _MAX_MOTION = 0.5, 45.0, 2.0, 0.3


@dataclass(frozen=True)
class QueryView:
    """A query and the truth about it; `source` is a file or the pixels themselves."""

    source: Path | np.ndarray
    camera: Camera
    cam_from_map: Pose

    def pixels(self) -> np.ndarray:
        """Its image."""
        return load_image(self.source) if isinstance(self.source, Path) else self.source


@dataclass(frozen=True)
class Place:
    """A map, queries, and the truth about their pairs.

    Attributes:
        name: For the table.
        images: The map images; places of the same folder are the same map.
        queries: By name.
        useful: Which map images are useful starts (queries, map images).
        given: Ranked map images of each query by somebody else's retrieval; may be empty.
    """

    name: str
    images: MapImages
    queries: Mapping[str, QueryView]
    useful: np.ndarray
    given: Mapping[str, list[str]]


def place_of_set(images: ImageSet) -> Place:
    """Of a real image set."""
    queries = {
        name: QueryView(images.images / name, images.cameras[name], images.truth[name])
        for name in sorted(images.truth)
    }
    return _judged(images.name, images.sfm, images.images, queries, images.pairs)


def place_of_sample(stream: str) -> Place:
    """Of the sample world; every fourth image of one of its drives is a query."""
    bag = BagReader(SAMPLE / stream)
    truth, camera = bag.trajectory(_TRUTH), bag.camera(_INFO)
    base_from_cam = bag.static_transform("/tf_static", "base_link", "camera_optical")
    cam_from_map = (truth.poses @ base_from_cam).inv()
    poses = {int(stamp): cam_from_map[row] for row, stamp in enumerate(truth.stamps_ns)}
    queries = {
        str(stamp): QueryView(pixels, camera, poses[stamp])
        for stamp, pixels in bag.images(_IMAGES, list(poses)[::_EVERY])
    }
    return _judged(f"sample, {stream}", SAMPLE / "map/sfm", SAMPLE / "map/images", queries, {})


def _judged(
    name: str,
    sfm: Path,
    folder: Path,
    queries: Mapping[str, QueryView],
    given: Mapping[str, list[str]],
) -> Place:
    sparse = from_colmap(sfm)
    useful = np.stack([useful_starts(sparse, query) for query in queries.values()])
    return Place(name, MapImages(sparse, folder), queries, useful, given)


def useful_starts(sparse: SparseMap, query: QueryView) -> np.ndarray:
    """Which map images are useful starts of a query (m)."""
    camera = query.camera.double()
    truth = sparse.to_local(query.cam_from_map)
    points_px, visible = camera.world2image(truth * sparse.points_map)
    offset = truth.center - sparse.points_map
    distance = offset.norm(dim=-1)
    rays, footprints = sparse.obs_views
    point = sparse.obs_point
    cosine = (rays.double() * (offset / distance[:, None])[point]).sum(-1)
    sides = torch.stack([camera.size.max() for camera in sparse.cameras])
    side = camera.size.max()
    # As shares of the image's side: images of a phone and of a web page differ in pixels only.
    scale = footprints * sides[sparse.image_camera][sparse.obs_image]
    scale = scale / (distance / camera.f.mean() * side)[point]
    alike = visible[point] & (cosine > np.cos(np.deg2rad(_MAX_ANGLE_DEG)))
    alike &= (scale < _MAX_SCALE) & (scale > 1 / _MAX_SCALE)
    useful = np.zeros(sparse.num_images, bool)
    for image in range(sparse.num_images):
        rows = sparse.observations_of(image)
        if float(alike[rows].double().mean()) < _MIN_SHARE:
            continue
        start_px, seen = camera.world2image(sparse.cam_from_map[image] * sparse.points_map)
        shared = point[rows][(seen & visible)[point[rows]]]
        motion = (start_px - points_px)[shared].norm(dim=-1) / side
        useful[image] = bool(len(motion)) and float(motion.median()) <= _MAX_MOTION
    return useful
