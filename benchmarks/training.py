"""How fast pairs are made and learned from, and whether the data keeps the device busy.

    python -m benchmarks.training [--conf config/train/X.yaml] [--write] [a.b=c ...]

Three figures in one run: pairs per second of the source alone, of training steps on a batch that
is there already, and of the two together as `pixloc train` runs them, with the share of the time
that the training process waits for data.
"""

import argparse
import platform
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.results_file import write_section
from pixloc_core.config import load
from pixloc_core.errors import PixlocError
from pixloc_core.evaluation.report import markdown_table
from pixloc_core.training.config import TrainConfig, share_cores
from pixloc_core.training.data import create_source, iterate_batches, step_indices
from pixloc_core.training.loop import create_model
from pixloc_core.training.pairs import PairSource
from pixloc_core.training.parallel import Ranks, find_device
from pixloc_core.training.reporting import Clock
from pixloc_core.training.trainer import Trainer

REPOSITORY = Path(__file__).resolve().parents[1]
# Steps that warm up caches, workers and kernels and are not timed.
_WARM_UP = 2


def main() -> int:
    """Measure; exit code 2 for unusable input."""
    args = _arguments()
    try:
        config = load(TrainConfig, args.conf, args.settings)
        table = markdown_table(("what", "pairs/s", "remark"), measure(config, args.steps))
    except PixlocError as error:
        print(f"training: {error}", file=sys.stderr)
        return 2
    print(table)
    if args.write:
        # Of folders the name only: where they lie is nobody's concern.
        command = re.sub(r"=/\S*/", "=", "python -m benchmarks.training " + " ".join(sys.argv[1:]))
        machine = f"{platform.machine()}, {torch.get_num_threads()} threads in training"
        text = f"## Training\n\n`{command.strip()}` ({machine})\n\n{table}"
        write_section(REPOSITORY / "benchmarks/results.md", "training", text)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--conf", type=Path, default=REPOSITORY / "config/train/quick.yaml")
    parser.add_argument("--steps", type=int, default=10, help="steps timed (default %(default)s)")
    parser.add_argument("--write", action="store_true", help="write the section of results.md")
    parser.add_argument("settings", nargs="*", metavar="a.b=c", help="single settings")
    return parser.parse_args()


def measure(config: TrainConfig, steps: int) -> list[tuple[str, str, str]]:
    """Rows of the table."""
    device = find_device(config.run.device)
    workers, threads = share_cores(config.run, device)
    torch.set_num_threads(threads)
    trainer = Trainer(create_model(config, device), config, Ranks())
    source = create_source(config.data, "train", seed=config.run.seed, device=device)
    size = config.optimization.batch_size
    making = _rate(lambda step: source.batch(step_indices(step, size, range(size))), steps, size)
    batch, indices = source.batch(range(size)), list(range(size))
    learning = _rate(lambda _: trainer.train_step(batch, indices), steps, size)
    both, waiting = _both(trainer, source, workers, steps)
    size_px = "x".join(map(str, config.data.size))
    return [
        (f"pairs made ({config.data.kind}, {size_px})", f"{making:.1f}", f"one process, {device}"),
        (
            "steps on a ready batch",
            f"{learning:.1f}",
            f"{type(trainer.model.network).__name__}, {device}",
        ),
        (
            "both, as pixloc train does",
            f"{both:.1f}",
            f"{workers} workers; waits for data {waiting:.0%} of the time",
        ),
    ]


def _rate(work: Callable[[int], object], steps: int, pairs: int) -> float:
    for step in range(_WARM_UP):
        work(step)
    began = time.perf_counter()
    for step in range(steps):
        work(_WARM_UP + step)
    _wait()
    return steps * pairs / (time.perf_counter() - began)


def _both(trainer: Trainer, source: PairSource, workers: int, steps: int) -> tuple[float, float]:
    size = trainer.config.optimization.batch_size
    clock = Clock()
    batches = iterate_batches(
        source,
        range(_WARM_UP + steps),
        size,
        range(size),
        workers=workers,
        staged=trainer.device.type != "cpu",
    )
    for step, batch in enumerate(clock.watch(batches)):
        trainer.train_step(batch, step_indices(step, size, range(size)))
        if step == _WARM_UP - 1:
            clock.rates(0)
    _wait()
    rates = clock.rates(steps * size)
    return rates["pairs_per_second"], rates["waiting_for_data"]


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main())
