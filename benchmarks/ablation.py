"""What ships against what it could be: one thing changed at a time, on a compact protocol.

    python -m benchmarks.ablation --write [--only NAME ...] [a.b=c ...]
    python -m benchmarks.ablation --write --tag NAME --how COMMAND extractor.network.weights=FILE

The first command runs the variants of settings in this file that have no rows yet for the present
weights, and so goes on where it was stopped; settings given hold for all variants. The second adds
a row of other weights, with the command that trained them: NAME says what is different. As in
`benchmarks.basin`, random starts are judged by where they end: one hypothesis each where features,
points and optimizer are changed, the localizer as it is used where its strategy is. On one core: a
minute for each variant, twenty for all; those with other features build maps first, in another
minute.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.image_set import ImageSet
from benchmarks.random_starts import ONE_HYPOTHESIS, Protocol, measure
from benchmarks.results_file import (
    Record,
    merge_records,
    read_records,
    write_records,
    write_section,
)
from benchmarks.set_benchmark import (
    REPOSITORY,
    RESULTS,
    add_set_arguments,
    find_chosen,
    made_with,
)
from pixloc_core.config import load
from pixloc_core.errors import PixlocError
from pixloc_core.evaluation.assembly import RunConfig
from pixloc_core.evaluation.report import markdown_table, number, percent
from pixloc_core.features.extractor import create_extractor

RECORDS = REPOSITORY / "benchmarks/ablation.json"
SETS = ("fox", "sacre_coeur10", "tum_fr1_rpy_dark")
KEY = ("features", "set", "start_px")
ALONE, USED = "one hypothesis", "as used"
SHIPPED = "as shipped"
PROTOCOLS = {
    ALONE: Protocol((60, 150), starts=6, limit=4),
    USED: Protocol((60, 300), starts=2, limit=4),
}


@dataclass(frozen=True)
class Variant:
    """One row of a table.

    Attributes:
        group: How it is measured, a key of `PROTOCOLS`.
        name: What is changed, in words.
        settings: What is changed, as settings.
    """

    group: str
    name: str
    settings: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Name of its rows."""
        return f"{self.group}: {self.name}"


_LOCALIZER, _ALIGNER = "localizer", "localizer.aligner"
VARIANTS = (
    Variant(ALONE, SHIPPED),
    Variant(ALONE, "training-free features", ("extractor.kind=gradients",)),
    Variant(ALONE, "the network's own levels alone", ("extractor.network.octaves=1",)),
    Variant(ALONE, "levels of two sizes", ("extractor.network.octaves=2",)),
    Variant(ALONE, "damping as learned with the weights", (f"{_ALIGNER}.learned_damping=true",)),
    Variant(ALONE, "sharper robust loss", (f"{_ALIGNER}.robust_scale=[0.2,0.3,0.5]",)),
    Variant(ALONE, "more tolerant robust loss", (f"{_ALIGNER}.robust_scale=[1.0]",)),
    Variant(ALONE, "linear interpolation", (f"{_ALIGNER}.interpolation=[linear]",)),
    Variant(ALONE, "no restart at finer levels", (f"{_ALIGNER}.restart=false",)),
    Variant(ALONE, "points out of sight are free", (f"{_ALIGNER}.outside_residual=0",)),
    Variant(ALONE, "256 points", (f"{_ALIGNER}.num_points=[256]",)),
    Variant(ALONE, "points not spread", (f"{_LOCALIZER}.selection.grid_cells=1",)),
    Variant(ALONE, "one reference", (f"{_LOCALIZER}.selection.num_references=1",)),
    Variant(ALONE, "best observation alone", (f"{_LOCALIZER}.aggregation=single",)),
    Variant(USED, SHIPPED),
    Variant(USED, "all levels at once", (f"{_LOCALIZER}.near_stride=0",)),
    Variant(USED, "near: strides up to 8", (f"{_LOCALIZER}.near_stride=8",)),
    Variant(USED, "no fan", (f"{_LOCALIZER}.fan.steps=1",)),
    Variant(USED, "references never chosen anew", (f"{_LOCALIZER}.reselect_px=1e9",)),
)


