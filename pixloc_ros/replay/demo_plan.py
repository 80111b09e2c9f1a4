"""What a demo replays: the sample world of this repository, or any bag and map."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from pixloc_core.errors import FormatError

REPOSITORY = Path(__file__).resolve().parents[2]
THRESHOLDS = REPOSITORY / "config" / "demo_thresholds.yaml"
STREAMS = ("day", "evening")
# The stream that must pass; the other, in a light that the map's images do not have, is reported.
JUDGED_STREAM = "day"
SAMPLE_RATE = 1.0


@dataclass(frozen=True)
class DemoPlan:
    """Inputs of one demo.

    Attributes:
        name: Name of the stream.
        bag: Folder of the bag.
        map_path: Feature map; the cache where there is a model to build it from.
        sfm: COLMAP model, or None where the feature map is there.
        map_images: Images of the model.
        initial_pose: YAML file of the first pose, or "truth": the first true pose, moved.
        offset: Then, how far: length in units of the map, and degrees.
        rate: Speed of the replay.
        judged: Whether missing a threshold is a failure.
        out: Folder for what is written.
    """

    name: str
    bag: Path
    map_path: Path
    sfm: Path | None
    map_images: Path | None
    initial_pose: str
    offset: tuple[float, float]
    rate: float
    judged: bool
    out: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that make a plan."""
    parser.add_argument("--stream", choices=STREAMS, default=JUDGED_STREAM, help="of the sample")
    parser.add_argument("--bag", type=Path, help="another bag, as `pixloc bag` makes them")
    parser.add_argument("--map", type=Path, help="feature map for that bag")
    parser.add_argument("--sfm", type=Path, help="or the COLMAP model to build it from")
    parser.add_argument("--map-images", type=Path, help="images of that model")
    parser.add_argument("--initial-pose", help="YAML file: position, orientation_xyzw")
    parser.add_argument(
        "--offset",
        type=float,
        nargs=2,
        default=(0.1, 2.0),
        metavar=("T", "DEG"),
        help="without it, the first true pose is taken, moved by this (default %(default)s)",
    )
    parser.add_argument("--rate", type=float, help="speed of the replay")
    parser.add_argument("--out", type=Path, help="folder for results (default out/demo_STREAM)")
    parser.add_argument(
        "--judge",
        action=argparse.BooleanOptionalAction,
        help=f"exit with 1 if a threshold is missed (default: only for {JUDGED_STREAM})",
    )


def make_plan(args: argparse.Namespace) -> DemoPlan:
    """The plan of a command line.

    Raises:
        FormatError: If something is missing.
    """
    if args.bag is None:
        return _sample_plan(args)
    out = args.out or REPOSITORY / "out" / f"demo_{args.bag.resolve().name}"
    if args.map is None and (args.sfm is None or args.map_images is None):
        raise FormatError("--bag needs --map, or --sfm and --map-images to build one")
    return DemoPlan(
        name=args.bag.resolve().name,
        bag=args.bag,
        map_path=args.map or out / "map.h5",
        sfm=args.sfm,
        map_images=args.map_images,
        initial_pose=args.initial_pose or "truth",
        offset=tuple(args.offset),
        rate=args.rate or 1.0,
        judged=bool(args.judge),
        out=out,
    )


def _sample_plan(args: argparse.Namespace) -> DemoPlan:
    sample = REPOSITORY / "sample"
    if not sample.is_dir():
        raise FormatError(f"{sample}: the sample world is missing, expected it in the repository")
    stream = sample / args.stream
    judged = args.stream == JUDGED_STREAM if args.judge is None else args.judge
    return DemoPlan(
        name=args.stream,
        bag=stream,
        map_path=REPOSITORY / "out" / "sample_map.h5",
        sfm=sample / "map" / "sfm",
        map_images=sample / "map" / "images",
        initial_pose=args.initial_pose or str(stream / "initial_pose.yaml"),
        offset=tuple(args.offset),
        rate=args.rate or SAMPLE_RATE,
        judged=judged,
        out=args.out or REPOSITORY / "out" / f"demo_{args.stream}",
    )
