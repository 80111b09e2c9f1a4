"""Weights of a network as one value: architecture, tensors, damping, and where they come from.

The file format is safetensors: tensors under names as in the official checkpoints, and one JSON
text of metadata. Nothing in it can run code.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pixloc_core.config import load, to_dict
from pixloc_core.errors import CheckpointError, ConfigError
from pixloc_core.features.feature_network import Architecture, FeatureNetwork
from pixloc_core.features.networks import NETWORKS, create_network, kind_of
from pixloc_core.shapes import Float, Tensor

FORMAT = "pixloc-weights"
VERSION = 1
NETWORK_PREFIX = "extractor."
_METADATA_KEY = "pixloc"
_NAMES_SHOWN = 3


@dataclass(frozen=True)
class Provenance:
    """Where weights come from.

    Attributes:
        source: Name of the file that they were converted from, or of the training run.
        source_sha256: Hash of that file, empty if there was none.
        trained_on: What they were trained on, in words.
        epoch: Epoch of the training, -1 if unknown.
        optimizer: Settings of the optimizer in training, for those who want to repeat them.
    """

    source: str = ""
    source_sha256: str = ""
    trained_on: str = ""
    epoch: int = -1
    optimizer: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Weights:
    """Everything that was learned, checked on construction.

    Attributes:
        config: Architecture of the network, an instance of one of the classes in `NETWORKS`.
        network: State dict of `create_network(config)`.
        damping: One row per level, fine to coarse, for (tx, ty, tz, wx, wy, wz); parameters of
            `optim.damping.LearnedDamping`. None if the damping was not learned.
        provenance: Where the weights come from.

    Raises:
        CheckpointError: If a tensor is missing, unknown, of a wrong shape or not finite.
    """

    config: Architecture
    network: Mapping[str, Tensor]
    damping: Float[Tensor, "l 6"] | None = None
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        _check_tensors(self.network, self.config)
        expected = (len(self.config.strides), 6)
        if self.damping is not None and tuple(self.damping.shape) != expected:
            raise CheckpointError(
                f"damping has shape {tuple(self.damping.shape)}, expected {expected}"
            )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the architecture and of every number of the network."""
        settings = json.dumps(to_dict(self.config), sort_keys=True)
        digest = hashlib.sha256(f"{kind_of(self.config)} {settings}".encode())
        for name in sorted(self.network):
            tensor = self.network[name].detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()

    def create_network(self) -> FeatureNetwork:
        """Make the network in evaluation mode, with copies of the weights."""
        # Without memory, so that no time goes into random numbers.
        with torch.device("meta"):
            network = create_network(self.config)
        copies = {name: value.clone() for name, value in self.network.items()}
        network.load_state_dict(copies, strict=True, assign=True)
        return network.eval()


def _check_tensors(network: Mapping[str, Tensor], config: Architecture) -> None:
    with torch.device("meta"):
        expected = create_network(config).state_dict()
    problems = [
        _list_names("missing", [name for name in expected if name not in network]),
        _list_names("unexpected", [name for name in network if name not in expected]),
    ]
    common = [name for name in expected if name in network]
    wrong = [name for name in common if network[name].shape != expected[name].shape]
    shapes = [
        f"{name} {tuple(network[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in wrong
    ]
    problems.append(_list_names("wrong shape", shapes))
    infinite = [name for name in common if not bool(torch.isfinite(network[name]).all())]
    problems.append(_list_names("not finite", infinite))
    found = "; ".join(problem for problem in problems if problem)
    if found:
        raise CheckpointError(f"weights do not fit {describe(config)}: {found}")


def describe(config: Architecture) -> str:
    """Kind and settings of a network in a few words, for messages."""
    settings = ", ".join(f"{name} {value}" for name, value in to_dict(config).items())
    return f"network {kind_of(config)} ({settings})"


def _list_names(what: str, names: list[str]) -> str:
    if not names:
        return ""
    rest = len(names) - _NAMES_SHOWN
    more = f" and {rest} more" if rest > 0 else ""
    return f"{len(names)} {what}: {', '.join(names[:_NAMES_SHOWN])}{more}"


