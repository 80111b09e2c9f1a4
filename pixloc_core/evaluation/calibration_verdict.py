"""Whether a calibration holds for poses that the fit has not seen (docs/covariance.md)."""

from collections.abc import Mapping

import numpy as np
from scipy.stats import binom

from pixloc_core.evaluation.calibration import calibrate
from pixloc_core.evaluation.consistency import AXES, BAND_SHARE, Consistency, consistency
from pixloc_core.evaluation.posed_answers import PosedAnswers

# Share of the errors of an axis that is wanted within two standard deviations.
WANTED_SHARE = (0.90, 0.99)
GAUSSIAN_SHARE = 0.9545
# Parts of a stream that are left out of the fit in turn.
BLOCKS = 4
# A stream of fewer poses is neither fitted nor judged.
FEWEST_TO_JUDGE = 20
# Fewer independent poses would let nearly everything pass.
FEWEST_INDEPENDENT = 10


def judge_held_out(groups: Mapping[str, PosedAnswers]) -> dict[str, Consistency]:
    """Hold each stream against what `calibrate` makes of the others.

    Of a single stream each of four blocks in time is held against the fit to the other three.

    Args:
        groups: Answers by the name of their stream, each of at least `FEWEST_TO_JUDGE`.

    Raises:
        FormatError: If there are too few poses to fit without those that are judged.
    """
    if len(groups) == 1:
        name, only = next(iter(groups.items()))
        return {f"{name}, blocks by the others": _judge_blocks(only)}
    found = {}
    for name, unseen in groups.items():
        others = [group for other, group in groups.items() if other != name]
        found[f"{name}, by the others"] = unseen.consistency(calibrate(others))
    return found


def _judge_blocks(answers: PosedAnswers) -> Consistency:
    errors, covariances = [], []
    for block in np.array_split(np.arange(len(answers)), BLOCKS):
        others = np.setdiff1d(np.arange(len(answers)), block)
        config, unseen = calibrate([answers.select(others)]), answers.select(block)
        errors.append(unseen.base_errors())
        covariances.append(unseen.base_covariances(config))
    return consistency(np.concatenate(errors), np.concatenate(covariances))


def coverage_bounds(independent: float) -> tuple[float, float]:
    """What share of the errors of an axis may lie within two standard deviations (low, high).

    `WANTED_SHARE`, and beyond it what right covariances of so few poses give with a probability
    of 99 %.
    """
    count = max(1, int(independent))
    tails = (0.5 * (1 - BAND_SHARE), 0.5 * (1 + BAND_SHARE))
    low, high = (float(binom.ppf(tail, count, GAUSSIAN_SHARE)) / count for tail in tails)
    return min(low, WANTED_SHARE[0]), max(high, WANTED_SHARE[1])


def calibration_shortfalls(name: str, found: Consistency) -> list[str]:
    """What speaks against the covariances of unseen poses, one line each; none if they hold.

    Args:
        name: Of the poses.
        found: How errors and covariances agree.
    """
    lines = []
    if found.independent < FEWEST_INDEPENDENT:
        lines.append(
            f"{name}: {found.count} poses count as {found.independent:.0f} independent ones, "
            f"expected at least {FEWEST_INDEPENDENT} (too few or too much alike to tell)"
        )
    if not found.in_band:
        low, high = found.nees_band
        too = "much" if found.nees_mean < low else "little"
        lines.append(
            f"{name}: mean NEES is {found.nees_mean:.1f}, expected {low:.1f} to {high:.1f} "
            f"(too {too} error is said)"
        )
    least, most = coverage_bounds(found.independent)
    lines += [
        f"{name}: {axis} is within 2 sigma in {100 * share:.1f} %, expected {100 * least:.0f} to "
        f"{100 * most:.0f} %"
        for axis, share in zip(AXES, found.coverage[1].tolist(), strict=True)
        if not least <= share <= most
    ]
    return lines
