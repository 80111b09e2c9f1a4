"""Whole streams through the node's pipeline: availability, false poses, cold starts, kidnaps.

    python -m benchmarks.streams --write
    python -m benchmarks.streams --streams day evening --scenarios kidnap

The streams are those of the sample world and the time sequences of the image sets, as bags with
odometry that drifts by 2 %. Each is replayed in process (`pixloc replay --mode process`): the same
numbers every time. `prior` works on every image, from a first pose 0.1 m and 2 deg off; `cold` has
no first pose but retrieval; `kidnap` cuts a stretch out, so that the images jump while odometry
goes on; short streams are then played to and fro. The last two pretend that an image takes 400 ms.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.image_set import find_sets
from benchmarks.results_file import Record, write_section
from benchmarks.set_benchmark import REPOSITORY, RESULTS, add_set_arguments, open_set
from pixloc_core.bags.reader import BagReader
from pixloc_core.cli import main as pixloc
from pixloc_core.config import load
from pixloc_core.evaluation.assembly import RunConfig, open_or_build_map
from pixloc_core.features.extractor import create_extractor

SCENARIOS = ("prior", "cold", "kidnap")
BUDGET_MS = 400
# A stream shorter than this leaves no time to be found again before it turns around.
SHORTEST_S = 6.0
# A robot must be found again within this time after a kidnap.
RECOVERY_S = 10.0
# Shares of a stream that are joined where the robot is kidnapped.
BEFORE, AFTER = (0.0, 0.35), (0.65, 1.0)


@dataclass(frozen=True)
class Stream:
    """A bag and its map.

    Attributes:
        name: For tables.
        bag: Folder.
        map_path: Feature map.
        images: Folder of the map's images.
        bounds: Metres and degrees beyond which a pose is wrong.
    """

    name: str
    bag: Path
    map_path: Path
    images: Path
    bounds: tuple[float, float]


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Replay whole streams in process.")
    add_set_arguments(parser, "streams")
    parser.add_argument("--streams", nargs="+", metavar="NAME", help="default: all there are")
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=SCENARIOS)
    args = parser.parse_args(argv)
    config = load(RunConfig, args.conf, args.settings)
    records = []
    for stream in streams(args, config):
        if args.streams and stream.name not in args.streams:
            continue
        for scenario in args.scenarios:
            if scenario == "kidnap" and BagReader(stream.bag).duration_s < SHORTEST_S:
                continue
            records.append(replay(stream, scenario, args.work, args.settings))
            print(row(records[-1]), flush=True)
    if args.write:
        write_section(RESULTS, "streams", section(records, args.settings))
    return 0


def streams(args: argparse.Namespace, config: RunConfig) -> list[Stream]:
    """The streams of the sample world, and those of the sets that are time sequences."""
    args.work.mkdir(parents=True, exist_ok=True)
    extractor = create_extractor(config.extractor)
    sample = REPOSITORY / "sample"
    path = args.work / f"sample_{extractor.fingerprint[:12]}.h5"
    sfm, images = sample / "map/sfm", sample / "map/images"
    open_or_build_map(path, sfm, images, extractor)
    found = [Stream(name, sample / name, path, images, (0.1, 3.0)) for name in ("day", "evening")]
    for name, image_set in find_sets(args.data).items():
        folder, condition = image_set.folder, image_set.condition
        stamps = folder / "timestamps.txt"
        # Moved cameras mend the truth of single images, which a bag with one camera cannot.
        if not stamps.exists() or image_set.centred:
            continue
        localizer = open_set(image_set, extractor, config, args.work)
        suffix = f"_{condition}" if condition else ""
        truth = folder / f"gt_poses_sfm{suffix}.txt"
        bag = args.work / f"{name}_bag"
        if not bag.exists():
            files = {
                "--images": folder / "images",
                "--list": _times(stamps, condition, args.work / f"{name}_times.txt"),
                "--queries": folder / f"queries_with_intrinsics{suffix}.txt",
                "--gt": truth if truth.exists() else folder / f"gt_poses{suffix}.txt",
                "--out": bag,
            }
            _pixloc("bag", *(str(word) for pair in files.items() for word in pair))
        outdoor = name.startswith("kitti")
        bounds = (0.5, 5.0) if outdoor else (0.1, 3.0)
        map_path = localizer.feature_map.path
        found.append(Stream(name, bag, map_path, folder / "images", bounds))
    return found


def _times(stamps: Path, condition: str, out: Path) -> Path:
    """The list of times, for the images of a condition, which lie in a folder of that name."""
    if not condition:
        return stamps
    lines = [line.split() for line in stamps.read_text().splitlines() if line[0] != "#"]
    out.write_text("".join(f"{time} {condition}/{image}\n" for time, image, *_ in lines))
    return out


def kidnapping(seconds: float) -> list[tuple[str, str]]:
    """Stretches of a stream: its begin, then its end, to and fro as long as recovery may take."""
    begin, end = (seconds * share for share in AFTER)
    stretches = [(BEFORE[0] * seconds, BEFORE[1] * seconds), (begin, end + 0.01)]
    while sum(abs(b - a) for a, b in stretches[1:]) < RECOVERY_S:
        last = stretches[-1]
        stretches.append((begin, end + 0.01) if last[1] < last[0] else (end, begin))
    return [("--keep", f"{first:.2f}:{last:.2f}") for first, last in stretches]


def replay(stream: Stream, scenario: str, work: Path, settings: Sequence[str]) -> Record:
    """Numbers of one replay."""
    bag, out = stream.bag, work / f"{stream.name}_{scenario}"
    words = ["--initial", "none", "--retrieval", str(stream.images), "--budget-ms", str(BUDGET_MS)]
    if scenario == "prior":
        words = []
    if scenario == "kidnap":
        bag = work / f"{stream.name}_kidnapped_bag"
        shutil.rmtree(bag, ignore_errors=True)
        kept = [word for keep in kidnapping(BagReader(stream.bag).duration_s) for word in keep]
        _pixloc("bag", "edit", str(stream.bag), str(bag), *kept)
    bounds = [f"bounds.position={stream.bounds[0]}", f"bounds.rotation_deg={stream.bounds[1]}"]
    own = [setting for setting in settings if setting.startswith("localizer.")]
    _pixloc(
        *("replay", str(bag), "--map", str(stream.map_path), "--mode", "process"),
        *("--out", str(out), *words, *bounds, *own),
    )
    summary = json.loads((out / "summary.json").read_text())
    return {"stream": stream.name, "scenario": scenario, **summary}


def _pixloc(*words: str) -> None:
    code = pixloc(list(words))
    if code:
        sys.exit(f"streams: `pixloc {' '.join(words)}` ended with {code}")


def row(record: Record) -> str:
    """One line of the table."""
    kidnaps, covariance = record["kidnaps"], record["covariance"] or {}
    position = record["ate"]["position"]["p50"]
    cells = [
        record["stream"],
        record["scenario"],
        f"{record['images']['published']} of {record['images']['taken']}",
        _percent(record["availability"]["since_prior"]),
        f"{record['false_accepts']['count']}",
        "-" if position is None else f"{100 * position:.2f} cm",
        _seconds(record["time_to_first_pose_s"]),
        _seconds(kidnaps["detection_s"]),
        _seconds(kidnaps["recovery_s"]),
        f"{_percent(covariance.get('coverage_2_sigma_min'))} to "
        f"{_percent(covariance.get('coverage_2_sigma_max'))}",
        "-" if not covariance else f"{covariance['nees_mean']:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"


def section(records: Sequence[Record], settings: Sequence[str]) -> str:
    """The section of results.md."""
    titles = (
        "stream",
        "scenario",
        "poses of images taken up",
        "availability since the first prior",
        "wrong poses",
        "median position error",
        "first pose after",
        "kidnap noticed after",
        "right again after",
        "2-sigma coverage, worst to best axis",
        "mean NEES (right: 6)",
    )
    command = " ".join(["python -m benchmarks.streams --write", *settings])
    head = ["## Streams", "", f"`{command}`", "", *(__doc__ or "").splitlines()[5:], ""]
    rule = "|" + "---|" * len(titles)
    return "\n".join([*head, "| " + " | ".join(titles) + " |", rule, *map(row, records)])


if __name__ == "__main__":
    raise SystemExit(main())
