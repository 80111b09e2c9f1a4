"""Limits from a file, and what misses them."""

from pathlib import Path

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


@pytest.mark.parametrize("key", ["availability.nonsense", "nonsense", "events", "kidnaps"])
def test_a_key_that_is_no_number_of_the_summary_is_refused(key: str) -> None:
    with pytest.raises(FormatError, match=f"threshold {key}"):
        shortfalls(SUMMARY, (Threshold(key, low=0.0),))


def test_a_file_is_read_with_its_limits(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("a.b: {min: 1}\nc: {min: 0, max: 2.5, if_known: true}\n")
    assert read_thresholds(path) == (
        Threshold("a.b", low=1.0),
        Threshold("c", low=0.0, high=2.5, if_known=True),
    )


@pytest.mark.parametrize(
    "text",
    ["", "- a", "a: 3", "a: {}", "a: {least: 3}", "a: {min: x}", "a: {min: 1, if_known: 3}", "{"],
)
def test_a_file_that_says_something_else_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(FormatError, match=r"t\.yaml"):
        read_thresholds(path)
    with pytest.raises(FormatError, match="cannot read"):
        read_thresholds(tmp_path / "missing.yaml")


@pytest.mark.parametrize("name", ["demo_thresholds.yaml", "replay_thresholds.yaml"])
def test_the_files_that_ship_name_numbers_that_exist(name: str) -> None:
    judged = judge_run(run_of("pppp"), stamps_of(0), ReplayBounds())
    missed = shortfalls(judged.summary.to_json(), read_thresholds(CONFIG / name))
    # Without covariances these are not known; all else is met.
    assert all(line.startswith("covariance.") for line in missed)
