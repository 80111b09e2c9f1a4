"""Make the sample world: render its images, triangulate its model, write its bags.

    python -m tools.make_sample --steps images                      # needs requirements.txt
    python -m tools.make_sample --steps model bags --out sample     # needs the project itself

Run from the root of the repository. The first step needs Mitsuba (`requirements.txt` beside this
file, best in an environment of its own), the other two pycolmap, rosbags and `pixloc_core`.

Rendering takes about an hour on two cores and may be interrupted: finished images are kept in
`--work`, and only missing ones are rendered. The steps can be run one by one (`--steps`).
`--variant llvm_ad_rgb` is nearly twice as fast as the default where Mitsuba finds a recent
LLVM (environment variable DRJIT_LIBLLVM_PATH; 15 crashed, 19 works). `--steps check` proves that
Mitsuba's camera and ours agree.
"""

import argparse
import importlib
from pathlib import Path
from typing import Any

from tools.make_sample import check, frames, paths

STEPS = ("check", "images", "model", "bags")


def main() -> None:
    """Parse the command line and run the steps."""
    parser = argparse.ArgumentParser(prog="python -m tools.make_sample", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=Path("sample"), help="where the sample goes")
    parser.add_argument("--work", type=Path, default=Path("tmp/make_sample"), help="image store")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS[1:]))
    parser.add_argument("--series", nargs="+", default=["map", "day", "evening"])
    parser.add_argument("--variant", default="scalar_rgb", help="of Mitsuba")
    parser.add_argument("--limit", type=int, help="only the first images of each series")
    parser.add_argument(
        "--reverse", action="store_true", help="last image first: two processes can share a series"
    )
    arguments = parser.parse_args()
    if "check" in arguments.steps:
        check.check_geometry(_mitsuba(arguments.variant), arguments.work)
    if "images" in arguments.steps:
        _render(arguments)
    for step in ("model", "bags"):
        if step in arguments.steps:
            module = importlib.import_module(f"tools.make_sample.{step}")
            module.make(arguments.work, arguments.out)


def _mitsuba(variant: str) -> Any:
    mi = importlib.import_module("mitsuba")
    mi.set_variant(variant)
    return mi


def _render(arguments: argparse.Namespace) -> None:
    mi = _mitsuba(arguments.variant)
    for name in arguments.series:
        if name == "map":
            series = frames.map_series(arguments.work)
        else:
            series = frames.stream_series(arguments.work, paths.DRIVES[name])
        frames.render_series(
            mi, series, arguments.work, arguments.limit, reverse=arguments.reverse
        )


if __name__ == "__main__":
    main()
