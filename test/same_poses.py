"""Whether two replays found the same poses."""

from pixloc_core.bags.trajectory import Trajectory
from pixloc_core.localizer.fix import difference

# Metres and radians: where an image was dropped, the next one starts, and ends, a hair away.
TOLERANCE = 1e-3


def assert_same_poses(found: Trajectory, expected: Trajectory, *, at_least: int) -> None:
    """Hold the poses at the stamps of both against each other.

    Args:
        found: Poses of a replay in which a busy machine may have dropped images.
        expected: Those of another.
        at_least: So many stamps must be in both.
    """
    stamps = sorted(set(found.stamps_ns.tolist()) & set(expected.stamps_ns.tolist()))
    assert len(stamps) >= at_least, (found.stamps_ns, expected.stamps_ns)
    ours, theirs = (
        dict(zip(path.stamps_ns.tolist(), path.poses, strict=True)) for path in (found, expected)
    )
    apart = {stamp: difference(ours[stamp], theirs[stamp]) for stamp in stamps}
    assert max(distance for distance, _ in apart.values()) < TOLERANCE, apart
    assert max(angle for _, angle in apart.values()) < TOLERANCE, apart
