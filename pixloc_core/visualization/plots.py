"""Plots of a replay: path over the map, errors and latency over time."""

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from pixloc_core.evaluation.replay_judgement import JudgedRun
from pixloc_core.evaluation.stream import StreamRun, seconds_since

TRUTH, ESTIMATE, MISSED, MAP = "#222222", "#0a7d4f", "#c62828", "#9db2c9"
STATE_COLOURS = {
    "TRACKING": ESTIMATE,
    "DEGRADED": "#e39b12",
    "INITIALIZING": "#3b6fd4",
    "LOST": MISSED,
    "UNINITIALIZED": "#8a94a0",
    "": ESTIMATE,
}
_AXES = "xyz"
# Lines end where nothing came for so many seconds.
_LONG_S = 1.5


def plot_trajectory(judged: JudgedRun, points_map: NDArray[np.floating]) -> Figure:
    """Top view: the map's points, the true path, and the poses found, coloured by state.

    The two axes of the map in which the true path extends most are drawn: x and y of ROS maps
    as seen from +z, x and z of maps in camera axes as seen from -y, which is above.

    Args:
        judged: The replay.
        points_map: Map points (p, 3) in the frame of the poses.
    """
    run = judged.run
    truth = run.truth.poses.t.numpy()
    across, up = _widest_axes(truth)
    figure, axes = make_figure(8.0, 5.2)

    def dots(places: NDArray[np.floating], size: float, label: str, **style: Any) -> None:
        axes.scatter(places[:, across], places[:, up], s=size, label=label, **style)

    dots(points_map, 2, "map points", c=MAP, lw=0)
    path = _with_gaps(judged, truth)
    axes.plot(path[:, across], path[:, up], c=TRUTH, lw=1.2, label="ground truth")
    for label, colour, places in _places_by_state(run):
        dots(places, 14, label, c=colour, lw=0, zorder=3)
    missed = run.missed_stamps_ns()
    if missed.size:
        dots(run.truth.at(missed)[0].t.numpy(), 30, "no pose", c=MISSED, marker="x", zorder=4)
    wrong = judged.errors.estimate.t.numpy()[judged.is_wrong]
    if len(wrong):
        dots(wrong, 60, "wrong pose", facecolors="none", edgecolors=MISSED, zorder=5)
    axes.set_aspect("equal")
    _limit_to_path(axes, truth[:, [across, up]], points_map[:, [across, up]])
    axes.set_xlabel(f"{_AXES[across]} of the map")
    axes.set_ylabel(f"{_AXES[up]} of the map")
    add_legend(axes, columns=6, markerscale=1.5)
    return figure


def _places_by_state(run: StreamRun) -> list[tuple[str, str, NDArray[np.float64]]]:
    """Label, colour and positions (n, 3) of the poses published in each state."""
    states = {outcome.stamp_ns: outcome.state for outcome in run.outcomes}
    of_pose = np.array([states.get(stamp, "") for stamp in run.estimate.stamps_ns.tolist()])
    places = run.estimate.poses.t.numpy()
    return [
        (state.lower() or "localized", STATE_COLOURS.get(state, MAP), places[of_pose == state])
        for state in sorted(set(of_pose.tolist()))
    ]


def _with_gaps(judged: JudgedRun, path: NDArray[np.floating]) -> NDArray[np.floating]:
    """The path with a gap wherever the robot was put elsewhere."""
    places = np.searchsorted(judged.run.truth.stamps_ns, judged.kidnaps_ns)
    return np.insert(path, places, np.nan, axis=0)


