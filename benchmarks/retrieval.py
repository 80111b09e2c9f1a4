"""How often the retrieval finds a useful start: real image sets and the sample world.

    python -m benchmarks.retrieval [--data DIR] [--sets NAME ...] [--write]

A map image is a useful start if the query sees at least half of its points under the true pose (no
more than 45 degrees from where it was taken, at no more than twice or half its scale), and if
these points move by no more than 0.3 of the longest side of the image (median) from the one pose
to the other, from where the localizer finds the way. Recall@k: queries with such an image among
the first k, of the queries that have one in the map at all. "Distinct": among the first 5 after
near-duplicates are left out (`SearchConfig.min_motion`). "Together": the images of all sets are
one map, so that those of other places are in the way. "Given" is the list of pairs that comes with
a set, ranked by somebody else's retrieval. Time is the CPU time of one query, descriptor and
search, on one thread. Three minutes on one core.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.image_set import find_sets
from benchmarks.results_file import write_section
from benchmarks.retrieval_place import Place, QueryView, place_of_sample, place_of_set
from benchmarks.set_benchmark import REPOSITORY, RESULTS
from pixloc_core.errors import PixlocError
from pixloc_core.evaluation.report import markdown_table
from pixloc_core.retrieval.descriptor import DescriptorConfig, GlobalDescriptor, learn_descriptor
from pixloc_core.retrieval.diversity import choose_distinct
from pixloc_core.retrieval.index import SearchConfig

RANKS = (1, 5, 10)
_DISTINCT = 5
SAMPLE_STREAMS = {"sample_day": "day", "sample_evening": "evening"}
# The default descriptor joins two, each of which is a descriptor of its own.
BOTH = "network + RootSIFT (default)"
PARTS = ("network", "sift")


class AllImages:
    """The map images of several places as if they were those of one map."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.owner = [(place, index) for place in places for index in range(len(place.images))]

    def __len__(self) -> int:
        return len(self.owner)

    def apply(self, index: int, function: Callable[..., Any]) -> Any:
        """See `MapImages.apply`."""
        place, image = self.owner[index]
        return place.images.apply(image, function)


@dataclass
class Database:
    """Described map images, and what queries find in them."""

    descriptor: GlobalDescriptor
    vectors: np.ndarray
    parts: dict[str, slice]
    milliseconds: list[float] = field(default_factory=list)

    @classmethod
    def build(cls, images: Any) -> "Database":
        """Learn and describe."""
        descriptor = learn_descriptor(DescriptorConfig(), images)
        vectors = [images.apply(index, descriptor.describe) for index in range(len(images))]
        parts, begin = {BOTH: slice(None)}, 0
        for name in PARTS:
            length = descriptor.arrays()[f"{name}/centres"].size
            parts[name] = slice(begin, begin + length)
            begin += length
        return cls(descriptor, np.stack(vectors), parts)

    def rank(self, query: QueryView) -> dict[str, np.ndarray]:
        """All images, best first, by the whole descriptor and by each of its parts."""
        pixels = query.pixels()
        began = time.process_time()
        vector = self.descriptor.describe(pixels, query.camera)
        self.milliseconds.append((time.process_time() - began) * 1e3)
        # Parts have the same length in all vectors.
        return {
            name: np.argsort(-(self.vectors[:, part] @ vector[part]))
            for name, part in self.parts.items()
        }


def recalls(place: Place, hits: Sequence[Sequence[bool]]) -> list[str]:
    """Recall at each of `RANKS`, of one list of hits per query that can be answered."""
    rows = [row for row, can in zip(hits, place.useful.any(1), strict=True) if can]
    return [f"{np.mean([any(row[:rank]) for row in rows]):.2f}" for rank in RANKS]


def measure_alone(place: Place, database: Database) -> dict[str, list[str]]:
    """Cells of the rows: recalls, recall of distinct candidates, time."""
    sparse, motion = place.images.sparse, SearchConfig().min_motion
    ranked = [database.rank(query) for query in place.queries.values()]
    time_ms = f"{statistics.median(database.milliseconds):.0f}"
    cells = {}
    for name in database.parts:
        hits, distinct = [], []
        for useful, rankings in zip(place.useful, ranked, strict=True):
            hits.append(useful[rankings[name]])
            chosen = choose_distinct(sparse, rankings[name].tolist(), _DISTINCT, motion)
            distinct.append(useful[chosen])
        shown = time_ms if name == BOTH else ""
        cells[name] = [*recalls(place, hits), recalls(place, distinct)[1], shown]
    return cells


def measure_together(place: Place, images: AllImages, database: Database) -> dict[str, list[str]]:
    """Recalls of a place where all map images are one map."""
    hits: dict[str, list[list[bool]]] = {name: [] for name in database.parts}
    for useful, query in zip(place.useful, place.queries.values(), strict=True):
        for name, ranking in database.rank(query).items():
            found = [images.owner[index] for index in ranking[: RANKS[-1]]]
            hits[name].append(
                [owner.images.folder == place.images.folder and useful[i] for owner, i in found]
            )
    return {name: recalls(place, rows) for name, rows in hits.items()}


def measure_given(place: Place) -> list[str]:
    """Cells of the row of the list that comes with a set."""
    index_of = place.images.sparse.index_of
    hits = [
        [place.useful[row][index_of(reference)] for reference in place.given[name]]
        for row, name in enumerate(place.queries)
    ]
    return [*recalls(place, hits), "", ""]


def measure(places: Sequence[Place]) -> str:
    """The table of all places and descriptors."""
    rows = []
    maps = {place.images.folder: place for place in places}
    images = AllImages(list(maps.values()))
    together = Database.build(images)
    alone = {folder: Database.build(place.images) for folder, place in maps.items()}
    for place in places:
        counts = [str(len(place.images)), f"{place.useful.any(1).sum()} of {len(place.queries)}"]
        database = alone[place.images.folder]
        database.milliseconds.clear()
        among_all = measure_together(place, images, together)
        for name, cells in measure_alone(place, database).items():
            rows.append([place.name, *counts, name, *cells, *among_all[name]])
            print(*rows[-1], flush=True)
        if place.given:
            rows.append([place.name, *counts, "given", *measure_given(place), "", "", ""])
    ranks = [f"R@{rank}" for rank in RANKS]
    head = ["set", "map images", "queries", "descriptor", *ranks, f"R@{_DISTINCT} distinct", "ms"]
    return markdown_table([*head, *(f"{rank} together" for rank in ranks)], rows)


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
    sets = find_sets(args.data)
    known = [name for name in sets if not name.endswith("centred")]
    names = args.sets or [*known, *SAMPLE_STREAMS]
    unknown = set(names) - {*known, *SAMPLE_STREAMS}
    if unknown:
        parser.error(f"no set {sorted(unknown)} in {args.data}")
    try:
        places = [
            place_of_sample(SAMPLE_STREAMS[name])
            if name in SAMPLE_STREAMS
            else place_of_set(sets[name])
            for name in names
        ]
        table = measure(places)
    except PixlocError as error:
        print(f"retrieval: {error}", file=sys.stderr)
        return 2
    print(table)
    if args.write:
        command = "`OMP_NUM_THREADS=1 python -m benchmarks.retrieval --write`"
        write_section(RESULTS, "retrieval", f"## Retrieval\n\n{command}\n\n{table}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
