"""Limits from a file, and what misses them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stream_runs import run_of, stamps_of

from pixloc_core.errors import FormatError
from pixloc_core.evaluation.replay_judgement import ReplayBounds, judge_run
from pixloc_core.evaluation.thresholds import Threshold, read_thresholds, shortfalls

SUMMARY = {
    "availability": {"of_all": 0.97},
    "kidnaps": {"count": 0, "recovery_s": None},
    "covariance": None,
    "states_s": {"TRACKING": 3.0},
    "events": [1],
}
CONFIG = Path(__file__).resolve().parents[3] / "config"


def test_each_shortfall_is_told_with_its_figure_and_limit() -> None:
    lines = shortfalls(
        SUMMARY,
        (
            Threshold("availability.of_all", low=0.99),
            Threshold("availability.of_all", high=0.5),
            Threshold("availability.of_all", low=0.97, high=0.97),
        ),
    )
    assert lines == [
        "availability.of_all is 0.97, expected at least 0.99",
        "availability.of_all is 0.97, expected at most 0.5",
    ]


def test_what_is_not_known_fails_unless_it_may_be_unknown() -> None:
    limits = {"high": 10.0}
    assert shortfalls(SUMMARY, (Threshold("kidnaps.recovery_s", **limits),)) == [
        "kidnaps.recovery_s is not known"
    ]
    for key in ("kidnaps.recovery_s", "covariance.nees_mean", "states_s.LOST"):
        assert shortfalls(SUMMARY, (Threshold(key, **limits, if_known=True),)) == []


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("availability.nonsense", "no 'nonsense' in availability, it has of_taken, of_all"),
        ("nonsense", "no 'nonsense' in the summary, it has name, seconds"),
        ("kidnaps", "not a number, it has count, undetected"),
        ("kidnaps.events", "not a number"),
        ("name", "not a number"),
        ("seconds.max", "no 'max' in seconds, it has nothing below"),
        ("ate_aligned.position.p51", "no 'p51' in ate_aligned.position"),
        ("latency_ms.total.nonsense", "no 'nonsense' in latency_ms.total"),
        ("states_s.TRAKING", "no 'TRAKING' in states_s, it has UNINITIALIZED"),
        ("covariance.coverage.2_sigma.rot", "no 'rot' in covariance.coverage.2_sigma, it has x"),
    ],
)
def test_a_key_that_is_no_number_of_a_summary_is_refused(
    tmp_path: Path, key: str, expected: str
) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(f"{key}: {{min: 1}}\n")
    with pytest.raises(FormatError, match=rf"t\.yaml: {key}: {expected}"):
        read_thresholds(path)


def numbers_of(section: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of all numbers, also of those that are not known."""
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from numbers_of(value, f"{prefix}{name}.")
        elif not isinstance(value, str | list):
            yield f"{prefix}{name}"


def test_every_number_of_a_summary_is_a_key(tmp_path: Path) -> None:
    keys = list(numbers_of(judged_summary("pppnpwpp", 4)))
    assert len(keys) > 100
    path = tmp_path / "t.yaml"
    path.write_text("".join(f"{key}: {{max: 1}}\n" for key in [*keys, "states_s.LOST"]))
    assert [threshold.key for threshold in read_thresholds(path)] == [*keys, "states_s.LOST"]


def test_a_file_is_read_with_its_limits(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("seconds: {min: 1}\nate.count: {min: 0, max: 2.5, if_known: true}\n")
    assert read_thresholds(path) == (
        Threshold("seconds", low=1.0),
        Threshold("ate.count", low=0.0, high=2.5, if_known=True),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a",
        "{",
        *(f"seconds: {x}" for x in ("3", "{}", "{least: 3}", "{min: x}", "{min: 1, if_known: 3}")),
    ],
)
def test_a_file_that_says_something_else_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(FormatError, match=r"t\.yaml"):
        read_thresholds(path)
    with pytest.raises(FormatError, match="cannot read"):
        read_thresholds(tmp_path / "missing.yaml")


def test_a_file_of_something_else_is_told_in_one_short_line(tmp_path: Path) -> None:
    path = tmp_path / "localizer.yaml"
    path.write_text(
        "seconds: {ros__parameters: {" + ", ".join(f"p{i}: {i}" for i in range(99)) + "}}"
    )
    with pytest.raises(FormatError, match=r"seconds: \{'ros__parameters'.*\.\.\., exp") as caught:
        read_thresholds(path)
    assert len(str(caught.value)) < len(str(path)) + 140


def judged_summary(answers: str, kidnap: int | None) -> dict[str, object]:
    """Summary of a replay with covariances of 0.1 m and rad; kidnapped at an image."""
    posed = sum(letter in "pw" for letter in answers)
    run = run_of(answers, covariances=0.01 * np.eye(6)[None].repeat(posed, axis=0))
    stamps = stamps_of(len(answers))
    kidnaps = stamps[:0] if kidnap is None else stamps[kidnap : kidnap + 1]
    return judge_run(run, kidnaps, ReplayBounds()).summary.to_json()


@pytest.mark.parametrize(
    ("name", "good", "bad", "kidnap"),
    [
        ("demo", "pppppppp", "wwpwwwpw", None),
        ("replay", "pppppppp", "pppppnpp", None),
        ("kidnap", "ppppnnpp", "ppppnwpp", 4),
    ],
)
def test_the_files_that_ship_are_met_by_a_good_replay_and_missed_by_a_bad_one(
    name: str, good: str, bad: str, kidnap: int | None
) -> None:
    thresholds = read_thresholds(CONFIG / f"{name}_thresholds.yaml")
    assert shortfalls(judged_summary(good, kidnap), thresholds) == []
    assert shortfalls(judged_summary(bad, kidnap), thresholds)
