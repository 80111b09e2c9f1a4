"""How often the retrieval finds a useful start: real image sets, alone and all in one map.

    python -m benchmarks.retrieval [--data DIR] [--sets NAME ...] [--write]

A map image is a useful start if the query sees at least half of its points under the true pose (no
more than 45 degrees from where it was taken, at no more than twice or half its scale), and if
these points move by no more than 0.3 image widths (median) from the one pose to the other, from
where the localizer finds the way. Recall@k: queries with such an image among the first k.
"Distinct": among the first 5 after near-duplicates are left out (`SearchConfig.min_motion`). "All
sets": the images of all sets are one map, so that those of other places are in the way. "Given" is
the list of pairs that comes with a set, ranked by somebody else's retrieval. Time is that of one
query, descriptor and search, on one thread. Four minutes on one core.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.image_set import ImageSet, find_sets
from benchmarks.results_file import write_section
from benchmarks.set_benchmark import REPOSITORY, RESULTS
from pixloc_core.errors import PixlocError
from pixloc_core.evaluation.report import markdown_table
from pixloc_core.features.preprocessing import load_image
from pixloc_core.map.colmap_format import from_colmap
from pixloc_core.map.sparse_map import SparseMap
from pixloc_core.retrieval.descriptor import DescriptorConfig, GlobalDescriptor, learn_descriptor
from pixloc_core.retrieval.diversity import choose_distinct
from pixloc_core.retrieval.index import SearchConfig
from pixloc_core.retrieval.map_images import MapImages
from pixloc_core.retrieval.vlad import VladConfig

RANKS = (1, 5, 10)
_MIN_SHARE, _MAX_ANGLE_DEG, _MAX_SCALE, _MAX_MOTION = 0.5, 45.0, 2.0, 0.3
DESCRIPTORS = {
    "network + RootSIFT (default)": VladConfig(),
    "network": VladConfig(features=("network",)),
    "RootSIFT": VladConfig(features=("sift",)),
}


@dataclass(frozen=True)
class Place:
    """One image set with the truth about its pairs.

    Attributes:
        images: The set.
        sparse: Its map.
        names: Its queries.
        useful: Which map images are useful starts (queries, map images).
    """

    images: ImageSet
    sparse: SparseMap
    names: tuple[str, ...]
    useful: np.ndarray

    @classmethod
    def load(cls, images: ImageSet) -> "Place":
        """Read a set and judge all pairs."""
        sparse = from_colmap(images.sfm)
        names = tuple(sorted(images.truth))
        useful = np.stack([useful_starts(images, sparse, name) for name in names])
        return cls(images, sparse, names, useful)


def useful_starts(images: ImageSet, sparse: SparseMap, name: str) -> np.ndarray:
    """Which map images are useful starts of a query (m)."""
    camera = images.cameras[name].double()
    truth = sparse.to_local(images.truth[name])
    points_px, visible = camera.world2image(truth * sparse.points_map)
    offset = truth.center - sparse.points_map
    distance = offset.norm(dim=-1)
    rays, footprints = sparse.obs_views
    point = sparse.obs_point
    cosine = (rays.double() * (offset / distance[:, None])[point]).sum(-1)
    widths = torch.tensor([float(camera.size[0]) for camera in sparse.cameras])
    # As shares of the image's width: images of a phone and of a web page differ in pixels only.
    scale = footprints * widths[sparse.image_camera][sparse.obs_image]
    scale = scale / (distance / camera.f.mean() * camera.size[0])[point]
    alike = visible[point] & (cosine > np.cos(np.deg2rad(_MAX_ANGLE_DEG)))
    alike &= (scale < _MAX_SCALE) & (scale > 1 / _MAX_SCALE)
    useful = np.zeros(sparse.num_images, bool)
    for image in range(sparse.num_images):
        rows = sparse.observations_of(image)
        if float(alike[rows].double().mean()) < _MIN_SHARE:
            continue
        start_px, seen = camera.world2image(sparse.cam_from_map[image] * sparse.points_map)
        shared = point[rows][(seen & visible)[point[rows]]]
        motion = (start_px - points_px)[shared].norm(dim=-1) / camera.size[0]
        useful[image] = bool(len(motion)) and float(motion.median()) <= _MAX_MOTION
    return useful


class AllImages:
    """The map images of several sets as if they were those of one map."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._parts = [MapImages(place.sparse, place.images.images) for place in places]
        self.owner = [
            (part, index)
            for part, images in enumerate(self._parts)
            for index in range(len(images))
        ]

    def __len__(self) -> int:
        return len(self.owner)

    def apply(self, index: int, function: Callable[..., Any]) -> Any:
        """See `MapImages.apply`."""
        part, image = self.owner[index]
        return self._parts[part].apply(image, function)


