"""What a replay leaves for other programs: poses in TUM's format, tables, numbers."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pixloc_core.bags.trajectory import write_tum
from pixloc_core.evaluation.replay_judgement import JudgedRun
from pixloc_core.evaluation.stream import StreamRun

_IMAGE_COLUMNS = (
    "stamp_ns",
    "state",
    "status",
    "published",
    "prior_source",
    "score",
    "position_error",
    "rotation_error_deg",
    "wrong",
    "reason",
)


def write_files(folder: Path, judged: JudgedRun, shortfalls: Sequence[str] | None) -> None:
    """Write `estimate.tum`, `truth.tum`, `images.csv`, `latency.csv` and `summary.json`.

    Time that was measured stands in `latency.csv` and in `summary.json` only: the other files of
    two replays in process are equal.

    Args:
        folder: Where to.
        judged: The replay.
        shortfalls: Thresholds that were missed; None where there were none to hold it against.
    """
    run = judged.run
    write_tum(folder / "estimate.tum", run.estimate)
    write_tum(folder / "truth.tum", run.truth)
    _write_csv(folder / "images.csv", _IMAGE_COLUMNS, _image_rows(judged))
    stages = list(dict.fromkeys(name for outcome in run.outcomes for name in outcome.stages))
    _write_csv(
        folder / "latency.csv", ["stamp_ns", "total_ms", *stages], _latency_rows(run, stages)
    )
    passed = None if shortfalls is None else not shortfalls
    verdict = {"passed": passed, "shortfalls": list(shortfalls or ())}
    text = json.dumps({"verdict": verdict, **judged.summary.to_json()}, indent=1)
    (folder / "summary.json").write_text(f"{text}\n")


def _image_rows(judged: JudgedRun) -> Iterable[Sequence[Any]]:
    """Every image of the bag; those that were not taken up have little to tell."""
    run, found = judged.run, judged.errors
    errors = found.errors
    numbers = zip(errors.position, errors.rotation_deg, judged.is_wrong, strict=True)
    off = dict(zip(found.stamps_ns.tolist(), numbers, strict=True))
    outcomes = {outcome.stamp_ns: outcome for outcome in run.outcomes}
    published = run.published
    for stamp in sorted({*run.image_stamps_ns.tolist(), *outcomes}):
        said = outcomes.get(stamp)
        if said is None:
            yield stamp, "", "not taken up", 0, *[""] * 6
            continue
        position, degrees, wrong = off.get(stamp, (np.nan, np.nan, False))
        yield (
            stamp,
            said.state,
            said.status,
            int(stamp in published),
            said.prior_source,
            f"{said.score:.4f}",
            f"{position:.6f}",
            f"{degrees:.6f}",
            int(wrong),
            said.reason,
        )


def _latency_rows(run: StreamRun, stages: Sequence[str]) -> Iterable[Sequence[Any]]:
    for said in run.outcomes:
        times = [said.latency_ms, *(said.stages.get(name, np.nan) for name in stages)]
        yield said.stamp_ns, *(f"{time:.3f}" for time in times)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
