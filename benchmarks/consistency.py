"""Do the covariances tell how wrong the poses are? Fitted on all scenes but one, judged on that.

    python -m benchmarks.consistency [--collect] [--plain] [--write] [a.b=c ...]

Answers to all images of the sample's streams and of the real image sets, as they are and blurred
and darkened, are collected once (10 minutes of one core) into `--work`, then fitted offline.
`--collect` collects them anew; `--plain` leaves out the degraded images; `--write` writes the
tables into docs/covariance.md. The sets are not part of this repository: `--data`, or
`$PIXLOC_SHARED/data`, names their folder.

The published poses of the sets err, too. By how much is told by a third party, SIFT with PnP:
what each of the three pairs differs by (medians) tells the error of each, if they err
independently. The covariance of the truth is added to what is said of the errors. The sample has
exact truth.

The first four queries of kitti06_start do not take part in the fit: their published poses are far
from what SIFT with PnP and this localizer agree on, as the last line of the report says.
"""

import argparse
import itertools
import sys
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from benchmarks.image_set import find_sets
from benchmarks.results_file import write_section
from benchmarks.set_benchmark import REPOSITORY, add_set_arguments, features_name, open_set
from pixloc_core.bags.reader import BagReader
from pixloc_core.bags.topics import BagLayout
from pixloc_core.config import load
from pixloc_core.errors import PixlocError
from pixloc_core.evaluation.assembly import RunConfig, open_or_build_map
from pixloc_core.evaluation.calibration import calibrate, fit_covariance
from pixloc_core.evaluation.consistency import Consistency, consistency_table
from pixloc_core.evaluation.posed_answers import (
    PosedAnswers,
    PosedImage,
    answer,
    bag_images,
    cam_from_base,
    query_images,
)
from pixloc_core.features.extractor import Extractor, create_extractor
from pixloc_core.geometry import Pose
from pixloc_core.localizer.covariance import CovarianceConfig, PoseSpread
from pixloc_core.localizer.localizer import Localizer

STREAMS = ("day", "evening")
SETS = ("tum_fr1_rpy", "kitti06_start", "fox", "herzjesu_p25")
# Scenes that share a map are left out together.
SCENE = {name: "sample" if name in STREAMS else name for name in (*STREAMS, *SETS)}
IN_TIME = ("tum_fr1_rpy", "kitti06_start")
WRONG_TRUTH = {"kitti06_start": 4}
OFFSET, START = (0.1, 1.0), "20px"
MAX_ERROR_PX = 10.0
DEGRADED = " degraded"
# Of these every second image is degraded: enough for a fit.
LONG = (*STREAMS, "tum_fr1_rpy")
DOCUMENT = REPOSITORY / "docs/covariance.md"


