"""Where a replay starts, and what is true: from files, bags and the command line."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import yaml

from pixloc_core.bags.reader import BagReader
from pixloc_core.bags.topics import BagLayout
from pixloc_core.bags.trajectory import Trajectory, read_tum
from pixloc_core.errors import FormatError, MapError
from pixloc_core.geometry import Pose
from pixloc_core.map.feature_map import FeatureMap
from pixloc_core.retrieval.faiss_library import require_faiss
from pixloc_core.retrieval.index import RetrievalIndex

# Directions of the offset of a first pose: none of them is special.
_DIRECTION = (0.6, -0.64, 0.48)
_AXIS = (0.48, 0.6, -0.64)


def read_truth(bag: BagReader, where: str, layout: BagLayout) -> Trajectory:
    """True `map_from_base`.

    Args:
        bag: The bag.
        where: A topic of the bag, a file in TUM's format, or empty: the layout's topic.
        layout: Topics.

    Raises:
        FormatError: If there is none.
    """
    if where and where not in bag.topics and (Path(where).is_file() or where.endswith(".txt")):
        truth = read_tum(Path(where))
    else:
        truth = bag.trajectory(where or layout.ground_truth)
    if not len(truth):
        raise FormatError(f"{where or bag.path}: holds no true pose")
    return truth


def find_initial_pose(
    how: str, truth: Trajectory, first_ns: int, offset: tuple[float, float]
) -> Pose | None:
    """`map_from_base` that the node is told at the first image.

    Args:
        how: `none`; `truth`: the first true pose, moved; `x,y,z,yaw` in metres and radians; or a
            YAML file.
        truth: True poses.
        first_ns: Stamp of the first image.
        offset: How far the true pose is moved: units of the map, degrees.

    Raises:
        FormatError: If the text or the file is none of these.
    """
    if how == "none":
        return None
    if how == "truth":
        length, degrees = offset
        direction, axis = (torch.tensor(v, dtype=torch.float64) for v in (_DIRECTION, _AXIS))
        moved = Pose.exp(torch.cat([length * direction, np.deg2rad(degrees) * axis]))
        return truth.at(np.array([first_ns]))[0][0] @ moved
    if "," in how:
        return _pose_of_text(how)
    return read_initial_pose(Path(how))


def check_index(feature_map: FeatureMap, images: str) -> None:
    """Whether a retrieval node will find what it needs.

    Args:
        feature_map: The map.
        images: Folder of its images, to make the index from where there is none that fits; empty:
            there must be one.

    Raises:
        FormatError: If it will not.
        ConfigError: If FAISS is not installed.
        CheckpointError: If the weights of the descriptor cannot be used.
    """
    require_faiss()
    if images:
        if not Path(images).is_dir():
            raise FormatError(f"--retrieval {images}: no such folder of map images")
        return
    try:
        RetrievalIndex.open(feature_map)
    except MapError as error:
        raise FormatError(
            f"{error}, or give the folder of the map's images: --retrieval DIR"
        ) from error


def _pose_of_text(text: str) -> Pose:
    try:
        x, y, z, yaw = _floats(text.split(","), 4)
    except ValueError:
        raise FormatError(f"initial pose {text!r}, expected x,y,z,yaw") from None
    turn = torch.tensor([0.0, 0.0, yaw], dtype=torch.float64)
    return Pose.from_aa(turn, torch.tensor([x, y, z], dtype=torch.float64))


def read_initial_pose(path: Path) -> Pose:
    """Pose of a YAML file with `position` [x, y, z] and `orientation_xyzw`.

    Raises:
        FormatError: If the file cannot be read or is something else.
    """
    try:
        entries = yaml.safe_load(path.read_text())
        position = _floats(entries["position"], 3)
        x, y, z, w = _floats(entries["orientation_xyzw"], 4)
    except OSError as error:
        raise FormatError(f"{path}: cannot read the initial pose ({error.strerror})") from error
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise FormatError(
            f"{path}: not an initial pose, expected position: [x, y, z] and "
            f"orientation_xyzw: [x, y, z, w] ({' '.join(str(error).split())})"
        ) from error
    return Pose.from_quat_wxyz([w, x, y, z], position)


def _floats(values: Sequence[object], count: int) -> list[float]:
    numbers = [float(str(value)) for value in values]
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError(f"{values!r} is not {count} finite numbers")
    return numbers
