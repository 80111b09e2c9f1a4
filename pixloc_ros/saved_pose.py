"""The last pose, kept in a file for the next start in the same map."""

import json
import os
from pathlib import Path

import torch

from pixloc_core.errors import FormatError
from pixloc_core.geometry import Pose

_VERSION = 1


def save_pose(path: Path, map_from_base: Pose, map_id: str, stamp_ns: int) -> None:
    """Write a pose; the file is whole at any moment.

    Args:
        path: File.
        map_from_base: Pose of the robot.
        map_id: Content hash of the map it belongs to.
        stamp_ns: When it was there.

    Raises:
        FormatError: If the file cannot be written.
    """
    content = {
        "version": _VERSION,
        "map_id": map_id,
        "stamp_ns": stamp_ns,
        "position": map_from_base.t.tolist(),
        "quat_wxyz": map_from_base.quat_wxyz().tolist(),
    }
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(partial, path)
    except OSError as error:
        raise FormatError(f"{path}: pose cannot be saved ({error.strerror})") from error


def restore_pose(path: Path, map_id: str) -> Pose | None:
    """The pose saved for this map; None if there is no file.

    Raises:
        FormatError: If the file is damaged, or of another map.
    """
    try:
        content = json.loads(path.read_text())
        if content["version"] != _VERSION:
            raise ValueError(f"version {content['version']}, expected {_VERSION}")
        quaternion = torch.tensor(content["quat_wxyz"], dtype=torch.float64)
        position = torch.tensor(content["position"], dtype=torch.float64)
        saved_id = content["map_id"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise FormatError(f"{path}: not a saved pose ({reason})") from error
    length = float(quaternion.norm()) if quaternion.shape == (4,) else 0.0
    is_sound = abs(length - 1) < 1e-3 and position.shape == (3,)
    if not (is_sound and bool(torch.isfinite(position).all())):
        raise FormatError(f"{path}: not a saved pose (position or quaternion make no sense)")
    if saved_id != map_id:
        raise FormatError(f"{path}: saved in map {saved_id}, this one is {map_id}")
    return Pose.from_quat_wxyz(quaternion / length, position)
