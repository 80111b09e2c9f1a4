"""Whether two replays found the same poses."""

import numpy as np

from pixloc_core.bags.trajectory import Trajectory
from pixloc_core.localizer.fix import difference

# Metres and radians. Of the same images: 1e-7 was seen. Where one was dropped, the next one starts
# at another prior, and ends up to 6 mm away in the toy room.
SAME, AFTER_A_DROP = 1e-4, 0.02


def assert_same_poses(found: Trajectory, expected: Trajectory, *, at_least: int) -> None:
    """Hold the poses at the stamps of both against each other.

    Args:
        found: Poses of a replay in which a busy machine may have dropped images.
        expected: Those of another.
        at_least: So many stamps must be in both.
    """
    stamps = np.intersect1d(found.stamps_ns, expected.stamps_ns)
    assert len(stamps) >= at_least, (found.stamps_ns, expected.stamps_ns)
    # The first stamp that only one of the two has.
    dropped = min(np.setxor1d(found.stamps_ns, expected.stamps_ns), default=np.inf)
    for stamp in stamps:
        ours, theirs = (
            path.poses[int(np.searchsorted(path.stamps_ns, stamp))] for path in (found, expected)
        )
        apart = max(difference(ours, theirs))
        assert apart < (SAME if stamp < dropped else AFTER_A_DROP), (stamp, dropped)
