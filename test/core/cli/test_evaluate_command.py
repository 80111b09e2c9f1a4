"""`pixloc evaluate`: what it prints, what it writes, what it refuses."""

import json
from pathlib import Path

import pytest

from pixloc_core.cli import main

POSES = "a.jpg 1 0 0 0 0 0 0\nb.jpg 1 0 0 0 0 0 0\nc.jpg 1 0 0 0 0 0 0\nd.jpg 1 0 0 0 0 0 0\n"
# 3 cm off, one degree off, 10 m off; d.jpg is missing.
RESULTS = "a.jpg 1 0 0 0 0.03 0 0\nb.jpg 0.99996192 0.00872654 0 0 0 0 0\nc.jpg 1 0 0 0 0 10 0\n"


@pytest.fixture
def lists(tmp_path: Path) -> list[str]:
    (tmp_path / "gt.txt").write_text(POSES)
    (tmp_path / "results.txt").write_text(RESULTS)
    return ["--results", str(tmp_path / "results.txt"), "--gt", str(tmp_path / "gt.txt")]


def test_medians_and_recalls_count_missing_queries_as_failures(
    lists: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "numbers.json"
    options = ["--json", str(out), "--thresholds", "0.05,0.5", "0.25,2"]
    assert main(["evaluate", *lists, *options]) == 0
    numbers = json.loads(out.read_text())
    assert (numbers["queries"], numbers["answered"]) == (4, 3)
    assert [entry["recall"] for entry in numbers["recall"]] == [0.25, 0.5]
    assert numbers["median_position"] == pytest.approx(0.03)
    printed = capsys.readouterr().out
    assert "within 0.25 / 2 deg" in printed
    assert "50 %" in printed


def test_without_any_answer_there_is_no_median_and_the_json_stays_valid(
    lists: list[str], tmp_path: Path
) -> None:
    (tmp_path / "results.txt").write_text("")
    out = tmp_path / "numbers.json"
    assert main(["evaluate", *lists, "--json", str(out)]) == 0
    numbers = json.loads(out.read_text(), parse_constant=pytest.fail)
    assert numbers["median_position"] is None
    assert {entry["recall"] for entry in numbers["recall"]} == {0.0}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("results.txt", "a.jpg 1 0 0 0 0 0\n", "results.txt:1"),
        ("results.txt", "other.jpg 1 0 0 0 0 0 0\n", "other.jpg"),
        ("gt.txt", "# nothing\n", "gt.txt"),
    ],
)
def test_unusable_files_are_refused_in_one_line(
    lists: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    name: str,
    content: str,
    expected: str,
) -> None:
    (tmp_path / name).write_text(content)
    assert main(["evaluate", *lists]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("text", ["0.1", "a,b", "0,1", "inf,1"])
def test_a_malformed_threshold_is_refused(lists: list[str], text: str) -> None:
    with pytest.raises(SystemExit) as error:
        main(["evaluate", *lists, "--thresholds", text])
    assert error.value.code == 2
