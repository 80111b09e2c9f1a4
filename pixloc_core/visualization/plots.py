"""Plots of a stream: path over the map, errors and latency over time."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from pixloc_core.evaluation.stream import StreamBar, StreamRun, StreamSummary, seconds_since

_TRUTH, _ESTIMATE, _MISSED, _MAP = "#222222", "#0a7d4f", "#c62828", "#9db2c9"
_AXES = "xyz"


def plot_trajectory(run: StreamRun, points_map: NDArray[np.floating]) -> Figure:
    """Top view: the map's points, the true path, and the poses found.

    The two axes of the map in which the true path extends most are drawn: x and y of ROS maps
    as seen from +z, x and z of maps in camera axes as seen from -y, which is above.

    Args:
        run: The replay.
        points_map: Map points (p, 3) in the frame of the poses.
    """
    truth, estimate = run.truth.poses.t.numpy(), run.estimate.poses.t.numpy()
    across, up = _widest_axes(truth)
    figure, axes = _figure(8.0, 5.2)
    axes.scatter(points_map[:, across], points_map[:, up], s=2, c=_MAP, lw=0, label="map points")
    axes.plot(truth[:, across], truth[:, up], c=_TRUTH, lw=1.2, label="ground truth")
    axes.scatter(
        estimate[:, across], estimate[:, up], s=14, c=_ESTIMATE, lw=0, zorder=3, label="localized"
    )
    missed = run.missed_stamps_ns()
    if missed.size:
        places, _ = run.truth.at(missed)
        lost = places.t.numpy()
        axes.scatter(
            lost[:, across], lost[:, up], marker="x", c=_MISSED, s=30, zorder=4, label="no pose"
        )
    axes.set_aspect("equal")
    _limit_to_path(axes, truth[:, [across, up]], points_map[:, [across, up]])
    axes.set_xlabel(f"{_AXES[across]} of the map")
    axes.set_ylabel(f"{_AXES[up]} of the map")
    axes.legend(loc="upper right", fontsize=8, framealpha=0.9, markerscale=1.5)
    return figure


def plot_errors(run: StreamRun, summary: StreamSummary, bar: StreamBar | None = None) -> Figure:
    """Position and rotation error over time, on logarithmic axes; ticks below mark no pose."""
    errors = summary.errors
    begin = int(run.image_stamps_ns[0])
    times = seconds_since(errors.stamps_ns, begin)
    missed = seconds_since(run.missed_stamps_ns(), begin)
    figure = Figure(figsize=(8.0, 4.6), layout="constrained")
    rows: Sequence[tuple[str, NDArray[np.float64], float | None]] = (
        (
            "position error [cm]",
            100 * errors.errors.position,
            100 * bar.max_position if bar else None,
        ),
        (
            "rotation error [deg]",
            errors.errors.rotation_deg,
            bar.max_rotation_deg if bar else None,
        ),
    )
    for index, (label, values, limit) in enumerate(rows):
        axes = figure.add_subplot(2, 1, index + 1)
        axes.semilogy(times, np.maximum(values, 1e-4), ".-", c=_ESTIMATE, lw=0.7, ms=4)
        if limit:
            axes.axhline(limit, c=_MISSED, lw=0.9, ls="--", label="bar for the median")
            axes.legend(loc="best", fontsize=8)
        for time in missed:
            axes.axvline(time, ymax=0.07, c=_MISSED, lw=1.2)
        axes.set_ylabel(label)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(visible=True, alpha=0.25)
    figure.axes[-1].set_xlabel("time in the bag [s]")
    return figure


def plot_latency(run: StreamRun) -> Figure:
    """Latency of every image taken up, and where the node spent it."""
    begin = int(run.image_stamps_ns[0])
    outcomes = run.outcomes
    times = seconds_since(np.array([o.stamp_ns for o in outcomes], np.int64), begin)
    figure, axes = _figure(8.0, 3.0)
    stages = list(dict.fromkeys(name for outcome in outcomes for name in outcome.stages))
    layers = [np.array([o.stages.get(name, 0.0) for o in outcomes]) for name in stages]
    if layers and len(outcomes) > 1:
        axes.stackplot(times, layers, labels=stages, alpha=0.55, lw=0)
    axes.plot(times, run.latency_ms, ".-", c=_TRUTH, lw=0.7, ms=4, label="image to answer")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("time in the bag [s]")
    axes.set_ylabel("latency [ms]")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=8, ncols=4, frameon=False)
    axes.grid(visible=True, alpha=0.25)
    return figure


def to_png(figure: Figure, *, dpi: int = 130) -> bytes:
    """Bytes of a figure as a PNG file."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
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
