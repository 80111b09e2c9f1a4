"""What a replay leaves behind: poses as text, and a page that a person can open."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pixloc_core.bags.reader import BagReader
from pixloc_core.bags.topics import BagLayout
from pixloc_core.bags.trajectory import write_tum
from pixloc_core.evaluation.stream import StreamBar, StreamRun, StreamSummary, stream_rows
from pixloc_core.geometry import Pose
from pixloc_core.localizer.localizer import Localizer
from pixloc_core.localizer.prior import Prior
from pixloc_core.visualization.overlay import (
    add_caption,
    as_rgb,
    draw_confidence,
    draw_evidence,
    encode_picture,
    tile_row,
    write_picture,
)
from pixloc_core.visualization.plots import plot_errors, plot_latency, plot_trajectory, to_png
from pixloc_core.visualization.report_page import Picture, Section, Verdict, render_page

_NUM_OVERLAYS = 4
_NUM_MISSED = 2
_ROW_HEIGHT = 360


@dataclass(frozen=True)
class DemoReport:
    """Everything the page is made of.

    Attributes:
        run: What was recorded.
        summary: Its numbers.
        verdict: How it ended.
        bar: What it was held against, if anything.
        confidence: Confidence images of the node, by stamp.
    """

    run: StreamRun
    summary: StreamSummary
    verdict: Verdict
    bar: StreamBar | None
    confidence: Mapping[int, np.ndarray[Any, Any]]


def write_report(
    folder: Path, report: DemoReport, bag: BagReader, layout: BagLayout, localizer: Localizer
) -> Path:
    """Write `report.html`, `result.jpg`, `images.csv`, `estimate.tum` and `truth.tum`.

    Args:
        folder: Where to.
        report: What was found.
        bag: The bag that was replayed, for its images.
        layout: Its topics.
        localizer: Works out the overlays again, from the poses that the node published.

    Returns:
        Path of the page.
    """
    run = report.run
    write_tum(folder / "estimate.tum", run.estimate)
    write_tum(folder / "truth.tum", run.truth)
    _write_images(folder / "images.csv", report)
    sparse = localizer.sparse
    points = (sparse.points_map + sparse.origin).numpy()
    trajectory = _plot(plot_trajectory(run, points), "Seen from above.")
    overlays = _overlays(run, bag, layout, localizer)
    confidence = _confidence_pictures(report.confidence, bag, layout)
    sections = [
        Section("Trajectory", (trajectory,)),
        Section("Errors", (_plot(plot_errors(run, report.summary, report.bar), _ERRORS),)),
        Section("Latency", (_plot(plot_latency(run), _LATENCY),)),
        Section("Map points in the camera image", overlays),
        Section("Confidence", confidence),
        Section("Images without a pose", _missed_pictures(run, bag, layout)),
    ]
    row = [picture.content for picture in (*overlays[1:2], *confidence[1:2], trajectory)]
    write_picture(str(folder / "result.jpg"), tile_row(row, _ROW_HEIGHT))
    page = folder / "report.html"
    title = f"Localization of the stream “{run.name}”"
    page.write_text(render_page(title, report.verdict, stream_rows(report.summary), sections))
    return page


_ERRORS = "Of every pose, against the ground truth of the bag; red ticks: images without a pose."
_LATENCY = "From the publication of an image to the answer; colours: stages within the node."


def _write_images(path: Path, report: DemoReport) -> None:
    """One line for every image taken up: what became of it, and how far the pose is off."""
    errors = report.summary.errors
    off = dict(
        zip(
            errors.stamps_ns.tolist(),
            zip(errors.errors.position, errors.errors.rotation_deg, strict=True),
            strict=True,
        )
    )
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("stamp_ns", "status", "score", "position", "deg", "latency_ms", "reason"))
        for said in report.run.outcomes:
            numbers = (said.score, *off.get(said.stamp_ns, (np.nan, np.nan)), said.latency_ms)
            row = [f"{number:.4f}" for number in numbers]
            writer.writerow((said.stamp_ns, said.status, *row, said.reason))


def _plot(figure: Any, caption: str) -> Picture:
    return Picture(to_png(figure), caption)


def _overlays(
    run: StreamRun, bag: BagReader, layout: BagLayout, localizer: Localizer
) -> tuple[Picture, ...]:
    """Points on some images that were localized, evenly over the run."""
    stamps = _spread(run.estimate.stamps_ns.tolist(), _NUM_OVERLAYS)
    mounting = bag.static_transform(layout.tf_static, layout.base_frame, layout.camera_frame)
    camera = bag.camera(layout.camera_info)
    pictures = []
    for stamp, image in bag.images(layout.image, stamps):
        map_from_base, _ = run.estimate.at(np.array([stamp]))
        cam_from_map: Pose = (map_from_base[0] @ mounting).inv()
        result = localizer.localize(image, camera, Prior.from_pose(cam_from_map))
        if result.evidence is None:
            continue
        caption = f"{_seconds(run, stamp)}: {result.reason}; green agrees, red does not."
        picture = draw_evidence(as_rgb(image), result.evidence)
        pictures.append(Picture(encode_picture(picture), caption))
    return tuple(pictures)


def _confidence_pictures(
    confidence: Mapping[int, np.ndarray[Any, Any]], bag: BagReader, layout: BagLayout
) -> tuple[Picture, ...]:
    stamps = _spread(sorted(confidence), _NUM_OVERLAYS)
    caption = "As published by the node: yellow pixels are relied on, dark ones are not."
    return tuple(
        Picture(encode_picture(draw_confidence(image, confidence[stamp])), caption)
        for stamp, image in bag.images(layout.image, stamps)
    )


def _missed_pictures(run: StreamRun, bag: BagReader, layout: BagLayout) -> tuple[Picture, ...]:
    reasons = {o.stamp_ns: f"{o.status}: {o.reason}" for o in run.outcomes}
    stamps = _spread(run.missed_stamps_ns().tolist(), _NUM_MISSED)
    return tuple(
        Picture(encode_picture(add_caption(image, reasons[stamp])), _seconds(run, stamp))
        for stamp, image in bag.images(layout.image, stamps)
    )


def _spread(stamps: Sequence[int], count: int) -> list[int]:
    """At most so many of them, evenly spread."""
    if len(stamps) <= count:
        return list(stamps)
    places = torch.linspace(0, len(stamps) - 1, count).round().long().tolist()
    return [stamps[place] for place in places]


def _seconds(run: StreamRun, stamp: int) -> str:
    return f"{(stamp - int(run.image_stamps_ns[0])) / 1e9:.1f} s"
