"""`pixloc train`: from a config to weights, in a folder of its own."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixloc_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pixloc_core.training.config import TrainConfig
    from pixloc_core.training.run_store import RunStore

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

_SHOWN = {
    "loss/total": "loss",
    "reprojection/start": "start px",
    "localized": "localized",
    "pairs_per_second": "pairs/s",
}


def add_parser(subparsers: "Subparsers") -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        "train",
        help="train or fine-tune a feature network",
        description="Train a feature network through the optimizer that localizes with it. The "
        "folder of the run receives settings, weights, the state to resume from, numbers and "
        "TensorBoard files. Ctrl+C once: finish the step, save, stop. Several processes: "
        "torchrun --nproc-per-node N -m pixloc_core train ...",
    )
    parser.add_argument("name", help="name of the run: a folder in --runs")
    parser.add_argument("--conf", type=Path, help="YAML file of settings, see config/train/")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder of all runs (default %(default)s)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with a run, with its own settings"
    )
    parser.add_argument(
        "--contact-sheet",
        type=Path,
        metavar="PNG",
        help="draw some pairs of the data into this file instead of training",
    )
    parser.add_argument("settings", nargs="*", default=[], metavar="a.b=c", help="single settings")


def run(args: argparse.Namespace) -> int:
    """Train, and say where the weights are.

    Returns:
        Exit code 0.

    Raises:
        PixlocError: If settings, data or files cannot be used, or the losses are not finite.
    """
    # PyTorch takes seconds to import: not for `pixloc --help`.
    from pixloc_core.training.loop import train
    from pixloc_core.training.parallel import is_first_process
    from pixloc_core.training.run_store import RunStore

    folder = args.runs / args.name
    if args.contact_sheet is not None:
        config = RunStore.open(folder)[1] if args.resume else _load_config(args)
        return _draw_pairs(config, args.contact_sheet)
    if args.resume:
        if args.conf is not None:
            raise ConfigError(f"--conf {args.conf}: a run is resumed with its own settings")
        store, config = RunStore.open(folder, tuple(args.settings))
    else:
        config = _load_config(args)
        store = RunStore.create(folder, config) if is_first_process() else RunStore(folder)
    observers = _observers(config, store) if is_first_process() else []
    try:
        result = train(config, store, observers, resume=args.resume)
    finally:
        for observer in observers:
            observer.close()
    if is_first_process():
        print(
            f"{folder}: {result.reason} after {result.steps} steps, best loss {result.best:.4f}; "
            f"weights in {folder / 'best.safetensors'}"
        )
    return 0


def _load_config(args: argparse.Namespace) -> "TrainConfig":
    from pixloc_core.config import load
    from pixloc_core.training.config import TrainConfig

    return load(TrainConfig, args.conf, args.settings)


def _draw_pairs(config: "TrainConfig", path: Path) -> int:
    from pixloc_core.training.data import create_source
    from pixloc_core.visualization.contact_sheet import draw_contact_sheet
    from pixloc_core.visualization.overlay import write_picture

    source = create_source(config.data, "train", seed=config.run.seed)
    batch = source.batch(range(config.optimization.batch_size))
    write_picture(str(path), draw_contact_sheet(batch))
    print(f"{path}: {len(batch)} pairs of {source.description}")
    return 0


def _observers(config: "TrainConfig", store: "RunStore") -> list[Any]:
    """What shows the run."""
    from pixloc_core.visualization.training_board import TrainingBoard

    board = TrainingBoard(store.folder, pairs=config.run.picture_pairs, step=store.saved_step())
    return [_Bar(config.optimization.steps), board]


class _Bar:
    """Progress bar with the time that is left, and one line per validation."""

    def __init__(self, steps: int) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=steps, unit="step", dynamic_ncols=True)

    def on_step(self, step: int) -> None:
        """Move on."""
        self._bar.update(step - self._bar.n)

    def on_numbers(self, step: int, kind: str, numbers: "Mapping[str, float]") -> None:
        """Show the numbers that matter."""
        text = ", ".join(
            f"{label} {numbers[name]:.3g}" for name, label in _SHOWN.items() if name in numbers
        )
        if kind == "train":
            self._bar.set_postfix_str(text)
        else:
            self._bar.write(f"step {step}: {kind} {text}")

    def on_pictures(self, step: int, batch: Any, evaluation: Any) -> None:
        """A terminal shows none."""

    def close(self) -> None:
        """Leave the last state of the bar."""
        self._bar.close()
