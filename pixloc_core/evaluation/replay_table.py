"""The numbers of a replay for people."""

import math

from pixloc_core.evaluation.replay_summary import ErrorSpread, ReplaySummary, Spread
from pixloc_core.evaluation.report import number, percent

Rows = list[tuple[str, str]]


def replay_rows(summary: ReplaySummary) -> Rows:
    """Name and value of the numbers that matter, for tables."""
    return [
        *_image_rows(summary),
        *_error_rows(summary),
        *_time_rows(summary),
        *_covariance_rows(summary),
        *_loss_rows(summary),
        *((f"time in {name or 'an untold state'}", f"{s:.1f} s") for name, s in _states(summary)),
        *((f"not localized: {name}", str(count)) for name, count in summary.failures.items()),
    ]


def latency_rows(summary: ReplaySummary) -> Rows:
    """Percentiles of the latency by stage."""
    return [
        (name, " / ".join(number(x, 0) for x in (s.p50, s.p90, s.p99, s.max)) + " ms")
        for name, s in summary.latency_ms.items()
    ]


def _image_rows(summary: ReplaySummary) -> Rows:
    images, shares = summary.images, summary.availability
    return [
        ("images in the bag", str(images.total)),
        ("taken up (newest wins)", f"{images.taken} ({percent(images.taken_share)})"),
        ("availability", f"{percent(shares.of_taken)} ({images.published} poses)"),
        ("availability, of all images", percent(shares.of_all)),
        ("availability, since the first prior", percent(shares.since_prior)),
    ]


def _error_rows(summary: ReplaySummary) -> Rows:
    position, rotation = summary.ate.position, summary.ate.rotation_deg
    wrong = summary.false_accepts
    rows = [
        ("position error, median / 95 %", _pair(100 * position.p50, 100 * position.p95, "cm")),
        ("rotation error, median / 95 %", _pair(rotation.p50, rotation.p95, "deg")),
        ("ATE, RMSE", _ate(summary.ate)),
    ]
    if summary.ate_aligned is not None:
        rows.append(("ATE after rigid alignment, RMSE", _ate(summary.ate_aligned)))
    rpe = summary.rpe
    rows += [
        ("RPE per frame, RMSE", _ate(rpe.per_frame)),
        ("RPE per second, RMSE", _ate(rpe.per_second)),
        ("RPE per metre, RMSE", _ate(rpe.per_metre)),
        (
            f"wrong poses (over {wrong.position_bound:g} m or {wrong.rotation_bound_deg:g} deg)",
            f"{wrong.count} ({100 * wrong.share:.2f} %)",
        ),
    ]
    if summary.without_truth:
        rows.append(("poses without truth", str(summary.without_truth)))
    return rows


def _time_rows(summary: ReplaySummary) -> Rows:
    total = summary.latency_ms["total"]
    return [
        ("latency, p50 / p95", _pair(total.p50, total.p95, "ms", digits=0)),
        ("latency, p99 / max", _pair(total.p99, total.max, "ms", digits=0)),
        ("rate", f"{summary.rate_hz:.2f} poses/s"),
        ("time to the first pose", number(summary.time_to_first_pose_s, 2, " s")),
        ("time from the prior to its pose", number(summary.time_from_prior_s, 2, " s")),
    ]


def _covariance_rows(summary: ReplaySummary) -> Rows:
    found = summary.covariance
    if found is None:
        return [("covariance", "none to judge")]
    shares = ", ".join(
        f"{axis} {percent(share)}" for axis, share in found.coverage["2_sigma"].items()
    )
    band = f"{number(found.nees_low, 2)} to {number(found.nees_high, 2)}"
    return [
        ("mean NEES (99 % band)", f"{number(found.nees_mean, 2)} ({band})"),
        ("within 2 sigma (right: 95 %)", shares),
    ]


def _loss_rows(summary: ReplaySummary) -> Rows:
    kidnaps, silences = summary.kidnaps, summary.silences
    rows = []
    for index, event in enumerate(kidnaps.events, start=1):
        rows.append(
            (
                f"kidnap {index}: detected / recovered after",
                f"{_seconds(event.detection_s)} / {_seconds(event.recovery_s)}, "
                f"{event.false_poses} wrong poses meanwhile",
            )
        )
    text = f"{silences.count}"
    if silences.count:
        text += f", longest {number(silences.longest_s, 1, ' s')}"
    return [*rows, ("long times without a pose", text)]


def _states(summary: ReplaySummary) -> list[tuple[str, float]]:
    known = summary.states_s
    return [] if set(known) <= {""} else sorted(known.items(), key=lambda item: -item[1])


def _ate(errors: ErrorSpread) -> str:
    return _both(errors.position, errors.rotation_deg)


def _both(position: Spread, rotation: Spread) -> str:
    return f"{number(100 * position.rmse, 2, ' cm')}, {number(rotation.rmse, 3, ' deg')}"


def _seconds(value: float | None) -> str:
    return "never" if value is None else number(value, 1, " s")


def _pair(first: float, second: float, unit: str, *, digits: int = 2) -> str:
    if not math.isfinite(first):
        return f"- / - {unit}"
    return f"{number(first, digits)} / {number(second, digits)} {unit}"
