"""The basin of convergence as a picture: one panel for each set, one line for each features."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.results_file import Record
from pixloc_core.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3
# Colours that stay apart for colour-blind eyes (Okabe and Ito), told apart by markers as well.
_STYLES = (
    ("#0072b2", "o", "-"),
    ("#e69f00", "s", "--"),
    ("#009e73", "^", "-."),
    ("#cc79a7", "D", ":"),
    ("#555555", "v", "-"),
)


def draw(rows: Sequence[Record], features: Sequence[str], out: Path) -> None:
    """Draw success against the distance of the start.

    Args:
        rows: Rows of basin.json.
        features: Names whose rows are drawn, at most five.
        out: PNG file to write.

    Raises:
        ConfigError: If there are no rows of these names, or too many names.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    unknown = set(features) - {row["features"] for row in rows}
    if unknown or len(features) > len(_STYLES):
        raise ConfigError(
            f"rows of {sorted(unknown) or list(features)} asked for, expected at most "
            f"{len(_STYLES)} of {sorted({row['features'] for row in rows})}"
        )
    rows = [row for row in rows if row["features"] in features]
    sets = sorted({row["set"] for row in rows})
    lines = -(-len(sets) // _COLUMNS)
    columns = min(len(sets), _COLUMNS)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(3.6 * columns + 0.4, 2.7 * lines + 0.7),
        layout="constrained",
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for panel, name in zip(axes.flat, sets, strict=False):
        _draw_set(panel, [row for row in rows if row["set"] == name], features)
        panel.set_title(name)
    for panel in axes.flat[len(sets) :]:
        panel.remove()
    for panel in axes.flat[len(sets) - columns : len(sets)]:
        # The lowest one of its column, also where the last row is not full.
        panel.tick_params(labelbottom=True)
    handles = {}
    for panel in axes.flat[: len(sets)]:
        handles |= dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=5)
    figure.supxlabel("median displacement of the start, px at a width of 1024")
    figure.supylabel("starts that end within 3 px, %")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def _draw_set(axes: "Axes", rows: Sequence[Record], features: Sequence[str]) -> None:
    for name, (colour, marker, line) in zip(features, _STYLES, strict=False):
        points = sorted((r["start_px"], 100 * r["success"]) for r in rows if r["features"] == name)
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, c=colour, marker=marker, ls=line, lw=2, ms=6, label=name)
    ticks = sorted({row["start_px"] for row in rows})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(-3, 103)
    axes.grid(alpha=0.3)
