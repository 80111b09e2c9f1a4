"""Do the checks tell right poses from wrong ones? Each field, on real sets, and what it costs.

    python -m benchmarks.checks [--sets fox kitti06_start tum_fr1_rpy] [--per-set 16] [a.b=c ...]

Every query is tried from starts 20 to 300 px off and from the true poses of two other queries,
without a search and with every score accepted, so that wrong poses come out, too. A pose is right
if the median displacement of the points is below 5 of 1024 px, and wrong beyond 20. For each
field: its quantiles for right and wrong poses, and how often a right one is better than a wrong
one (0.5 is chance). On one core: a minute for each set.
"""

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from benchmarks.image_set import ImageSet
from benchmarks.set_benchmark import add_set_arguments, find_chosen, open_set, spread
from pixloc_core.config import load
from pixloc_core.errors import PixlocError
from pixloc_core.evaluation.assembly import RunConfig
from pixloc_core.evaluation.report import markdown_table
from pixloc_core.features.extractor import create_extractor
from pixloc_core.features.preprocessing import load_image
from pixloc_core.localizer.localizer import Localizer
from pixloc_core.localizer.prior import Prior
from pixloc_core.localizer.result import Checks, Localization
from pixloc_core.localizer.view import View

STARTS = ("20px", "60px", "150px", "300px")
RIGHT, WRONG, WIDTH = 5.0, 20.0, 1024
# Fields of which little is good.
_LITTLE = ("restart_spread_px", "level_spread_px")


@dataclass(frozen=True)
class Sample:
    """One pose: the fields by name, how far off it is (of 1024 px), what it took."""

    values: dict[str, float]
    displacement: float
    seconds: tuple[float, float]


def main() -> int:
    """Run; exit code 2 for unusable input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checks", description=__doc__)
    add_set_arguments(parser, "checks")
    parser.add_argument("--per-set", type=int, default=16, help="queries of each set")
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        config = load(RunConfig, args.conf, args.settings)
        believed = replace(config.localizer.verification, min_score=0.0, min_search_score=0.0)
        config = replace(config, localizer=replace(config.localizer, verification=believed))
        extractor = create_extractor(config.extractor)
        samples = []
        for image_set in find_chosen(parser, args):
            localizer = open_set(image_set, extractor, config, args.work)
            samples += list(measure(image_set, localizer, args.per_set))
    except PixlocError as error:
        sys.stderr.write(f"benchmarks.checks: {error}\n")
        return 2
    sys.stdout.write(report(samples) + "\n")
    return 0


def measure(image_set: ImageSet, localizer: Localizer, count: int) -> Iterator[Sample]:
    """All starts of some queries."""
    names = spread(sorted(image_set.truth), count)
    priors = {start: {q.name: q.prior for q in image_set.queries(start)} for start in STARTS}
    for place, name in enumerate(names):
        image, camera = load_image(image_set.images / name), image_set.cameras[name]
        others = [names[(place + step) % len(names)] for step in (2, len(names) // 2)]
        tried = [known.get(name) for known in priors.values()]
        tried += [Prior.from_pose(image_set.truth[other]) for other in others]
        for prior in tried:
            if prior is None:
                continue
            result = localizer.localize_views([View(image, camera)], prior, search=False)
            sample = _sample(image_set, localizer, name, result)
            if sample is not None:
                yield sample


def _sample(
    image_set: ImageSet, localizer: Localizer, name: str, result: Localization
) -> Sample | None:
    if result.checks is None or result.cam_from_map is None:
        return None
    found = image_set.displacements(localizer.sparse, {name: result.cam_from_map})
    if name not in found:
        return None
    values = {field.name: getattr(result.checks, field.name) for field in fields(Checks)}
    values["score"] = result.score
    seconds = (result.timings.check_ms / 1e3, result.timings.total_ms / 1e3)
    return Sample(values, found[name] * WIDTH / result.image_size[0], seconds)


def report(samples: list[Sample]) -> str:
    """Table of all fields, and the time."""
    right = [sample for sample in samples if sample.displacement < RIGHT]
    wrong = [sample for sample in samples if sample.displacement > WRONG]
    header = ["field", "right: worst", "5 % worst", "median", "wrong: median", "5 % best", "best"]
    header.append("right is better")
    rows = []
    for name in samples[0].values if right and wrong else ():
        sign = -1 if name in _LITTLE else 1
        good, bad = (
            np.array([s.values[name] for s in part if not math.isnan(s.values[name])]) * sign
            for part in (right, wrong)
        )
        quantiles = [*np.quantile(good, (0, 0.05, 0.5)), *np.quantile(bad, (0.5, 0.95, 1))]
        better = (good[:, None] > bad).mean() + 0.5 * (good[:, None] == bad).mean()
        rows.append([name, *(f"{sign * q:.2f}" for q in quantiles), f"{better:.3f}"])
    share = np.median([sample.seconds[0] / sample.seconds[1] for sample in right or samples])
    last = f"{len(right)} right, {len(wrong)} wrong; time of the checks: {share:.1%} of an image."
    return f"{markdown_table(header, rows)}\n\n{last}"


if __name__ == "__main__":
    sys.exit(main())
