"""A training run from its first step, or the last one saved, to its end."""

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from pixloc_core.errors import PixlocError, TrainingError
from pixloc_core.features.checkpoint import load_weights
from pixloc_core.features.networks import create_network
from pixloc_core.features.weights import Provenance
from pixloc_core.training.config import TrainConfig, share_cores
from pixloc_core.training.data import (
    create_source,
    iterate_batches,
    rank_share,
    step_indices,
    validation_indices,
)
from pixloc_core.training.pairs import PairBatch, PairSource
from pixloc_core.training.parallel import Ranks, find_device, join_ranks, processes_here
from pixloc_core.training.reporting import Clock, Window
from pixloc_core.training.run_store import RunStore
from pixloc_core.training.trainer import Evaluation, StepReport, Trainer
from pixloc_core.training.two_view import TwoViewModel

logger = logging.getLogger(__name__)
Numbers = Mapping[str, float]


class Observer(Protocol):
    """Shows a run while it goes on."""

    def on_step(self, step: int) -> None:
        """After each step; steps count from 1."""

    def on_numbers(self, step: int, kind: str, numbers: Numbers) -> None:
        """Means over the last steps (kind "train") or of a validation ("validation")."""

    def on_pictures(self, step: int, batch: PairBatch, evaluation: Evaluation) -> None:
        """Some pairs of a validation."""


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        steps: Steps done, earlier parts of the run included.
        best: Lowest loss of a validation.
        reason: "finished", "interrupted" or "time is up".
    """

    steps: int
    best: float
    reason: str


@dataclass(frozen=True)
class _Run:
    """What the parts of the loop share."""

    config: TrainConfig
    store: RunStore
    trainer: Trainer
    sources: tuple[PairSource, PairSource]
    workers: int
    observers: Sequence[Observer]
    ranks: Ranks

    @property
    def batch_size(self) -> int:
        return self.config.optimization.batch_size

    @property
    def share(self) -> range:
        return rank_share(self.batch_size, self.ranks.rank, self.ranks.world)

    def steps_left(self) -> range:
        return range(self.trainer.step, self.config.optimization.steps)


def train(
    config: TrainConfig, store: RunStore, observers: Sequence[Observer] = (), *, resume: bool
) -> RunResult:
    """Train until all steps are done, the time is up, or the user asks to stop (Ctrl+C).

    Args:
        config: All settings.
        store: Folder of the run.
        observers: Told how it goes, in the first process only.
        resume: Go on from the last state saved, if there is one.

    Raises:
        TrainingError: If losses stay without a finite value.
        PixlocError: If data or weights cannot be used, or files cannot be written; the newest
            good checkpoint stays.
    """
    device = find_device(config.run.device)
    with join_ranks(device) as ranks:
        workers, threads = share_cores(config.run, device, processes_here())
        if config.run.threads or "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(threads)
        state = store.load_state() if resume else None
        # What the run began with may be gone; its own weights say what the network is.
        begin = store.last_weights if state is not None else None
        trainer = Trainer(create_model(config, device, begin), config, ranks)
        if state is not None:
            trainer.restore(state)
            if ranks.is_first:
                store.forget_after(state.step)
        seed, data = config.run.seed, config.data
        source = create_source(data, "train", seed=seed, device=device)
        validation = source
        if data.kind != "synthetic":
            # Of synthetic places there are enough: other indices are other places.
            validation = create_source(data, "validation", seed=seed, device=device)
        shown = observers if ranks.is_first else ()
        return _loop(_Run(config, store, trainer, (source, validation), workers, shown, ranks))


def create_model(
    config: TrainConfig, device: torch.device, weights: Path | None = None
) -> TwoViewModel:
    """The model of a run before its first step.

    Args:
        config: All settings.
        device: Where it is trained.
        weights: File to begin with, in place of that of the config.

    Raises:
        CheckpointError: If the weights cannot be used.
    """
    torch.manual_seed(config.run.seed)
    path = weights or config.weights
    if path:
        loaded = load_weights(path)
        network, damping = loaded.create_network(), loaded.damping
    else:
        network, damping = create_network(config.network), None
    if not config.learned_damping:
        damping = None
    elif damping is None:
        damping = torch.zeros(len(network.config.strides), 6)
    return TwoViewModel(
        network,
        config.aligner,
        damping,
        bf16=config.optimization.bf16,
        learns_alignment=config.objective.reprojection_weight > 0,
    ).to(device)


def _loop(run: _Run) -> RunResult:
    every = run.config.run
    ends = time.monotonic() + 60 * every.minutes if every.minutes else math.inf
    reason = "finished"
    try:
        with _ask_to_stop() as asked:
            if run.config.weights and run.trainer.step == 0:
                # What training has to beat; if it never does, these weights are the best.
                _validate(run)
            for _ in _steps(run):
                why = "interrupted" if asked else ""
                if not why and time.monotonic() > ends:
                    why = "time is up"
                if run.ranks.any(bool(why), run.trainer.device):
                    reason = why or "stopped"
                    break
            _finish(run)
    except PixlocError:
        # Parameters are good still: only finite steps are taken.
        with suppress(PixlocError):
            _save(run)
        raise
    return RunResult(run.trainer.step, run.trainer.best, reason)


def _steps(run: _Run) -> Iterator[int]:
    """Do all steps, with what is due after each of them."""
    trainer, every, batch_size = run.trainer, run.config.run, run.batch_size
    batches = iterate_batches(
        run.sources[0],
        run.steps_left(),
        batch_size,
        run.share,
        workers=run.workers,
        staged=trainer.device.type != "cpu",
    )
    window, clock, bad = Window(), Clock(), 0
    for batch in _agreed(run, clock.watch(batches)):
        report = trainer.train_step(batch, step_indices(trainer.step, batch_size, run.share))
        window.add_step(report)
        bad = 0 if report.taken else bad + 1
        if bad:
            _complain(run, report, bad)
        for observer in run.observers:
            observer.on_step(trainer.step)
        if trainer.step % every.log_every == 0:
            rates = clock.rates(window.pairs * run.ranks.world)
            _log(run, "train", window.means(run.ranks) | rates)
            window = Window()
        if trainer.step % every.validate_every == 0:
            _validate(run)
        if trainer.step % every.save_every == 0:
            _save(run)
        yield trainer.step


def _agreed(run: _Run, batches: Iterator[PairBatch]) -> Iterator[PairBatch]:
    """The same batches, as long as every process of the run can make its own."""
    while True:
        batch, error = None, None
        try:
            batch = next(batches, None)
        except PixlocError as caught:
            error = caught
        if run.ranks.any(error is not None, run.trainer.device):
            raise error or TrainingError("another process of the run could not go on")
        if batch is None:
            return
        yield batch


def _finish(run: _Run) -> None:
    """Leave nothing undone; save first, for whoever cannot wait for the validation."""
    every, step = run.config.run, run.trainer.step
    _save(run)
    if step and step % every.validate_every:
        _validate(run)
        _save(run)


def _complain(run: _Run, report: StepReport, bad: int) -> None:
    step, limit = run.trainer.step, run.config.optimization.max_bad_steps
    loss = float(report.evaluation.loss.detach().mean())
    found = f"loss {loss:.3g}, gradient {report.gradient_norm:.3g}"
    if bad >= limit:
        raise TrainingError(
            f"step {step}: {found}, {bad} steps in a row without finite numbers; "
            "expected finite ones: lower optimization.learning_rate; "
            f"{run.store.folder} keeps the parameters from before"
        )
    logger.warning("step %d not taken: %s, expected finite numbers", step, found)


def _validate(run: _Run) -> None:
    """Measure on pairs never trained on, and keep the weights if they are the best so far."""
    if not run.ranks.is_first:
        return
    trainer, every = run.trainer, run.config.run
    trainer.model.eval()
    window = Window()
    with torch.no_grad():
        for indices in validation_indices(every.validation_pairs, len(run.share)):
            batch = run.sources[1].batch(indices)
            evaluation = trainer.evaluate(batch, indices)
            if window.pairs == 0 and every.picture_pairs:
                for observer in run.observers:
                    observer.on_pictures(trainer.step, batch, evaluation)
            window.add(evaluation)
    means = window.means()
    _log(run, "validation", means)
    if means["loss/total"] < trainer.best:
        trainer.best = means["loss/total"]
        run.store.save_weights("best", trainer.weights(_provenance(run)))


def _save(run: _Run) -> None:
    if run.ranks.is_first:
        run.store.save_state(run.trainer.state())
        run.store.save_weights("last", run.trainer.weights(_provenance(run)))


def _provenance(run: _Run) -> Provenance:
    aligner = run.config.aligner
    return Provenance(
        source=run.store.folder.name,
        trained_on=run.sources[0].description,
        optimizer={
            "steps": run.trainer.step,
            "batch_size": run.batch_size,
            "num_iters": aligner.max_iterations[0],
            "robust_scale": list(aligner.robust_scale),
            "seed": run.config.run.seed,
        },
    )


def _log(run: _Run, kind: str, numbers: Numbers) -> None:
    if run.ranks.is_first:
        run.store.log({"step": run.trainer.step, "kind": kind, **numbers})
        for observer in run.observers:
            observer.on_numbers(run.trainer.step, kind, numbers)


@contextmanager
def _ask_to_stop() -> Iterator[list[int]]:
    """Turn the first SIGINT or SIGTERM into an entry of a list; the next one acts as ever."""
    asked: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {kind: signal.getsignal(kind) for kind in kinds}

    def note(number: int, _: Any) -> None:
        asked.append(number)
        logger.warning("stopping after this step; once more to stop at once")
        for kind, handler in before.items():
            signal.signal(kind, handler)

    for kind in kinds:
        signal.signal(kind, note)
    try:
        yield asked
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
