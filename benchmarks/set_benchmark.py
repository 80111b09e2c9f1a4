"""What the benchmarks on real image sets share: arguments, maps, and the names of features."""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from benchmarks.image_set import ImageSet, find_sets
from benchmarks.results_file import Record
from pixloc_core.evaluation.assembly import RunConfig, open_or_build_map
from pixloc_core.features.extractor import Extractor, ExtractorConfig
from pixloc_core.localizer.localizer import Localizer

T = TypeVar("T")
REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks/results.md"
SUCCESS_PX = 3.0
LEARNED, TRAINING_FREE = "learned", "training-free"


def add_set_arguments(parser: argparse.ArgumentParser, work: str) -> None:
    """Which sets, with which settings, where the maps are kept, and whether results.md changes.

    Args:
        parser: Gets the arguments.
        work: Folder under `out/` for maps and pictures.
    """
    shared = Path(os.environ.get("PIXLOC_SHARED", REPOSITORY.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data", help="folder of the sets")
    parser.add_argument("--sets", nargs="+", metavar="SET", help="default: all that are there")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "out" / work)
    parser.add_argument("--conf", type=Path, help="YAML file of settings")
    parser.add_argument("--tag", help="name of these features in the tables")
    parser.add_argument("--write", action="store_true", help="put the rows into results.md")
    parser.add_argument("settings", nargs="*", metavar="a.b=c", help="single settings")


def find_chosen(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[ImageSet]:
    """The sets asked for; ends the program if one is not there."""
    known = find_sets(args.data)
    unknown = set(args.sets or ()) - known.keys()
    if unknown or not known:
        parser.error(f"no set {sorted(unknown)} in {args.data}, it holds {sorted(known)}")
    return [known[name] for name in args.sets or known]


def open_set(
    image_set: ImageSet, extractor: Extractor, config: RunConfig, work: Path
) -> Localizer:
    """A localizer in the map of a set, which is built unless these features have one in `work`.

    Raises:
        MapError: If model or images of the set cannot be used.
    """
    cache = work / f"{image_set.folder.name}_{extractor.fingerprint[:12]}.h5"
    with tqdm(unit="image", desc=f"{image_set.name}: map", disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        feature_map = open_or_build_map(cache, image_set.sfm, image_set.images, extractor, show)
    return Localizer(feature_map, extractor, config.localizer)


def spread(items: Sequence[T], limit: int | None) -> list[T]:
    """At most so many items, evenly over all of them, the first one among them."""
    count = len(items) if limit is None else min(limit, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def features_name(config: ExtractorConfig) -> str:
    """What the rows of these features are called, unless `--tag` says so."""
    if config.kind == "gradients":
        return TRAINING_FREE
    weights = Path(config.network.weights)
    # Weights that ship go by a name, others by that of their file.
    return f"{weights.parent.name}/{weights.stem}" if weights.suffix else LEARNED


def made_with(module: str, args: argparse.Namespace, extractor: Extractor) -> dict[str, str]:
    """What the rows of a run are made with: features, and the command but for its sets.

    Of files the name only: where they lie is nobody's concern.
    """
    tag = [f'--tag "{args.tag}"'] if args.tag else []
    conf = [f"--conf {args.conf.name}"] if args.conf else []
    words = [f"python -m benchmarks.{module} --write", *tag, *conf, *args.settings]
    command = re.sub(r"=/\S*/", "=", " ".join(words))
    return {"command": command, "fingerprint": extractor.fingerprint[:12]}


def list_commands(rows: Sequence[Record]) -> str:
    """What each name of features stands for, as a Markdown list."""
    made = {row["features"]: row["made_with"] for row in rows}
    return "\n".join(
        f"- {name}: `{how['command']}` (fingerprint {how['fingerprint']})"
        for name, how in made.items()
    )
