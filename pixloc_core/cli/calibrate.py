"""`pixloc calibrate`: fit the covariance of the poses to images with true poses, and judge it.

Exit codes: 0 it holds for poses that the fit has not seen; 1 it does not; 2 it cannot be fitted.
"""

import argparse
import math
import os
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from pixloc_core.errors import FormatError

if TYPE_CHECKING:
    from pixloc_core.evaluation.consistency import Consistency
    from pixloc_core.evaluation.posed_answers import PosedAnswers, PosedImage
    from pixloc_core.geometry import Pose
    from pixloc_core.localizer.covariance import CovarianceConfig
    from pixloc_core.localizer.localizer import Localizer

_DESCRIPTION = (
    "Localizes images whose poses are known, from bags (--bag, with a ground truth topic) or from "
    "a list (--queries, --images, --poses, --gt), and fits the scale and the floor of the "
    "covariance to the errors: the settings under which they are the likeliest, if Gaussian, "
    "widened where the fit to one half in time is too sure of the other. "
    "Prints the coverage per axis at 2 sigma (95.4 % for a Gaussian) and the mean NEES (6) before "
    "and after, and of poses that the fit has not seen: those of --judge, else of each bag by a "
    "fit to the others, else of each of four blocks in time by a fit to the other three. These "
    "decide: PASSED and exit code 0, or FAILED and 1. The order of a list is that of its names."
)
_LIST = ("queries", "images", "poses", "gt")


@dataclass(frozen=True)
class _Source:
    """Images with true poses.

    Attributes:
        images: In the order of time.
        cam_from_base: Where the camera is on the robot; None: errors are those of the camera.
    """

    images: "Iterable[PosedImage]"
    cam_from_base: "Pose | None" = None


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        "calibrate", help="fit the covariance of poses to a map", description=_DESCRIPTION
    )
    parser.add_argument("--map", type=Path, required=True, help="feature map (pixloc map build)")
    bags = parser.add_argument_group("from bags")
    bags.add_argument("--bag", type=Path, nargs="+", help="rosbag2 folders")
    bags.add_argument(
        "--judge", type=Path, nargs="+", metavar="BAG", help="bags to judge by, not to fit to"
    )
    bags.add_argument(
        "--offset",
        type=float,
        nargs=2,
        default=(0.1, 1.0),
        metavar=("T", "DEG"),
        help="priors are the truth moved by this, in random directions (default %(default)s)",
    )
    bags.add_argument("--every", type=int, default=1, help="take every so many images")
    bags.add_argument("--truth-topic", help="PoseStamped of the base (default /ground_truth)")
    bags.add_argument("--image-topic", help="default /camera/image/compressed")
    bags.add_argument("--info-topic", help="default /camera/camera_info")
    lists = parser.add_argument_group("from a list")
    lists.add_argument("--queries", type=Path, help="name MODEL w h params")
    lists.add_argument("--images", type=Path, help="folder of the query images")
    lists.add_argument("--poses", type=Path, help="initial poses: name qw qx qy qz tx ty tz")
    lists.add_argument("--gt", type=Path, help="true poses, same format")
    parser.add_argument(
        "--max-error-px",
        type=float,
        default=10.0,
        help="poses whose errors move the points by more, at an image width of 1024, are wrong "
        "and take no part (default %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("covariance.yaml"), help="default %(default)s"
    )
    parser.add_argument("--conf", type=Path, help="YAML file of settings")
    parser.add_argument("settings", nargs="*", default=[], metavar="a.b=c", help="single settings")


