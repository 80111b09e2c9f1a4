"""`pixloc localize`: poses of a list of images in a map."""

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from pixloc_core.errors import FormatError, MapError

if TYPE_CHECKING:
    from pixloc_core.evaluation.runner import Query, QueryOutcome
    from pixloc_core.localizer.localizer import Localizer


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        "localize",
        help="localize a list of images in a map",
        description="Localizes every query from retrieved map images (--pairs), from initial "
        "poses (--poses), or from what the map's retrieval index finds (--retrieval). Writes the "
        "poses of those that were localized, and a log of all.",
    )
    source = parser.add_argument_group("map")
    source.add_argument("--map", type=Path, help="feature map (pixloc map build)")
    source.add_argument("--sfm", type=Path, help="COLMAP model, where there is no feature map yet")
    source.add_argument("--map-images", type=Path, help="images of that model")
    parser.add_argument("--queries", type=Path, required=True, help="name MODEL w h params")
    parser.add_argument("--images", type=Path, required=True, help="folder of the query images")
    prior = parser.add_mutually_exclusive_group(required=True)
    prior.add_argument("--pairs", type=Path, help="query reference, best first")
    prior.add_argument("--poses", type=Path, help="initial poses: name qw qx qy qz tx ty tz")
    prior.add_argument(
        "--retrieval", action="store_true", help="index beside the map (pixloc map retrieval)"
    )
    parser.add_argument("--results", type=Path, required=True, help="poses to write")
    parser.add_argument("--log", type=Path, help="status of every query: .csv (default) or .json")
    parser.add_argument("--conf", type=Path, help="YAML file of settings")
    parser.add_argument("settings", nargs="*", default=[], metavar="a.b=c", help="single settings")


def run(args: argparse.Namespace) -> int:
    """Localize all queries.

    Returns:
        0, or 2 if the image of a query was unusable (the others are localized all the same).

    Raises:
        PixlocError: If a list, the map or a setting is unusable.
    """
    from tqdm import tqdm

    from pixloc_core.evaluation.runner import localize_queries, poses_of, write_log
    from pixloc_core.map.hloc_formats import write_poses
    from pixloc_core.retrieval.index import RetrievalIndex

    queries = read_query_list(args.queries, args.pairs, args.poses)
    localizer = _open_localizer(args)
    _check_references(args.pairs, queries, localizer)
    find_prior = RetrievalIndex.open(localizer.feature_map).prior if args.retrieval else None
    outcomes = []
    with tqdm(total=len(queries), unit="image", desc="localize", disable=None) as bar:
        for outcome in localize_queries(localizer, queries, args.images, find_prior=find_prior):
            outcomes.append(outcome)
            bar.update()
    poses = poses_of(outcomes)
    write_poses(args.results, poses)
    log = args.log or args.results.with_name(f"{args.results.stem}_log.csv")
    write_log(log, outcomes)
    print(f"{len(poses)} of {len(queries)} queries localized: {args.results}, log: {log}")
    return _report_failures(outcomes)


def read_query_list(queries: Path, pairs: Path | None, poses: Path | None) -> "list[Query]":
    """Queries with what is known of each; a query that no list names has no prior.

    Raises:
        FormatError: If a list cannot be read, or a list of priors names none of the queries.
    """
    from pixloc_core.evaluation.runner import Query
    from pixloc_core.localizer.prior import Prior
    from pixloc_core.map.hloc_formats import read_pairs, read_poses, read_queries

    cameras = read_queries(queries)
    if not cameras:
        raise FormatError(f"{queries}: holds no query")
    priors: dict[str, Prior] = {}
    if pairs is not None:
        priors = {k: Prior.from_references(v) for k, v in read_pairs(pairs).items()}
    elif poses is not None:
        priors = {k: Prior.from_pose(v) for k, v in read_poses(poses).items()}
    if (pairs or poses) and not priors.keys() & cameras.keys():
        raise FormatError(f"{pairs or poses}: names none of the queries of {queries}")
    return [Query(name, camera, priors.get(name)) for name, camera in cameras.items()]


def _open_localizer(args: argparse.Namespace) -> "Localizer":
    from tqdm import tqdm

    from pixloc_core.config import load
    from pixloc_core.evaluation.assembly import RunConfig, open_localizer, open_or_build_map
    from pixloc_core.features.extractor import create_extractor

    if args.sfm is None:
        if args.map is None:
            raise FormatError("--map is missing (or --sfm and --map-images to build one)")
        return open_localizer(args.map, args.conf, args.settings)
    if args.map_images is None:
        raise FormatError("--sfm needs --map-images, the folder of its images")
    extractor = create_extractor(load(RunConfig, args.conf, args.settings).extractor)
    cache = args.map or args.results.with_name(f"map_{extractor.fingerprint[:12]}.h5")
    with tqdm(unit="image", desc="build map", disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        open_or_build_map(cache, args.sfm, args.map_images, extractor, show)
    return open_localizer(cache, args.conf, args.settings)


def _check_references(pairs: Path | None, queries: "list[Query]", localizer: "Localizer") -> None:
    """Refuse a list of pairs that names images the map does not have, before any work is done."""
    for query in queries:
        for name in query.prior.references if query.prior else ():
            if localizer.sparse.find(name) is None:
                raise MapError(
                    f"{pairs}: image {name!r}, listed for {query.name}, is not in the map"
                )


def _report_failures(outcomes: "list[QueryOutcome]") -> int:
    """List what was not localized on stderr; the exit code."""
    from pixloc_core.evaluation.runner import BAD_IMAGE

    failed = [outcome for outcome in outcomes if outcome.cam_from_map is None]
    for outcome in failed:
        print(f"{outcome.name}: {outcome.status}: {outcome.reason}", file=sys.stderr)
    for status, count in Counter(outcome.status for outcome in failed).items():
        print(f"{status}: {count}", file=sys.stderr)
    return 2 if any(outcome.status == BAD_IMAGE for outcome in failed) else 0
