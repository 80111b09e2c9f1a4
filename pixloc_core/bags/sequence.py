"""A time sequence of images with known poses, as the input of a bag."""

from collections.abc import Collection, Mapping
from pathlib import Path

import torch

from pixloc_core.bags.trajectory import NANOSECONDS, Trajectory, parse_stamp
from pixloc_core.bags.writer import CameraFrame
from pixloc_core.errors import FormatError
from pixloc_core.geometry import Camera, Pose


def base_from_camera() -> Pose:
    """Mounting of a camera that looks along the robot's x axis, at its origin (REP 103)."""
    forward_left_up = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    return Pose.from_Rt(forward_left_up.double(), torch.zeros(3, dtype=torch.float64))


def read_stamps(path: Path) -> dict[str, int]:
    """Image names and their times in nanoseconds, from lines `time_s image [...]`.

    ROS takes time zero for "no time": a list that starts within its first second is moved by one
    second as a whole.

    Raises:
        FormatError: If the file cannot be read or a line is malformed.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: cannot read the list of images ({error})") from error
    stamps: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split("#")[0].split()
        if not fields:
            continue
        try:
            stamps[fields[1]] = parse_stamp(fields[0])
        except (IndexError, ValueError) as error:
            raise FormatError(f"{path}:{number}: {line!r}, expected: time_s image") from error
    begin = min(stamps.values(), default=NANOSECONDS)
    offset = NANOSECONDS if begin < NANOSECONDS else 0
    return {name: stamp + offset for name, stamp in stamps.items()}


def read_sequence(
    path: Path, images: Path, cameras: Mapping[str, Camera], posed: Collection[str]
) -> tuple[CameraFrame, ...]:
    """Exposures of a list for which intrinsics and a true pose are known, in the order of time.

    Args:
        path: The list, see `read_stamps`.
        images: Folder of the images.
        cameras: Intrinsics by image name.
        posed: Names of the images with a true pose.

    Raises:
        FormatError: If fewer than two images are left, or two have the same time.
    """
    frames = [
        CameraFrame(stamp, images / name, cameras[name])
        for name, stamp in sorted(read_stamps(path).items(), key=lambda item: item[1])
        if name in cameras and name in posed
    ]
    if len(frames) < 2:
        raise FormatError(
            f"{path}: {len(frames)} of its images have intrinsics and a true pose, "
            "expected at least 2"
        )
    return tuple(frames)


def map_from_base(
    frames: Collection[CameraFrame], cam_from_map: Mapping[Path, Pose]
) -> Trajectory:
    """True path of the robot.

    Args:
        frames: Exposures whose images are files.
        cam_from_map: True poses (batch shape ()) by image file.
    """
    camera_from_base = base_from_camera().inv()
    samples = {
        frame.stamp_ns: cam_from_map[frame.image].double().inv() @ camera_from_base
        for frame in frames
        if isinstance(frame.image, Path)
    }
    return Trajectory.from_samples(samples)