def run(args: argparse.Namespace) -> int:
    """Fit, judge and write; exit code 0, or 1 if unseen poses speak against it.

    Raises:
        PixlocError: If an input cannot be used, lacks a ground truth or holds too few poses.
    """
    from pixloc_core.config import load
    from pixloc_core.evaluation.assembly import RunConfig, open_localizer
    from pixloc_core.evaluation.calibration import calibrate
    from pixloc_core.evaluation.consistency import consistency_table

    _check_inputs(args)
    _check_out(args.out)
    # What is to be judged by is opened before the long work on what is to be fitted to.
    fitted, judging = _sources(args), _bag_sources(args.judge or (), args)
    localizer = open_localizer(args.map, args.conf, args.settings)
    before = load(RunConfig, args.conf, args.settings).localizer.covariance
    groups = _usable(_answers(localizer, fitted), args.max_error_px)
    judges = _usable(_answers(localizer, judging), args.max_error_px)
    after = calibrate(list(groups.values()))
    rows = []
    for name, group in groups.items():
        rows += [(f"{name}, before", group.consistency(before))]
        rows += [(f"{name}, after", group.consistency(after))]
    unseen = _unseen(groups, judges, after)
    print(consistency_table([*rows, *unseen.items()]))
    passed, verdict = _verdict(unseen)
    args.out.write_text(parameter_file(after, args.map, groups, verdict))
    print(f"{args.out}: scale {after.scale:.3g}, floor {after.floor_px:.3g} px")
    print(verdict)
    return 0 if passed else 1


def parameter_file(
    config: "CovarianceConfig",
    map_path: Path,
    groups: "Mapping[str, PosedAnswers]",
    verdict: str,
) -> str:
    """Parameters of the node, with what they come from and what they are worth."""
    sources = ", ".join(f"{name} ({len(group)} poses)" for name, group in groups.items())
    head = textwrap.wrap(
        f"Covariance of the poses in {map_path.name}, fitted by `pixloc calibrate` to {sources}. "
        "For the node: --params-file THIS_FILE after the file of the other parameters; elsewhere: "
        f"localizer.covariance.scale={config.scale:.4g} "
        f"localizer.covariance.floor_px={config.floor_px:.4g}.",
        width=95,
    )
    head += textwrap.wrap(verdict, width=95)
    values = {"scale": float(f"{config.scale:.4g}"), "floor_px": float(f"{config.floor_px:.4g}")}
    nested = {"/**": {"ros__parameters": {"localizer": {"covariance": values}}}}
    return "".join(f"# {line}\n" for line in head) + yaml.safe_dump(nested, sort_keys=False)


def _check_inputs(args: argparse.Namespace) -> None:
    missing = [f"--{name}" for name in _LIST if getattr(args, name) is None]
    if args.bag and len(missing) < len(_LIST):
        raise FormatError("either --bag, or a list (--queries, --images, --poses, --gt), not both")
    if not args.bag and missing:
        what = "--bag, or the list: " if len(missing) == len(_LIST) else ""
        raise FormatError(f"{what}{', '.join(missing)} missing (see pixloc calibrate --help)")
    seen = {path.resolve() for path in args.bag or ()}
    for path in args.judge or ():
        if path.resolve() in seen:
            raise FormatError(f"--judge {path}: also given as --bag, so the fit would see it")
    _check_numbers(args)


def _check_numbers(args: argparse.Namespace) -> None:
    if args.every < 1:
        raise FormatError(f"--every is {args.every}, expected at least 1")
    if not args.max_error_px > 0:
        raise FormatError(f"--max-error-px is {args.max_error_px:g}, expected more than 0")
    if not all(0 <= number < math.inf for number in args.offset):
        raise FormatError(
            f"--offset is {args.offset[0]:g} {args.offset[1]:g}, expected at least 0"
        )


def _check_out(out: Path) -> None:
    if out.is_dir():
        raise FormatError(f"--out {out}: a folder, expected a file to write")
    if not out.parent.is_dir():
        raise FormatError(f"--out {out}: there is no folder {out.parent}")
    if not os.access(out if out.exists() else out.parent, os.W_OK):
        raise FormatError(f"--out {out}: cannot be written (Permission denied)")


