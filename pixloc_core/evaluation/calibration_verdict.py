"""Whether a calibration holds for poses that the fit has not seen (docs/covariance.md)."""

from collections.abc import Mapping

import numpy as np
from scipy.stats import binom

from pixloc_core.evaluation.calibration import calibrate
from pixloc_core.evaluation.consistency import (
    AXES,
    BAND_SHARE,
    Consistency,
    consistency,
    nees_band,
)
from pixloc_core.evaluation.posed_answers import PosedAnswers

# Share of the errors of an axis that is wanted within two standard deviations.
WANTED_SHARE = (0.90, 0.99)
GAUSSIAN_SHARE = 0.9545
# Of each stream: the mean NEES, and the coverage of every axis.
CHECKS = 1 + len(AXES)
# Parts of a stream that are left out of the fit in turn.
BLOCKS = 4
# A stream of fewer poses is neither fitted nor judged.
FEWEST_TO_JUDGE = 20
# Of fewer independent poses, standard deviations that are wrong by a factor of 2 could pass.
FEWEST_INDEPENDENT = 6


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


def false_alarm(streams: int) -> float:
    """With what probability a single check may fail though the covariances are right.

    All checks of a verdict together, mean NEES and six axes of every stream, fail with a
    probability of at most 1 % (Bonferroni), however many streams are judged.
    """
    return (1 - BAND_SHARE) / (CHECKS * max(1, streams))


def coverage_bounds(independent: float, alarm: float) -> tuple[float, float]:
    """What share of the errors of an axis may lie within two standard deviations (low, high).

    `WANTED_SHARE`, and beyond it what right covariances of so few poses give, but for a
    probability of `alarm`.
    """
    count = max(1, int(independent))
    tails = (0.5 * alarm, 1 - 0.5 * alarm)
    low, high = (float(binom.ppf(tail, count, GAUSSIAN_SHARE)) / count for tail in tails)
    return min(low, WANTED_SHARE[0]), max(high, WANTED_SHARE[1])


def calibration_shortfalls(unseen: Mapping[str, Consistency]) -> list[str]:
    """What speaks against the covariances of unseen poses, one line each; none if they hold.

    Args:
        unseen: How errors and covariances agree, by the name of the stream.
    """
    alarm = false_alarm(len(unseen))
    return [line for name, found in unseen.items() for line in _shortfalls(name, found, alarm)]


def _shortfalls(name: str, found: Consistency, alarm: float) -> list[str]:
    lines = []
    if found.independent < FEWEST_INDEPENDENT:
        lines.append(
            f"{name}: {found.count} poses count as {found.independent:.0f} independent ones, "
            f"expected at least {FEWEST_INDEPENDENT} (too few or too much alike to tell)"
        )
    low, high = nees_band(found.independent, 1 - alarm)
    if not low <= found.nees_mean <= high:
        too = "much" if found.nees_mean < low else "little"
        lines.append(
            f"{name}: mean NEES is {found.nees_mean:.1f}, expected {low:.1f} to {high:.1f} "
            f"(too {too} error is said)"
        )
    least, most = coverage_bounds(found.independent, alarm)
    lines += [
        f"{name}: {axis} is within 2 sigma in {100 * share:.1f} %, expected {100 * least:.0f} to "
        f"{100 * most:.0f} %"
        for axis, share in zip(AXES, found.coverage[1].tolist(), strict=True)
        if not least <= share <= most
    ]
    return lines
