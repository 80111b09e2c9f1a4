"""The last pose, kept in a file for the next start in the same map."""

import json
import os
from pathlib import Path
from typing import Any

import torch

from pixloc_core.errors import FormatError
from pixloc_core.geometry import Pose
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.prior_poses import InitialPose, configured_pose

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


def first_pose(config: NodeConfig, map_id: str, logger: Any) -> InitialPose | None:
    """Where a node starts: at the pose of its parameters, or where the last run ended.

    Args:
        config: Parameters.
        map_id: Content hash of the map in use.
        logger: Of the node; hears why no pose is restored.
    """
    if config.set_initial_pose or not config.saved_pose_filepath:
        return configured_pose(config)
    try:
        pose = restore_pose(Path(config.saved_pose_filepath), map_id)
    except FormatError as error:
        logger.warning(f"no pose is restored: {error}")
        return None
    if pose is None:
        return None
    logger.info(f"pose restored from {config.saved_pose_filepath}")
    return InitialPose(pose, 0, "saved")
