"""The last pose, kept in a file for the next start in the same map."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pixloc_core.errors import FormatError
from pixloc_core.geometry import Pose
from pixloc_core.localizer.fix import Fix
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.prior_poses import InitialPose, configured_pose
from pixloc_ros.saved_odometry import SavedOdometry

_VERSION = 2
# Version 1 had no odometry.
_READ = (1, 2)


@dataclass(frozen=True)
class SavedPose:
    """The last pose of a run.

    Attributes:
        map_from_base: Pose of the robot (batch shape (), float64).
        map_id: Content hash of the map it belongs to.
        stamp_ns: When it was there.
        odometry: What odometry said then; None if it said nothing.
    """

    map_from_base: Pose
    map_id: str
    stamp_ns: int
    odometry: SavedOdometry | None = None

    @classmethod
    def of(cls, fix: Fix, map_id: str, config: NodeConfig) -> "SavedPose":
        """A pose that is believed, with the names of its frames."""
        odometry = None
        if fix.odom_from_base is not None:
            frames = (config.odom_frame_id, config.base_frame_id)
            odometry = SavedOdometry(fix.stamp_ns, *frames, fix.odom_from_base)
        return cls(fix.map_from_base, map_id, fix.stamp_ns, odometry)


def save_pose(path: Path, saved: SavedPose) -> None:
    """Write a pose; the file is whole at any moment.

    Raises:
        FormatError: If the file cannot be written.
    """
    content: dict[str, Any] = {
        "version": _VERSION,
        "map_id": saved.map_id,
        "stamp_ns": saved.stamp_ns,
        **_numbers(saved.map_from_base),
    }
    odometry = saved.odometry
    if odometry is not None:
        frames = {"odom_frame": odometry.odom_frame, "base_frame": odometry.base_frame}
        content["odometry"] = {**frames, **_numbers(odometry.odom_from_base)}
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(partial, path)
    except OSError as error:
        raise FormatError(f"{path}: pose cannot be saved ({error.strerror})") from error


def restore_pose(path: Path, map_id: str) -> SavedPose | None:
    """The pose saved for this map; None if there is no file.

    Raises:
        FormatError: If the file is damaged, or of another map.
    """
    try:
        saved = _read(json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ArithmeticError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise FormatError(f"{path}: not a saved pose ({reason})") from error
    if saved.map_id != map_id:
        raise FormatError(f"{path}: saved in map {saved.map_id}, this one is {map_id}")
    return saved


def _read(content: Any) -> SavedPose:
    """Raises what Python raises of content that is no saved pose."""
    if content["version"] not in _READ:
        raise ValueError(f"version {content['version']}, expected one of {_READ}")
    stamp_ns, odometry = int(content["stamp_ns"]), None
    then = content.get("odometry")
    if then is not None:
        frames = (str(then["odom_frame"]), str(then["base_frame"]))
        odometry = SavedOdometry(stamp_ns, *frames, _pose(then))
    return SavedPose(_pose(content), str(content["map_id"]), stamp_ns, odometry)


def _numbers(pose: Pose) -> dict[str, list[float]]:
    return {"position": pose.t.tolist(), "quat_wxyz": pose.quat_wxyz().tolist()}


def _pose(content: Any) -> Pose:
    quaternion = torch.tensor(content["quat_wxyz"], dtype=torch.float64)
    position = torch.tensor(content["position"], dtype=torch.float64)
    length = float(quaternion.norm()) if quaternion.shape == (4,) else 0.0
    is_sound = abs(length - 1) < 1e-3 and position.shape == (3,)
    if not (is_sound and bool(torch.isfinite(position).all())):
        raise ValueError("position or quaternion make no sense")
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
        saved = restore_pose(Path(config.saved_pose_filepath), map_id)
    except FormatError as error:
        logger.warning(f"no pose is restored: {error}")
        return None
    if saved is None:
        return None
    logger.info(f"pose restored from {config.saved_pose_filepath}")
    return InitialPose(saved.map_from_base, 0, "saved", saved.odometry)
