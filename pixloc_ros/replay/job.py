"""One replay from the bag to the verdict; shared by `pixloc replay` and the demo."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pixloc_core.bags.edit_plan import read_cuts
from pixloc_core.bags.reader import BagReader
from pixloc_core.bags.trajectory import Stamps, Trajectory
from pixloc_core.errors import FormatError
from pixloc_core.evaluation.assembly import open_localizer
from pixloc_core.evaluation.losses import kidnap_stamps
from pixloc_core.evaluation.replay_judgement import judge_run
from pixloc_core.evaluation.replay_table import replay_rows
from pixloc_core.evaluation.report import markdown_table
from pixloc_core.evaluation.stream import StreamRun
from pixloc_core.evaluation.thresholds import Threshold, shortfalls
from pixloc_core.geometry import Pose
from pixloc_core.visualization.report_page import Verdict
from pixloc_ros.replay.bag_sources import check_priors, find_mounting
from pixloc_ros.replay.files import write_files
from pixloc_ros.replay.pictures import BagPictures
from pixloc_ros.replay.player import ReplayConfig
from pixloc_ros.replay.report import ReplayReport, write_report
from pixloc_ros.replay.rig import BagRig, find_rig
from pixloc_ros.replay.session import ReplayPlan, ReplaySession
from pixloc_ros.replay.settings import ReplaySettings, node_config


@dataclass(frozen=True)
class ReplayJob:
    """What to replay, and what to hold it against.

    Attributes:
        name: Of the stream.
        bag: The bag.
        rig: Its cameras.
        stamps: Of all exposures, nanoseconds.
        map_path: Feature map.
        out: Folder for what is written.
        truth: True `map_from_base`.
        initial: `map_from_base` that the node is told at the first image, if it is.
        settings: Of node, topics and bounds.
        thresholds: Limits; empty: only reported.
        is_judged: Whether missing them is a failure.
        rate: Speed over DDS.
        retrieval: Parameters of a retrieval node; None: there is none.
    """

    name: str
    bag: BagReader
    rig: BagRig
    stamps: Stamps
    map_path: Path
    out: Path
    truth: Trajectory
    initial: Pose | None
    settings: ReplaySettings
    thresholds: tuple[Threshold, ...] = ()
    is_judged: bool = True
    rate: float = 1.0
    retrieval: Mapping[str, Any] | None = None

    def check(self) -> None:
        """Find out before the replay what it would miss.

        Raises:
            PixlocError: If a setting does not fit, the place of a camera or poses that are to be
                heard are not in the bag, its list of cuts is damaged, or nothing can be written.
        """
        ReplayConfig(rate=self.rate)
        read_cuts(self.bag.path)
        layout = self.settings.layout
        for camera in self.rig.cameras:
            find_mounting(self.bag, layout, camera.frame)
        check_priors(self.bag, layout, node_config(self.settings.parameters, layout).prior_source)
        _check_folder(self.out)

    @property
    def first_ns(self) -> int:
        """Stamp of the first exposure."""
        return int(self.stamps[0])


def _check_folder(out: Path) -> None:
    """Make the folder for what is written.

    Raises:
        FormatError: If nothing can be written there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FormatError(f"--out {out}: no folder can be made ({error.strerror})") from error
    if not os.access(out, os.W_OK):
        raise FormatError(f"--out {out}: nothing can be written there (Permission denied)")


def find_exposures(bag: BagReader, settings: ReplaySettings) -> tuple[BagRig, Stamps]:
    """The cameras of a bag, and the stamps of all exposures, at least one.

    Raises:
        ConfigError: If a setting does not fit.
        FormatError: If the bag has no images or calibration of a camera, or no exposure.
    """
    rig = find_rig(bag, settings.layout, node_config(settings.parameters, settings.layout))
    stamps = rig.stamps(bag)
    if not stamps.size:
        topics = ", ".join(rig.image_topics)
        raise FormatError(
            f"{bag.path}: images on {topics} make no exposure: their stamps are further apart "
            f"than {rig.sync_slop:g} s (sync_slop)"
        )
    return rig, stamps


