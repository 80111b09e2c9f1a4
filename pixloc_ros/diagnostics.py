"""What the node says about itself: the status of each image, and /diagnostics once a second."""

import math
from collections.abc import Iterator

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from pixloc_core.localizer.supervisor import State
from pixloc_ros.interfaces import LocalizationStatus
from pixloc_ros.latest_worker import WorkerCounts
from pixloc_ros.outcome import Outcome
from pixloc_ros.reports import NodeReport

STATUS_NAMES = {
    LocalizationStatus.LOCALIZED: "localized",
    LocalizationStatus.NOT_LOCALIZED: "not localized",
    LocalizationStatus.NO_PRIOR: "no prior",
    LocalizationStatus.BAD_INPUT: "bad input",
    LocalizationStatus.INTERNAL_ERROR: "internal error",
}
_LEVELS = {
    State.UNINITIALIZED: DiagnosticStatus.WARN,
    State.INITIALIZING: DiagnosticStatus.WARN,
    State.TRACKING: DiagnosticStatus.OK,
    State.DEGRADED: DiagnosticStatus.WARN,
    State.LOST: DiagnosticStatus.ERROR,
}
_WORST = (LocalizationStatus.BAD_INPUT, LocalizationStatus.INTERNAL_ERROR)
# Share of the images that may be given up for newer ones before it is worth a word.
_MANY_DROPPED = 0.5
_PAUSED = "paused: images are not looked at (service trigger)"


def status_message(
    outcome: Outcome,
    counts: WorkerCounts,
    *,
    received: int,
    localized: int,
    failures: int,
    latency_ms: float,
) -> LocalizationStatus:
    """LocalizationStatus of one exposure."""
    message = LocalizationStatus(header=outcome.header, status=outcome.status)
    decision = outcome.decision
    message.state, message.state_reason = int(decision.state), decision.reason
    message.published = outcome.published
    message.reason = outcome.reason
    message.prior_source = outcome.prior_source
    message.innovation_m = float(decision.innovation[0])
    message.innovation_deg = math.degrees(decision.innovation[1])
    _add_evidence(message, outcome)
    message.stages = list(outcome.stage_ms)
    message.stage_ms = list(outcome.stage_ms.values())
    message.latency_ms = latency_ms
    message.images_received = received
    message.images_taken = counts.taken
    message.images_dropped = counts.dropped
    message.images_localized = localized
    message.consecutive_failures = failures
    return message


def _add_evidence(message: LocalizationStatus, outcome: Outcome) -> None:
    found = outcome.localization
    checks = None if found is None else found.checks
    if found is not None:
        message.score = float(found.score)
        message.num_points = int(found.num_points)
        message.num_inliers = int(found.num_inliers)
        message.cost_per_level = [float(cost) for cost in found.cost_per_level]
    names = ("heldout_score", "restart_agreement", "restart_spread_px", "level_spread_px")
    for name in (*names, "confident_share"):
        setattr(message, name, math.nan if checks is None else float(getattr(checks, name)))


def diagnostics(node_name: str, report: NodeReport) -> list[DiagnosticStatus]:
    """The entries of /diagnostics; keys and levels are listed in docs/node.md."""
    return [_localization(node_name, report), _input(node_name, report)]


def _verdict(report: NodeReport) -> tuple[bytes, str]:
    outcome, heard = report.session.outcome, report.session.heard
    known, reason = report.pipeline.state, report.pipeline.reason
    level, text = _LEVELS[known], f"{known.name}: {reason}"
    if report.problem:
        level, text = DiagnosticStatus.ERROR, report.problem
    elif report.lifecycle != "active":
        level, text = DiagnosticStatus.WARN, f"the node is {report.lifecycle}, expected active"
    elif report.session.is_paused:
        level, text = DiagnosticStatus.WARN, f"{_PAUSED}; {text}"
    elif outcome is None:
        level, text = DiagnosticStatus.WARN, f"no image has been looked at yet: {reason}"
    elif heard.received_lately == 0:
        level, text = DiagnosticStatus.STALE, "no images arrive"
    elif heard.apart:
        level, text = DiagnosticStatus.WARN, heard.apart
    elif outcome.status in _WORST:
        level = DiagnosticStatus.ERROR
        text = f"{STATUS_NAMES[outcome.status]}: {outcome.reason}"
    return level, text


