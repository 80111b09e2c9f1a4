"""`pixloc replay`: what a localizer is worth on a bag; numbers, plots, verdict.

Exit codes: 0 every threshold is met (or none was given); 1 one is missed; 2 it cannot be run; 130
it was interrupted.
"""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pixloc_core.errors import FormatError

if TYPE_CHECKING:
    from pixloc_ros.replay.job import ReplayJob

# Modes, and the options that have an effect in this one only.
_OPTIONS = {"dds": ("rate",), "process": ("every", "budget_ms")}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        "replay",
        help="replay a bag against the localizer, and judge what it says",
        description="Writes report.html, plots/, summary.json, images.csv, latency.csv, "
        "estimate.tum and truth.tum. Exit code 0: thresholds met; 1: missed; 2: cannot be run; "
        "130: interrupted.",
    )
    parser.add_argument("bag", type=Path, help="folder of the bag")
    parser.add_argument("--map", type=Path, required=True, help="feature map")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is written")
    parser.add_argument(
        "--params", "--params-file", type=Path, help="parameter file of the localizer node"
    )
    parser.add_argument(
        "--gt", default="", metavar="TOPIC|TUM", help="true poses of the base (/ground_truth)"
    )
    parser.add_argument(
        "--mode",
        choices=tuple(_OPTIONS),
        default="dds",
        help="dds: a node of its own, in real time; process: here, as fast as it goes, the same "
        "numbers every time (default %(default)s)",
    )
    parser.add_argument("--thresholds", type=Path, help="YAML file, as replay_thresholds.yaml")
    _add_start(parser)
    _add_pace(parser)
    parser.add_argument(
        "settings",
        nargs="*",
        default=[],
        metavar="a.b=c",
        help="parameters of the node; bag.image=TOPIC etc.; bounds.position=0.1 etc.",
    )


def _add_start(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--initial",
        default="truth",
        metavar="truth|none|x,y,z,yaw|FILE",
        help="first pose told to the node (default: the true one, moved by --offset)",
    )
    parser.add_argument(
        "--offset",
        type=float,
        nargs=2,
        default=(0.1, 2.0),
        metavar=("T", "DEG"),
        help="how far that is moved (default 0.1 2)",
    )
    parser.add_argument(
        "--retrieval",
        nargs="?",
        const="",
        metavar="DIR",
        help="a retrieval node, too; the folder of the map's images where it has no index yet",
    )


def _add_pace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=float, help="dds: speed (default 1)")
    parser.add_argument("--every", type=int, metavar="N", help="process: only every N-th image")
    parser.add_argument(
        "--budget-ms",
        type=float,
        metavar="MS",
        help="process: pretend that an image takes so long; newer ones replace those that wait",
    )


def run(args: argparse.Namespace) -> int:
    """Replay, write, print.

    Raises:
        PixlocError: If something cannot be used.
    """
    # Late: `pixloc --help` shall not wait for ROS and torch.
    from pixloc_ros.replay.job import conclude, replay_over_dds, say
    from pixloc_ros.replay.process import ProcessPace, replay_in_process

    began = time.monotonic()
    _check_mode(args)
    paces = {name: getattr(args, name) for name in _OPTIONS["process"]}
    pace = ProcessPace(**{name: value for name, value in paces.items() if value is not None})
    job = _job(args)
    replayed = replay_over_dds(job) if args.mode == "dds" else replay_in_process(job, pace)
    code = conclude(job, replayed)
    say(f"{time.monotonic() - began:.0f} s in all")
    return code


def _check_mode(args: argparse.Namespace) -> None:
    for mode, names in _OPTIONS.items():
        for name in names:
            if mode != args.mode and getattr(args, name) is not None:
                option = f"--{name.replace('_', '-')}"
                raise FormatError(f"{option} is for --mode {mode}, and would change nothing here")


def _job(args: argparse.Namespace) -> "ReplayJob":
    """Everything is read before anything starts.

    Raises:
        PixlocError: If something cannot be used.
    """
    from pixloc_core.bags.reader import BagReader
    from pixloc_core.evaluation.thresholds import read_thresholds
    from pixloc_core.map.feature_map import FeatureMap
    from pixloc_ros.replay.inputs import check_index, find_initial_pose, read_truth
    from pixloc_ros.replay.job import ReplayJob, find_exposures
    from pixloc_ros.replay.settings import read_settings

    settings = read_settings(args.params, args.settings)
    bag = BagReader(args.bag)
    truth = read_truth(bag, args.gt, settings.layout)
    rig, stamps = find_exposures(bag, settings)
    feature_map = FeatureMap.open(args.map)
    if args.retrieval is not None:
        check_index(feature_map, args.retrieval)
    job = ReplayJob(
        name=args.bag.resolve().name,
        bag=bag,
        rig=rig,
        stamps=stamps,
        map_path=args.map,
        out=args.out,
        truth=truth,
        initial=find_initial_pose(args.initial, truth, int(stamps[0]), tuple(args.offset)),
        settings=settings,
        thresholds=read_thresholds(args.thresholds) if args.thresholds else (),
        rate=1.0 if args.rate is None else args.rate,
        retrieval=_retrieval_parameters(args),
    )
    job.check()
    return job


def _retrieval_parameters(args: argparse.Namespace) -> dict[str, str] | None:
    if args.retrieval is None:
        return None
    return {"images": args.retrieval} if args.retrieval else {}
