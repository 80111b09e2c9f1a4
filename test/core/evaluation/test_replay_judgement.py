"""Numbers of a replay, against those worked out by hand."""

import json
import math

import numpy as np
import pytest
from stream_runs import BEGIN, PERIOD, run_of, stamps_of

from pixloc_core.bags.trajectory import Trajectory
from pixloc_core.errors import FormatError
from pixloc_core.evaluation.consistency import AXES
from pixloc_core.evaluation.replay_judgement import ReplayBounds, judge_run
from pixloc_core.evaluation.replay_summary import ReplaySummary, Spread
from pixloc_core.evaluation.replay_table import latency_rows, replay_rows

NO_KIDNAPS = np.zeros(0, np.int64)


def summary_of(answers: str, **changes: object) -> ReplaySummary:
    return judge_run(run_of(answers, **changes), NO_KIDNAPS, ReplayBounds()).summary


def test_availability_is_of_the_images_taken_up_of_all_and_since_the_prior() -> None:
    found = summary_of("npp-nppp--", first_prior_ns=BEGIN + PERIOD)
    images, shares = found.images, found.availability
    assert (images.total, images.taken, images.dropped, images.published) == (10, 7, 3, 5)
    assert shares.of_taken == pytest.approx(5 / 7)
    assert shares.of_all == pytest.approx(0.5)
    assert shares.since_prior == pytest.approx(5 / 6)
    assert found.rate_hz == 2.5
    assert found.failures == {"not localized": 2}


def test_without_a_prior_availability_counts_from_the_first_pose() -> None:
    assert summary_of("nnnppn").availability.since_prior == pytest.approx(2 / 3)


def test_images_taken_up_without_any_answer_count_against_availability() -> None:
    found = summary_of("ppp--", taken=4)
    assert found.availability.of_taken == 0.75
    assert found.availability.since_prior == 0.75


def test_wrong_poses_are_counted_against_the_bounds() -> None:
    found = summary_of("ppwp")
    assert (found.false_accepts.count, found.false_accepts.share) == (1, 0.25)
    assert found.ate.position.rmse == pytest.approx(0.5)
    assert found.ate.position.max == pytest.approx(1.0)
    assert found.ate.position.p50 == pytest.approx(0.0, abs=1e-9)
    wide = judge_run(run_of("ppwp"), NO_KIDNAPS, ReplayBounds(position=2.0))
    assert wide.summary.false_accepts.count == 0


def test_times_to_the_first_pose_count_from_the_first_image_and_from_the_prior() -> None:
    found = summary_of("nnpp", first_prior_ns=BEGIN + PERIOD)
    assert found.time_to_first_pose_s == pytest.approx(1.1)
    assert found.time_from_prior_s == pytest.approx(0.6)
    assert math.isnan(summary_of("nnn").time_to_first_pose_s)


def test_latencies_are_told_by_stage() -> None:
    found = summary_of("ppp").latency_ms
    assert (found["total"].p50, found["align"].max) == (100.0, 40.0)
    rows = dict(latency_rows(summary_of("ppp")))
    assert rows["total"] == "100 / 100 / 100 / 100 ms"


def test_covariances_are_held_against_the_errors() -> None:
    covariances = np.broadcast_to(0.25 * np.eye(6), (4, 6, 6)).copy()
    found = summary_of("ppwp", covariances=covariances).covariance
    assert found is not None
    # One of four poses is 1 m off along y, two sigma: NEES 4.
    assert found.nees_mean == pytest.approx(1.0)
    assert found.coverage["1_sigma"] == {axis: 0.75 if axis == "y" else 1.0 for axis in AXES}
    assert found.coverage_2_sigma_min == 1.0
    assert found.nees_in_band == 0


def test_poses_without_truth_take_their_covariances_along() -> None:
    covariances = np.stack([np.eye(6) * (index + 1) for index in range(3)])
    run = run_of("ppp", covariances=covariances)
    short = Trajectory(run.truth.stamps_ns[:2], run.truth.poses[:2])
    found = judge_run(
        run_of("ppp", covariances=covariances, truth=short), NO_KIDNAPS, ReplayBounds()
    )
    assert found.summary.without_truth == 1
    assert found.summary.covariance is not None
    assert found.summary.covariance.count == 2


def test_covariances_that_are_none_are_not_judged() -> None:
    assert summary_of("pp").covariance is None
    assert summary_of("pp", covariances=np.zeros((2, 6, 6))).covariance is None


def test_kidnaps_are_told_with_their_longest_times() -> None:
    stamps = stamps_of(8)
    judged = judge_run(run_of("ppwnppwp"), stamps[[2, 6]], ReplayBounds())
    kidnaps = judged.summary.kidnaps
    assert (kidnaps.count, kidnaps.undetected, kidnaps.unrecovered) == (2, 0, 0)
    assert kidnaps.recovery_s == pytest.approx(1.1)
    assert kidnaps.false_poses == 2
    rows = dict(replay_rows(judged.summary))
    assert rows["kidnap 1: detected / recovered after"] == "0.6 s / 1.1 s, 1 wrong poses meanwhile"


def test_a_stream_without_any_pose_still_has_numbers_and_a_table() -> None:
    found = summary_of("nn--")
    assert found.availability.since_prior == 0.0
    assert found.false_accepts.share == 0.0
    assert found.ate_aligned is None
    assert dict(replay_rows(found))["position error, median / 95 %"] == "- / - cm"
    assert json.loads(json.dumps(found.to_json()))["ate"]["position"]["rmse"] is None


def test_what_the_summary_holds_is_fit_for_json() -> None:
    text = json.dumps(summary_of("pwnp-").to_json(), allow_nan=False)
    assert json.loads(text)["false_accepts"]["count"] == 1


def test_a_stream_without_truth_is_refused() -> None:
    with pytest.raises(FormatError, match="empty"):
        summary_of("pp", truth=Trajectory.from_samples({}))


def test_a_spread_leaves_out_what_is_not_known() -> None:
    found = Spread.of(np.array([3.0, np.nan, 4.0]))
    assert found.rmse == pytest.approx(math.sqrt(12.5))
    assert (found.mean, found.p50, found.max) == (3.5, 3.5, 4.0)
