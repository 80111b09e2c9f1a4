"""Fit what the localizer says of its errors to poses with truth (docs/covariance.md)."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize

from pixloc_core.errors import FormatError
from pixloc_core.evaluation.consistency import nees
from pixloc_core.evaluation.pose_error import FloatArray
from pixloc_core.evaluation.posed_answers import PosedAnswers
from pixloc_core.localizer.covariance import CovarianceConfig

# Fewer poses say nothing.
FEWEST_POSES = 5
# A setting that the data do not show stays within about this factor of its start.
PULL = 3.0
# Where a setting of zero begins: no pixel is known to a thousandth.
_LEAST = 1e-3


def calibrate(
    groups: Sequence[PosedAnswers], start: CovarianceConfig | None = None
) -> CovarianceConfig:
    """`fit_covariance`, widened by as much as the fit is too sure of what it has not seen.

    Each half in time is judged by the fit to the other halves; where their mean NEES is above six,
    all covariances grow by that factor. Few poses (see `FEWEST_POSES`) are not halved.

    Args:
        groups: Answers of several streams; each counts alike.
        start: Where the fits begin; the defaults unless given.

    Raises:
        FormatError: If there are fewer than `FEWEST_POSES` poses.
    """
    config = fit_covariance(groups, start)
    halves = [group.halves() for group in groups]
    unseen_nees = []
    for seen, unseen in ((0, 1), (1, 0)):
        known = [pair[seen] for pair in halves if len(pair[seen])]
        if sum(len(group) for group in known) < FEWEST_POSES:
            return config
        fitted = fit_covariance(known, start)
        others = [pair[unseen] for pair in halves if len(pair[unseen])]
        unseen_nees += [nees(g.errors(), g.covariances(fitted)).mean() for g in others]
    factor = math.sqrt(max(1.0, float(np.mean(unseen_nees)) / 6))
    return _bounded(config.scale * factor, config.floor_px * factor)


def fit_covariance(
    groups: Sequence[PosedAnswers], start: CovarianceConfig | None = None
) -> CovarianceConfig:
    """The settings under which the errors are the likeliest, if they are Gaussian.

    Both are pulled to the start by a log-normal prior (1 sigma: a factor of `PULL`) that weighs
    as little as one pose does: it decides only what the poses leave open.

    Args:
        groups: Answers of several places or streams; each group counts alike.
        start: Where to begin; the defaults unless given.

    Raises:
        FormatError: If there are fewer than `FEWEST_POSES` poses.
    """
    count = sum(len(group) for group in groups)
    if count < FEWEST_POSES:
        raise FormatError(f"{count} poses with truth, expected at least {FEWEST_POSES}")
    start = start or CovarianceConfig()
    begin = np.log([max(start.scale, _LEAST), max(start.floor_px, _LEAST)])
    errors = [group.errors() for group in groups]

    def cost(logs: FloatArray) -> float:
        config = _config(logs)
        total = float((((logs - begin) / math.log(PULL)) ** 2).sum())
        for group, error in zip(groups, errors, strict=True):
            share = count / len(groups)
            total += share * _deviance(error, group.covariances(config))
        return total

    found = minimize(cost, begin, method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-3})
    return _config(found.x)


def _config(logs: FloatArray) -> CovarianceConfig:
    scale, floor_px = np.exp(logs).tolist()
    return _bounded(scale, floor_px)


def _bounded(scale: float, floor_px: float) -> CovarianceConfig:
    return CovarianceConfig(scale=min(scale, 1e4), floor_px=min(floor_px, 100.0))


def _deviance(errors: FloatArray, covariances: FloatArray) -> float:
    """Mean of twice the negative log likelihood, up to a constant."""
    _, logdet = np.linalg.slogdet(covariances)
    return float((nees(errors, covariances) + logdet).mean())
