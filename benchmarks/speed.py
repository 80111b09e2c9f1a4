"""What features cost: the shipped network, the VGG19 U-Net of PixLoc and training-free features.

    python -m benchmarks.speed [--threads 1] [--write] [a.b=c ...]

Two figures for each, all in one run, in turns, so that a busy machine is busy for all of them: an
image of 640x480 px to its features, and one image of the sample localized from 20 px away, as in
tracking. The U-Net has random weights, which cost what learned ones cost; it localizes nothing.
Where there is a CUDA device the networks run on it as well. A minute on one core.

Settings are those of the first row, the default features.
"""

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.query_cost import make_extractor
from benchmarks.random_starts import starts_at
from benchmarks.results_file import write_section
from benchmarks.set_benchmark import REPOSITORY, RESULTS, TRAINING_FREE, features_name
from pixloc_core.config import load
from pixloc_core.errors import PixlocError
from pixloc_core.evaluation.assembly import RunConfig, open_or_build_map
from pixloc_core.evaluation.report import markdown_table, number
from pixloc_core.features.extractor import Extractor, create_extractor
from pixloc_core.features.preprocessing import load_image
from pixloc_core.geometry import Camera
from pixloc_core.localizer.localizer import Localizer
from pixloc_core.localizer.prior import Prior

SAMPLE = REPOSITORY / "sample/map"
_WIDTH, _HEIGHT = 640, 480
_START_PX = 20.0
VGG = "VGG19 U-Net"


@dataclass(frozen=True)
class Cost:
    """Milliseconds of one call: on the clock, and of all CPU cores together."""

    wall_ms: float
    cpu_ms: float

    def __str__(self) -> str:
        return f"{self.wall_ms:.0f} ms (CPU {self.cpu_ms:.0f})"


@dataclass(frozen=True)
class Contestant:
    """One kind of features on one device, and what is timed of it."""

    name: str
    device: str
    extract: Callable[[], object]
    localize: Callable[[], object] | None


def main() -> int:
    """Measure; exit code 2 for unusable input."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--write", action="store_true", help="write the section of results.md")
    parser.add_argument("settings", nargs="*", metavar="a.b=c", help="single settings")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        with tempfile.TemporaryDirectory() as folder:
            contestants = _contestants(args.settings, Path(folder))
            table = _table(contestants, args.repetitions)
    except PixlocError as error:
        print(f"speed: {error}", file=sys.stderr)
        return 2
    print(table)
    if args.write:
        write_section(RESULTS, "speed", _document(table, args))
    return 0


def _contestants(settings: Sequence[str], folder: Path) -> list[Contestant]:
    found = []
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        config = load(RunConfig, None, [*settings, f"extractor.device={device}"])
        extractor = create_extractor(config.extractor)
        localize = _tracking(extractor, config, folder)
        name = features_name(config.extractor)
        found.append(Contestant(name, device, _extraction(extractor), localize))
        vgg = make_extractor("vgg19", device)
        found.append(Contestant(VGG, device, _extraction(vgg), None))
    config = load(RunConfig, None, ["extractor.kind=gradients"])
    extractor = create_extractor(config.extractor)
    localize = _tracking(extractor, config, folder)
    return [*found, Contestant(TRAINING_FREE, "cpu", _extraction(extractor), localize)]


def _extraction(extractor: Extractor) -> Callable[[], object]:
    """Features of an image of noise: nothing depends on what it shows."""
    image = np.random.default_rng(0).integers(0, 256, (_HEIGHT, _WIDTH, 3), np.uint8)
    camera = Camera.from_colmap(
        {
            "model": "PINHOLE",
            "width": _WIDTH,
            "height": _HEIGHT,
            "params": [_WIDTH, _WIDTH, _WIDTH / 2, _HEIGHT / 2],
        }
    )

    def extract() -> None:
        with torch.inference_mode():
            extractor.extract(image, camera)
        _wait()

    return extract


def _tracking(extractor: Extractor, config: RunConfig, folder: Path) -> Callable[[], object]:
    """A map image of the sample, localized from the first start at that distance."""
    path = folder / f"{extractor.fingerprint[:12]}.h5"
    images = SAMPLE / "images"
    feature_map = open_or_build_map(path, SAMPLE / "sfm", images, extractor)
    localizer = Localizer(feature_map, extractor, config.localizer)
    sparse = localizer.sparse
    query = sparse.num_images // 2
    camera, image = sparse.camera_of(query), load_image(images / sparse.image_names[query])
    truth = sparse.to_model(sparse.cam_from_map[query])
    points = sparse.points_map[sparse.obs_point[sparse.observations_of(query)]] + sparse.origin
    (start,) = starts_at(points, camera, truth, _START_PX, 1, seed=0)
    prior = Prior.from_pose(start)

    def localize() -> None:
        localizer.localize(image, camera, prior)
        _wait()

    return localize


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _table(contestants: Sequence[Contestant], repetitions: int) -> str:
    """Medians, and their ratios to the first row of the same device."""
    extract = measure_in_turns([c.extract for c in contestants], repetitions)
    calls = {c: c.localize for c in contestants if c.localize is not None}
    tracked = dict(zip(calls, measure_in_turns(list(calls.values()), repetitions), strict=True))
    first: dict[str, float] = {}
    rows = []
    for contestant, cost in zip(contestants, extract, strict=True):
        # Others on the machine take wall time from a CPU, but no time of its own.
        is_cpu = contestant.device == "cpu"
        ratio = cost.cpu_ms if is_cpu else cost.wall_ms
        ratio /= first.setdefault(contestant.device, ratio)
        rows.append(
            (
                contestant.name,
                contestant.device,
                str(cost),
                number(ratio),
                str(tracked.get(contestant, "-")),
            )
        )
    header = ("features", "device", "640x480 to features", "relative", "tracked image")
    return markdown_table(header, rows)


def measure_in_turns(calls: Sequence[Callable[[], object]], repetitions: int) -> list[Cost]:
    """Median cost of each call, after one unmeasured turn.

    Args:
        calls: What takes turns.
        repetitions: Turns measured.
    """
    costs: list[list[tuple[float, float]]] = [[] for _ in calls]
    for turn in range(repetitions + 1):
        for call, measured in zip(calls, costs, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            if turn:
                measured.append((time.perf_counter() - wall, time.process_time() - cpu))
    return [Cost(*(1e3 * float(ms) for ms in np.median(m, axis=0))) for m in costs]


def _document(table: str, args: argparse.Namespace) -> str:
    command = " ".join(
        [f"python -m benchmarks.speed --threads {args.threads} --write", *args.settings]
    )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    return f"""## Speed

`{command}`: medians of {args.repetitions} turns; {platform.machine()}, {args.threads} threads, \
PyTorch {torch.__version__}; {device}.

Milliseconds on the clock, in brackets those of all CPU cores, which other load on the machine does
not change. Relative: to the first row of that device, by CPU time on the CPU. Tracked image: one
of the sample against its map, from 20 px away, extraction included; the U-Net has random weights
and localizes nothing.

{table}
"""


if __name__ == "__main__":
    sys.exit(main())
