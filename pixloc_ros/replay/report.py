"""What a replay leaves for people: a page with plots and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from pixloc_core.bags.trajectory import Stamps
from pixloc_core.errors import ImageError
from pixloc_core.evaluation.replay_judgement import JudgedRun
from pixloc_core.evaluation.replay_table import latency_rows, replay_rows
from pixloc_core.evaluation.stream import StreamRun
from pixloc_core.geometry import Pose
from pixloc_core.localizer.localizer import Localizer
from pixloc_core.localizer.prior import Prior
from pixloc_core.visualization.overlay import (
    add_caption,
    draw_confidence,
    draw_evidence,
    encode_picture,
    tile_row,
    write_picture,
)
from pixloc_core.visualization.plots import plot_errors, plot_latency, plot_trajectory, to_png
from pixloc_core.visualization.replay_plots import (
    plot_axis_errors,
    plot_coverage,
    plot_nees,
    plot_stage_latency,
    plot_states,
)
from pixloc_core.visualization.report_page import Picture, Section, Verdict, render_page
from pixloc_ros.replay.pictures import BagPictures

_NUM_OVERLAYS = 4
_NUM_MISSED = 2
_ROW_HEIGHT = 360


@dataclass(frozen=True)
class ReplayReport:
    """Everything the page is made of.

    Attributes:
        judged: The replay and its numbers.
        verdict: How it ended.
        notes: Name and value of what else is to be told in its table.
        confidence: Confidence images of the node, by stamp.
    """

    judged: JudgedRun
    verdict: Verdict
    notes: Sequence[tuple[str, str]] = ()
    confidence: Mapping[int, np.ndarray[Any, Any]] = field(default_factory=dict)


def write_report(
    folder: Path, report: ReplayReport, pictures: BagPictures, localizer: Localizer
) -> Path:
    """Write `report.html`, its plots under `plots/`, and `result.jpg`.

    Args:
        folder: Where to.
        report: What was found.
        pictures: Images of the bag.
        localizer: Works out the overlays again, from the poses that the node published.

    Returns:
        Path of the page.
    """
    judged = report.judged
    run = judged.run
    sparse = localizer.sparse
    points = (sparse.points_map + sparse.origin).numpy()
    plots = _plots(judged, points)
    (folder / "plots").mkdir(exist_ok=True)
    for name, picture in plots.items():
        (folder / "plots" / f"{name}.png").write_bytes(picture.content)
    overlays = _overlays(run, pictures, localizer)
    confidence = _confidence_pictures(report.confidence, pictures)

    def section(title: str, *names: str) -> Section:
        return Section(title, tuple(plots[name] for name in names if name in plots))

    sections = [
        section("Trajectory", "trajectory"),
        section("What the localizer knew", "states"),
        section("Errors", "errors", "axes"),
        section("How far the covariance can be believed", "nees", "coverage"),
        section("Latency", "latency", "stages"),
        Section("Map points in the camera image", overlays),
        Section("Confidence", confidence),
        Section("Wrong poses", _wrong_pictures(judged, pictures)),
        Section("Images without a pose", _missed_pictures(run, pictures)),
    ]
    row = [p.content for p in (*overlays[1:2], *confidence[1:2], plots["trajectory"])]
    write_picture(str(folder / "result.jpg"), tile_row(row, _ROW_HEIGHT))
    rows = [*replay_rows(judged.summary), *report.notes]
    rows += [(f"{name}, p50 / p90 / p99 / max", v) for name, v in latency_rows(judged.summary)]
    page = folder / "report.html"
    title = f"Localization of the stream “{run.name}”"
    page.write_text(render_page(title, report.verdict, rows, sections))
    return page


def _plots(judged: JudgedRun, points: np.ndarray[Any, Any]) -> dict[str, Picture]:
    """All plots that can be made, by name."""
    run, covariance = judged.run, judged.summary.covariance
    figures: dict[str, tuple[Figure | None, str]] = {
        "trajectory": (plot_trajectory(judged, points), _TRAJECTORY),
        "states": (plot_states(judged), _STATES),
        "errors": (plot_errors(judged), _ERRORS),
        "axes": (plot_axis_errors(judged), _AXES),
        "nees": (plot_nees(judged), _NEES),
        "coverage": (None if covariance is None else plot_coverage(covariance), _COVERAGE),
        "latency": (plot_latency(run), _LATENCY_SAID if run.budget_ms else _LATENCY),
        "stages": (plot_stage_latency(run), _STAGES_ALONE if run.budget_ms else _STAGES),
    }
    return {
        name: Picture(to_png(figure), caption)
        for name, (figure, caption) in figures.items()
        if figure is not None
    }


_TRAJECTORY = (
    "Seen from above. Line: the truth; dots: poses, coloured by state; crosses: images without a "
    "pose; rings: wrong poses; pale dots: the map."
)
_STATES = (
    "Lowest row: green, a pose; red, a wrong one; orange, none; grey, the image was not taken up. "
    "Dotted: the robot was put elsewhere."
)
_ERRORS = (
    "Of every pose (green dots), against the ground truth; red ticks: images without a pose; "
    "dashed: what counts as wrong; dotted: the robot was put elsewhere."
)
_AXES = (
    "Along the axes of the map (green dots), with the band of two standard deviations told with "
    "each pose; dotted: the robot was put elsewhere."
)
_NEES = (
    "Squared error by covariance. Bars: the poses; right covariances follow the dark line, too "
    "small ones lie right of it; dashed: the mean."
)
_COVERAGE = (
    "Share of the errors within 1 (blue), 2 (green) and 3 sigma (grey); dashed in the same "
    "colour: where covariances are right."
)
_LATENCY = (
    "Dark line: from the publication of an image to the answer; colours: stages within the node."
)
_LATENCY_SAID = (
    "On the clock of the bag, with the time that each image was said to take, and how long it "
    "waited."
)
_STAGES = "Bars: the median; red whiskers: up to the 99th percentile; the total is dark."
_STAGES_ALONE = (
    "As measured on this machine, not as the images were said to take. Bars: the median; red "
    "whiskers: up to the 99th percentile."
)


def _overlays(run: StreamRun, pictures: BagPictures, localizer: Localizer) -> tuple[Picture, ...]:
    """Points on some images that were localized, evenly over the run."""
    stamps = _spread(run.estimate.stamps_ns.tolist(), _NUM_OVERLAYS)
    found = []
    for stamp, image in pictures.at(stamps):
        map_from_base, _ = run.estimate.at(np.array([stamp]))
        cam_from_map: Pose = (map_from_base[0] @ pictures.base_from_cam).inv()
        try:
            result = localizer.localize(image.pixels, image.camera, Prior.from_pose(cam_from_map))
        except ImageError:
            # Of a rig the other cameras gave the pose.
            continue
        if result.evidence is None:
            continue
        caption = f"{_seconds(run, stamp)}: {result.reason}; green agrees, red does not."
        picture = draw_evidence(image.pixels, result.evidence)
        found.append(Picture(encode_picture(picture), caption))
    return tuple(found)


def _confidence_pictures(
    confidence: Mapping[int, np.ndarray[Any, Any]], pictures: BagPictures
) -> tuple[Picture, ...]:
    stamps = _spread(sorted(confidence), _NUM_OVERLAYS)
    caption = "As published by the node: yellow pixels are relied on, dark ones are not."
    return tuple(
        Picture(encode_picture(draw_confidence(image.pixels, confidence[stamp])), caption)
        for stamp, image in pictures.at(stamps)
    )


def _wrong_pictures(judged: JudgedRun, pictures: BagPictures) -> tuple[Picture, ...]:
    stamps: Stamps = judged.errors.stamps_ns[judged.is_wrong]
    errors = judged.errors.errors
    told = {
        int(stamp): f"{position:.2f} m, {degrees:.1f} deg off"
        for stamp, position, degrees in zip(
            judged.errors.stamps_ns, errors.position, errors.rotation_deg, strict=True
        )
    }
    return tuple(
        Picture(
            encode_picture(add_caption(image.pixels, told[stamp])), _seconds(judged.run, stamp)
        )
        for stamp, image in pictures.at(_spread(stamps.tolist(), _NUM_MISSED))
    )


def _missed_pictures(run: StreamRun, pictures: BagPictures) -> tuple[Picture, ...]:
    reasons = {o.stamp_ns: f"{o.status}: {o.reason}" for o in run.outcomes}
    stamps = _spread(run.missed_stamps_ns().tolist(), _NUM_MISSED)
    return tuple(
        Picture(encode_picture(add_caption(image.pixels, reasons[stamp])), _seconds(run, stamp))
        for stamp, image in pictures.at(stamps)
    )


def _spread(stamps: Sequence[int], count: int) -> list[int]:
    """At most so many of them, evenly spread."""
    if len(stamps) <= count:
        return list(stamps)
    places = torch.linspace(0, len(stamps) - 1, count).round().long().tolist()
    return [stamps[place] for place in places]


def _seconds(run: StreamRun, stamp: int) -> str:
    return f"{(stamp - run.zero_ns) / 1e9:.1f} s"
