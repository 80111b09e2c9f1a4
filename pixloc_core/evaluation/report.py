"""Results in words and numbers: tables for terminals and Markdown files."""

import math
from collections.abc import Sequence
from typing import Any

from pixloc_core.evaluation.pose_error import (
    DEFAULT_THRESHOLDS,
    PoseErrors,
    Threshold,
    quantile,
)

Row = Sequence[str]


def markdown_table(header: Row, rows: Sequence[Row]) -> str:
    """A Markdown table with columns of equal width, so that it reads well as plain text too."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def number(value: float | None, digits: int = 2, unit: str = "") -> str:
    """A number for a table; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.{digits}f}{unit}"


def percent(share: float) -> str:
    """A share as a whole percentage, never rounded up to 100."""
    rounded = f"{100 * share:.0f}"
    return f"{100 * share:.1f} %" if rounded == "100" and share < 1 else f"{rounded} %"


def summarize(
    errors: PoseErrors, thresholds: Sequence[Threshold] = DEFAULT_THRESHOLDS
) -> dict[str, Any]:
    """Numbers of an evaluation as a program would read them (`pixloc evaluate --json`).

    Medians are over all queries: with fewer than half of them answered there is none (null).
    """
    medians = {
        "median_position": quantile(errors.position, 0.5),
        "median_rotation_deg": quantile(errors.rotation_deg, 0.5),
    }
    recalls = [
        {"position": far, "rotation_deg": degrees, "recall": share}
        for (far, degrees), share in zip(thresholds, errors.recall(thresholds), strict=True)
    ]
    return {
        "queries": len(errors),
        "answered": int(errors.answered.sum()),
        **{name: v if math.isfinite(v) else None for name, v in medians.items()},
        "recall": recalls,
    }


def summary_text(summary: dict[str, Any]) -> str:
    """The same numbers for people."""
    rows = [
        ("queries", str(summary["queries"])),
        ("answered", str(summary["answered"])),
        ("median position error", number(summary["median_position"], 4)),
        ("median rotation error", number(summary["median_rotation_deg"], 3, " deg")),
    ]
    rows += [
        (f"within {entry['position']:g} / {entry['rotation_deg']:g} deg", percent(entry["recall"]))
        for entry in summary["recall"]
    ]
    return markdown_table(("", "all queries"), rows)
