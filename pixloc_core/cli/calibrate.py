"""`pixloc calibrate`: fit the covariance of the poses to images with true poses."""

import argparse
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from pixloc_core.errors import FormatError

if TYPE_CHECKING:
    from pixloc_core.evaluation.consistency import Consistency
    from pixloc_core.evaluation.posed_answers import PosedAnswers, PosedImage
    from pixloc_core.localizer.covariance import CovarianceConfig
    from pixloc_core.localizer.localizer import Localizer

_DESCRIPTION = (
    "Localizes images whose poses are known, from bags (--bag, with a ground truth topic) or from "
    "a list (--queries, --images, --poses, --gt), and fits the scale and the floor of the "
    "covariance to the errors: the settings under which they are the likeliest, if Gaussian, "
    "widened where the fit to one half in time is too sure of the other. "
    "Prints the coverage per axis at 2 sigma (95.4 % for a Gaussian) and the mean NEES (6) before "
    "and after, also of the second half in time with what is fitted to the first. The order of a "
    "list is that of its names."
)
_LIST = ("queries", "images", "poses", "gt")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        "calibrate", help="fit the covariance of poses to a map", description=_DESCRIPTION
    )
    parser.add_argument("--map", type=Path, required=True, help="feature map (pixloc map build)")
    bags = parser.add_argument_group("from bags")
    bags.add_argument("--bag", type=Path, nargs="+", help="rosbag2 folders")
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
    parser.add_argument("settings", nargs="*", metavar="a.b=c", help="single settings")


def run(args: argparse.Namespace) -> int:
    """Fit and write; exit code 0.

    Raises:
        PixlocError: If an input cannot be used, lacks a ground truth or holds too few poses.
    """
    from pixloc_core.config import load
    from pixloc_core.evaluation.assembly import RunConfig, open_localizer
    from pixloc_core.evaluation.calibration import calibrate
    from pixloc_core.evaluation.consistency import consistency_table

    _check_inputs(args)
    localizer = open_localizer(args.map, args.conf, args.settings)
    before = load(RunConfig, args.conf, args.settings).localizer.covariance
    answers = _answers(localizer, args)
    kept = {name: found.within(args.max_error_px) for name, found in answers.items()}
    groups = {name: found for name, found in kept.items() if len(found)}
    wrong = sum(len(answers[name]) - len(found) for name, found in kept.items())
    after = calibrate(list(groups.values()))
    print(consistency_table(_rows(groups, before, after)))
    print(f"{wrong} poses are off by more than {args.max_error_px:g} px and take no part")
    args.out.write_text(parameter_file(after, args.map, groups))
    print(f"{args.out}: scale {after.scale:.3g} per px, floor {after.floor_px:.3g} px")
    return 0


def parameter_file(
    config: "CovarianceConfig", map_path: Path, groups: "Mapping[str, PosedAnswers]"
) -> str:
    """Parameters of the node, with what they come from."""
    sources = ", ".join(f"{name} ({len(group)} poses)" for name, group in groups.items())
    head = textwrap.wrap(
        f"Covariance of the poses in {map_path.name}, fitted by `pixloc calibrate` to {sources}. "
        "For the node: --params-file THIS_FILE after the file of the other parameters; elsewhere: "
        f"localizer.covariance.scale={config.scale:.4g} "
        f"localizer.covariance.floor_px={config.floor_px:.4g}.",
        width=95,
    )
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
    if args.every < 1 or not args.max_error_px > 0 or min(args.offset) < 0:
        raise FormatError(
            f"--every {args.every} --max-error-px {args.max_error_px:g} --offset "
            f"{args.offset[0]:g} {args.offset[1]:g}, expected at least 1, more than 0, at least 0"
        )


def _answers(localizer: "Localizer", args: argparse.Namespace) -> "dict[str, PosedAnswers]":
    """Answers by the name of what they come from; paths of equal names keep them all."""
    from pixloc_core.bags.reader import BagReader
    from pixloc_core.bags.topics import BagLayout
    from pixloc_core.cli.localize import read_query_list
    from pixloc_core.evaluation.posed_answers import (
        answer,
        bag_images,
        cam_from_base,
        query_images,
    )
    from pixloc_core.map.hloc_formats import read_poses

    if not args.bag:
        queries = sorted(
            read_query_list(args.queries, None, args.poses), key=lambda query: query.name
        )
        images = query_images(queries, args.images, read_poses(args.gt))
        return {args.queries.name: answer(localizer, _shown(images, args.queries.name))}
    given = {
        "ground_truth": args.truth_topic,
        "image": args.image_topic,
        "camera_info": args.info_topic,
    }
    layout = BagLayout(**{name: topic for name, topic in given.items() if topic})
    found = {}
    for path in args.bag:
        bag, name = BagReader(path), str(path) if path.name in found else path.resolve().name
        images = bag_images(bag, layout, tuple(args.offset), args.every)
        found[name] = answer(localizer, _shown(images, name), cam_from_base(bag, layout))
    return found


def _shown(images: "Iterable[PosedImage]", name: str) -> "Iterable[PosedImage]":
    from tqdm import tqdm

    return tqdm(images, unit="image", desc=name, disable=None)


def _rows(
    groups: "Mapping[str, PosedAnswers]", before: "CovarianceConfig", after: "CovarianceConfig"
) -> "list[tuple[str, Consistency]]":
    """All poses before and after, and the second halves by what fits the first ones."""
    from pixloc_core.evaluation.calibration import FEWEST_POSES, calibrate

    rows = []
    for name, group in groups.items():
        rows.append((f"{name}, before", group.consistency(before)))
        rows.append((f"{name}, after", group.consistency(after)))
    halves = {name: group.halves() for name, group in groups.items()}
    if sum(len(first) for first, _ in halves.values()) < FEWEST_POSES:
        return rows
    held = calibrate([first for first, _ in halves.values() if len(first)])
    for name, (_, second) in halves.items():
        rows.append((f"{name}, 2nd half, before", second.consistency(before)))
        rows.append((f"{name}, 2nd half, by the 1st", second.consistency(held)))
    return rows