def main() -> int:
    """Run; exit code 2 for unusable input."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add_set_arguments(parser, "consistency")
    parser.add_argument("--collect", action="store_true", help="localize all images anew")
    parser.add_argument("--plain", action="store_true", help="no degraded images")
    args = parser.parse_args()
    try:
        config = load(RunConfig, args.conf, args.settings)
        extractor = create_extractor(config.extractor)
        answers = _all_answers(extractor, config, args)
    except PixlocError as error:
        print(f"consistency: {error}", file=sys.stderr)
        return 2
    name = features_name(config.extractor)
    baselines = _baselines(answers, args.data)
    answers = _with_truth_errors(answers, baselines)
    text = f"{report(answers)}\n\n{_doubtful_truth(answers, baselines)}".strip()
    print(text)
    if args.write:
        write_section(DOCUMENT, f"consistency of {name} features", text)
    return 0


def report(answers: Mapping[str, PosedAnswers]) -> str:
    """Tables of all that is fitted and judged."""
    fitted = {name: _trusted(name, found).within(MAX_ERROR_PX) for name, found in answers.items()}
    pooled = fit_covariance(list(fitted.values()))
    exact = {name: _exact(found) for name, found in fitted.items()}
    parts = [
        f"Fitted on all, truths as published (the defaults): "
        f"{_words(fit_covariance(list(exact.values())))}. With what they err allowed for: "
        f"{_words(pooled)}.{_truth_words(answers)}",
        "What the residuals tell alone (scale 1, no floor):",
        _judged({name: (_trusted(name, found), _plain()) for name, found in answers.items()}),
        "Each scene under the fit to all others:",
        _left_out(answers, fitted),
        "The same, truths as published in fit and judgement:",
        _left_out({name: _exact(found) for name, found in answers.items()}, exact),
        "One part of a map's images under `pixloc calibrate` by another, truths as published:",
        _same_map(exact),
    ]
    return "\n\n".join(parts)


def _left_out(answers: Mapping[str, PosedAnswers], fitted: Mapping[str, PosedAnswers]) -> str:
    rows = {}
    for name, found in answers.items():
        others = [kept for other, kept in fitted.items() if _scene(other) != _scene(name)]
        if not others:
            continue
        config = fit_covariance(others)
        rows[name] = (_trusted(name, found), config)
        if name in WRONG_TRUTH:
            rows[f"{name}, with the first {WRONG_TRUTH[name]}"] = (found, config)
    return _judged(rows)


def _same_map(fitted: Mapping[str, PosedAnswers]) -> str:
    rows = {}
    for known, unseen in (STREAMS, STREAMS[::-1]):
        if known in fitted and unseen in fitted:
            config = calibrate([fitted[known]])
            rows[f"{unseen}, calibrated by {known}"] = (fitted[unseen], config)
    for name in IN_TIME:
        if name in fitted:
            first, second = fitted[name].halves()
            rows[f"{name}, 2nd half by the 1st"] = (second, calibrate([first]))
            rows[f"{name}, 1st half by the 2nd"] = (first, calibrate([second]))
    return _judged(rows)


def _baselines(answers: Mapping[str, PosedAnswers], data: Path) -> dict[str, PosedAnswers]:
    """Answers to the plain images of each set with the poses of SIFT and PnP as truth.

    Sets of which SIFT and PnP do not have all are left out.
    """
    found = {}
    for name in answers.keys() & set(SETS):
        image_set = find_sets(data)[name]
        truths, poses = image_set.truth, image_set.baseline()
        keys = sorted(truths.keys() & poses.keys())
        known = torch.stack([truths[key].double().data for key in keys])
        off = (answers[name].truth.data[:, None] - known).abs().sum(-1).min(dim=1)
        if float(off.values.max()) < 1e-9:
            third = torch.stack([poses[keys[int(i)]].double().data for i in off.indices])
            found[name] = replace(answers[name], truth=Pose(third))
    return found


def _with_truth_errors(
    answers: Mapping[str, PosedAnswers], baselines: Mapping[str, PosedAnswers]
) -> dict[str, PosedAnswers]:
    """The answers with what their truths are off by."""
    errors = {
        name: truth_error_px(_trusted(name, answers[name]), _trusted(name, baseline))
        for name, baseline in baselines.items()
    }
    return {
        name: replace(found, truth_px=errors.get(name.removesuffix(DEGRADED), 0.0))
        for name, found in answers.items()
    }


def truth_error_px(answers: PosedAnswers, baseline: PosedAnswers) -> float:
    """How far the true poses are off, from three poses of each image that err independently.

    Args:
        answers: Answers, and the truth.
        baseline: The same answers, and a third party's poses as truth.
    """
    apart = replace(answers, estimate=baseline.truth)
    ours, theirs, both = (
        float(np.median(pair.errors_px())) ** 2 for pair in (answers, apart, baseline)
    )
    return max(0.0, (ours + theirs - both) / 2) ** 0.5


def _truth_words(answers: Mapping[str, PosedAnswers]) -> str:
    words = [
        f"{name} {found.truth_px:.2f} px"
        for name, found in answers.items()
        if found.truth_px and not name.endswith(DEGRADED)
    ]
    return f" Errors of the truths: {', '.join(words)}." if words else ""


def _exact(found: PosedAnswers) -> PosedAnswers:
    return replace(found, truth_px=0.0)


def _doubtful_truth(
    answers: Mapping[str, PosedAnswers], baselines: Mapping[str, PosedAnswers]
) -> str:
    """How far SIFT and PnP are from poses that are left out, and from this localizer."""
    lines = []
    for name, count in WRONG_TRUTH.items():
        if name not in baselines:
            continue
        from_ours = baselines[name].errors_px()
        from_truth = replace(answers[name], estimate=baselines[name].truth).errors_px()
        lines.append(
            f"{name}: SIFT and PnP are {_span(from_truth[:count])} px off the true poses of the "
            f"first {count} queries (others {_span(from_truth[count:])}), and "
            f"{_span(from_ours[:count])} px off the answers (others {_span(from_ours[count:])})."
        )
    return "\n".join(lines)


def _span(values: np.ndarray) -> str:
    return f"{values.min():.1f} to {values.max():.1f}"


def _judged(rows: Mapping[str, tuple[PosedAnswers, CovarianceConfig]]) -> str:
    return consistency_table([(name, _consistency(*row)) for name, row in rows.items()])


def _consistency(found: PosedAnswers, config: CovarianceConfig) -> Consistency:
    return found.within(MAX_ERROR_PX).consistency(config)


def _words(config: CovarianceConfig) -> str:
    return f"scale {config.scale:.2f}, floor {config.floor_px:.3f} px"


def _plain() -> CovarianceConfig:
    return CovarianceConfig(scale=1.0, floor_px=0.0)


def _scene(name: str) -> str:
    return SCENE[name.removesuffix(DEGRADED)]


def _trusted(name: str, found: PosedAnswers) -> PosedAnswers:
    return found.select(slice(WRONG_TRUTH.get(name.removesuffix(DEGRADED), 0), None))


def _all_answers(
    extractor: Extractor, config: RunConfig, args: argparse.Namespace
) -> dict[str, PosedAnswers]:
    """Answers to the images of every scene, from the cache where they are there."""
    args.work.mkdir(parents=True, exist_ok=True)
    found: dict[str, PosedAnswers] = {}
    for name in args.sets or SCENE:
        localizer = None
        for suffix in ("",) if args.plain else ("", DEGRADED):
            key = f"{name}{suffix}"
            cache = args.work / f"{key.replace(' ', '_')}_{extractor.fingerprint[:12]}.npz"
            if args.collect or not cache.exists():
                localizer = localizer or _open(name, extractor, config, args)
                images, mounted = _images(name, args.data)
                images = tqdm(images, desc=key, unit="image", disable=None)
                if suffix:
                    some = itertools.islice(images, 0, None, 2 if name in LONG else 1)
                    images = (degrade(item, index) for index, item in enumerate(some))
                save_answers(cache, answer(localizer, images, mounted))
            found[key] = read_answers(cache)
    return found


def _open(
    name: str, extractor: Extractor, config: RunConfig, args: argparse.Namespace
) -> Localizer:
    if name not in STREAMS:
        return open_set(find_sets(args.data)[name], extractor, config, args.work)
    cache = args.work / f"sample_{extractor.fingerprint[:12]}.h5"
    model = REPOSITORY / "sample/map"
    sparse = open_or_build_map(cache, model / "sfm", model / "images", extractor)
    return Localizer(sparse, extractor, config.localizer)


def _images(name: str, data: Path) -> tuple[Iterable[PosedImage], Pose | None]:
    if name in STREAMS:
        bag, layout = BagReader(REPOSITORY / "sample" / name), BagLayout()
        return bag_images(bag, layout, OFFSET), cam_from_base(bag, layout)
    image_set = find_sets(data)[name]
    return query_images(image_set.queries(START), image_set.images, image_set.truth), None


def degrade(item: PosedImage, index: int) -> PosedImage:
    """The image blurred along a line of 3 to 20 px (at a width of 1024), darker, with noise.

    The blur is symmetric, so that the true pose stays that of the middle of the exposure.
    """
    generator = np.random.default_rng(zlib.crc32(b"degrade") + index)
    image = item.image.astype(np.float32)
    reach = generator.uniform(1.5, 10) * image.shape[1] / 1024
    angle = generator.uniform(0, np.pi)
    image = cv2.filter2D(image, -1, line_kernel(reach, angle), borderType=cv2.BORDER_REFLECT).clip(
        0, 255
    )
    if generator.random() < 0.5:
        image = 255 * (image / 255 * generator.uniform(0.3, 1)) ** generator.uniform(0.8, 1.3)
    image = image + generator.normal(0, generator.uniform(1, 10), image.shape)
    return replace(item, image=image.clip(0, 255).astype(np.uint8))


def line_kernel(reach: float, angle: float, fine: int = 4) -> np.ndarray:
    """Kernel of a line through the centre, `reach` to either side, drawn `fine` times finer."""
    size = 2 * int(np.ceil(reach)) + 1
    drawn = np.zeros((size * fine, size * fine))
    along = np.linspace(-reach, reach, 16 * size)[:, None] * [np.cos(angle), np.sin(angle)]
    x, y = np.round((size * fine - 1) / 2 + fine * along).astype(int).T
    np.add.at(drawn, (y, x), 1)
    drawn = drawn + drawn[::-1, ::-1]
    kernel = drawn.reshape(size, fine, size, fine).sum((1, 3))
    return np.asarray(kernel / kernel.sum())


def save_answers(path: Path, found: PosedAnswers) -> None:
    """Keep answers in a file of numbers."""
    np.savez(
        path,
        estimate=found.estimate.data.numpy(),
        truth=found.truth.data.numpy(),
        mounted=found.cam_from_base.data.numpy(),
        sandwich=found.spread.sandwich.numpy(),
        geometry=found.spread.geometry.numpy(),
        level_shift_px=found.spread.level_shift_px.numpy(),
    )


def read_answers(path: Path) -> PosedAnswers:
    """Answers that were kept."""
    with np.load(path, allow_pickle=False) as file:
        numbers = {name: torch.from_numpy(file[name]) for name in file.files}
    spread = PoseSpread(numbers["sandwich"], numbers["geometry"], numbers["level_shift_px"])
    estimate, truth, mounted = (Pose(numbers[n]) for n in ("estimate", "truth", "mounted"))
    return PosedAnswers(estimate, truth, mounted, spread)


if __name__ == "__main__":
    sys.exit(main())
