"""Localize every query of the real image sets from every start, and write the table.

    python -m benchmarks.image_sets [--sets fox ...] [--starts 60px ...] [--write] [a.b=c ...]

The sets are not part of this repository: `--data`, or `$PIXLOC_SHARED/data`, names their folder.
A query is a success if the median displacement of the map points that it sees is under 3 px at an
image width of 1024 px; a query without a pose is none.

`--write` puts every row, as soon as it is measured, into image_sets.json beside those of other
features (`--tag`), sets and starts, and the table made of all of them into results.md; so sets can
be run one by one. Rows of the same name that other weights or settings made are dropped. On one
core: a minute for a set of 12 queries from all starts, half an hour for all sets.
"""

import argparse
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.image_set import PIXEL_STARTS, RETRIEVAL, ImageSet
from benchmarks.results_file import (
    Record,
    merge_records,
    read_records,
    write_records,
    write_section,
)
from benchmarks.set_benchmark import (
    LEARNED,
    REPOSITORY,
    RESULTS,
    SUCCESS_PX,
    add_set_arguments,
    features_name,
    find_chosen,
    list_commands,
    made_with,
    open_set,
    spread,
)
from benchmarks.targets import find_missed, find_unmeasured
from pixloc_core.config import load
from pixloc_core.errors import PixlocError
from pixloc_core.evaluation.assembly import RunConfig
from pixloc_core.evaluation.pose_error import errors_by_name, quantile
from pixloc_core.evaluation.report import markdown_table, number, percent
from pixloc_core.evaluation.runner import Query, localize_queries, poses_of, write_log
from pixloc_core.features.extractor import Extractor, create_extractor
from pixloc_core.localizer.localizer import Localizer
from pixloc_core.localizer.result import Localization
from pixloc_core.map.hloc_formats import write_poses
from pixloc_core.visualization.overlay import draw_localization, write_picture

RECORDS = REPOSITORY / "benchmarks/image_sets.json"
STARTS = (*PIXEL_STARTS, RETRIEVAL)
PICTURE_START = "60px"
KEY = ("features", "set", "start")


def main() -> int:
    """Run; exit code 1 if the learned features miss a target, 2 for unusable input."""
    parser, args = _arguments()
    try:
        config = load(RunConfig, args.conf, args.settings)
        extractor = create_extractor(config.extractor)
        head = {
            "features": args.tag or features_name(config.extractor),
            "made_with": made_with("image_sets", args, extractor),
        }
        rows: list[Record] = []
        for image_set in find_chosen(parser, args):
            for row in _run_set(image_set, extractor, config, args):
                rows.append(head | row)
                # Row by row and read anew: a run that is stopped leaves what it has measured, and
                # two runs of other sets may go on side by side.
                if args.write:
                    _write(merge_records(read_records(RECORDS), [rows[-1]], KEY))
    except PixlocError as error:
        print(f"image_sets: {error}", file=sys.stderr)
        return 2
    judged = _judged(read_records(RECORDS) if args.write else rows)
    missed = find_missed(judged)
    print(f"\n{_table(rows)}\n\n" + "\n".join(missed))
    if judged and not missed:
        print("every target of the sets and starts run is met")
    print(f"pictures: {args.work}")
    return 1 if missed else 0


def _arguments() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add_set_arguments(parser, "image_sets")
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS))
    parser.add_argument(
        "--limit", type=int, help="only so many queries of each set, evenly spread"
    )
    args = parser.parse_args()
    if args.write and args.limit:
        parser.error("--write needs all queries, not --limit")
    return parser, args


def _run_set(
    image_set: ImageSet, extractor: Extractor, config: RunConfig, args: argparse.Namespace
) -> Iterator[Record]:
    localizer = open_set(image_set, extractor, config, args.work)
    for start in args.starts:
        queries = spread(image_set.queries(start), args.limit)
        row = _run_start(image_set, start, localizer, queries, args.work)
        print(_table([row]).splitlines()[-1], flush=True)
        yield row


