"""Where the localizer ends from random poses at given distances from the true one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.image_set import ImageSet
from benchmarks.set_benchmark import SUCCESS_PX, open_set, spread
from pixloc_core.evaluation.assembly import RunConfig
from pixloc_core.evaluation.pose_error import median_displacement_px, quantile
from pixloc_core.features.extractor import Extractor, create_extractor
from pixloc_core.features.preprocessing import Image, load_image
from pixloc_core.features.pyramid import FeaturePyramid
from pixloc_core.geometry import Camera, Pose
from pixloc_core.localizer.localizer import Localizer
from pixloc_core.localizer.prior import Prior
from pixloc_core.shapes import Float, Tensor

_BISECTION_STEPS = 30
# One hypothesis through all levels, and no pose is refused.
ONE_HYPOTHESIS = (
    "localizer.near_stride=0",
    "localizer.fan.steps=1",
    "localizer.verification.min_score=0",
    "localizer.verification.min_search_score=0",
    "localizer.verification.min_points=6",
)


@dataclass(frozen=True)
class Protocol:
    """How many starts are tried from where.

    Attributes:
        distances: Median displacements of the starts, pixels at a width of 1024.
        starts: Of each query from each distance.
        limit: Most queries of a set.
    """

    distances: tuple[int, ...] = (20, 60, 150, 300)
    starts: int = 12
    limit: int = 6


@dataclass(frozen=True)
class Ends:
    """Where the starts of one set from one distance ended.

    Attributes:
        distance: Of the starts, pixels.
        displacement_px: At the end of each start; infinite without a pose.
        time_ms: Of each start, without the extraction of features.
    """

    distance: int
    displacement_px: np.ndarray
    time_ms: np.ndarray

    def as_record(self) -> dict[str, Any]:
        """Numbers of a table."""
        px = self.displacement_px
        return {
            "start_px": self.distance,
            "starts": len(px),
            "success": float((px < SUCCESS_PX).mean()),
            "median_px": quantile(px[px < SUCCESS_PX], 0.5),
            "time_ms": round(quantile(self.time_ms, 0.5)),
        }


def measure(image_set: ImageSet, config: RunConfig, protocol: Protocol, work: Path) -> list[Ends]:
    """Localize from all starts of a set; the starts are the same for all features and settings.

    Raises:
        PixlocError: If the set or the settings cannot be used.
    """
    extractor = create_extractor(config.extractor)
    localizer = open_set(image_set, extractor, config, work)
    remember_last_image(extractor)
    names = spread(sorted(image_set.truth), protocol.limit)
    found: dict[int, list[tuple[float, float]]] = {d: [] for d in protocol.distances}
    for name in tqdm(names, desc=image_set.name, unit="query", disable=None):
        image = load_image(image_set.images / name)
        for distance in protocol.distances:
            ends = _ends(image_set, localizer, (name, image), distance, protocol.starts)
            found[distance].extend(ends)
    return [Ends(distance, *np.array(ends).T) for distance, ends in found.items()]


def remember_last_image(extractor: Extractor) -> None:
    """Let an extractor answer at once when it is asked for the same array again.

    Half the time of a start would else go into the features of an image that has just been seen.
    The method of this one object is replaced: a wrapper would hide what else the extractor can.
    """
    extract: Callable[[Image, Camera], FeaturePyramid] = extractor.extract
    last: list[tuple[Image, FeaturePyramid]] = []

    def remembered(image: Image, camera: Camera) -> FeaturePyramid:
        if not last or last[0][0] is not image:
            last[:] = [(image, extract(image, camera))]
        return last[0][1]

    extractor.extract = remembered  # type: ignore[method-assign]


def _ends(
    image_set: ImageSet,
    localizer: Localizer,
    query: tuple[str, Image],
    distance: float,
    count: int,
) -> Iterator[tuple[float, float]]:
    """Displacement at the end of each start of a query, and its milliseconds."""
    name, image = query
    points = image_set.visible_points(localizer.sparse, name)
    camera, truth = image_set.cameras[name].double(), image_set.truth[name]
    for start in starts_at(points, camera, truth, distance, count, seed=crc32(name.encode())):
        answer = localizer.localize(image, camera, Prior.from_pose(start))
        time_ms = answer.timings.total_ms - answer.timings.extract_ms
        found = answer.cam_from_map
        end = float("inf")
        if found is not None:
            end = median_displacement_px(points, camera, found, truth)
        yield end, time_ms


def starts_at(
    points: Float[Tensor, "n 3"],
    camera: Camera,
    truth: Pose,
    distance: float,
    count: int,
    *,
    seed: int,
) -> Iterator[Pose]:
    """Poses in random directions (depths, radians) from the truth, at that displacement.

    Args:
        points: Points of the map that the query sees.
        camera: Of the query.
        truth: True `cam_from_map`.
        distance: Median displacement, pixels at a width of 1024.
        count: Number of poses.
        seed: The same seed gives the same directions at every distance.
    """
    generator = torch.Generator().manual_seed(seed)
    depth = float((truth * points)[:, 2].median())
    for _ in range(count):
        xi = torch.randn(6, generator=generator, dtype=torch.float64)
        xi = xi / xi.norm() * torch.tensor([depth] * 3 + [1.0] * 3, dtype=torch.float64)
        low, high = 0.0, 1.5
        for _ in range(_BISECTION_STEPS):
            middle = (low + high) / 2
            moved = median_displacement_px(points, camera, truth.retract(middle * xi), truth)
            low, high = (low, middle) if moved > distance else (middle, high)
        yield truth.retract(low * xi)