def _sources(args: argparse.Namespace) -> "dict[str, _Source]":
    """What to fit to, by name."""
    from pixloc_core.cli.localize import read_query_list
    from pixloc_core.evaluation.posed_answers import query_images
    from pixloc_core.map.hloc_formats import read_poses

    if args.bag:
        return _bag_sources(args.bag, args)
    queries = sorted(read_query_list(args.queries, None, args.poses), key=lambda q: q.name)
    return {args.queries.name: _Source(query_images(queries, args.images, read_poses(args.gt)))}


def _bag_sources(paths: "Iterable[Path]", args: argparse.Namespace) -> "dict[str, _Source]":
    """Images by the name of their bag; paths of equal names keep them all."""
    from pixloc_core.bags.reader import BagReader
    from pixloc_core.bags.topics import BagLayout
    from pixloc_core.evaluation.posed_answers import bag_images, cam_from_base

    given = {
        "ground_truth": args.truth_topic,
        "image": args.image_topic,
        "camera_info": args.info_topic,
    }
    layout = BagLayout(**{name: topic for name, topic in given.items() if topic})
    found: dict[str, _Source] = {}
    for path in paths:
        bag, name = BagReader(path), str(path) if path.name in found else path.resolve().name
        images = bag_images(bag, layout, tuple(args.offset), args.every)
        found[name] = _Source(images, cam_from_base(bag, layout))
    return found


def _answers(
    localizer: "Localizer", sources: "Mapping[str, _Source]"
) -> "dict[str, PosedAnswers]":
    """What the localizer says of each of them."""
    from pixloc_core.evaluation.posed_answers import answer

    return {
        name: answer(localizer, _shown(source.images, name), source.cam_from_base)
        for name, source in sources.items()
    }


def _shown(images: "Iterable[PosedImage]", name: str) -> "Iterable[PosedImage]":
    from tqdm import tqdm

    return tqdm(images, unit="image", desc=name, disable=None)


def _usable(
    answers: "Mapping[str, PosedAnswers]", max_error_px: float
) -> "dict[str, PosedAnswers]":
    """Without the wrong poses, which are counted.

    Raises:
        FormatError: If too few are left.
    """
    from pixloc_core.evaluation.calibration_verdict import FEWEST_TO_JUDGE

    kept = {}
    for name, found in answers.items():
        kept[name] = found.within(max_error_px)
        wrong, count = len(found) - len(kept[name]), len(kept[name])
        what = f"{wrong} of {len(found)} poses are off by more than {max_error_px:g} px"
        if count < FEWEST_TO_JUDGE:
            raise FormatError(
                f"{name}: {count} poses to fit to or to judge by ({what}), expected at least "
                f"{FEWEST_TO_JUDGE}: take a longer bag or list, or a smaller --every"
            )
        print(f"{name}: {what} and take no part")
    return kept


def _unseen(
    groups: "Mapping[str, PosedAnswers]",
    judges: "Mapping[str, PosedAnswers]",
    fitted: "CovarianceConfig",
) -> "dict[str, Consistency]":
    """What is said of poses by a fit that has not seen them."""
    from pixloc_core.evaluation.calibration_verdict import judge_held_out

    if judges:
        return {f"{name}, unseen": found.consistency(fitted) for name, found in judges.items()}
    return judge_held_out(groups)


def _verdict(unseen: "Mapping[str, Consistency]") -> tuple[bool, str]:
    """Whether the covariances hold, and the line that says so."""
    from pixloc_core.evaluation.calibration_verdict import calibration_shortfalls

    missed = calibration_shortfalls(unseen)
    if missed:
        return False, f"FAILED: {'; '.join(missed)}"
    seen = [
        f"{name}: {found.count} poses, which count as {found.independent:.0f} independent ones: "
        f"within 2 sigma {100 * found.coverage[1].min():.0f} to "
        f"{100 * found.coverage[1].max():.0f} % per axis, mean NEES {found.nees_mean:.1f}"
        for name, found in unseen.items()
    ]
    return True, f"PASSED: {'; '.join(seen)}"
