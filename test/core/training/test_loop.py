"""A run as a whole: repeatable, resumable, interruptible, and safe against what goes wrong."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_pairs import PlanePairs
from toy_training import run_training, small_config

from pixloc_core.errors import CheckpointError, ImageError, TrainingError
from pixloc_core.features.weights import read_weights
from pixloc_core.training.config import TrainConfig
from pixloc_core.training.pairs import PairBatch
from pixloc_core.training.run_store import RunStore
from pixloc_core.training.trainer import Evaluation

TEST = Path(__file__).resolve().parents[2]
# How long something took is no part of the curve.
TIMES = ("pairs_per_second", "waiting_for_data")


def curve(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "numbers.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return [{k: v for k, v in entry.items() if k not in TIMES} for entry in entries]


def parameters(folder: Path) -> dict[str, torch.Tensor]:
    state = RunStore(folder).load_state()
    assert state is not None
    return dict(state.tensors)


def assert_same_parameters(a: Path, b: Path, atol: float) -> None:
    first, second = parameters(a), parameters(b)
    assert first.keys() == second.keys()
    names = [name for name in first if name.startswith("model.")]
    assert len(names) > 20
    for name in names:
        value = first[name]
        torch.testing.assert_close(
            second[name], value, rtol=0, atol=atol, msg=lambda m, n=name: n + m
        )


class At:
    """Does something after a step."""

    def __init__(self, step: int, act: Any) -> None:
        self._step, self._act = step, act

    def on_step(self, step: int) -> None:
        if step == self._step:
            self._act()

    def on_numbers(self, step: int, kind: str, numbers: Mapping[str, float]) -> None:
        """Not of interest."""

    def on_pictures(self, step: int, batch: PairBatch, evaluation: Evaluation) -> None:
        """Not of interest."""


class KilledError(Exception):
    """Stands for a process that is gone at once."""


def kill() -> None:
    raise KilledError


class NotFinite(PlanePairs):
    """A source whose pairs turn bad from an index on."""

    def batch(self, indices: Sequence[int]) -> PairBatch:
        batch = super().batch(indices)
        if 10 <= indices[0] < 1000:
            image = torch.full_like(batch.query.image, torch.nan)
            return replace(batch, query=replace(batch.query, image=image))
        return batch


class Broken(PlanePairs):
    """A source that cannot make its pairs from an index on."""

    def batch(self, indices: Sequence[int]) -> PairBatch:
        if 10 <= indices[0] < 1000:
            raise ImageError("a.jpg: not a readable image (3 bytes)")
        return super().batch(indices)


def replace_steps(config: TrainConfig, steps: int) -> TrainConfig:
    return replace(config, optimization=replace(config.optimization, steps=steps))


def test_training_lowers_the_loss_and_leaves_usable_weights(tmp_path: Path) -> None:
    result = run_training(tmp_path / "run", small_config("optimization.steps=40"))
    assert (result.steps, result.reason) == (40, "finished")
    numbers = [e["reprojection/2"] for e in curve(tmp_path / "run") if e["kind"] == "train"]
    assert sum(numbers[-10:]) < 0.5 * sum(numbers[:10])
    for name in ("last", "best"):
        weights = read_weights(tmp_path / "run" / f"{name}.safetensors")
        assert weights.provenance.trained_on == "toy planes"
        assert weights.damping is not None
    assert weights.provenance.optimizer["num_iters"] == 5


def test_the_same_seed_gives_the_same_run_and_another_one_another(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run_training(tmp_path / name, small_config(f"run.seed={seed}"))
    assert curve(tmp_path / "a") == curve(tmp_path / "b")
    assert curve(tmp_path / "a") != curve(tmp_path / "c")
    assert_same_parameters(tmp_path / "a", tmp_path / "b", atol=0.0)


def test_a_killed_run_goes_on_with_the_curve_of_one_that_was_not(tmp_path: Path) -> None:
    config = small_config("optimization.steps=10")
    run_training(tmp_path / "whole", config)
    with pytest.raises(KilledError):
        run_training(tmp_path / "killed", config, observers=[At(6, kill)])
    # Step 4 was saved; steps 5 and 6 are lost, and their numbers with them.
    result = run_training(tmp_path / "killed", config, resume=True)
    assert result.steps == 10
    assert curve(tmp_path / "killed") == curve(tmp_path / "whole")
    assert_same_parameters(tmp_path / "killed", tmp_path / "whole", atol=0.0)


def test_the_first_interrupt_finishes_the_step_and_saves(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    interrupt = At(3, lambda: os.kill(os.getpid(), signal.SIGINT))
    result = run_training(tmp_path / "run", small_config(), observers=[interrupt])
    assert (result.steps, result.reason) == (3, "interrupted")
    assert signal.getsignal(signal.SIGINT) is handler
    state = RunStore(tmp_path / "run").load_state()
    assert state is not None
    assert state.step == 3
    run_training(tmp_path / "whole", small_config())
    run_training(tmp_path / "run", small_config(), resume=True)
    assert_same_parameters(tmp_path / "run", tmp_path / "whole", atol=0.0)


def test_a_run_stops_when_its_time_is_up(tmp_path: Path) -> None:
    config = small_config("optimization.steps=100000", "run.minutes=0.01")
    result = run_training(tmp_path / "run", config)
    assert result.reason == "time is up"
    assert 0 < result.steps < 1000
    assert (tmp_path / "run" / "best.safetensors").exists()


def test_losses_that_are_not_finite_end_the_run_with_good_parameters(tmp_path: Path) -> None:
    config = small_config("optimization.steps=40", "optimization.max_bad_steps=3")
    with pytest.raises(TrainingError, match=r"step 8: loss .*, gradient nan, 3 steps in a row"):
        run_training(tmp_path / "run", config, source=NotFinite())
    tensors = parameters(tmp_path / "run")
    assert all(torch.isfinite(value).all() for value in tensors.values())
    read_weights(tmp_path / "run" / "last.safetensors")


def test_a_pair_that_cannot_be_made_ends_the_run_and_loses_nothing(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^a\.jpg: not a readable image \(3 bytes\)$"):
        run_training(tmp_path / "run", small_config("run.workers=1"), source=Broken())
    state = RunStore(tmp_path / "run").load_state()
    assert state is not None
    assert state.step == 5


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let writing beyond a size fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_the_run_and_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_training(folder, small_config("optimization.steps=4"))
    good = (folder / "state.safetensors").read_bytes()
    config = small_config("optimization.steps=8")
    with largest_file(8192), pytest.raises(CheckpointError) as caught:
        run_training(folder, config, resume=True)
    assert "cannot write the" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (folder / "state.safetensors").read_bytes() == good
    assert not list(folder.glob(".*partial"))
    assert run_training(folder, config, resume=True).steps == 8


def test_an_interrupt_during_the_last_validation_still_saves_the_last_step(
    tmp_path: Path,
) -> None:
    class Impatient(At):
        def on_numbers(self, step: int, kind: str, numbers: Mapping[str, float]) -> None:
            if kind == "validation":
                raise KilledError

    with pytest.raises(KilledError):
        run_training(
            tmp_path / "run",
            small_config("optimization.steps=7", "run.validate_every=100", "run.save_every=100"),
            observers=[Impatient(0, kill)],
        )
    state = RunStore(tmp_path / "run").load_state()
    assert state is not None
    assert state.step == 7


def test_a_line_that_was_never_finished_is_no_obstacle(tmp_path: Path) -> None:
    run_training(tmp_path / "run", small_config("optimization.steps=4"))
    with (tmp_path / "run" / "numbers.jsonl").open("a") as file:
        file.write('{"step": 5, "ki')
    run_training(tmp_path / "run", small_config(), resume=True)
    assert [e["step"] for e in curve(tmp_path / "run") if e["kind"] == "train"] == list(
        range(1, 9)
    )


def test_a_run_goes_on_without_the_weights_that_it_began_with(tmp_path: Path) -> None:
    run_training(tmp_path / "first", small_config("optimization.steps=2"))
    weights = tmp_path / "first" / "last.safetensors"
    config = small_config(f"weights={weights}", "optimization.steps=6")
    run_training(tmp_path / "run", replace_steps(config, 4))
    weights.unlink()
    assert run_training(tmp_path / "run", config, resume=True).steps == 6


def test_fine_tuning_that_only_harms_leaves_the_weights_it_began_with_as_the_best(
    tmp_path: Path,
) -> None:
    run_training(tmp_path / "first", small_config("optimization.steps=30"))
    weights = tmp_path / "first" / "last.safetensors"
    harm = ("optimization.learning_rate=30", "optimization.steps=4")
    run_training(tmp_path / "harmed", small_config(f"weights={weights}", *harm))
    validations = [e for e in curve(tmp_path / "harmed") if e["kind"] == "validation"]
    assert [entry["step"] for entry in validations] == [0, 4]
    best = read_weights(tmp_path / "harmed" / "best.safetensors")
    begin = read_weights(weights)
    assert all(torch.equal(value, begin.network[name]) for name, value in best.network.items())


def test_settings_that_change_at_a_resume_are_kept(tmp_path: Path) -> None:
    RunStore.create(tmp_path / "run", small_config())
    RunStore.open(tmp_path / "run", ("optimization.steps=77",))
    _, config = RunStore.open(tmp_path / "run")
    assert config.optimization.steps == 77


def test_a_run_of_that_name_is_not_overwritten(tmp_path: Path) -> None:
    run_training(tmp_path / "run", small_config("optimization.steps=1"))
    with pytest.raises(TrainingError, match="there is such a run already"):
        run_training(tmp_path / "run", small_config())
    with pytest.raises(TrainingError, match="no run to resume"):
        RunStore.open(tmp_path / "other")


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    run_training(tmp_path / "run", small_config("optimization.steps=1"))
    path = tmp_path / "run" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"state\.safetensors: cannot read the checkpoint"):
        run_training(tmp_path / "run", small_config(), resume=True)


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = (
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"),
        *("--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", str(TEST / "toy_training.py")),
    )
    paths = {"PYTHONPATH": f"{TEST}:{TEST.parent}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *arguments],
        check=False,
        timeout=300,
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "extra", [(), ("aligner.levels=[0,1]",), ("optimization.checkpoint=true",)]
)
def test_two_processes_give_the_parameters_of_one_with_the_joint_batch(
    tmp_path: Path, extra: tuple[str, ...]
) -> None:
    # Adam turns rounding errors of small gradients into steps of up to the learning rate.
    rates = ("optimization.learning_rate=0.0005", "optimization.damping_rate=1")
    overrides = ("optimization.batch_size=4", "optimization.steps=6", *rates, *extra)
    run_training(tmp_path / "one", small_config(*overrides))
    result = torchrun(str(tmp_path / "two"), *overrides)
    assert result.returncode == 0, result.stderr
    assert_same_parameters(tmp_path / "one", tmp_path / "two", atol=1e-5)


@pytest.mark.slow
def test_what_one_of_two_processes_cannot_do_ends_both_with_a_checkpoint(tmp_path: Path) -> None:
    overrides = ("optimization.batch_size=4", "optimization.steps=20", "run.save_every=1000")
    result = torchrun(str(tmp_path / "two"), "--break-second", *overrides)
    assert result.returncode != 0
    assert "a.jpg: not a readable image" in result.stderr
    state = RunStore(tmp_path / "two").load_state()
    assert state is not None
    assert 1 <= state.step < 20
