import math

import pytest

from pixloc_core.localizer.evidence_grade import Grade, grade
from pixloc_core.localizer.result import Checks, Localization, LocalizationStatus
from pixloc_core.localizer.state_config import StateConfig

GOOD = {
    "heldout_score": 0.8,
    "restart_agreement": 1.0,
    "restart_spread_px": 0.5,
    "level_spread_px": 1.0,
    "confident_share": 0.4,
}
WRONG = {
    "heldout_score": 0.05,
    "restart_agreement": 0.25,
    "restart_spread_px": 9.0,
    "level_spread_px": 20.0,
    "confident_share": 0.001,
}


def found(**changes: float) -> Localization:
    return Localization(LocalizationStatus.LOCALIZED, "", checks=Checks(**{**GOOD, **changes}))


def test_good_checks_leave_no_doubt():
    assert grade(found(), StateConfig()).grade is Grade.GOOD


@pytest.mark.parametrize("name", GOOD)
def test_each_check_alone_makes_weak_and_says_so(name):
    verdict = grade(found(**{name: WRONG[name]}), StateConfig())
    assert verdict.grade is Grade.WEAK
    assert verdict.reason
    assert ";" not in verdict.reason


@pytest.mark.parametrize("name", GOOD)
def test_what_was_not_looked_at_passes(name):
    assert grade(found(**{name: math.nan}), StateConfig()).grade is Grade.GOOD


def test_two_failed_checks_are_not_believed():
    verdict = grade(found(heldout_score=0.0, restart_agreement=0.0), StateConfig())
    assert verdict.grade is Grade.BAD
    assert verdict.reason.count(";") == 1


def test_answer_without_checks_passes():
    answer = Localization(LocalizationStatus.LOCALIZED, "")
    assert grade(answer, StateConfig()).grade is Grade.GOOD