def _localization(node_name: str, report: NodeReport) -> DiagnosticStatus:
    session, pipeline = report.session, report.pipeline
    level, text = _verdict(report)
    values: dict[str, object] = {
        "lifecycle": report.lifecycle,
        "state": pipeline.state.name,
        "state_reason": pipeline.reason,
        "map": report.map_path,
        "map_id": report.map_id,
        "images_localized": session.localized,
        "consecutive_failures": pipeline.failures,
        "latency_ms": f"{session.latency_ms:.1f}",
        "tf_owner": report.tf_owner,
        "retrieval": "available" if report.retrieval[0] else "not available",
        "retrieval_problem": report.retrieval[1],
    }
    if session.outcome is not None:
        values |= _outcome_values(session.outcome)
    return _entry(f"{node_name}: localization", level, text, values)


def _outcome_values(outcome: Outcome) -> dict[str, object]:
    values: dict[str, object] = {"prior_source": outcome.prior_source, "reason": outcome.reason}
    values |= {f"{stage}_ms": f"{ms:.1f}" for stage, ms in outcome.stage_ms.items()}
    if outcome.localization is not None:
        values["score"] = f"{outcome.localization.score:.3f}"
        values["num_points"] = outcome.localization.num_points
        values["num_inliers"] = outcome.localization.num_inliers
    if outcome.published and outcome.covariance is not None:
        variances = outcome.covariance.diagonal()
        values["sigma_position_m"] = f"{float(variances[:3].max().sqrt()):.4f}"
        values["sigma_rotation_deg"] = f"{math.degrees(float(variances[3:].max().sqrt())):.3f}"
    return values


def _input(node_name: str, report: NodeReport) -> DiagnosticStatus:
    session, heard = report.session, report.session.heard
    rate = heard.received_lately / max(session.period_s, 1e-3)
    level, text = DiagnosticStatus.OK, f"{rate:.1f} images/s"
    problem = next(_input_problems(report), "")
    if session.is_paused:
        text = _PAUSED
    elif heard.received_lately == 0 and not report.refused_transform:
        level, text = DiagnosticStatus.STALE, "no images arrive"
    elif problem:
        level, text = DiagnosticStatus.WARN, problem
    values: dict[str, object] = {
        "image_rate_hz": f"{rate:.2f}",
        "images_received": heard.received,
        "images_taken": session.counts.taken,
        "images_dropped": session.counts.dropped,
        "exposures_given_up": heard.given_up,
        "camera_info": not heard.uncalibrated,
        "silent_cameras": ", ".join(heard.silent),
        "refused_transform": report.refused_transform,
        "camera_problem": report.pipeline.camera_problem,
        "odometry_problem": report.pipeline.odometry_problem,
    }
    return _entry(f"{node_name}: input", level, text, values)


def _input_problems(report: NodeReport) -> Iterator[str]:
    """What is wrong with what comes in, the gravest first."""
    session, heard, pipeline = report.session, report.session.heard, report.pipeline
    if report.refused_transform:
        yield report.refused_transform
    if heard.uncalibrated:
        yield f"images arrive, but no {_topics(heard.uncalibrated)}"
    if heard.silent:
        yield f"no images from {', '.join(heard.silent)}"
    if heard.apart:
        yield heard.apart
    if pipeline.camera_problem:
        yield f"a camera is left out: {pipeline.camera_problem}"
    if pipeline.odometry_problem:
        yield pipeline.odometry_problem
    if session.dropped_share > _MANY_DROPPED:
        share, rate = session.dropped_share, session.exposure_rate_hz
        yield f"{share:.0%} of {rate:.1f} exposures/s are given up for newer ones"


def _topics(cameras: tuple[str, ...]) -> str:
    return ", ".join(f"{name}/camera_info" if name else "camera_info" for name in cameras)


def _entry(name: str, level: bytes, text: str, values: dict[str, object]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(
        level=level, name=name, message=text, hardware_id="camera", values=pairs
    )
