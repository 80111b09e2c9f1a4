"""The file of results, where each benchmark keeps a section, and the rows of its tables."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]
_TITLE = "# Results of the benchmarks\n\nEach section is written by the command it names.\n"


def write_section(path: Path, name: str, text: str) -> None:
    """Replace the section of one benchmark; the others stay as they are.

    Args:
        path: A Markdown file, made if it is not there.
        name: Name of the benchmark, in the comments around its section.
        text: The section.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    content = path.read_text() if path.exists() else _TITLE
    section = f"{begin}\n{text.strip()}\n{end}"
    if begin in content:
        before, _, rest = content.partition(begin)
        _, _, after = rest.partition(end)
        content = f"{before}{section}{after}"
    else:
        content = f"{content.rstrip()}\n\n{section}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def read_records(path: Path) -> list[Record]:
    """The rows kept in a JSON file; none if it is not there."""
    return list(json.loads(path.read_text())) if path.exists() else []


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write rows, one a line, which diffs well, to six digits; what is not finite becomes null."""
    lines = [json.dumps({key: _plain(value) for key, value in r.items()}) for r in records]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def merge_records(
    old: Sequence[Record], new: Sequence[Record], key: Sequence[str]
) -> list[Record]:
    """Old rows and new ones; a new row takes the place of the old one with the same key.

    Old rows of the same `features` that were `made_with` something else, other weights or
    settings, are dropped: all rows of one name come from one thing.

    Args:
        old: Rows kept so far.
        new: Rows to add.
        key: Entries that tell rows apart.
    """
    made = {row["features"]: row["made_with"] for row in new}
    names = {tuple(row[entry] for entry in key) for row in new}
    kept = [
        row
        for row in old
        if made.get(row["features"], row["made_with"]) == row["made_with"]
        and tuple(row[entry] for entry in key) not in names
    ]
    return [*kept, *new]


def _plain(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None