def plot_errors(judged: JudgedRun) -> Figure:
    """Position and rotation error over time, on logarithmic axes; ticks below mark no pose."""
    found, run = judged.errors, judged.run
    times = seconds_since(found.stamps_ns, run.zero_ns)
    missed = seconds_since(run.missed_stamps_ns(), run.zero_ns)
    bounds = judged.bounds
    figure = Figure(figsize=(8.0, 4.6), layout="constrained")
    rows = (
        ("position error [cm]", 100 * found.errors.position, 100 * bounds.position),
        ("rotation error [deg]", found.errors.rotation_deg, bounds.rotation_deg),
    )
    for index, (label, values, limit) in enumerate(rows):
        axes = figure.add_subplot(2, 1, index + 1)
        line = broken_line(times, np.maximum(values, 1e-4))
        axes.semilogy(*line, ".-", c=ESTIMATE, lw=0.7, ms=4)
        if values.size and values.max() > 0.1 * limit:
            axes.axhline(limit, c=MISSED, lw=0.9, ls="--", label="wrong beyond")
            axes.legend(loc="best", fontsize=8)
        axes.vlines(missed, 0, 0.07, colors=MISSED, lw=1.2, transform=axes.get_xaxis_transform())
        mark_kidnaps(axes, judged)
        axes.set_ylabel(label)
        label_log_axis(axes.yaxis)
        axes.grid(visible=True, alpha=0.25)
    figure.axes[-1].set_xlabel("time in the bag [s]")
    return figure


def plot_latency(run: StreamRun) -> Figure:
    """Latency of every image taken up, and where the node spent it.

    Where images were said to take a time, stages are left out: they were measured, which is
    another clock.
    """
    outcomes = run.outcomes
    times = seconds_since(np.array([o.stamp_ns for o in outcomes], np.int64), run.zero_ns)
    figure, axes = make_figure(8.0, 3.0)
    stages = list(dict.fromkeys(name for outcome in outcomes for name in outcome.stages))
    layers = [np.array([o.stages.get(name, 0.0) for o in outcomes]) for name in stages]
    if layers and len(outcomes) > 1 and not run.budget_ms:
        axes.stackplot(times, layers, labels=stages, alpha=0.55, lw=0)
    axes.plot(times, run.latency_ms, ".-", c=TRUTH, lw=0.7, ms=4, label="image to answer")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("time in the bag [s]")
    axes.set_ylabel("latency [ms]")
    add_legend(axes, columns=5)
    axes.grid(visible=True, alpha=0.25)
    return figure


def broken_line(
    times: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The samples of a line (n,) with a gap wherever nothing came for long."""
    gaps = 1 + np.flatnonzero(np.diff(times) > _LONG_S)
    return np.insert(times, gaps, np.nan), np.insert(values, gaps, np.nan)


def mark_kidnaps(axes: Axes, judged: JudgedRun) -> None:
    """Dotted lines where the robot was put elsewhere."""
    for index, time in enumerate(seconds_since(judged.kidnaps_ns, judged.run.zero_ns)):
        label = "kidnap" if index == 0 else None
        axes.axvline(time, c="#6a3fb5", lw=1.1, ls=":", label=label)


def add_legend(axes: Axes, *, columns: int, **style: Any) -> None:
    """A legend above the axes, where it hides nothing."""
    axes.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        frameon=False,
        ncols=columns,
        fontsize=8,
        **style,
    )


def label_log_axis(axis: Axis) -> None:
    """Plain numbers at 1, 2 and 5 of each decade, so that few decades have labels, too."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def to_png(figure: Figure, *, dpi: int = 130) -> bytes:
    """Bytes of a figure as a PNG file."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def make_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure with one pair of axes; size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _widest_axes(path: NDArray[np.floating]) -> tuple[int, int]:
    """The two axes of largest extent in their order; x and y win ties."""
    extent = np.ptp(path, axis=0) if len(path) else np.ones(3)
    first, second = sorted(np.argsort(-extent, kind="stable")[:2].tolist())
    return first, second


def _limit_to_path(axes: Axes, path: NDArray[np.floating], points: NDArray[np.floating]) -> None:
    """Show the path and the bulk of the map; stray points far away would shrink both."""
    low, high = np.quantile(points, [0.02, 0.98], axis=0) if len(points) else (path[0], path[0])
    low, high = np.minimum(low, path.min(axis=0)), np.maximum(high, path.max(axis=0))
    margin = 0.06 * (high - low).max() + 1e-3
    axes.set_xlim(low[0] - margin, high[0] + margin)
    axes.set_ylim(low[1] - margin, high[1] + margin)
