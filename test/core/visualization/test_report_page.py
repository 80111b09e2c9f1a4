"""Pictures and the page: what is drawn lies where it belongs, and the page needs nothing else."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pixloc_core.bags.trajectory import Trajectory
from pixloc_core.errors import ImageError
from pixloc_core.evaluation.replay_judgement import JudgedRun, ReplayBounds, judge_run
from pixloc_core.evaluation.stream import FrameOutcome, StreamRun
from pixloc_core.geometry import Pose
from pixloc_core.localizer.result import Evidence, Localization, LocalizationStatus
from pixloc_core.visualization.overlay import (
    draw_confidence,
    draw_evidence,
    draw_localization,
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

SECOND = 1_000_000_000


def evidence(points: list[list[float]], residual: list[float], valid: list[bool]) -> Evidence:
    count = len(points)
    return Evidence(
        torch.tensor(points),
        torch.tensor(residual),
        torch.ones(count),
        torch.tensor(valid),
        torch.arange(count),
    )


def test_good_points_are_green_bad_ones_red_and_invalid_ones_are_not_drawn() -> None:
    image = np.full((100, 120, 3), 90, np.uint8)
    seen = evidence(
        [[20.0, 30.0], [80.0, 30.0], [60.0, 80.0]], [0.0, 2.0, 0.0], [True, True, False]
    )
    picture = draw_evidence(image, seen)
    red, green, _ = picture[30, 20].astype(int)
    assert green > 2 * red
    red, green, _ = picture[30, 80].astype(int)
    assert red > 2 * green
    untouched = draw_evidence(image, evidence([[0.0, 0.0]], [0.0], [False]))
    assert (picture[80, 60] == untouched[80, 60]).all()
    assert (image == 90).all()


def test_an_overlay_of_a_grey_image_and_of_no_points_works() -> None:
    grey = np.full((40, 50), 128, np.uint8)
    assert draw_evidence(grey, evidence([[0.0, 0.0]], [0.0], [False])).shape == (40, 50, 3)
    result = Localization(LocalizationStatus.NO_REFERENCES, "nothing there", image_size=(50, 40))
    picture = draw_localization(grey, result)
    assert picture.shape[1] == 100
    assert picture.shape[0] > 40


def test_confident_pixels_are_brighter_than_the_others_at_any_resolution() -> None:
    image = np.full((60, 80, 3), 128, np.uint8)
    confidence = np.zeros((6, 8), np.float32)
    confidence[:, 4:] = 1.0
    picture = draw_confidence(image, confidence).astype(int).sum(axis=-1)
    assert picture.shape == (60, 80)
    assert picture[30, 70] > picture[30, 10] + 100


def test_pictures_are_written_and_encoded_with_their_colours(tmp_path: Path) -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    write_picture(str(tmp_path / "red.png"), red)
    assert (cv2.imread(str(tmp_path / "red.png"))[8, 8] == [0, 0, 255]).all()
    decoded = cv2.imdecode(np.frombuffer(encode_picture(red), np.uint8), cv2.IMREAD_COLOR)
    assert decoded[8, 8, 2] > 200
    assert decoded[8, 8, 0] < 40


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere/red.png", r"nowhere/red\.png: picture cannot be written: No such file"),
        ("folder.jpg", r"folder\.jpg: picture cannot be written: Is a directory"),
        ("red", r"red: pictures are not written as files without an ending, expected \.png"),
        ("red.txt", r"red\.txt: pictures are not written as \.txt, expected \.png"),
    ],
)
def test_a_picture_that_cannot_be_written_is_named(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(ImageError, match=message) as caught:
        write_picture(str(tmp_path / name), np.zeros((16, 16, 3), np.uint8))
    assert "\n" not in str(caught.value)


def test_pictures_of_any_size_stand_side_by_side_in_their_order() -> None:
    red, blue = np.zeros((20, 40, 3), np.uint8), np.zeros((30, 30, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    row = tile_row([encode_picture(red), encode_picture(blue)], 10)
    assert row.shape == (10, 30, 3)
    assert row[5, 5, 0] > 200
    assert row[5, 25, 2] > 200


@pytest.fixture(scope="module")
def judged() -> JudgedRun:
    """A circle of 3 m with a kidnap, one image that was not localized and one wrong pose."""
    times = np.linspace(0, 10, 51)
    stamps = (times * SECOND).astype(np.int64) + SECOND
    angle = torch.from_numpy(2 * np.pi * times / 10)
    zero = torch.zeros_like(angle)
    poses = Pose.from_aa(
        torch.stack([zero, zero, angle], -1),
        torch.stack([3 * angle.cos(), 3 * angle.sin(), zero + 0.2], -1),
    )
    truth = Trajectory(stamps, poses)
    taken = list(range(0, 51, 2))
    outcomes = tuple(
        FrameOutcome(
            int(stamps[i]),
            "not localized" if i == 20 else "localized",
            "",
            0.8,
            300.0 + i,
            int(stamps[i]) + 300_000_000,
            {"extract": 100.0, "align": 150.0 + i},
            "LOST" if i == 20 else "TRACKING",
        )
        for i in taken
    )
    good = [i for i in taken if i != 20]
    noise = 0.01 * torch.randn(len(good), 6, generator=torch.Generator().manual_seed(0)).double()
    noise[9, 0] = 1.0
    estimate = Trajectory(stamps[good], poses[good] @ Pose.exp(noise))
    covariances = np.broadcast_to(1e-4 * np.eye(6), (len(good), 6, 6))
    run = StreamRun(
        "circle", stamps, outcomes, estimate, truth, 12.0, covariances=covariances.copy()
    )
    return judge_run(run, stamps[18:19], ReplayBounds())


def test_plots_become_png_files_of_the_size_asked(judged: JudgedRun) -> None:
    points = np.random.default_rng(0).normal(0, 3, (500, 3))
    covariance = judged.summary.covariance
    assert covariance is not None
    figures = {
        400: [plot_trajectory(judged, points), plot_errors(judged), plot_latency(judged.run)],
        450: [plot_axis_errors(judged), plot_states(judged)],
        300: [plot_nees(judged), plot_coverage(covariance)],
    }
    for width, group in figures.items():
        for figure in group:
            assert figure is not None
            content = to_png(figure, dpi=50)
            decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
            assert decoded.shape[1] == width
            assert decoded.std() > 5


def test_what_was_not_told_is_not_plotted(judged: JudgedRun) -> None:
    silent = dataclasses.replace(judged.run, outcomes=(), covariances=None)
    other = judge_run(silent, judged.kidnaps_ns, ReplayBounds())
    assert plot_axis_errors(other) is None
    assert plot_nees(other) is None
    assert plot_states(other) is None
    assert plot_stage_latency(other.run) is None


def test_the_top_view_draws_the_two_axes_in_which_the_path_extends(judged: JudgedRun) -> None:
    axes = plot_trajectory(judged, np.zeros((0, 3))).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x of the map", "y of the map")


def test_the_top_view_tells_states_wrong_poses_and_the_gap_of_a_kidnap(judged: JudgedRun) -> None:
    axes = plot_trajectory(judged, np.zeros((0, 3))).axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["map points", "ground truth", "tracking", "no pose", "wrong pose"]
    (path,) = axes.get_lines()
    assert np.isnan(path.get_xdata()).sum() == 1


def test_the_states_are_rows_with_the_kidnap_marked(judged: JudgedRun) -> None:
    figure = plot_states(judged)
    assert figure is not None
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["images", "tracking", "lost"]


def test_the_latency_is_shown_by_stage(judged: JudgedRun) -> None:
    figure = plot_stage_latency(judged.run)
    assert figure is not None
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["total", "extract", "align"]


def test_measured_stages_are_not_drawn_over_times_that_were_said(judged: JudgedRun) -> None:
    said = dataclasses.replace(judged.run, budget_ms=300.0)
    assert len(plot_latency(judged.run).axes[0].collections) == 2
    assert len(plot_latency(said).axes[0].collections) == 0
    figure = plot_stage_latency(said)
    assert figure is not None
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["extract", "align"]


def test_times_count_from_the_first_message_of_the_bag(judged: JudgedRun) -> None:
    earlier = dataclasses.replace(judged.run, bag_start_ns=judged.run.begin_ns - 2 * SECOND)
    line, shifted = (plot_latency(run).axes[0].get_lines()[0] for run in (judged.run, earlier))
    assert np.asarray(shifted.get_xdata()) == pytest.approx(np.asarray(line.get_xdata()) + 2)


def test_legends_lie_outside_and_a_logarithmic_axis_has_plain_labels(judged: JudgedRun) -> None:
    covariance = judged.summary.covariance
    figures = [plot_nees(judged), plot_trajectory(judged, np.zeros((0, 3)))]
    assert covariance is not None
    for figure in [*figures, plot_coverage(covariance)]:
        assert figure is not None
        to_png(figure)
        axes = figure.axes[0]
        legend = axes.get_legend().get_window_extent()
        assert legend.y0 >= axes.get_window_extent().y1
        assert legend.x0 >= 0
        assert legend.x1 <= figure.bbox.width
    nees = figures[0]
    assert nees is not None
    assert {"0.5", "1", "2", "5", "10"} <= {
        text.get_text() for text in nees.axes[0].get_xticklabels()
    }


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.sources.append(dict(attrs)["src"] or "")
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_escaped_and_needs_no_other_file() -> None:
    png = to_png(plot_empty())
    sections = [
        Section("A & B", (Picture(png, "<one>"), Picture(b"\xff\xd8jpeg", "two"))),
        Section("empty", ()),
    ]
    page = render_page("<title>", Verdict("PASSED", True), [("a < b", "1 & 2")], sections)
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert [source.split(";")[0] for source in tags.sources] == [
        "data:image/png",
        "data:image/jpeg",
    ]
    assert "a &lt; b" in page
    assert "1 &amp; 2" in page
    assert "empty" not in page
    assert 'class="verdict pass"' in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)


def plot_empty():
    from matplotlib.figure import Figure

    return Figure(figsize=(1, 1))