def write_weights(weights: Weights, path: str | Path) -> None:
    """Write a `.safetensors` file; it appears under its name only when it is complete.

    Raises:
        CheckpointError: If the file cannot be written.
    """
    path = Path(path)
    tensors = {f"{NETWORK_PREFIX}{name}": value for name, value in weights.network.items()}
    if weights.damping is not None:
        for level, row in enumerate(weights.damping):
            tensors[f"optimizer.{level}.dampingnet.const"] = row
    contents = {
        "format": FORMAT,
        "version": VERSION,
        "network": kind_of(weights.config),
        "config": to_dict(weights.config),
        "provenance": vars(weights.provenance) | {"optimizer": dict(weights.provenance.optimizer)},
    }
    partial = path.with_name(f".{path.name}.partial")
    try:
        save_file(
            {name: value.detach().cpu().clone() for name, value in tensors.items()},
            partial,
            metadata={_METADATA_KEY: json.dumps(contents, sort_keys=True)},
        )
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot write the weights ({error})") from error
    finally:
        partial.unlink(missing_ok=True)


def read_weights(path: str | Path) -> Weights:
    """Read a `.safetensors` file written by `write_weights`.

    Raises:
        CheckpointError: If the file is missing, damaged, of another format or does not fit.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: cannot read the weights ({reason})") from error
    try:
        contents = json.loads(metadata.get(_METADATA_KEY, "null"))
        if not isinstance(contents, dict) or contents.get("format") != FORMAT:
            raise CheckpointError(f"no metadata of format {FORMAT}; see `pixloc weights convert`")
        if contents.get("version") != VERSION:
            raise CheckpointError(f"version {contents.get('version')}, expected {VERSION}")
        config = _read_config(contents["network"], contents["config"])
        provenance = Provenance(**contents["provenance"])
        network, damping = split_tensors(tensors, len(config.strides))
        return Weights(config, network, damping, provenance)
    except (CheckpointError, ConfigError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _read_config(kind: str, settings: Mapping[str, Any]) -> Architecture:
    if kind not in NETWORKS:
        raise CheckpointError(f"network is {kind!r}, expected one of {', '.join(NETWORKS)}")
    config: Architecture = load(NETWORKS[kind].config, **settings)
    return config


def split_tensors(
    tensors: Mapping[str, Tensor], num_levels: int
) -> tuple[dict[str, Tensor], Float[Tensor, "l 6"] | None]:
    """Divide tensors of the official names into the network's and the damping's.

    Args:
        tensors: `extractor.*` for the network, `optimizer.{level}.dampingnet.const` per level or
            one `optimizer.dampingnet.const` for all levels.
        num_levels: Levels of the network.

    Returns:
        The state dict of the network in float32, and the damping, None if there is none.

    Raises:
        CheckpointError: If other tensors are there, or the damping is not that of all levels.
    """
    network = {
        name.removeprefix(NETWORK_PREFIX): value.float() if value.is_floating_point() else value
        for name, value in tensors.items()
        if name.startswith(NETWORK_PREFIX)
    }
    other = {name for name in tensors if not name.startswith(NETWORK_PREFIX)}
    one, each = _damping_names(num_levels)
    if not other:
        return network, None
    if other not in (one, set(each)):
        raise CheckpointError(
            f"{_list_names('unexpected', sorted(other))}; "
            f"expected the damping of {num_levels} levels, {each[0]} and so on"
        )
    rows = [tensors[name] for name in each] if other != one else [tensors[n] for n in one]
    shapes = {tuple(row.shape) for row in rows}
    if shapes != {(6,)}:
        raise CheckpointError(f"damping has shapes {sorted(shapes)}, expected (6,)")
    return network, torch.stack([row.float() for row in rows]).expand(num_levels, 6)


def _damping_names(num_levels: int) -> tuple[set[str], list[str]]:
    each = [f"optimizer.{level}.dampingnet.const" for level in range(num_levels)]
    return {"optimizer.dampingnet.const"}, each