def main() -> int:
    """Run what is missing; exit code 2 for unusable input."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add_set_arguments(parser, "basin")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="run these variants, also those with rows"
    )
    parser.add_argument("--how", default="", help="command that trained the weights of --tag")
    args = parser.parse_args()
    if bool(args.tag) != bool(args.how):
        parser.error("--tag and --how belong together")
    args.sets = args.sets or list(SETS)
    sets = find_chosen(parser, args)
    variants = [v for v in VARIANTS if not args.only or v.name in args.only]
    if args.tag:
        variants = [Variant(ALONE, args.tag)]
    if not variants:
        parser.error(f"no variant {args.only}, expected some of {[v.name for v in VARIANTS]}")
    ran: list[Record] = []
    try:
        base = load(RunConfig, args.conf, args.settings)
        made = made_with("ablation", args, create_extractor(base.extractor)) | {"how": args.how}
        rows = [row for row in read_records(RECORDS) if args.tag or _is_current(row, made)]
        for variant in variants:
            for row in _run(variant, sets, args, made, [] if args.only else rows):
                ran.append(row)
                rows = merge_records(rows, [row], KEY)
                if args.write:
                    _write(rows)
    except PixlocError as error:
        print(f"ablation: {error}", file=sys.stderr)
        return 2
    print(_tables(ran))
    return 0


def _is_current(row: Record, made: dict[str, str]) -> bool:
    """Whether a row belongs beside those made now: of these weights, or of others by intention."""
    return bool(row["made_with"]["how"]) or row["made_with"]["fingerprint"] == made["fingerprint"]


def _run(
    variant: Variant,
    sets: list[ImageSet],
    args: argparse.Namespace,
    made: dict[str, str],
    known: list[Record],
) -> Iterator[Record]:
    """Rows of a variant for the sets that have none made with the same thing."""
    made = made | {"settings": " ".join(variant.settings)}
    strategy = () if variant.group == USED else ONE_HYPOTHESIS
    config = load(RunConfig, args.conf, [*strategy, *args.settings, *variant.settings])
    for image_set in sets:
        head = {"features": variant.key, "set": image_set.name, "made_with": made}
        if not any(head.items() <= row.items() for row in known):
            for ends in measure(image_set, config, PROTOCOLS[variant.group], args.work):
                yield head | ends.as_record()


def _write(rows: list[Record]) -> None:
    """Keep the rows, and write the section anew."""
    write_records(RECORDS, rows)
    commands = sorted({row["made_with"]["command"] for row in rows})
    text = f"""## Ablations

Success from the distances given, median px of the successes of the nearer ones set by set, and
milliseconds of a start without the extraction of features. One thing differs from what ships in
each row.

{_tables(rows)}

{chr(10).join(f"- `{command}`" for command in commands)}
"""
    write_section(RESULTS, "ablation", text)


def _tables(rows: list[Record]) -> str:
    """One table for each group that has rows; variants in the order of this file."""
    order = [variant.key for variant in VARIANTS]
    names = sorted(dict.fromkeys(r["features"] for r in rows), key=lambda n: _rank(order, n))
    parts = []
    for group, protocol in PROTOCOLS.items():
        chosen = [name for name in names if name.startswith(f"{group}: ")]
        if not chosen:
            continue
        distances = " / ".join(map(str, protocol.distances))
        sets = sorted({row["set"] for row in rows if row["features"] in chosen})
        header = [
            "variant",
            "settings, or command",
            *(f"{s} {distances} px" for s in sets),
            "median px",
            "ms",
        ]
        body = [_cells(name, [r for r in rows if r["features"] == name], sets) for name in chosen]
        note = f"{group}: {protocol.limit} queries of each set, {protocol.starts} starts each"
        parts.append(f"{note[0].upper()}{note[1:]}.\n\n{markdown_table(header, body)}")
    return "\n\n".join(parts)


def _rank(order: list[str], name: str) -> int:
    return order.index(name) if name in order else len(order)


def _cells(name: str, rows: list[Record], sets: list[str]) -> list[str]:
    """Cells of a variant; the median px are those of the nearest starts, set by set."""
    success, px = [], []
    for name_of_set in sets:
        mine = sorted(
            (r for r in rows if r["set"] == name_of_set), key=lambda row: row["start_px"]
        )
        success.append(" / ".join(percent(row["success"]) for row in mine) or "-")
        px.append(number(mine[0]["median_px"], 3) if mine else "-")
    made = rows[0]["made_with"]
    settings = made["how"] or made["settings"]
    time_ms = sum(row["time_ms"] for row in rows) / len(rows)
    return [
        name.split(": ", 1)[1],
        f"`{settings}`" if settings else "",
        *success,
        " / ".join(px),
        number(time_ms, 0),
    ]


if __name__ == "__main__":
    sys.exit(main())