@dataclass(frozen=True)
class Replayed:
    """What a replay gave.

    Attributes:
        run: The record.
        confidence: Some confidence images, by stamp.
        notes: Name and value of how it was made, for the tables.
    """

    run: StreamRun
    confidence: Mapping[int, np.ndarray[Any, Any]] = field(default_factory=dict)
    notes: Sequence[tuple[str, str]] = ()


def replay_over_dds(job: ReplayJob) -> Replayed:
    """Play the bag at its rate to a node in a process of its own.

    Raises:
        PixlocError: If the domain is in use, or the node does not come up, or dies.
    """
    layout, log = job.settings.layout, job.out / "node.log"
    plan = ReplayPlan(
        job.name,
        job.bag.path,
        job.map_path,
        log,
        job.rate,
        parameters=job.settings.parameters,
        layout=layout,
        retrieval=job.retrieval,
    )
    log.unlink(missing_ok=True)
    with ReplaySession(plan) as session:
        say("node: starting")
        session.wait_until_ready()
        if job.initial is not None:
            session.send_initial_pose(job.initial, job.first_ns)
        say(f"replay: {job.bag.path} at {job.rate:g} x, {job.bag.duration_s / job.rate:.0f} s")
        session.play()
        run, confidence = session.result(job.truth), session.recorder.confidence
    notes = [("replayed at", f"{job.rate:g} x"), ("log of the node", str(log))]
    return Replayed(run, confidence, notes)


def conclude(job: ReplayJob, replayed: Replayed) -> int:
    """Judge, write everything, print the table.

    Returns:
        0, or 1 if the replay is judged and missed a threshold.

    Raises:
        PixlocError: If the map cannot be used any more; the numbers are written all the same.
    """
    began = time.monotonic()
    cuts = read_cuts(job.bag.path)
    run = replace(replayed.run, name=job.name, bag_start_ns=job.bag.start_ns)
    bounds = job.settings.bounds
    kidnaps = kidnap_stamps(cuts, job.truth, (bounds.position, bounds.rotation_deg))
    judged = judge_run(run, kidnaps, bounds)
    missed = shortfalls(judged.summary.to_json(), job.thresholds)
    write_files(job.out, judged, missed if job.thresholds else None)
    verdict = _verdict(job, missed)
    report = ReplayReport(judged, verdict, replayed.notes, replayed.confidence)
    camera, settings = job.rig.cameras[0], job.settings
    config = node_config(settings.parameters, settings.layout)
    mounting = find_mounting(job.bag, settings.layout, camera.frame)
    pictures = BagPictures(job.bag, camera, mounting, config)
    localizer = open_localizer(job.map_path, overrides=_core_settings(job.settings))
    page = write_report(job.out, report, pictures, localizer)
    rows = [*replay_rows(judged.summary), *replayed.notes]
    say(f"\n{markdown_table((job.name, ''), rows)}\n\n{verdict.text}")
    say(f"report: {page} ({time.monotonic() - began:.0f} s)")
    return 1 if verdict.passed is False else 0


def _verdict(job: ReplayJob, missed: Sequence[str]) -> Verdict:
    if not job.thresholds:
        return Verdict("Reported as it is: no thresholds were given.")
    text = "; ".join(missed) if missed else "every threshold is met"
    if job.is_judged:
        return Verdict(f"{'FAILED' if missed else 'PASSED'}: {text}", not missed)
    return Verdict(f"Reported as it is, not judged ({text}).")


def _core_settings(settings: ReplaySettings) -> list[str]:
    """Entries `a.b=c` of those parameters that are the core's."""
    core = {k: v for k, v in settings.parameters.items() if k.startswith("localizer.")}
    return [f"{name}={_text(value)}" for name, value in core.items()]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "[" + ",".join(map(str, value)) + "]" if isinstance(value, list) else str(value)


def say(text: str) -> None:
    """One line for the person who waits."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
