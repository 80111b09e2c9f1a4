"""What the node says about itself: the status of each image, and /diagnostics once a second."""

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from pixloc_ros.image_pipeline import Outcome
from pixloc_ros.interfaces import LocalizationStatus
from pixloc_ros.latest_worker import WorkerCounts

STATUS_NAMES = {
    LocalizationStatus.LOCALIZED: "localized",
    LocalizationStatus.NOT_LOCALIZED: "not localized",
    LocalizationStatus.NO_PRIOR: "no prior",
    LocalizationStatus.BAD_INPUT: "bad input",
    LocalizationStatus.INTERNAL_ERROR: "internal error",
}
LEVELS = {
    LocalizationStatus.LOCALIZED: DiagnosticStatus.OK,
    LocalizationStatus.NOT_LOCALIZED: DiagnosticStatus.WARN,
    LocalizationStatus.NO_PRIOR: DiagnosticStatus.WARN,
    LocalizationStatus.BAD_INPUT: DiagnosticStatus.ERROR,
    LocalizationStatus.INTERNAL_ERROR: DiagnosticStatus.ERROR,
}


@dataclass(frozen=True)
class NodeState:
    """All that /diagnostics is made of.

    Attributes:
        map_path: Map file.
        problem: Why nothing can be localized at all (no map), or empty.
        outcome: Of the newest image taken up.
        latency_ms: Of that image, from its arrival to its pose.
        counts: Images received, taken and dropped since the start.
        localized: Images localized since the start.
        failures: Alignments in a row that were not believed.
        received_lately: Images received since the last report.
        period_s: Time since the last report.
        has_camera_info: Whether a camera_info has come.
        refused_transform: The newest transform that was refused, or empty.
    """

    map_path: str
    problem: str
    outcome: Outcome | None
    latency_ms: float
    counts: WorkerCounts
    localized: int
    failures: int
    received_lately: int
    period_s: float
    has_camera_info: bool
    refused_transform: str


def status_message(
    outcome: Outcome, counts: WorkerCounts, *, localized: int, failures: int, latency_ms: float
) -> LocalizationStatus:
    """LocalizationStatus of one image."""
    message = LocalizationStatus(header=outcome.header, status=outcome.status)
    message.reason = outcome.reason
    message.prior_source = outcome.prior_source
    found = outcome.localization
    if found is not None:
        message.score = float(found.score)
        message.num_points = int(found.num_points)
        message.num_inliers = int(found.num_inliers)
        message.cost_per_level = [float(cost) for cost in found.cost_per_level]
    message.stages = list(outcome.stage_ms)
    message.stage_ms = list(outcome.stage_ms.values())
    message.latency_ms = latency_ms
    message.images_received = counts.received
    message.images_taken = counts.taken
    message.images_dropped = counts.dropped
    message.images_localized = localized
    message.consecutive_failures = failures
    return message


def diagnostics(node_name: str, state: NodeState) -> list[DiagnosticStatus]:
    """The entries of /diagnostics; keys and levels are listed in docs/node.md."""
    return [_localization(node_name, state), _input(node_name, state)]


def _localization(node_name: str, state: NodeState) -> DiagnosticStatus:
    outcome = state.outcome
    if state.problem:
        level, text = DiagnosticStatus.ERROR, state.problem
    elif outcome is None:
        level, text = DiagnosticStatus.WARN, "no image has been localized yet"
    elif state.received_lately == 0:
        level, text = DiagnosticStatus.STALE, "no images arrive"
    else:
        name = STATUS_NAMES[outcome.status]
        level = LEVELS[outcome.status]
        text = f"{name}: {outcome.reason}" if outcome.reason else name
    values: dict[str, object] = {
        "map": state.map_path,
        "images_localized": state.localized,
        "consecutive_failures": state.failures,
        "latency_ms": f"{state.latency_ms:.1f}",
    }
    if outcome is not None:
        values["prior_source"] = outcome.prior_source
        values |= {f"{stage}_ms": f"{ms:.1f}" for stage, ms in outcome.stage_ms.items()}
        if outcome.localization is not None:
            values["score"] = f"{outcome.localization.score:.3f}"
            values["num_points"] = outcome.localization.num_points
            values["num_inliers"] = outcome.localization.num_inliers
    return _entry(f"{node_name}: localization", level, text, values)


def _input(node_name: str, state: NodeState) -> DiagnosticStatus:
    rate = state.received_lately / max(state.period_s, 1e-3)
    if state.refused_transform:
        level, text = DiagnosticStatus.WARN, state.refused_transform
    elif state.received_lately == 0:
        level, text = DiagnosticStatus.STALE, "no images arrive"
    elif not state.has_camera_info:
        level, text = DiagnosticStatus.WARN, "images arrive, but no camera_info"
    else:
        level, text = DiagnosticStatus.OK, f"{rate:.1f} images/s"
    values: dict[str, object] = {
        "image_rate_hz": f"{rate:.2f}",
        "images_received": state.counts.received,
        "images_taken": state.counts.taken,
        "images_dropped": state.counts.dropped,
        "camera_info": state.has_camera_info,
        "refused_transform": state.refused_transform,
    }
    return _entry(f"{node_name}: input", level, text, values)


def _entry(name: str, level: bytes, text: str, values: dict[str, object]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(
        level=level, name=name, message=text, hardware_id="camera", values=pairs
    )
