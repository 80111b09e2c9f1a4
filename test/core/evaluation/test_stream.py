"""Record of a stream: which images got a pose, and which did not."""

import numpy as np

from pixloc_core.bags.trajectory import Trajectory
from pixloc_core.evaluation.stream import FrameOutcome, StreamRun, seconds_since
from pixloc_core.geometry import Pose

SECOND = 1_000_000_000


def run_of(published: list[bool]) -> StreamRun:
    stamps = (np.arange(len(published)) + 1) * SECOND
    outcomes = tuple(
        FrameOutcome(int(stamp), "localized", "", 0.9, 100.0, int(stamp)) for stamp in stamps
    )
    kept = stamps[np.array(published)]
    estimate = Trajectory(kept, Pose.identity(len(kept)))
    return StreamRun("test", stamps[::-1].copy(), outcomes, estimate, estimate, 1.0)


def test_an_image_counts_as_missed_unless_its_pose_was_published() -> None:
    run = run_of([True, False, True])
    assert run.published == {SECOND, 3 * SECOND}
    # Localized, but held back by the state machine.
    assert run.missed_stamps_ns().tolist() == [2 * SECOND]


def test_time_counts_from_the_first_image() -> None:
    run = run_of([True, True])
    assert run.begin_ns == SECOND
    assert seconds_since(run.image_stamps_ns, run.begin_ns).tolist() == [1.0, 0.0]
