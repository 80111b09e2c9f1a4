"""How good the evidence for one pose is, besides the cost that the optimizer minimized."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from pixloc_core.localizer.result import Localization
from pixloc_core.localizer.state_config import StateConfig


class Grade(IntEnum):
    """What a pose may be used for."""

    BAD = 0
    WEAK = 1
    GOOD = 2


@dataclass(frozen=True)
class GradedEvidence:
    """Verdict over the checks.

    Attributes:
        grade: GOOD to be published as it is, WEAK with raised covariance, BAD not at all.
        reason: The checks that failed; empty if none did.
    """

    grade: Grade
    reason: str = ""


NO_DOUBT = GradedEvidence(Grade.GOOD)


def grade(found: Localization, config: StateConfig) -> GradedEvidence:
    """Hold the checks of an answer against their limits; NaN (not looked at) passes."""
    failed = list(_failures(found, config))
    if not failed:
        return GradedEvidence(Grade.GOOD)
    is_bad = len(failed) >= config.bad_checks
    return GradedEvidence(Grade.BAD if is_bad else Grade.WEAK, "; ".join(failed))


def _failures(found: Localization, config: StateConfig) -> Iterator[str]:
    checks = found.checks
    if checks is None:
        return
    heldout, restarts = checks.heldout_score, checks.restart_agreement
    spread, levels = checks.restart_spread_px, checks.level_spread_px
    confident = checks.confident_share
    # A comparison with NaN is false: what was not looked at passes.
    if heldout < config.min_heldout_score:
        expected = f"expected {config.min_heldout_score:.0%}"
        yield f"{heldout:.0%} of the held-out points agree, {expected}"
    if restarts < config.min_restart_agreement:
        yield (
            f"{restarts:.0%} of the disturbed restarts come back, expected "
            f"{config.min_restart_agreement:.0%}"
        )
    if spread > config.max_restart_spread:
        limit = f"limit {config.max_restart_spread:g} px"
        yield f"disturbed restarts end {spread:.1f} px away, {limit}"
    if levels > config.max_level_spread:
        yield f"levels disagree by {levels:.1f} px, limit {config.max_level_spread:g} px"
    if confident < config.min_confident_share:
        expected = f"expected {config.min_confident_share:.1%}"
        yield f"{confident:.1%} of the image is relied on, {expected}"
