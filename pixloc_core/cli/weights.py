"""`pixloc weights`: describe network weights, or convert those of the official format."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pixloc_core.errors import CheckpointError

if TYPE_CHECKING:
    from pixloc_core.features.weights import Weights

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: "Subparsers") -> None:
    """Declare the verb and its arguments."""
    from pixloc_core.features.shipped_weights import DEFAULT, SHIPPED

    parser = subparsers.add_parser("weights", help="describe or convert network weights")
    verbs = parser.add_subparsers(dest="weights_verb", required=True, metavar="VERB")
    info = verbs.add_parser("info", help="describe weights: network, size, training")
    info.add_argument(
        "weights",
        nargs="?",
        default=DEFAULT,
        help=f"shipped weights ({', '.join(SHIPPED)}) or a file (default: %(default)s)",
    )
    convert = verbs.add_parser(
        "convert",
        help="official PixLoc checkpoint to .safetensors",
        description="Convert an official PixLoc checkpoint (checkpoint_best.tar) to .safetensors. "
        "Checkpoints that hold pickled objects are refused.",
    )
    convert.add_argument("checkpoint", type=Path, help="official checkpoint, checkpoint_best.tar")
    convert.add_argument("output", type=Path, help="file to write, ending in .safetensors")
    convert.add_argument(
        "--trained-on",
        default="",
        metavar="TEXT",
        help="what the weights were trained on (default: the data set that the file names)",
    )


def run(args: argparse.Namespace) -> int:
    """Describe or convert.

    Returns:
        Exit code 0.

    Raises:
        CheckpointError: If the weights cannot be used or the output cannot be written.
    """
    return _info(args.weights) if args.weights_verb == "info" else _convert(args)


def _info(name: str) -> int:
    from pixloc_core.features.checkpoint import load_weights
    from pixloc_core.features.shipped_weights import find_weights

    path, weights = find_weights(name), load_weights(name)
    rows = {"file": str(path), "size MB": f"{path.stat().st_size / 1e6:.1f}", **_describe(weights)}
    width = max(map(len, rows)) + 2
    for key, value in rows.items():
        print(f"{key:<{width}}{value}")
    return 0


def _describe(weights: "Weights") -> dict[str, str]:
    """What is known of weights, without where they lie."""
    from pixloc_core.features.weights import describe

    config, provenance = weights.config, weights.provenance
    rows = {
        "network": describe(config).removeprefix("network "),
        "parameters": f"{_count(weights) / 1e6:.2f} M",
        "strides": ", ".join(map(str, config.strides)),
        "channels": ", ".join(map(str, config.channels)),
        "learned damping": "no" if weights.damping is None else "yes",
        "trained on": provenance.trained_on or "unknown data",
        "source": provenance.source,
        "source SHA-256": provenance.source_sha256,
        "epoch": "" if provenance.epoch < 0 else str(provenance.epoch),
        "optimizer": ", ".join(f"{key} {value}" for key, value in provenance.optimizer.items()),
        "fingerprint": weights.fingerprint,
    }
    return {key: value for key, value in rows.items() if value}


def _count(weights: "Weights") -> int:
    """Parameters; running statistics of batch normalization are counted too."""
    return sum(tensor.numel() for tensor in weights.network.values())


def _convert(args: argparse.Namespace) -> int:
    # PyTorch takes seconds to import: not for `pixloc --help`.
    from pixloc_core.features.checkpoint import read_official
    from pixloc_core.features.weights import describe, write_weights

    if args.output.suffix != ".safetensors":
        raise CheckpointError(f"{args.output}: expected a name that ends in .safetensors")
    weights = read_official(args.checkpoint, args.trained_on)
    write_weights(weights, args.output)
    damping = "learned damping" if weights.damping is not None else "no learned damping"
    trained_on = weights.provenance.trained_on or "unknown data"
    print(
        f"{args.output}: {describe(weights.config)}, {_count(weights) / 1e6:.1f} M parameters, "
        f"{damping}, trained on {trained_on}"
    )
    return 0
