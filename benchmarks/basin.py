"""From how far does a pose find home? Many random starts of every query of real image sets.

    python -m benchmarks.basin [--sets sacre_coeur10 ...] [--distances 20 60 150 300] [a.b=c ...]

Each query is started from random poses whose median displacement is one of the distances, in
pixels at an image width of 1024; a start is a success if it ends with a median displacement under
3 px. One hypothesis is followed through all levels and nothing is refused: what counts is where
the alignment ends, not what a search around the start would find, nor whether it is believed. The
starts are the same for all features. `--tag NAME` names the rows in the section of results.md that
`--write` adds them to.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import torch
from tqdm import tqdm

from benchmarks.image_set import ImageSet, find_sets
from benchmarks.results_file import write_section
from pixloc_core.config import load
from pixloc_core.errors import PixlocError
from pixloc_core.evaluation.assembly import RunConfig, open_or_build_map
from pixloc_core.evaluation.pose_error import median_displacement_px
from pixloc_core.evaluation.report import markdown_table, number, percent
from pixloc_core.features.extractor import create_extractor
from pixloc_core.features.preprocessing import load_image
from pixloc_core.geometry import Camera, Pose
from pixloc_core.localizer.localizer import Localizer
from pixloc_core.localizer.prior import Prior
from pixloc_core.shapes import Float, Tensor

REPOSITORY = Path(__file__).resolve().parents[1]
SUCCESS_PX = 3.0
_BISECTION_STEPS = 30
SINGLE = (
    "localizer.near_stride=0",
    "localizer.fan.steps=1",
    "localizer.verification.min_score=0",
    "localizer.verification.min_search_score=0",
    "localizer.verification.min_points=6",
)
HEADER = ("features", "set", "start px", "starts", "success", "median px of successes")


def main() -> int:
    """Run; exit code 2 for unusable input."""
    args = _arguments()
    try:
        config = load(RunConfig, args.conf, [*SINGLE, *args.settings])
        rows = [
            row for name in args.sets for row in _run_set(find_sets(args.data)[name], config, args)
        ]
    except PixlocError as error:
        print(f"basin: {error}", file=sys.stderr)
        return 2
    print(markdown_table(HEADER, rows))
    if args.write:
        _write(args, rows)
    return 0


def _arguments() -> argparse.Namespace:
    shared = Path(os.environ.get("PIXLOC_SHARED", REPOSITORY.parent / "shared"))
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=shared / "data", help="folder of the sets")
    parser.add_argument("--sets", nargs="+", metavar="SET", default=["sacre_coeur10"])
    parser.add_argument("--distances", nargs="+", type=int, default=[20, 60, 150, 300])
    parser.add_argument("--starts", type=int, default=12, help="per query and distance")
    parser.add_argument("--limit", type=int, default=6, help="most queries of each set")
    parser.add_argument("--conf", type=Path, help="YAML file of settings")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "out/basin")
    parser.add_argument("--tag", default="training-free", help="name of these features")
    parser.add_argument("--write", action="store_true", help="add the rows to results.md")
    parser.add_argument("settings", nargs="*", metavar="a.b=c", help="single settings")
    args = parser.parse_args()
    unknown = set(args.sets) - find_sets(args.data).keys()
    if unknown:
        parser.error(f"no set {sorted(unknown)} in {args.data}")
    return args


def _run_set(
    image_set: ImageSet, config: RunConfig, args: argparse.Namespace
) -> Iterator[tuple[str, ...]]:
    extractor = create_extractor(config.extractor)
    args.work.mkdir(parents=True, exist_ok=True)
    cache = args.work / f"{image_set.folder.name}_{extractor.fingerprint[:12]}.h5"
    feature_map = open_or_build_map(
        cache, image_set.sfm, image_set.images, extractor, lambda done, total: None
    )
    localizer = Localizer(feature_map, extractor, config.localizer)
    names = sorted(image_set.truth)
    names = names[:: max(1, -(-len(names) // args.limit))]
    for distance in args.distances:
        ends = []
        for name in tqdm(names, desc=f"{image_set.name} {distance} px", disable=None):
            ends += _ends(image_set, localizer, name, distance, args.starts)
        good = sorted(end for end in ends if end < SUCCESS_PX)
        median = number(good[len(good) // 2] if good else None, 3)
        share = percent(len(good) / len(ends))
        yield (args.tag, image_set.name, str(distance), str(len(ends)), share, median)


def _ends(
    image_set: ImageSet, localizer: Localizer, name: str, distance: float, count: int
) -> list[float]:
    """Displacement at the end of each start of a query; infinite without a pose."""
    points = image_set.visible_points(localizer.sparse, name)
    camera, truth = image_set.cameras[name].double(), image_set.truth[name]
    image = load_image(image_set.images / name)
    ends = []
    for start in _starts(points, camera, truth, distance, count, seed=crc32(name.encode())):
        found = localizer.localize(image, camera, Prior.from_pose(start)).cam_from_map
        end = float("inf")
        if found is not None:
            end = median_displacement_px(points, camera, found, truth)
        ends.append(end)
    return ends


def _starts(
    points: Float[Tensor, "n 3"],
    camera: Camera,
    truth: Pose,
    distance: float,
    count: int,
    *,
    seed: int,
) -> Iterator[Pose]:
    """Poses in random directions (depths, radians) from the truth, at that displacement."""
    generator = torch.Generator().manual_seed(seed)
    depth = float((truth * points)[:, 2].median())
    for _ in range(count):
        xi = torch.randn(6, generator=generator, dtype=torch.float64)
        xi = xi / xi.norm() * torch.tensor([depth] * 3 + [1.0] * 3, dtype=torch.float64)
        low, high = 0.0, 1.5
        for _ in range(_BISECTION_STEPS):
            middle = (low + high) / 2
            moved = median_displacement_px(points, camera, truth.retract(middle * xi), truth)
            low, high = (low, middle) if moved > distance else (middle, high)
        yield truth.retract(low * xi)


def _write(args: argparse.Namespace, rows: list[tuple[str, ...]]) -> None:
    """Replace the rows of these features and sets in the table, and keep the others."""
    path = REPOSITORY / "benchmarks/basin.json"
    kept = [tuple(row) for row in json.loads(path.read_text())] if path.exists() else []
    kept = [row for row in kept if (row[0], row[1]) not in {(new[0], new[1]) for new in rows}]
    path.write_text(json.dumps([*kept, *rows], indent=1) + "\n")
    text = "## Basin of convergence\n\n`python -m benchmarks.basin --tag NAME --write ...`\n\n"
    text += markdown_table(HEADER, [*kept, *rows])
    write_section(REPOSITORY / "benchmarks/results.md", "basin", text)


if __name__ == "__main__":
    sys.exit(main())
