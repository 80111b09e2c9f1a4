"""Replays made by hand: a robot that drives along x, and what was said of its images."""

from collections.abc import Sequence

import numpy as np
import torch

from pixloc_core.bags.trajectory import Trajectory
from pixloc_core.evaluation.stream import FrameOutcome, StreamRun
from pixloc_core.geometry import Pose

SECOND = 1_000_000_000
# Images come every 0.5 s, from second 10 on.
PERIOD = SECOND // 2
BEGIN = 10 * SECOND


def stamps_of(count: int) -> np.ndarray:
    return BEGIN + PERIOD * np.arange(count, dtype=np.int64)


def straight(stamps: np.ndarray, offsets: Sequence[float] | np.ndarray = (0.0,)) -> Trajectory:
    """Moves at 1 m/s along x from 0 at `BEGIN`; offsets are along y."""
    t = torch.zeros(len(stamps), 3, dtype=torch.float64)
    t[:, 0] = torch.from_numpy((stamps - BEGIN) / SECOND)
    t[:, 1] = torch.as_tensor(np.broadcast_to(offsets, len(stamps)).copy())
    return Trajectory(stamps, Pose.from_Rt(torch.eye(3).double().expand(len(stamps), 3, 3), t))


def run_of(answers: str, **changes: object) -> StreamRun:
    """A replay by one letter an image.

    Args:
        answers: `p` a right pose, `w` a pose 1 m off, `n` no pose, `-` not taken up; upper case:
            in state LOST.
        changes: Other fields.
    """
    stamps = stamps_of(len(answers))
    outcomes = tuple(
        FrameOutcome(
            int(stamp),
            "localized" if letter in "pwPW" else "not localized",
            "" if letter in "pwPW" else f"image {index}",
            0.5,
            100.0,
            int(stamp) + 100_000_000,
            {"align": 40.0},
            "LOST" if letter.isupper() else "TRACKING",
        )
        for index, (stamp, letter) in enumerate(zip(stamps, answers, strict=True))
        if letter != "-"
    )
    posed = [i for i, letter in enumerate(answers) if letter in "pwPW"]
    offsets = [float(answers[i] in "wW") for i in posed]
    estimate = straight(stamps[posed], offsets) if posed else Trajectory.from_samples({})
    values: dict[str, object] = {
        "name": "test",
        "image_stamps_ns": stamps,
        "outcomes": outcomes,
        "estimate": estimate,
        "truth": straight(stamps),
        "seconds": 2.0,
    }
    return StreamRun(**{**values, **changes})  # type: ignore[arg-type]
