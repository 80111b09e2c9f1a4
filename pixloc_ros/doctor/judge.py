"""From a snapshot to findings: all checks, in the order in which one would look."""

from collections.abc import Callable, Iterable

from pixloc_ros.doctor import check_frames, check_images, check_map, check_system
from pixloc_ros.doctor.findings import Finding, Level
from pixloc_ros.doctor.snapshot import Snapshot

Check = Callable[[Snapshot], Iterable[Finding]]
# The map first: it needs no running system.
ALWAYS: tuple[Check, ...] = (check_map.check_map, check_system.check_network)
# These need the parameters of the node.
DEPENDENT: tuple[Check, ...] = (
    check_system.check_clock,
    check_frames.check_camera_frames,
    check_frames.check_odometry,
    check_frames.check_map_frame,
    check_system.check_retrieval,
)
# These need somebody to look at.
CHECKS: tuple[Check, ...] = (
    check_system.check_clock,
    check_images.check_images,
    check_images.check_calibration,
    check_frames.check_tree,
    check_frames.check_camera_frames,
    check_frames.check_odometry,
    check_frames.check_map_frame,
    check_system.check_node,
    check_system.check_retrieval,
    check_system.check_index,
    check_system.check_status,
)


def judge(seen: Snapshot) -> list[Finding]:
    """What is well and what is wrong."""
    checks = (*ALWAYS, *CHECKS) if seen.nodes else ALWAYS
    skipped = DEPENDENT if seen.is_blind else ()
    return [finding for check in checks if check not in skipped for finding in check(seen)]


def summary(findings: Iterable[Finding]) -> str:
    """How many of each kind, in one line."""
    levels = [finding.level for finding in findings]
    errors, warnings = levels.count(Level.ERROR), levels.count(Level.WARN)
    if not errors and not warnings:
        return "nothing wrong was found"
    return f"{_count(errors, 'error')}, {_count(warnings, 'warning')}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
