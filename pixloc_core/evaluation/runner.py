"""Localize a list of queries, and keep what became of each."""

import csv
import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pixloc_core.errors import ImageError
from pixloc_core.features.preprocessing import load_image
from pixloc_core.geometry import Camera, Pose
from pixloc_core.localizer.prior import Prior
from pixloc_core.localizer.result import Localization, LocalizationStatus

BAD_IMAGE = "BAD_IMAGE"
_NO_PRIOR = "no list of priors names this query"


class Localizes(Protocol):
    """Anything that localizes one image, such as `Localizer`."""

    def localize(self, image: np.ndarray, camera: Camera, prior: Prior) -> Localization:
        """See `Localizer.localize`."""
        ...


@dataclass(frozen=True)
class Query:
    """One image to localize.

    Attributes:
        name: Name within the image folder; the key in every list.
        camera: Its intrinsics.
        prior: What is known beforehand; None where the lists say nothing of this query.
    """

    name: str
    camera: Camera
    prior: Prior | None


@dataclass(frozen=True)
class QueryOutcome:
    """What became of one query.

    Attributes:
        name: Name of the query.
        status: Name of its `LocalizationStatus`, or `BAD_IMAGE` where it cannot be used.
        reason: One line for people.
        time_ms: Wall time of the query without the reading of its image.
        result: The answer without its images; None where the localizer was not asked.
    """

    name: str
    status: str
    reason: str
    time_ms: float
    result: Localization | None = None

    @property
    def cam_from_map(self) -> Pose | None:
        """The pose found (batch shape ()), or None."""
        return self.result.cam_from_map if self.result is not None else None


Observer = Callable[[Query, np.ndarray, Localization], None]
FindPrior = Callable[[np.ndarray, Camera], Prior]


def localize_queries(
    localizer: Localizes,
    queries: Iterable[Query],
    images: Path,
    *,
    observe: Observer | None = None,
    find_prior: FindPrior | None = None,
) -> Iterator[QueryOutcome]:
    """Localize queries one after the other; a bad image is an outcome, and the next one follows.

    Args:
        localizer: Answers one query.
        queries: What to localize.
        images: Folder of the images.
        observe: Sees every query with its pixels and full answer (for pictures).
        find_prior: Where queries without a prior start, such as `RetrievalIndex.prior`.
    """
    for query in queries:
        began = time.perf_counter()
        prior = query.prior
        if prior is None and find_prior is None:
            yield QueryOutcome(query.name, LocalizationStatus.NO_PRIOR.name, _NO_PRIOR, 0.0)
            continue
        try:
            image = load_image(images / query.name)
            began = time.perf_counter()
            if prior is None:
                assert find_prior is not None
                prior = find_prior(image, query.camera)
            result = localizer.localize(image, query.camera, prior)
        except ImageError as error:
            reason = str(error) if query.name in str(error) else f"{query.name}: {error}"
            yield QueryOutcome(query.name, BAD_IMAGE, reason, _milliseconds_since(began))
            continue
        elapsed = _milliseconds_since(began)
        if observe is not None:
            observe(query, image, result)
        slim = dataclasses.replace(result, confidence=None, evidence=None)
        yield QueryOutcome(query.name, result.status.name, result.reason, elapsed, slim)


def poses_of(outcomes: Iterable[QueryOutcome]) -> dict[str, Pose]:
    """Poses of the queries that were localized."""
    return {o.name: pose for o in outcomes if (pose := o.cam_from_map) is not None}


def as_record(outcome: QueryOutcome) -> dict[str, Any]:
    """Flat entries of one outcome, fit for JSON and CSV."""
    result = outcome.result
    record: dict[str, Any] = {
        "query": outcome.name,
        "status": outcome.status,
        "localized": outcome.cam_from_map is not None,
        "score": round(result.score, 6) if result else 0.0,
        "num_points": result.num_points if result else 0,
        "num_inliers": result.num_inliers if result else 0,
        "time_ms": round(outcome.time_ms, 3),
    }
    timings: Mapping[str, float] = dataclasses.asdict(result.timings) if result else {}
    record |= {name: round(value, 3) for name, value in timings.items()}
    record["reason"] = outcome.reason
    return record


def write_log(path: Path, outcomes: Sequence[QueryOutcome]) -> None:
    """Write one record per query: JSON where the path ends in `.json`, else CSV."""
    records = [as_record(outcome) for outcome in outcomes]
    if path.suffix == ".json":
        path.write_text(json.dumps(records, indent=1) + "\n")
        return
    columns = max((list(record) for record in records), key=len, default=["query", "status"])
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval=0.0)
        writer.writeheader()
        writer.writerows(records)


def _milliseconds_since(began: float) -> float:
    return (time.perf_counter() - began) * 1e3
