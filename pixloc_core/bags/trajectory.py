"""Poses over time: interpolation at a stamp, and TUM text files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.errors import FormatError, PixlocError
from pixloc_core.geometry import Pose, so3

Stamps = NDArray[np.int64]
NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class Trajectory:
    """Poses of one moving frame, in the order of time.

    Attributes:
        stamps_ns: Strictly rising times (n,) in nanoseconds.
        poses: `parent_from_child` at these times, batch shape (n,), float64.
    """

    stamps_ns: Stamps
    poses: Pose

    def __post_init__(self) -> None:
        if tuple(self.poses.shape) != self.stamps_ns.shape:
            raise FormatError(
                f"a trajectory of {self.stamps_ns.size} stamps has poses of batch shape "
                f"{tuple(self.poses.shape)}"
            )
        if len(self) > 1 and not bool((np.diff(self.stamps_ns) > 0).all()):
            raise FormatError("the stamps of a trajectory must rise")

    def __len__(self) -> int:
        return int(self.stamps_ns.shape[0])

    @classmethod
    def from_samples(cls, samples: dict[int, Pose]) -> "Trajectory":
        """Order poses (batch shape ()) by their stamp in nanoseconds."""
        stamps = sorted(samples)
        rows = [samples[stamp].data.double().reshape(12) for stamp in stamps]
        data = torch.stack(rows) if rows else torch.zeros(0, 12, dtype=torch.float64)
        return cls(np.array(stamps, dtype=np.int64), Pose(data))

    def at(
        self, stamps_ns: Stamps, *, max_gap_ns: int | None = None
    ) -> tuple[Pose, NDArray[np.bool_]]:
        """Interpolate: translation linearly, rotation along the shortest arc.

        Args:
            stamps_ns: Times wanted (m,).
            max_gap_ns: Do not bridge gaps longer than this.

        Returns:
            Poses (m,) and whether each is backed by samples on both sides (or by one exactly
            there); the other poses are those of the nearest sample.

        Raises:
            FormatError: If the trajectory is empty.
        """
        if not len(self):
            raise FormatError("an empty trajectory has no pose at any time")
        last = len(self) - 1
        right = np.clip(np.searchsorted(self.stamps_ns, stamps_ns, side="left"), 0, last)
        exact = self.stamps_ns[right] == stamps_ns
        left = np.where(exact, right, np.maximum(right - 1, 0))
        gap = self.stamps_ns[right] - self.stamps_ns[left]
        inside = (stamps_ns >= self.stamps_ns[0]) & (stamps_ns <= self.stamps_ns[-1])
        if max_gap_ns is not None:
            inside &= gap <= max_gap_ns
        share = np.clip((stamps_ns - self.stamps_ns[left]) / np.maximum(gap, 1), 0.0, 1.0)
        return self._blend(left, right, share), inside

    def _blend(
        self, left: NDArray[np.intp], right: NDArray[np.intp], share: NDArray[np.float64]
    ) -> Pose:
        before, after = self.poses[torch.from_numpy(left)], self.poses[torch.from_numpy(right)]
        weight = torch.from_numpy(share)[:, None]
        turn = so3.log(before.R.mT @ after.R)
        return Pose.from_Rt(
            before.R @ so3.exp(weight * turn), before.t + weight * (after.t - before.t)
        )


def write_tum(path: Path, trajectory: Trajectory) -> None:
    """Write `stamp_s tx ty tz qx qy qz qw` lines, the format of the TUM RGB-D benchmark."""
    quaternions = trajectory.poses.quat_wxyz().numpy()[:, [1, 2, 3, 0]]
    numbers = np.concatenate([trajectory.poses.t.numpy(), quaternions], axis=1)
    lines = [
        f"{stamp // NANOSECONDS}.{stamp % NANOSECONDS:09d} " + " ".join(f"{x:.9f}" for x in row)
        for stamp, row in zip(trajectory.stamps_ns.tolist(), numbers.tolist(), strict=True)
    ]
    path.write_text("".join(f"{line}\n" for line in lines))


def read_tum(path: Path) -> Trajectory:
    """Read a file of `write_tum`; lines with `#` are comments.

    Raises:
        FormatError: If the file cannot be read or a line is malformed.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: cannot read the trajectory ({error})") from error
    samples = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split("#")[0].split()
        if not fields:
            continue
        try:
            numbers = torch.tensor([float(field) for field in fields[1:]], dtype=torch.float64)
            place, (qx, qy, qz, qw) = numbers[:3], numbers[3:]
            pose = Pose.from_quat_wxyz(torch.stack([qw, qx, qy, qz]), place)
            samples[parse_stamp(fields[0])] = pose
        except (ValueError, PixlocError) as error:
            raise FormatError(
                f"{path}:{number}: {line!r}, expected: stamp_s tx ty tz qx qy qz qw"
            ) from error
    return Trajectory.from_samples(samples)


def parse_stamp(text: str) -> int:
    """Nanoseconds of a decimal number of seconds, without rounding through a float.

    Raises:
        ValueError: If the text is not a plain decimal number.
    """
    seconds, _, fraction = text.partition(".")
    if not (seconds + fraction).isdigit():
        raise ValueError(f"{text!r} is not a time in seconds")
    return int(seconds or 0) * NANOSECONDS + int(fraction[:9].ljust(9, "0"))
