"""From how far does a pose find home? Many random starts of every query of real image sets.

    python -m benchmarks.basin [--sets sacre_coeur10 ...] [--write] [a.b=c ...]
    python -m benchmarks.basin --plot [NAME ...]

Each query is started from random poses whose median displacement is one of the distances, in
pixels at an image width of 1024; a start is a success if it ends with a median displacement under
3 px. One hypothesis is followed through all levels and nothing is refused: what counts is where
the alignment ends, not what a search around the start would find, nor whether it is believed. The
starts are the same for all features.

`--write` puts the rows of a set into basin.json as soon as it is done, beside those of other
features (`--tag`) and sets, and the table into results.md; so sets can be run one by one. `--plot`
runs nothing: it draws docs/images/basin.png from what basin.json has. On one core a set takes two
minutes and all six a quarter of an hour; maps are built once, in another two minutes.
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from benchmarks.basin_plot import draw
from benchmarks.random_starts import ONE_HYPOTHESIS, Protocol, measure
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
    TRAINING_FREE,
    add_set_arguments,
    features_name,
    find_chosen,
    list_commands,
    made_with,
)
from pixloc_core.config import load
from pixloc_core.errors import PixlocError
from pixloc_core.evaluation.assembly import RunConfig
from pixloc_core.evaluation.report import markdown_table, number, percent
from pixloc_core.features.extractor import create_extractor

RECORDS = REPOSITORY / "benchmarks/basin.json"
PICTURE = REPOSITORY / "docs/images/basin.png"
KEY = ("features", "set", "start_px")


def main() -> int:
    """Run; exit code 2 for unusable input."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add_set_arguments(parser, "basin")
    default = Protocol()
    parser.add_argument("--distances", nargs="+", type=int, default=list(default.distances))
    parser.add_argument(
        "--starts", type=int, default=default.starts, help="per query and distance"
    )
    parser.add_argument(
        "--limit", type=int, default=default.limit, help="most queries of each set"
    )
    parser.add_argument(
        "--plot", nargs="*", metavar="NAME", help="only draw the rows of these features"
    )
    args = parser.parse_args()
    try:
        if args.plot is None:
            _run(parser, args)
        else:
            draw(read_records(RECORDS), args.plot or [LEARNED, TRAINING_FREE], PICTURE)
            print(f"picture: {PICTURE}")
    except PixlocError as error:
        print(f"basin: {error}", file=sys.stderr)
        return 2
    return 0


def _run(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    config = load(RunConfig, args.conf, [*ONE_HYPOTHESIS, *args.settings])
    protocol = Protocol(tuple(args.distances), args.starts, args.limit)
    made = made_with("basin", args, create_extractor(config.extractor))
    made["protocol"] = f"{protocol.limit} queries, {protocol.starts} starts"
    head = {"features": args.tag or features_name(config.extractor)}
    rows: list[Record] = []
    for image_set in find_chosen(parser, args):
        head["set"] = image_set.name
        new = [
            head | ends.as_record() | {"made_with": made}
            for ends in measure(image_set, config, protocol, args.work)
        ]
        rows += new
        tqdm.write(_table(new).split("\n", 2)[2])
        if args.write:
            _write(new, RECORDS, RESULTS)
    print(f"\n{_table(rows)}")


def _write(rows: list[Record], records: Path, results: Path) -> None:
    """Add rows to those kept, and write the section anew."""
    kept = merge_records(read_records(records), rows, KEY)
    kept.sort(key=lambda row: (row["set"], row["features"]))
    write_records(records, kept)
    text = f"""## Basin of convergence

Success: share of random starts that end within 3 px (at a width of 1024 px) of the true pose, one
hypothesis each, nothing refused. Median px: of the successes. Starts and queries are the same for
all features. Drawn in [basin.png](../docs/images/basin.png).

{_table(kept)}

{list_commands(kept)}
"""
    write_section(results, "basin", text)


def _table(rows: list[Record]) -> str:
    header = ("set", "features", "start px", "starts", "success", "median px")
    body = [
        (
            row["set"],
            row["features"],
            str(row["start_px"]),
            str(row["starts"]),
            percent(row["success"]),
            number(row["median_px"], 3),
        )
        for row in rows
    ]
    return markdown_table(header, body)


if __name__ == "__main__":
    sys.exit(main())
