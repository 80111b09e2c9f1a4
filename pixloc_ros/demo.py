"""Replay the sample world against a localizer node, and show what it is worth.

    python -m pixloc_ros.demo --stream day
    python -m pixloc_ros.demo --bag BAG --map map.h5

Builds the feature map (once), starts the node as a process of its own, plays the bag over DDS
with /clock, and ends with a table and a page to open. Exit codes: 0; 1 if a threshold is missed;
2 if something cannot be used. `pixloc replay` does the same with more options for any bag.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from pixloc_core.bags.reader import BagReader
from pixloc_core.config import load, walk
from pixloc_core.errors import PixlocError
from pixloc_core.evaluation.assembly import RunConfig, open_or_build_map
from pixloc_core.evaluation.thresholds import read_thresholds
from pixloc_core.features.extractor import create_extractor
from pixloc_core.localizer.localizer import LocalizerConfig
from pixloc_ros.replay.demo_plan import THRESHOLDS, DemoPlan, add_arguments, make_plan
from pixloc_ros.replay.inputs import find_initial_pose, read_truth
from pixloc_ros.replay.job import ReplayJob, conclude, find_exposures, replay_over_dds, say
from pixloc_ros.replay.settings import ReplaySettings


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo of a command line."""
    parser = argparse.ArgumentParser(description="Replay a bag against a localizer node.")
    add_arguments(parser)
    parser.add_argument("settings", nargs="*", metavar="a.b=c", help="extractor.x, localizer.x")
    args = parser.parse_args(argv)
    try:
        return run_demo(make_plan(args), args.settings)
    except PixlocError as error:
        sys.stderr.write(f"demo: {error}\n")
        return 2


def run_demo(plan: DemoPlan, settings: Sequence[str] = ()) -> int:
    """Build, replay, report.

    Args:
        plan: What to replay.
        settings: Entries `a.b=c` of a `RunConfig`; those of the localizer go to the node.

    Returns:
        0, or 1 if the stream is judged and missed a threshold.

    Raises:
        PixlocError: If an input cannot be used, or the node does not come up.
    """
    began = time.monotonic()
    plan.out.mkdir(parents=True, exist_ok=True)
    config = load(RunConfig, overrides=settings)
    _prepare_map(plan, config)
    replay = ReplaySettings(node_parameters(config.localizer))
    bag = BagReader(plan.bag)
    truth = read_truth(bag, "", replay.layout)
    rig, stamps = find_exposures(bag, replay)
    job = ReplayJob(
        name=plan.name,
        bag=bag,
        rig=rig,
        stamps=stamps,
        map_path=plan.map_path,
        out=plan.out,
        truth=truth,
        initial=find_initial_pose(plan.initial_pose, truth, int(stamps[0]), plan.offset),
        settings=replay,
        thresholds=read_thresholds(THRESHOLDS),
        is_judged=plan.judged,
        rate=plan.rate,
    )
    job.check()
    code = conclude(job, replay_over_dds(job))
    say(f"{time.monotonic() - began:.0f} s in all")
    return code


def node_parameters(config: LocalizerConfig) -> dict[str, Any]:
    """ROS parameters of the settings that differ from their defaults."""
    defaults, parameters = LocalizerConfig(), {}
    for name, _ in walk(LocalizerConfig):
        given, usual = config, defaults
        for part in name.split("."):
            given, usual = getattr(given, part), getattr(usual, part)
        if given != usual:
            parameters[f"localizer.{name}"] = list(given) if isinstance(given, tuple) else given
    return parameters


def _prepare_map(plan: DemoPlan, config: RunConfig) -> None:
    """Make sure that the feature map is there."""
    if plan.sfm is None or plan.map_images is None:
        return
    extractor = create_extractor(config.extractor)
    with tqdm(unit="image", desc="feature map", disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        found = open_or_build_map(plan.map_path, plan.sfm, plan.map_images, extractor, show)
    sparse = found.sparse
    say(f"map: {sparse.num_images} images, {sparse.num_points} points, {plan.map_path}")


if __name__ == "__main__":
    raise SystemExit(main())
