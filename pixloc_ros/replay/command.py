"""`pixloc replay`: what a localizer is worth on a bag; numbers, plots, verdict.

Exit codes: 0 every threshold is met (or none was given); 1 one is missed; 2 it cannot be run.
"""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pixloc_core.errors import FormatError

if TYPE_CHECKING:
    from pixloc_ros.replay.job import ReplayJob

_MODES = ("dds", "process")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        "replay",
        help="replay a bag against the localizer, and judge what it says",
        description="Writes report.html, plots/, summary.json, images.csv, latency.csv, "
        "estimate.tum and truth.tum. Exit code 0: thresholds met; 1: missed; 2: cannot be run.",
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
        choices=_MODES,
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
        metavar="IMAGES",
        help="a retrieval node, too; the folder of the map's images where it has no index yet",
    )


def _add_pace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=float, default=1.0, help="dds: speed (default 1)")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="process: only every N-th image"
    )
    parser.add_argument(
        "--budget-ms",
        type=float,
        default=0.0,
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
    job = _job(args)
    pace = ProcessPace(args.every, args.budget_ms)
    job.out.mkdir(parents=True, exist_ok=True)
    replayed = replay_over_dds(job) if args.mode == "dds" else replay_in_process(job, pace)
    code = conclude(job, replayed)
    say(f"{time.monotonic() - began:.0f} s in all")
    return code


def _job(args: argparse.Namespace) -> "ReplayJob":
    """Everything is read before anything starts.

    Raises:
        PixlocError: If something cannot be used.
    """
    from pixloc_core.bags.reader import BagReader
    from pixloc_core.evaluation.thresholds import read_thresholds
    from pixloc_ros.replay.inputs import find_initial_pose, read_truth
    from pixloc_ros.replay.job import ReplayJob, find_exposures
    from pixloc_ros.replay.settings import read_settings

    settings = read_settings(args.params, args.settings)
    bag = BagReader(args.bag)
    truth = read_truth(bag, args.gt, settings.layout)
    rig, stamps = find_exposures(bag, settings)
    if not args.map.is_file():
        raise FormatError(f"{args.map}: no such map")
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
        rate=args.rate,
        retrieval=_retrieval_parameters(args),
    )
    job.check()
    return job


def _retrieval_parameters(args: argparse.Namespace) -> dict[str, str] | None:
    if args.retrieval is None:
        return None
    return {"images": args.retrieval} if args.retrieval else {}
