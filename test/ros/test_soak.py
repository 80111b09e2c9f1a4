"""Five minutes of replay in a loop do not let the node grow (benchmarks/soak.py: an hour)."""

from pathlib import Path

import numpy as np
import pytest
from toy_drive import make_drive

from benchmarks.soak import Limits, Sample, Soak, soak
from pixloc_ros.replay.session import ReplayPlan

MINUTES = 5.0


def run_of(memory: list[float], files: list[int] | None = None, published: int = 90) -> Soak:
    """A run with a sample a second."""
    handles = files or [30] * len(memory)
    samples = [
        Sample(float(s), m, f) for s, (m, f) in enumerate(zip(memory, handles, strict=True))
    ]
    return Soak(tuple(samples), loops=2, taken=100, published=published)


def test_memory_that_is_set_up_at_the_beginning_is_no_growth():
    memory = [*np.linspace(200, 400, 20), *[400.0] * 80]
    assert run_of(memory).problems(Limits()) == []


def test_a_leak_is_seen_through_the_wobble_of_the_allocator():
    wobble = np.random.default_rng(0).normal(0, 2.0, 301)
    leak = 400 + 0.05 * np.arange(301) + wobble
    assert run_of(leak.tolist()).slope_mib_per_hour == pytest.approx(180, rel=0.2)
    problems = run_of(leak.tolist()).problems(Limits(memory_mib=8.0))
    assert len(problems) == 1
    assert problems[0].startswith("memory grew by 1")
    assert run_of((400 + wobble).tolist()).problems(Limits()) == []


def test_files_left_open_are_seen():
    files = [30 + second // 10 for second in range(100)]
    assert run_of([400.0] * 100, files).problems(Limits()) == ["open files grew by 5, limit 2"]


def test_a_node_that_does_not_localize_is_no_proof():
    problems = run_of([400.0] * 100, published=40).problems(Limits())
    assert problems == ["40 of 100 images were localized, expected 50%"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_five_minutes_of_replay_do_not_let_the_node_grow(tmp_path):
    """An image a second, so that other tests may run beside it."""
    drive = make_drive(tmp_path, seconds=4.0)
    plan = ReplayPlan("soak", drive.bag, drive.map_path, tmp_path / "node.log", rate=0.2)
    result = soak(plan, MINUTES)
    assert result.problems(Limits()) == []
    assert result.loops > 10
    assert result.steady[-1].seconds > 60 * MINUTES - 10
