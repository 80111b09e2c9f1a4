"""The official checkpoints of PixLoc (`checkpoint_best.tar`), read without running their pickle.

Such a file is what `torch.save` makes of a dictionary (it is no tar archive): `model` holds the
tensors, `conf` the settings of the training, `eval` numpy scalars. PyTorch's restricted reader
takes tensors and plain values only; the numpy scalars are let through by name, and anything else
is refused before it is built. Layout: docs/weights.md.
"""

import hashlib
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pixloc_core.config import load
from pixloc_core.errors import CheckpointError, ConfigError
from pixloc_core.features.shipped_weights import find_weights, what_ships
from pixloc_core.features.unet import UNetConfig
from pixloc_core.features.weights import Provenance, Weights, read_weights, split_tensors

# What rebuilds a numpy number; both names, since numpy 2 moved the function.
_SCALAR = np.float64(0).__reduce__()[0]
_NUMPY_NUMBERS: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")),
]
# Defaults of the reference where a checkpoint says nothing.
_EXTRACTOR_DEFAULTS = {
    "encoder": "vgg16",
    "decoder": [64, 64, 64, 64],
    "output_scales": [0, 2, 4],
    "output_dim": 128,
}
# Settings that change the network, with the only values that this project builds.
_EXTRACTOR_FIXED = {
    "num_downsample": 4,
    "decoder_norm": "nn.BatchNorm2d",
    "do_average_pooling": False,
    "compute_uncertainty": True,
}
# What PyTorch's reader raises over damaged files.
_DAMAGE = (
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    struct.error,
)
_HASH_BLOCK_BYTES = 1 << 20
_OPTIMIZER_KEPT = ("num_iters", "loss_fn", "jacobi_scaling")


def load_weights(name: str | Path) -> Weights:
    """Read weights: those shipped under a name, or a file of either format.

    Args:
        name: See `find_weights`. A file is `.safetensors`, else an official checkpoint.

    Raises:
        CheckpointError: If the file is missing, damaged, unsafe, or does not fit.
    """
    path = find_weights(name)
    if not path.exists():
        raise CheckpointError(f"{path}: cannot read the weights (no such file); {what_ships()}")
    if path.suffix == ".safetensors":
        return read_weights(path)
    return read_official(path)


def read_official(path: str | Path, trained_on: str = "") -> Weights:
    """Read an official checkpoint.

    Args:
        path: The file.
        trained_on: What the weights were trained on, in words; the file itself names the data set
            only, which stands in if this is empty.

    Raises:
        CheckpointError: If the file is missing or damaged, holds pickled code, or its tensors are
            not those of the architecture that it states.
    """
    contents = _load_safely(Path(path))
    try:
        conf = _mapping(contents, "conf")
        model = _mapping(conf, "model")
        tensors = _mapping(contents, "model")
        config = _read_architecture(_mapping(model, "extractor"))
        strange = [name for name, value in tensors.items() if not torch.is_tensor(value)]
        if strange:
            raise CheckpointError(f"entry model.{strange[0]} is no tensor")
        network, damping = split_tensors(tensors, len(config.strides))
        epoch = contents.get("epoch", -1)
        provenance = Provenance(
            source=Path(path).name,
            source_sha256=_sha256(Path(path)),
            trained_on=trained_on or str(dict(conf.get("data") or {}).get("name", "")),
            epoch=epoch if isinstance(epoch, int) else -1,
            optimizer=_read_optimizer(model),
        )
        return Weights(config, network, damping, provenance)
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _load_safely(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            is_archive = zipfile.is_zipfile(file)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read the weights ({error.strerror})") from error
    if not is_archive:
        raise CheckpointError(f"{path}: truncated or no checkpoint, expected a file of torch.save")
    try:
        with torch.serialization.safe_globals(_NUMPY_NUMBERS):
            unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
            contents = None if unsafe else torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, *_DAMAGE) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: damaged or no checkpoint ({reason})") from error
    if unsafe:
        raise CheckpointError(
            f"{path}: refused, it holds pickled objects ({', '.join(sorted(unsafe))}), "
            "expected tensors and plain values only"
        )
    if not isinstance(contents, dict):
        raise CheckpointError(
            f"{path}: holds a {type(contents).__name__}, expected a dictionary with model and conf"
        )
    return contents


def _mapping(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = parent.get(key)
    if not isinstance(value, Mapping):
        raise CheckpointError(f"no entry {key!r}, expected the layout of an official checkpoint")
    return value


def _read_architecture(extractor: Mapping[str, Any]) -> UNetConfig:
    for key, value in _EXTRACTOR_FIXED.items():
        # Uncertainty is off where the reference leaves it out; its tensors are then missing.
        if key in extractor and extractor[key] != value:
            raise CheckpointError(
                f"conf.model.extractor.{key} is {extractor[key]!r}, expected {value!r}"
            )
    found = {key: extractor.get(key, value) for key, value in _EXTRACTOR_DEFAULTS.items()}
    if isinstance(found["output_dim"], int) and isinstance(found["output_scales"], list):
        found["output_dim"] = [found["output_dim"]] * len(found["output_scales"])
    return load(UNetConfig, **found)


def _read_optimizer(model: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the optimizer in today's names: old checkpoints say `pad` one level higher."""
    optimizer = dict(model.get("optimizer") or {})
    interpolation = dict(optimizer.get("interpolation") or {})
    kept = {key: optimizer[key] for key in _OPTIMIZER_KEPT if key in optimizer}
    pad = interpolation.get("pad", optimizer.get("pad"))
    if pad is not None:
        kept["pad"] = pad
    if "normalize_features" in model:
        kept["normalize_features"] = model["normalize_features"]
    return kept


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
