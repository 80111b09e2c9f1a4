"""The map file: does it open, with these features, and does it look like a metric map."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pixloc_core.config import load
from pixloc_core.errors import PixlocError
from pixloc_core.features.extractor import ExtractorConfig, create_extractor
from pixloc_core.map.feature_map import FeatureMap
from pixloc_core.map.reprojection import reprojection_errors
from pixloc_ros.doctor.findings import Finding, error, ok, warn
from pixloc_ros.doctor.snapshot import MapSeen, NodeSeen, Snapshot

# A room and a city: what lies outside is likely in other units than metres.
_EXTENT_M = (1.0, 20_000.0)
_REPROJECTION_PX = 3.0


def look_at_map(path: Path, weights: str = "") -> MapSeen:
    """Open a map as the node would.

    Args:
        path: The file.
        weights: As the parameter of the node.
    """
    try:
        feature_map = FeatureMap.open(path)
    except PixlocError as problem:
        return MapSeen(str(path), str(problem))
    try:
        values = {**feature_map.extractor_config, "device": "cpu"}
        if weights:
            network = {**values.get("network", {}), "weights": weights}
            values |= {"kind": "network", "network": network}
        extractor = create_extractor(load(ExtractorConfig, **values))
        FeatureMap.open(path, extractor.fingerprint)
    except PixlocError as problem:
        return MapSeen(str(path), str(problem), map_id=feature_map.content_id)
    sparse = feature_map.sparse
    low, high = np.percentile(sparse.points_map.numpy(), [5, 95], axis=0)
    index, index_problem = _look_at_index(feature_map)
    return MapSeen(
        str(path),
        map_id=feature_map.content_id,
        summary=f"{sparse.num_images} images, {sparse.num_points} points",
        extent_m=float(np.linalg.norm(high - low)),
        reprojection_px=float(reprojection_errors(sparse).median()),
        index=index,
        index_problem=index_problem,
    )


def out_of_sight(path: Path) -> str:
    """Why a path that another node has named cannot be looked at from here; empty if it can."""
    if not path.is_absolute():
        return "the path is relative to the folder in which the node was started"
    return "" if path.is_file() else "there is no such file on this machine"


def _look_at_index(feature_map: FeatureMap) -> tuple[str, str]:
    from pixloc_core.retrieval.index import RetrievalIndex
    from pixloc_core.retrieval.index_file import index_path

    path = index_path(feature_map.path)
    if not path.is_file():
        return "", ""
    try:
        RetrievalIndex.open(feature_map, path)
    except PixlocError as problem:
        return str(path), str(problem)
    return str(path), ""


def check_map(seen: Snapshot) -> Iterator[Finding]:
    """The map file, where one is named."""
    found = seen.map
    if found is None and seen.is_blind:
        return
    if found is None:
        yield warn(
            "no map is named, and none was checked",
            "give --map, or start the node with map:=MAP (`pixloc map build` makes one)",
        )
        return
    if found.unseen:
        yield _check_unseen(found, seen.node)
        return
    if found.problem and found.map_id and found.map_id == seen.node.said("map_id"):
        yield ok(f"map {found.path} is open in the node; not here: {found.problem}")
        return
    if found.problem:
        yield error(f"map: {found.problem}", "`pixloc map info` tells more; docs/maps.md")
        return
    yield ok(f"map {found.path}: {found.summary}")
    yield from _check_content(found, seen.node)
    yield from _check_index(found, seen.settings.node.prior_source)


def _check_content(found: MapSeen, node: NodeSeen) -> Iterator[Finding]:
    """Whether it is the map in use, and looks like a good one."""
    in_use = node.said("map_id")
    if in_use not in ("", found.map_id):
        yield warn(
            f"map {found.path} has the content {found.map_id}, but the node uses {in_use} of "
            f"{node.said('map')}",
            "is the file another one than when the node opened it? load_map takes it up",
        )
    if not _EXTENT_M[0] <= found.extent_m <= _EXTENT_M[1]:
        yield warn(
            f"map {found.path} spans {found.extent_m:.3g} units",
            "is it in metres? Odometry, covariance and limits are; scale the COLMAP model",
        )
    if found.reprojection_px > _REPROJECTION_PX:
        yield warn(
            f"map {found.path}: median reprojection error {found.reprojection_px:.1f} px",
            "bundle adjustment, or another scale of image and camera (docs/maps.md)",
        )


def _check_unseen(found: MapSeen, node: NodeSeen) -> Finding:
    """A map that the node has, or has not, and this process cannot look at."""
    if node.said("map_id"):
        return ok(f"map {found.path} is open in the node, and was not checked: {found.unseen}")
    # A node that was heard, and has no map open.
    if node.said("map") and Path(found.path).is_absolute():
        return error(f"map: {found.path}: {found.unseen}", "give the node the map that is meant")
    return warn(
        f"map {found.path} could not be checked from here: {found.unseen}",
        "give its full path by --map",
    )


def _check_index(found: MapSeen, prior_source: str) -> Iterator[Finding]:
    if found.index_problem:
        yield error(f"index: {found.index_problem}", "make the index for retrieval again")
    elif found.index:
        yield ok(f"index {found.index}")
    elif prior_source == "retrieval":
        yield warn(
            f"no index for retrieval beside {found.path}",
            "`pixloc map retrieval` makes one, or images:= in the launch file",
        )
