"""What the default features have to reach on the real image sets, and what of it they miss."""

from collections.abc import Sequence

from benchmarks.image_set import RETRIEVAL
from benchmarks.results_file import Record
from pixloc_core.evaluation.report import number, percent

# Least share of successes by set and start.
_EASY = {"20px": 0.98, "60px": 0.98, "150px": 0.98, "300px": 0.80}
SUCCESS = {
    "fox": _EASY,
    "herzjesu_p25": _EASY,
    "kitti06_start": _EASY,
    "tum_fr1_rpy": _EASY,
    "tum_fr1_rpy_dark": {"60px": 0.95},
    "sacre_coeur10": {"60px": 1.0, RETRIEVAL: 1.0},
}
# Displacement over that of SIFT and PnP: from its worst start, each set stays below the second
# number, and so many sets below the first. The dark images have no SIFT poses of their own.
RATIO_SETS = ("fox", "herzjesu_p25", "kitti06_start", "sacre_coeur10", "tum_fr1_rpy")
GOOD_RATIO, GOOD_SETS, LARGEST_RATIO = 1.0, 3, 1.2


def find_missed(rows: Sequence[Record]) -> list[str]:
    """Targets that these rows miss, one line each.

    Args:
        rows: Rows of image_sets.json, all of the same features.
    """
    lines = []
    for row in rows:
        target = SUCCESS.get(row["set"], {}).get(row["start"])
        if target is not None and row["success"] < target:
            lines.append(
                f"missed: {row['set']} from {row['start']}: success {percent(row['success'])}, "
                f"target {percent(target)}"
            )
    worst = worst_ratios(rows)
    lines += [
        f"missed: {name}: {number(ratio)} times the displacement of SIFT + PnP from its worst "
        f"start, target {LARGEST_RATIO}"
        for name, ratio in worst.items()
        if not ratio <= LARGEST_RATIO
    ]
    good = [name for name, ratio in worst.items() if ratio <= GOOD_RATIO]
    if len(worst) == len(RATIO_SETS) and len(good) < GOOD_SETS:
        lines.append(
            f"missed: at most the displacement of SIFT + PnP on {len(good)} sets "
            f"({', '.join(good) or 'none'}), target {GOOD_SETS}"
        )
    return lines


def find_unmeasured(rows: Sequence[Record]) -> list[str]:
    """Sets and starts that have a target but no row."""
    known = {(row["set"], row["start"]) for row in rows}
    return [
        f"not run: {name} from {start}"
        for name, starts in SUCCESS.items()
        for start in starts
        if (name, start) not in known
    ]


def worst_ratios(rows: Sequence[Record]) -> dict[str, float]:
    """Largest ratio of each judged set over its starts; infinite where a start has none."""
    worst: dict[str, float] = {}
    for row in rows:
        if row["set"] in RATIO_SETS:
            ratio = float("inf") if row["ratio"] is None else float(row["ratio"])
            worst[row["set"]] = max(worst.get(row["set"], 0.0), ratio)
    return worst
