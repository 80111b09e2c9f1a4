"""A small training run on toy planes; as a program, the same run for `torchrun`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from toy_pairs import PlanePairs

from pixloc_core.config import load
from pixloc_core.errors import ImageError
from pixloc_core.training import loop
from pixloc_core.training.config import TrainConfig
from pixloc_core.training.loop import Observer, RunResult, train
from pixloc_core.training.pairs import PairBatch, PairSource
from pixloc_core.training.parallel import is_first_process
from pixloc_core.training.run_store import RunStore

SMALL = (
    "network.kind=light",
    "network.light.widths=[8,8,16]",
    "network.light.blocks=[0,0,0]",
    "network.light.decoder=[8,8,8]",
    "network.light.output_scales=[1,2,3]",
    "network.light.output_dim=[8,8,8]",
    "aligner.max_iterations=[5]",
    "start.largest=0.05",
    "optimization.batch_size=2",
    "optimization.learning_rate=0.003",
    "optimization.warmup_steps=2",
    "optimization.steps=8",
    "run.workers=0",
    "run.threads=1",
    "run.device=cpu",
    "run.log_every=1",
    "run.validate_every=4",
    "run.validation_pairs=2",
    "run.save_every=4",
)


def small_config(*overrides: str) -> TrainConfig:
    return load(TrainConfig, overrides=(*SMALL, *overrides))


def run_training(
    folder: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    observers: Sequence[Observer] = (),
    source: PairSource | None = None,
) -> RunResult:
    """Train on toy planes in place of the data that the config names."""
    is_new = is_first_process() and not resume
    store = RunStore.create(folder, config) if is_new else RunStore(folder)
    with mock.patch.object(loop, "create_source", return_value=source or PlanePairs()):
        return train(config, store, observers, resume=resume)


class BrokenInSecond(PlanePairs):
    """A source that fails in the second process, from its fourth step on."""

    def batch(self, indices: Sequence[int]) -> PairBatch:
        if os.environ.get("RANK") == "1" and 12 <= indices[0] < 1000:
            raise ImageError("a.jpg: not a readable image (3 bytes)")
        return super().batch(indices)


if __name__ == "__main__":
    folder, *settings = sys.argv[1:]
    broken = "--break-second" in settings
    settings = [setting for setting in settings if setting != "--break-second"]
    source = BrokenInSecond() if broken else None
    run_training(Path(folder), small_config(*settings), source=source)
