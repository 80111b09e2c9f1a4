"""Tensors of the official layout, whose outputs the reference numbers were computed with."""

import ast
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

Shapes = dict[str, tuple[int, ...]]


@pytest.fixture(scope="session")
def official_shapes(shared_dir: Path) -> Callable[[str], Shapes]:
    """Names and shapes of all tensors of an official checkpoint."""

    def read(experiment: str) -> Shapes:
        file = shared_dir / "fixtures" / f"pixloc_{experiment}_state_dict_keys.txt"
        rows = [line.split(" ", 1) for line in file.read_text().splitlines()]
        return {name: ast.literal_eval(rest.rsplit(" ", 1)[0]) for name, rest in rows}

    return read


@pytest.fixture(scope="session")
def official_tensors(
    shared_dir: Path, official_shapes: Callable[[str], Shapes]
) -> Callable[[str], "OrderedDict[str, torch.Tensor]"]:
    """Tensors under official names: the encoder by formula, the rest from the fixture."""
    known: dict[str, OrderedDict[str, torch.Tensor]] = {}

    def read(experiment: str) -> "OrderedDict[str, torch.Tensor]":
        if experiment not in known:
            known[experiment] = make_tensors(experiment)
        return OrderedDict(known[experiment])

    def make_tensors(experiment: str) -> "OrderedDict[str, torch.Tensor]":
        file = shared_dir / "fixtures" / f"pixloc_{experiment}_non_encoder_weights.npz"
        tensors = OrderedDict()
        with np.load(file) as rest:
            for name, shape in official_shapes(experiment).items():
                is_encoder = ".encoder." in name
                array = encoder_tensor(name, shape) if is_encoder else rest[name]
                tensors[name] = torch.from_numpy(array)
        return tensors

    return read


def encoder_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The formula of fixtures/README.md."""
    stream = np.random.RandomState(zlib.crc32(name.encode()))
    std = np.sqrt(2 / (shape[1] * 9)) if len(shape) == 4 else 0.05
    return (stream.standard_normal(int(np.prod(shape))) * std).astype(np.float32).reshape(shape)