def _run_start(
    image_set: ImageSet, start: str, localizer: Localizer, queries: list[Query], work: Path
) -> Record:
    """One row; lengths are in units of the map."""
    stem = f"{image_set.name}_{start}"

    def observe(query: Query, image: np.ndarray, result: Localization) -> None:
        if start == PICTURE_START and query is queries[len(queries) // 2]:
            write_picture(str(work / f"{image_set.name}.jpg"), draw_localization(image, result))

    found = localize_queries(localizer, queries, image_set.images, observe=observe)
    outcomes = list(tqdm(found, total=len(queries), unit="image", desc=stem, disable=None))
    estimates = poses_of(outcomes)
    write_poses(work / f"{stem}.txt", estimates)
    write_log(work / f"{stem}_log.csv", outcomes)
    sparse = localizer.sparse
    names = {query.name for query in queries}
    ours = image_set.displacements(sparse, estimates)
    theirs = image_set.displacements(sparse, image_set.baseline())
    judged = names & ours.keys()
    px = np.array([ours[name] for name in sorted(judged)])
    _, errors = errors_by_name(estimates, {name: image_set.truth[name] for name in judged})
    baseline = np.array([theirs[name] for name in sorted(judged)])
    is_success = px < SUCCESS_PX
    median_px = quantile(px[is_success], 0.5)
    baseline_px = quantile(baseline[baseline < SUCCESS_PX], 0.5)
    return {
        "set": image_set.name,
        "start": start,
        "queries": len(px),
        "answered": int(np.isfinite(px).sum()),
        "wrong": int((np.isfinite(px) & ~is_success).sum()),
        "success": float(is_success.mean()),
        "median_px": median_px,
        "baseline_px": baseline_px,
        "ratio": median_px / baseline_px if is_success.any() else None,
        "position": quantile(errors.position, 0.5),
        "rotation_deg": quantile(errors.rotation_deg, 0.5),
        "time_ms": quantile(np.array([outcome.time_ms for outcome in outcomes]), 0.5),
    }


def _judged(rows: list[Record]) -> list[Record]:
    """Rows that have targets."""
    return [row for row in rows if row["features"] == LEARNED]


def _table(rows: list[Record]) -> str:
    header = (
        "set", "start", "features", "queries", "answered", "wrong", "success", "median px",
        "SIFT+PnP px", "ratio", "position", "rotation deg", "time ms",
    )  # fmt: skip
    body = [
        (
            row["set"],
            row["start"],
            row.get("features", ""),
            str(row["queries"]),
            str(row["answered"]),
            str(row["wrong"]),
            percent(row["success"]),
            number(row["median_px"], 3),
            number(row["baseline_px"], 3),
            number(row["ratio"]),
            number(row["position"], 4),
            number(row["rotation_deg"], 3),
            number(row["time_ms"], 0),
        )
        for row in rows
    ]
    return markdown_table(header, body)


def _write(rows: list[Record]) -> None:
    """Keep the rows, and write the section anew."""
    rows = sorted(rows, key=lambda row: (row["set"], STARTS.index(row["start"])))
    write_records(RECORDS, rows)
    write_section(RESULTS, "image_sets", _document(rows))


def _document(rows: list[Record]) -> str:
    judged = _judged(rows)
    verdict = find_missed(judged) + find_unmeasured(judged)
    return f"""## Real image sets

{list_commands(rows)}

On {os.cpu_count()} cores of {platform.machine()}, PyTorch {torch.__version__} with \
{torch.get_num_threads()} threads.

Success: median displacement of the visible map points under 3 px at a width of 1024 px, among all
queries. Wrong: answered with a pose that is no success. Median px: over the successes; the same
for SIFT + PnP over its own (for tum_fr1_rpy_dark those of the bright images). Position (units of
the map) and rotation: median over all queries, against the poses that are consistent with the
map. Time: median of one query against the cached map.

{_table(rows)}

Targets (`benchmarks/targets.py`) hold for the learned features:

{chr(10).join(f"- {line}" for line in verdict) or "- every one is met."}
"""


if __name__ == "__main__":
    sys.exit(main())
