"""One real image set: its lists, and how far a pose is from the truth in its images."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from benchmarks.image_shift import measure_shift
from pixloc_core.evaluation.pose_error import median_displacement_px
from pixloc_core.evaluation.runner import Query
from pixloc_core.geometry import Camera, Pose
from pixloc_core.localizer.prior import Prior
from pixloc_core.map.hloc_formats import read_pairs, read_poses, read_queries
from pixloc_core.map.sparse_map import SparseMap

PIXEL_STARTS = ("20px", "60px", "150px", "300px")
RETRIEVAL = "retrieval"
# References that tell which points a query can see, and the fewest that make a verdict.
_VERDICT_REFERENCES, _VERDICT_POINTS = 5, 20


@dataclass(frozen=True)
class ImageSet:
    """A folder with images, a COLMAP model of some of them, and lists for the others.

    Attributes:
        folder: The folder.
        condition: Empty, or that of a second list of the same queries, such as `dark`.
        centred: Whether the cameras follow images of a condition that lie off the plain ones:
            those of tum_fr1_rpy_dark were blurred by up to 3.4 px (at 1024) off their centres, so
            that the true poses are none of theirs.
    """

    folder: Path
    condition: str = ""
    centred: bool = False

    @property
    def name(self) -> str:
        """Name for tables and files."""
        parts = (self.folder.name, self.condition, "centred" if self.centred else "")
        return "_".join(part for part in parts if part)

    @property
    def sfm(self) -> Path:
        """COLMAP model of the map images."""
        return self.folder / "sfm"

    @property
    def images(self) -> Path:
        """Images of map and queries."""
        return self.folder / "images"

    @cached_property
    def cameras(self) -> dict[str, Camera]:
        """Intrinsics of the queries."""
        cameras = read_queries(self._list("queries_with_intrinsics"))
        if not self.centred:
            return cameras
        return {name: self._follow(name, camera) for name, camera in cameras.items()}

    @cached_property
    def truth(self) -> dict[str, Pose]:
        """True poses, those consistent with the map where there are two sorts."""
        refined = self._list("gt_poses_sfm")
        return read_poses(refined if refined.exists() else self._list("gt_poses"))

    @cached_property
    def pairs(self) -> dict[str, list[str]]:
        """Retrieved map images of every query."""
        return read_pairs(self._list("pairs_retrieval"))

    def baseline(self) -> dict[str, Pose]:
        """Poses of SIFT and PnP; of the plain queries where the condition has none."""
        return self._plain_poses("poses_sift_pnp")

    def queries(self, start: str) -> list[Query]:
        """All queries with the prior of one start, in the order of their names."""
        if start == RETRIEVAL:
            priors = {name: Prior.from_references(refs) for name, refs in self.pairs.items()}
        else:
            poses = self._plain_poses(f"init_{start}")
            priors = {name: Prior.from_pose(pose) for name, pose in poses.items()}
        return [Query(name, self.cameras[name], priors.get(name)) for name in sorted(self.truth)]

    def displacements(self, sparse: SparseMap, estimates: Mapping[str, Pose]) -> dict[str, float]:
        """Median displacement of every query that has a verdict; infinite without a pose."""
        found = {}
        for name, truth in sorted(self.truth.items()):
            points = self.visible_points(sparse, name)
            if len(points) >= _VERDICT_POINTS:
                pose = estimates.get(name)
                found[name] = (
                    float("inf")
                    if pose is None
                    else median_displacement_px(points, self.cameras[name], pose, truth)
                )
        return found

    def visible_points(self, sparse: SparseMap, name: str) -> torch.Tensor:
        """Points seen by the first references and in the image under the true pose (n, 3)."""
        names = self.pairs.get(name, [])[:_VERDICT_REFERENCES]
        images = [index for ref in names if (index := sparse.find(ref)) is not None]
        seen = sparse.obs_point[sparse.observations_of_images(images)].unique()
        points = sparse.points_map[seen] if len(seen) else sparse.points_map
        points = points + sparse.origin
        _, valid = self.cameras[name].double().world2image(self.truth[name] * points)
        return points[valid]

    def _follow(self, name: str, camera: Camera) -> Camera:
        """The camera with its principal point where the content of the image lies."""
        plain = self.images / name.removeprefix(f"{self.condition}/")
        x, y = measure_shift(plain, self.images / name)
        return camera.crop((-x, -y), tuple(camera.size.tolist()))

    def _list(self, stem: str) -> Path:
        suffix = f"_{self.condition}" if self.condition else ""
        return self.folder / f"{stem}{suffix}.txt"

    def _plain_poses(self, stem: str) -> dict[str, Pose]:
        """Poses listed for the plain queries, under the names of this condition."""
        prefix = f"{self.condition}/" if self.condition else ""
        poses = read_poses(self.folder / f"{stem}.txt")
        return {f"{prefix}{name}": pose for name, pose in poses.items()}


def find_sets(data: Path) -> dict[str, ImageSet]:
    """All image sets of a folder by name, with their conditions."""
    found = {}
    for model in sorted(data.glob("*/sfm")):
        folder = model.parent
        found[folder.name] = ImageSet(folder)
        for listed in sorted(folder.glob("queries_with_intrinsics_*.txt")):
            condition = listed.stem.removeprefix("queries_with_intrinsics_")
            second = ImageSet(folder, condition)
            found[second.name] = second
            followed = ImageSet(folder, condition, centred=True)
            found[followed.name] = followed
    return found
