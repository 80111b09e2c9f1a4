"""Draw the curves of a training run.

python -m benchmarks.training_curve runs/NAME --out curve.png
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

# Points of a curve are means over so many of its entries.
_SMOOTH = 5


def main() -> int:
    """Read the numbers of a run, write the picture; exit code 2 if there are none."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    args = parser.parse_args()
    path = args.run / "numbers.jsonl"
    if not path.is_file():
        print(f"training_curve: {path}: no such file, expected a run", file=sys.stderr)
        return 2
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    draw(entries, args.out)
    return 0


def draw(entries: list[dict[str, Any]], out: Path) -> None:
    """Loss and displacements over the steps, of training and validation."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    train = [entry for entry in entries if entry["kind"] == "train"]
    validation = [entry for entry in entries if entry["kind"] == "validation"]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    levels = sorted(name for name in train[0] if name.startswith("reprojection/"))
    for axes, names, title in (
        (left, ["loss/total"], "loss"),
        (middle, levels, "mean of the median displacements, px"),
        (right, ["localized"], "share that ends within 3 px of 1024"),
    ):
        for name in names:
            steps, values = _curve(train, name)
            label = name.replace("reprojection/", "after level ") if len(names) > 1 else "training"
            axes.plot(steps, values, label=label.replace("after level start", "start"))
            if len(names) == 1:
                points = [(entry["step"], entry[name]) for entry in validation]
                axes.plot(*zip(*points, strict=True), "o-", label="validation")
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        axes.legend()
    middle.set_yscale("log")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=90)
    plt.close(figure)


def _curve(entries: list[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    known = [(entry["step"], entry[name]) for entry in entries if entry.get(name) is not None]
    groups = [known[i : i + _SMOOTH] for i in range(0, len(known), _SMOOTH)]
    steps = [int(np.mean([step for step, _ in group])) for group in groups]
    return steps, [float(np.mean([value for _, value in group])) for group in groups]


if __name__ == "__main__":
    sys.exit(main())
