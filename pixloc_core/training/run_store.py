"""The folder of a training run: settings, weights, the state to resume from, and numbers.

    config.yaml          all settings
    last.safetensors     weights after the newest save, fit for `--weights`
    best.safetensors     weights of the best validation
    state.safetensors    everything needed to go on exactly where the newest save was
    numbers.jsonl        one JSON object per log line and validation

Every file appears under its name only when it is complete, so a run that is killed or finds the
disk full leaves its newest good files.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pixloc_core.config import load, to_dict
from pixloc_core.errors import CheckpointError, TrainingError
from pixloc_core.features.weights import Weights, write_weights
from pixloc_core.shapes import Tensor
from pixloc_core.training.config import TrainConfig

VERSION = 1


@dataclass(frozen=True)
class RunState:
    """What a run is made of at one moment, besides its settings.

    Attributes:
        step: Steps done.
        best: Lowest loss of a validation so far; infinite before the first.
        tensors: Parameters and buffers of the model (`model.*`) and of the optimizer.
    """

    step: int
    best: float
    tensors: Mapping[str, Tensor]


class RunStore:
    """Reads and writes the folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, config: TrainConfig) -> "RunStore":
        """Begin a run in a new folder, or in that of one that has not come to save anything.

        Raises:
            TrainingError: If there is such a run already, or the folder cannot be written.
        """
        store = cls(folder)
        if any((folder / f"{name}.safetensors").exists() for name in ("state", "best", "last")):
            raise TrainingError(
                f"{folder}: there is such a run already; go on with --resume, or take another name"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "numbers.jsonl").unlink(missing_ok=True)
        except OSError as error:
            raise TrainingError(f"{folder}: cannot make the folder ({error.strerror})") from error
        store._write("config.yaml", OmegaConf.to_yaml(to_dict(config)))
        return store

    @classmethod
    def open(cls, folder: Path, overrides: tuple[str, ...] = ()) -> tuple["RunStore", TrainConfig]:
        """Go on with a run, with the settings that it began with and those that differ now.

        Raises:
            TrainingError: If there is no such run.
            ConfigError: If its settings cannot be used.
        """
        if not (folder / "config.yaml").is_file():
            raise TrainingError(f"{folder}: no run to resume, expected its config.yaml")
        store, config = cls(folder), load(TrainConfig, folder / "config.yaml", overrides)
        if overrides:
            store._write("config.yaml", OmegaConf.to_yaml(to_dict(config)))
        return store, config

    @property
    def last_weights(self) -> Path | None:
        """Weights of the newest save; None before the first."""
        path = self.folder / "last.safetensors"
        return path if path.exists() else None

    def save_state(self, state: RunState) -> None:
        """Replace the state to resume from.

        Raises:
            CheckpointError: If it cannot be written; the one before it stays.
        """
        path = self.folder / "state.safetensors"
        partial = path.with_name(f".{path.name}.partial")
        header = {"version": VERSION, "step": state.step, "best": state.best}
        tensors = {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in state.tensors.items()
        }
        try:
            save_file(tensors, partial, metadata={"pixloc": json.dumps(header)})
            partial.replace(path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{path}: cannot write the checkpoint ({error}); the last good one stays"
            ) from error
        finally:
            partial.unlink(missing_ok=True)

    def saved_step(self) -> int:
        """Step of the newest save, 0 before the first.

        Raises:
            CheckpointError: If the file is damaged.
        """
        state = self.load_state()
        return 0 if state is None else state.step

    def load_state(self) -> RunState | None:
        """The state to resume from; None if nothing was saved yet.

        Raises:
            CheckpointError: If the file is damaged.
        """
        path = self.folder / "state.safetensors"
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {}).get("pixloc", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if header.get("version") != VERSION:
                raise CheckpointError(f"version {header.get('version')}, expected {VERSION}")
            return RunState(int(header["step"]), float(header["best"]), tensors)
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{path}: cannot read the checkpoint ({reason})") from error

    def save_weights(self, name: str, weights: Weights) -> None:
        """Write `last` or `best` weights.

        Raises:
            CheckpointError: If they cannot be written; those before stay.
        """
        write_weights(weights, self.folder / f"{name}.safetensors")

    def log(self, entry: Mapping[str, Any]) -> None:
        """Append one line of numbers.

        Raises:
            TrainingError: If it cannot be written.
        """
        # NaN is no JSON.
        finite = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in entry.items()
        }
        path = self.folder / "numbers.jsonl"
        try:
            with path.open("a") as file:
                file.write(json.dumps(finite) + "\n")
        except OSError as error:
            raise TrainingError(f"{path}: cannot write ({error.strerror})") from error

    def forget_after(self, step: int) -> None:
        """Drop the lines of numbers after a step: a run that goes on from there repeats them."""
        path = self.folder / "numbers.jsonl"
        if path.exists():
            lines = path.read_text().splitlines()
            kept = [line for line in lines if _step_of(line) <= step]
            self._write(path.name, "".join(f"{line}\n" for line in kept))

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        partial = path.with_name(f".{name}.partial")
        try:
            partial.write_text(text)
            partial.replace(path)
        except OSError as error:
            raise TrainingError(f"{path}: cannot write ({error.strerror})") from error
        finally:
            partial.unlink(missing_ok=True)


def _step_of(line: str) -> float:
    """Step of a line of numbers; infinite if the line was never finished."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def describe_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of an optimizer as named tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{name}": torch.as_tensor(value)
        for index, entries in state.items()
        for name, value in entries.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `describe_optimizer` gave.

    Raises:
        CheckpointError: If it does not fit the parameters.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        kind, *rest = key.split(".")
        if kind == "optimizer":
            state.setdefault(int(rest[0]), {})[rest[1]] = value
    contents = optimizer.state_dict()
    expected = sum(len(group["params"]) for group in contents["param_groups"])
    if state and max(state) >= expected:
        raise CheckpointError(
            f"checkpoint holds an optimizer of {max(state) + 1} parameters, expected {expected}"
        )
    contents["state"] = state
    try:
        optimizer.load_state_dict(contents)
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"checkpoint does not fit the optimizer ({error})") from error
