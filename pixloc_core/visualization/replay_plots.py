"""Plots of how far a localizer can be believed: error against sigma, NEES, coverage, states."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import chi2

from pixloc_core.evaluation.consistency import AXES, nees, pose_errors
from pixloc_core.evaluation.pose_error import FloatArray
from pixloc_core.evaluation.replay_judgement import JudgedRun, covariances_with_truth
from pixloc_core.evaluation.replay_summary import CovarianceSummary
from pixloc_core.evaluation.stream import StreamRun, seconds_since
from pixloc_core.visualization.plots import (
    ESTIMATE,
    MAP,
    MISSED,
    STATE_COLOURS,
    TRUTH,
    add_legend,
    broken_line,
    label_log_axis,
    make_figure,
    mark_kidnaps,
)

_SIX = 6
_GAUSSIAN = (0.6827, 0.9545, 0.9973)
_STATE_ORDER = ("TRACKING", "DEGRADED", "INITIALIZING", "LOST", "UNINITIALIZED")
_NUM_BARS = 30


def plot_axis_errors(judged: JudgedRun) -> Figure | None:
    """Error of each axis over time, within the band of two standard deviations told with it.

    Returns:
        The figure; None where there are no covariances or no poses.
    """
    found = judged.errors
    covariances = covariances_with_truth(judged.run, found)
    if covariances is None or not len(found):
        return None
    # Metres and radians to centimetres and degrees.
    units = np.array([100.0] * 3 + [np.rad2deg(1.0)] * 3)
    errors = units * pose_errors(found.estimate, found.truth)
    two_sigma = 2 * units * np.sqrt(covariances.diagonal(axis1=1, axis2=2))
    times = seconds_since(found.stamps_ns, judged.run.zero_ns)
    figure = Figure(figsize=(9.0, 6.4), layout="constrained")
    for index, axis in enumerate(AXES):
        axes = figure.add_subplot(3, 2, 2 * (index % 3) + index // 3 + 1)
        band, values = two_sigma[:, index], errors[:, index]
        told, wide = broken_line(times, band)
        axes.fill_between(told, -wide, wide, color=MAP, alpha=0.5, lw=0, label="2 sigma")
        axes.plot(*broken_line(times, values), ".-", c=ESTIMATE, lw=0.6, ms=3, label="error")
        mark_kidnaps(axes, judged)
        # One wild pose must not hide all others.
        reach = 1.3 * max(np.quantile(np.abs(values), 0.95), np.quantile(band, 0.8), 1e-9)
        axes.set_ylim(-reach, reach)
        axes.set_ylabel(f"{axis} [{'cm' if index < 3 else 'deg'}]")
        axes.grid(visible=True, alpha=0.25)
        if index % 3 == 2:
            axes.set_xlabel("time in the bag [s]")
    figure.axes[0].legend(loc="upper right", fontsize=7, ncols=3)
    return figure


def plot_nees(judged: JudgedRun) -> Figure | None:
    """Histogram of the NEES beside the chi-square density that right covariances have.

    Returns:
        The figure; None where there are no covariances or no poses.
    """
    found = judged.errors
    covariances = covariances_with_truth(judged.run, found)
    if covariances is None or judged.summary.covariance is None:
        return None
    values = nees(pose_errors(found.estimate, found.truth), covariances)
    figure, axes = make_figure(6.0, 3.2)
    # What lies beyond the edges counts in the outermost bars.
    low, high = 0.1, float(max(60.0, min(values.max(), 1e4)))
    edges = np.geomspace(low, high, _NUM_BARS + 1)
    weights = np.full(len(values), 1 / len(values))
    shown = np.clip(values, low, high)
    axes.hist(shown, edges.tolist(), weights=weights, color=ESTIMATE, alpha=0.6, label="poses")
    expected = np.diff(chi2.cdf(edges, _SIX))
    centres = np.sqrt(edges[1:] * edges[:-1])
    axes.plot(centres, expected, c="#222222", lw=1.4, label="chi-square, 6 degrees of freedom")
    mean = judged.summary.covariance.nees_mean
    axes.axvline(mean, c=MISSED, lw=1.1, ls="--", label=f"mean {mean:.1f} (right: 6)")
    axes.set_xscale("log")
    label_log_axis(axes.xaxis)
    axes.set_xlabel("NEES of a pose")
    axes.set_ylabel("share of the poses")
    add_legend(axes, columns=3)
    return figure


def plot_coverage(found: CovarianceSummary) -> Figure:
    """Bars: share of the errors within 1, 2 and 3 sigma by axis; lines: those of a Gaussian."""
    figure, axes = make_figure(6.0, 3.2)
    places = np.arange(len(AXES), dtype=np.float64)
    for sigma, (name, colour) in enumerate(
        zip(found.coverage, ("#5b8def", ESTIMATE, "#8a94a0"), strict=True)
    ):
        shares: FloatArray = np.array([found.coverage[name][axis] for axis in AXES])
        label = name.replace("_", " ")
        axes.bar(places + 0.27 * (sigma - 1), shares, width=0.25, color=colour, label=label)
        axes.axhline(_GAUSSIAN[sigma], c=colour, lw=1.0, ls="--")
    axes.set_xticks(places, AXES)
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("share of the errors")
    add_legend(axes, columns=3)
    return figure


def plot_states(judged: JudgedRun) -> Figure | None:
    """What the localizer knew over time, and below which images got a pose.

    Returns:
        The figure; None where no image was taken up.
    """
    run = judged.run
    if not run.outcomes:
        return None
    states = [s for s in _STATE_ORDER if any(o.state == s for o in run.outcomes)] or [""]
    begins = seconds_since(np.array([o.stamp_ns for o in run.outcomes], np.int64), run.zero_ns)
    end = float(seconds_since(run.image_stamps_ns.max(keepdims=True), run.zero_ns)[0])
    lengths = np.diff(np.append(begins, max(end, begins[-1])))
    figure, axes = make_figure(9.0, 0.9 + 0.28 * (len(states) + 1))
    for row, state in enumerate(states):
        spans = [
            (begin, length)
            for begin, length, outcome in zip(begins, lengths, run.outcomes, strict=True)
            if outcome.state == state
        ]
        axes.broken_barh(spans, (row + 0.6, 0.8), facecolors=STATE_COLOURS.get(state, MAP))
    _mark_images(axes, judged)
    axes.set_yticks(range(len(states) + 1), ["images", *(s.lower() or "taken up" for s in states)])
    mark_kidnaps(axes, judged)
    axes.set_ylim(-0.5, len(states) + 0.6)
    axes.set_xlabel("time in the bag [s]")
    axes.grid(visible=True, axis="x", alpha=0.25)
    return figure


def _mark_images(axes: Axes, judged: JudgedRun) -> None:
    """Ticks in the lowest row: a pose, a wrong pose, no pose, not taken up."""
    run = judged.run
    wrong = judged.errors.stamps_ns[judged.is_wrong]
    right = np.setdiff1d(run.estimate.stamps_ns, wrong)
    taken = np.array([o.stamp_ns for o in run.outcomes], np.int64)
    for stamps, colour, low, high in (
        (np.setdiff1d(run.image_stamps_ns, taken), "#b9c0c8", -0.15, 0.0),
        (right, ESTIMATE, -0.3, 0.3),
        (run.missed_stamps_ns(), "#e39b12", -0.3, 0.3),
        (wrong, MISSED, -0.4, 0.4),
    ):
        axes.vlines(seconds_since(stamps, run.zero_ns), low, high, colors=colour, lw=1.0)


def plot_stage_latency(run: StreamRun) -> Figure | None:
    """Latency by stage: bars to the median, whiskers from there to the 99th percentile.

    The total is left out where images were said to take a time: stages were measured.

    Returns:
        The figure; None where no stage was told.
    """
    stages = list(dict.fromkeys(name for outcome in run.outcomes for name in outcome.stages))
    if not stages:
        return None
    columns = {s: np.array([o.stages[s] for o in run.outcomes if s in o.stages]) for s in stages}
    if not run.budget_ms:
        columns = {"total": run.latency_ms[np.isfinite(run.latency_ms)], **columns}
    names = list(columns)
    middle = np.array([np.median(c) if len(c) else 0.0 for c in columns.values()])
    high = np.array([np.quantile(c, 0.99) if len(c) else 0.0 for c in columns.values()])
    figure, axes = make_figure(8.0, 0.8 + 0.27 * len(names))
    places = np.arange(len(names))[::-1]
    whiskers = np.stack([np.zeros_like(middle), high - middle])
    colours = [TRUTH if name == "total" else ESTIMATE for name in names]
    axes.barh(places, middle, xerr=whiskers, color=colours, alpha=0.8, ecolor=MISSED, capsize=3)
    axes.set_yticks(places, names)
    axes.set_xlabel("median, and 99th percentile [ms]")
    axes.grid(visible=True, axis="x", alpha=0.25)
    return figure