@dataclass
class Database:
    """Described map images, and what queries find in them."""

    descriptor: GlobalDescriptor
    vectors: np.ndarray
    milliseconds: list[float]

    @classmethod
    def build(cls, config: VladConfig, images: Any) -> "Database":
        """Learn and describe."""
        descriptor = learn_descriptor(DescriptorConfig(vlad=config), images)
        vectors = [images.apply(index, descriptor.describe) for index in range(len(images))]
        return cls(descriptor, np.stack(vectors), [])

    def rank(self, place: Place, name: str) -> np.ndarray:
        """All images, best first."""
        image = load_image(place.images.images / name)
        began = time.perf_counter()
        vector = self.descriptor.describe(image, place.images.cameras[name])
        ranked = np.argsort(-(self.vectors @ vector))
        self.milliseconds.append((time.perf_counter() - began) * 1e3)
        return ranked


def recalls(hits: Sequence[Sequence[bool]]) -> list[str]:
    """Recall at each of `RANKS`, of one list of hits per query."""
    return [f"{np.mean([any(row[:rank]) for row in hits]):.2f}" for rank in RANKS]


def measure_alone(place: Place, config: VladConfig) -> list[str]:
    """Cells of one row: recalls, recall of distinct candidates, time."""
    database = Database.build(config, MapImages(place.sparse, place.images.images))
    hits, distinct = [], []
    for row, name in enumerate(place.names):
        ranked = database.rank(place, name)
        hits.append(place.useful[row][ranked])
        chosen = choose_distinct(place.sparse, ranked.tolist(), 5, SearchConfig().min_motion)
        distinct.append(bool(place.useful[row][chosen].any()))
    time_ms = statistics.median(database.milliseconds)
    return [*recalls(hits), f"{np.mean(distinct):.2f}", f"{time_ms:.0f}"]


def measure_given(place: Place) -> list[str]:
    """Cells of the row of the list that comes with a set."""
    hits = [
        [place.useful[row][place.sparse.index_of(ref)] for ref in place.images.pairs[name]]
        for row, name in enumerate(place.names)
    ]
    return [*recalls(hits), "", ""]


def measure_together(places: Sequence[Place], config: VladConfig) -> dict[str, list[str]]:
    """Recalls of each set where all map images are one map."""
    owners = list({place.images.folder: place for place in places}.values())
    images = AllImages(owners)
    database = Database.build(config, images)
    found = {}
    for place in places:
        own = [owner.images.folder for owner in owners].index(place.images.folder)
        hits = []
        for row, name in enumerate(place.names):
            ranked = [images.owner[index] for index in database.rank(place, name)[: RANKS[-1]]]
            hits.append([part == own and place.useful[row][index] for part, index in ranked])
        found[place.images.name] = recalls(hits)
    return found


def measure(places: Sequence[Place]) -> str:
    """The table of all sets and descriptors."""
    rows = []
    together = {name: measure_together(places, config) for name, config in DESCRIPTORS.items()}
    for place in places:
        name, count = place.images.name, str(len(place.names))
        maps = str(place.sparse.num_images)
        for label, config in DESCRIPTORS.items():
            cells = [*measure_alone(place, config), *together[label][name]]
            rows.append([name, maps, count, label, *cells])
            print(*rows[-1], flush=True)
        rows.append([name, maps, count, "given", *measure_given(place), "", "", ""])
    ranks = [f"R@{rank}" for rank in RANKS]
    head = ["set", "map images", "queries", "descriptor", *ranks, "R@5 distinct", "ms"]
    return markdown_table([*head, *(f"{rank} all sets" for rank in ranks)], rows)


def index_size(dim: int = 5120, images: int = 1000) -> str:
    """Size of the file of a large map."""
    return f"{images} images: {images * dim * 2 / 1e6:.1f} MB (float16, {dim} entries an image)"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 2 if the data are missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared = Path(os.environ.get("PIXLOC_SHARED", REPOSITORY.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data", help="folder of the sets")
    parser.add_argument("--sets", nargs="*", help="only these sets")
    parser.add_argument("--write", action="store_true", help="write the section of results.md")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        sets = find_sets(args.data)
        names = args.sets or [name for name in sets if not name.endswith("centred")]
        places = [Place.load(sets[name]) for name in names]
        table = measure(places)
    except (PixlocError, KeyError) as error:
        print(f"retrieval: {error}", file=sys.stderr)
        return 2
    print(table)
    if args.write:
        command = "`OMP_NUM_THREADS=1 python -m benchmarks.retrieval --write`"
        text = f"## Retrieval\n\n{command}\n\n{table}\n\nIndex file: {index_size()}."
        write_section(RESULTS, "retrieval", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
