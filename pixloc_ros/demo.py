"""Replay a bag against a localizer node, and show what it is worth.

    python -m pixloc_ros.demo --stream day
    python -m pixloc_ros.demo --bag BAG --map map.h5

Builds the feature map (once), starts the node as a process of its own, plays the bag over DDS
with /clock, and ends with a table and a page to open. Exit codes: 0; 1 if the bar is missed; 2 if
something cannot be used.
"""

import argparse
import sys
import time
from collections.abc import Sequence

from tqdm import tqdm

from pixloc_core.bags.topics import BagLayout
from pixloc_core.config import load, walk
from pixloc_core.errors import PixlocError
from pixloc_core.evaluation.assembly import RunConfig, open_localizer, open_or_build_map
from pixloc_core.evaluation.report import markdown_table
from pixloc_core.evaluation.stream import (
    StreamBar,
    StreamRun,
    shortfalls,
    stream_rows,
    summarize_stream,
)
from pixloc_core.features.extractor import create_extractor
from pixloc_core.geometry import Pose
from pixloc_core.localizer.localizer import LocalizerConfig
from pixloc_core.visualization.report_page import Verdict
from pixloc_ros.demo_plan import DemoPlan, add_arguments, find_initial_pose, make_plan
from pixloc_ros.demo_report import DemoReport, write_report
from pixloc_ros.replay_session import ReplayPlan, ReplaySession


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
        0, or 1 if the stream is judged and missed its bar.

    Raises:
        PixlocError: If an input cannot be used, or the node does not come up.
    """
    began = time.monotonic()
    plan.out.mkdir(parents=True, exist_ok=True)
    config = load(RunConfig, overrides=settings)
    _prepare_map(plan, config)
    layout, bar = BagLayout(), StreamBar()
    replay = ReplayPlan(
        plan.name,
        plan.bag,
        plan.map_path,
        plan.out / "node.log",
        plan.rate,
        parameters=node_parameters(config.localizer),
    )
    replay.log.unlink(missing_ok=True)
    with ReplaySession(replay) as session:
        initial = find_initial_pose(plan, session.bag, layout)
        run = _play(session, replay, int(session.bag.image_stamps(layout.image)[0]), initial)
    summary = summarize_stream(run)
    missed = shortfalls(summary, bar)
    verdict = _verdict(plan, missed)
    report = DemoReport(run, summary, verdict, bar, session.recorder.confidence)
    localizer = open_localizer(plan.map_path, overrides=settings)
    page = write_report(plan.out, report, session.bag, layout, localizer)
    rows = [*stream_rows(summary), ("replayed at", f"{plan.rate:g} x")]
    _say(f"\n{markdown_table((plan.name, ''), rows)}\n\n{verdict.text}")
    _say(f"report: {page}\nlog of the node: {replay.log}\n{time.monotonic() - began:.0f} s in all")
    return 1 if plan.judged and missed else 0


def node_parameters(config: LocalizerConfig) -> dict[str, bool | int | float | str]:
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
    _say(f"map: {sparse.num_images} images, {sparse.num_points} points, {plan.map_path}")


def _play(session: ReplaySession, plan: ReplayPlan, first_ns: int, initial: Pose) -> StreamRun:
    _say("node: starting")
    session.wait_until_ready()
    session.send_initial_pose(initial, first_ns)
    seconds = session.bag.duration_s / plan.rate
    _say(f"replay: {plan.bag} at {plan.rate:g} x, {seconds:.0f} s")
    session.play()
    return session.result()


def _verdict(plan: DemoPlan, missed: Sequence[str]) -> Verdict:
    text = "; ".join(missed) if missed else "every bar is met"
    if plan.judged:
        return Verdict(f"{'FAILED' if missed else 'PASSED'}: {text}", not missed)
    return Verdict(f"Reported as it is, not judged ({text}).")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
