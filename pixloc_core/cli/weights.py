"""`pixloc weights convert`: from the official checkpoint format to a file that cannot run code."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pixloc_core.errors import CheckpointError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: "Subparsers") -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser("weights", help="convert network weights")
    verbs = parser.add_subparsers(dest="weights_verb", required=True, metavar="VERB")
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
    """Convert, and say what was found.

    Returns:
        Exit code 0.

    Raises:
        CheckpointError: If the checkpoint cannot be used or the output cannot be written.
    """
    # PyTorch takes seconds to import: not for `pixloc --help`.
    from pixloc_core.features.checkpoint import read_official
    from pixloc_core.features.weights import describe, write_weights

    if args.output.suffix != ".safetensors":
        raise CheckpointError(f"{args.output}: expected a name that ends in .safetensors")
    weights = read_official(args.checkpoint, args.trained_on)
    write_weights(weights, args.output)
    parameters = sum(tensor.numel() for tensor in weights.network.values())
    damping = "learned damping" if weights.damping is not None else "no learned damping"
    trained_on = weights.provenance.trained_on or "unknown data"
    print(
        f"{args.output}: {describe(weights.config)}, {parameters / 1e6:.1f} M parameters, "
        f"{damping}, trained on {trained_on}"
    )
    return 0
