"""Rows of the benchmarks: which are kept, which are replaced, and which targets they miss."""

import argparse

from benchmarks.results_file import merge_records, read_records, write_records, write_section
from benchmarks.set_benchmark import LEARNED, TRAINING_FREE, features_name, made_with, spread
from benchmarks.targets import SUCCESS, find_missed, find_unmeasured
from pixloc_core.features.extractor import ExtractorConfig
from pixloc_core.features.gradients import GradientExtractor
from pixloc_core.features.network_extractor import NetworkExtractorConfig

KEY = ("features", "set")


def row(features, name, value, made="a"):
    return {"features": features, "set": name, "value": value, "made_with": made}


def target_rows(success=1.0, ratio=1.0):
    return [
        {"set": name, "start": start, "success": success, "ratio": ratio}
        for name, starts in SUCCESS.items()
        for start in starts
    ]


def test_a_new_row_replaces_the_one_with_its_key_and_leaves_the_others():
    old = [row("x", "fox", 1), row("x", "tum", 2), row("y", "fox", 3)]
    merged = merge_records(old, [row("x", "fox", 9)], KEY)
    assert sorted((r["features"], r["set"], r["value"]) for r in merged) == [
        ("x", "fox", 9),
        ("x", "tum", 2),
        ("y", "fox", 3),
    ]


def test_rows_of_one_name_never_come_from_two_things():
    old = [row("x", "fox", 1), row("x", "tum", 2), row("y", "fox", 3)]
    merged = merge_records(old, [row("x", "fox", 9, made="b")], KEY)
    assert [(r["features"], r["value"]) for r in merged] == [("y", 3), ("x", 9)]


def test_rows_return_from_their_file_and_what_is_not_finite_is_null(tmp_path):
    path = tmp_path / "rows.json"
    assert read_records(path) == []
    write_records(path, [{"px": 0.123456789, "none": float("nan"), "far": float("inf"), "n": 3}])
    assert read_records(path) == [{"px": 0.123457, "none": None, "far": None, "n": 3}]


def test_a_section_is_replaced_in_its_place(tmp_path):
    path = tmp_path / "results.md"
    for name, text in (("one", "first"), ("two", "second"), ("one", "third")):
        write_section(path, name, text)
    content = path.read_text()
    assert "first" not in content
    assert content.index("third") < content.index("second")


def test_no_target_is_missed_by_rows_that_reach_them_all():
    assert find_missed(target_rows()) == []
    assert find_unmeasured(target_rows()) == []


def test_every_missed_success_is_named():
    rows = target_rows()
    rows[0]["success"] = 0.5
    (line,) = find_missed(rows)
    assert rows[0]["set"] in line
    assert "50 %" in line


def test_the_worst_start_of_a_set_decides_its_ratio():
    rows = target_rows()
    fox = next(r for r in rows if r["set"] == "fox")
    fox["ratio"] = 1.3
    assert any("fox" in line and "1.30" in line for line in find_missed(rows))


def test_a_start_without_success_misses_the_ratio():
    rows = target_rows()
    next(r for r in rows if r["set"] == "fox")["ratio"] = None
    assert any("fox: - times" in line for line in find_missed(rows))


def test_three_sets_must_be_as_accurate_as_sift():
    (line,) = find_missed(target_rows(ratio=1.1))
    assert "0 sets" in line


def test_starts_that_were_not_run_are_named():
    assert "not run: fox from 20px" in find_unmeasured([])


def test_queries_are_spread_over_the_whole_list():
    assert spread(range(10), 3) == [0, 3, 6]
    assert spread(range(4), 9) == [0, 1, 2, 3]
    assert spread(range(4), None) == [0, 1, 2, 3]


def test_features_are_called_by_their_weights():
    def name(**settings):
        return features_name(ExtractorConfig(**settings))

    assert name(kind="gradients") == TRAINING_FREE
    assert name(kind="network") == LEARNED
    given = NetworkExtractorConfig(weights="runs/quick/best.safetensors")
    assert name(kind="network", network=given) == "quick/best"


def test_the_command_of_rows_names_no_folder():
    args = argparse.Namespace(tag="my net", conf=None, settings=["a.weights=/some/where/w.tar"])
    made = made_with("basin", args, GradientExtractor())
    assert made["command"] == 'python -m benchmarks.basin --write --tag "my net" a.weights=w.tar'
