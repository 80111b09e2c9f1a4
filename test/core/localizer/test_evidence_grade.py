"""Verdict over the checks beside the cost, and where a fix says the robot is later."""

import math
from dataclasses import replace

import pytest
import torch

from pixloc_core.geometry import Pose
from pixloc_core.localizer.evidence_grade import Grade, grade
from pixloc_core.localizer.fix import Fix
from pixloc_core.localizer.result import Checks, Localization, LocalizationStatus
from pixloc_core.localizer.state_config import StateConfig

LIMITS = StateConfig(
    min_heldout_score=0.1,
    min_restart_agreement=0.5,
    max_level_spread=16.0,
    min_confident_share=0.02,
    bad_checks=2,
)
GOOD = {
    "heldout_score": 0.8,
    "restart_agreement": 1.0,
    "level_spread_px": 1.0,
    "confident_share": 0.5,
}
FAILS = {
    "heldout_score": (0.05, "5% of the held-out points agree, expected 10%"),
    "restart_agreement": (0.25, "25% of the disturbed restarts come back, expected 50%"),
    "level_spread_px": (40.0, "levels disagree by 40.0 px, limit 16 px"),
    "confident_share": (0.01, "1.0% of the image is relied on, expected 2.0%"),
}


def found(**checks: float) -> Localization:
    return Localization(LocalizationStatus.LOCALIZED, "", checks=Checks(**{**GOOD, **checks}))


def test_checks_that_pass_leave_no_doubt() -> None:
    assert grade(found(), LIMITS).grade is Grade.GOOD


@pytest.mark.parametrize("check", FAILS)
def test_one_check_that_fails_is_weak_evidence_and_is_named(check: str) -> None:
    value, words = FAILS[check]
    verdict = grade(found(**{check: value}), LIMITS)
    assert (verdict.grade, verdict.reason) == (Grade.WEAK, words)


def test_two_checks_that_fail_make_a_pose_unbelievable() -> None:
    verdict = grade(found(heldout_score=0.0, level_spread_px=99.0), LIMITS)
    assert verdict.grade is Grade.BAD
    assert verdict.reason.count(";") == 1
    lenient = grade(found(heldout_score=0.0, level_spread_px=99.0), replace(LIMITS, bad_checks=3))
    assert lenient.grade is Grade.WEAK


@pytest.mark.parametrize("check", FAILS)
def test_what_was_not_looked_at_passes(check: str) -> None:
    assert grade(found(**{check: math.nan}), LIMITS).grade is Grade.GOOD


def test_an_answer_without_checks_passes() -> None:
    answer = Localization(LocalizationStatus.LOCALIZED, "")
    assert grade(answer, LIMITS).grade is Grade.GOOD


def at(x: float, y: float = 0.0, angle: float = 0.0) -> Pose:
    aa = torch.tensor([0.0, 0.0, angle], dtype=torch.float64)
    return Pose.from_aa(aa, torch.tensor([x, y, 0.0], dtype=torch.float64))


def test_a_fix_is_moved_along_the_axes_of_the_robot() -> None:
    """Odometry and map are turned against each other by 90 degrees."""
    fix = Fix(0, at(5.0, 0.0, math.pi / 2), at(1.0, 1.0, 0.0))
    moved = fix.moved(at(3.0, 1.0, 0.5))
    torch.testing.assert_close(moved.data, at(5.0, 2.0, math.pi / 2 + 0.5).data)
    assert fix.map_from_odom is not None
    torch.testing.assert_close((fix.map_from_odom @ at(3.0, 1.0, 0.5)).data, moved.data)


def test_without_odometry_at_both_moments_a_fix_stays() -> None:
    fix = Fix(0, at(5.0), None)
    assert fix.map_from_odom is None
    assert fix.moved(at(9.0)) is fix.map_from_base
    assert Fix(0, at(5.0), at(1.0)).moved(None).t[0] == 5.0


def test_motion_is_measured_by_odometry_or_bounded_by_speed() -> None:
    measured = Fix(0, at(5.0), at(1.0)).motion(10**9, at(1.0, 4.0, 0.5), 3.0, 2.0)
    assert (measured.distance, measured.is_measured) == (pytest.approx(4.0), True)
    assert measured.angle == pytest.approx(0.5)
    bounded = Fix(0, at(5.0), None).motion(2 * 10**9, at(1.0), 3.0, 2.0)
    assert (bounded.distance, bounded.angle, bounded.is_measured) == (6.0, 4.0, False)
