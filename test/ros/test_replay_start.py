"""Where a replay starts, by the robot's own parameters: the same in process and over DDS."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from toy_drive import ToyDrive, make_drive

from pixloc_core.cli import main
from pixloc_core.geometry import Pose
from pixloc_core.map.feature_map import FeatureMap
from pixloc_ros.saved_pose import SavedPose, restore_pose, save_pose

pytestmark = [pytest.mark.ros, pytest.mark.slow]
REPEATED = ("estimate.tum", "truth.tum", "images.csv")
# Over DDS a busy machine gets the time for most of the images.
MODES = [("--mode", "process"), ("--mode", "dds", "--rate", "0.4")]
NAMES = ["process", "dds"]


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> ToyDrive:
    return make_drive(tmp_path_factory.mktemp("drive"), seconds=3.0)


@pytest.fixture
def threads() -> Iterator[int]:
    """Torch's number of threads, restored afterwards."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def replay(drive: ToyDrive, out: Path, *options: str) -> list[dict[str, str]]:
    """What was said of each image."""
    words = ["replay", str(drive.bag), "--map", str(drive.map_path), "--out", str(out)]
    assert main([*words, *options]) == 0
    with (out / "images.csv").open() as file:
        return list(csv.DictReader(file))


def start_of(drive: ToyDrive) -> Pose:
    """A little beside the first true pose."""
    aside = torch.tensor([0.03, -0.02, 0.02, 0.0, 0.0, 0.01], dtype=torch.float64)
    return drive.map_from_base.poses[0] @ Pose.exp(aside)


def robot_file(folder: Path, **values: Any) -> str:
    """A parameter file of a robot."""
    path = folder / "robot.yaml"
    path.write_text(yaml.safe_dump({"localizer": {"ros__parameters": values}}))
    return str(path)


def initial_pose(pose: Pose) -> dict[str, float]:
    """Its parameters; rotations about fixed axes, x first."""
    R = pose.R.tolist()
    angles = {
        "roll": math.atan2(R[2][1], R[2][2]),
        "pitch": -math.asin(R[2][0]),
        "yaw": math.atan2(R[1][0], R[0][0]),
    }
    return {**dict(zip("xyz", pose.t.tolist(), strict=True)), **angles}


@pytest.mark.parametrize("mode", MODES, ids=NAMES)
def test_the_first_pose_may_be_that_of_the_parameters(
    drive: ToyDrive, tmp_path: Path, mode: tuple[str, ...]
) -> None:
    saved = tmp_path / "pose.json"
    params = robot_file(
        tmp_path,
        set_initial_pose=True,
        initial_pose=initial_pose(start_of(drive)),
        saved_pose_filepath=str(saved),
        save_pose_rate=50.0,
    )
    rows = replay(drive, tmp_path / "out", *mode, "--initial", "none", "--params", params)
    taken = [row for row in rows if row["state"]]
    assert taken[0]["prior_source"] == "initialpose"
    assert {row["published"] for row in taken} == {"1"}
    # The file is the robot's: what a replay finds is no news for it.
    assert not saved.exists()


@pytest.mark.parametrize("mode", MODES, ids=NAMES)
def test_where_the_robot_stopped_is_no_start_of_a_replay(
    drive: ToyDrive, tmp_path: Path, mode: tuple[str, ...]
) -> None:
    saved = tmp_path / "pose.json"
    map_id = FeatureMap.open(drive.map_path).content_id
    save_pose(saved, SavedPose(start_of(drive), map_id, 77))
    assert restore_pose(saved, map_id) is not None
    before = saved.read_bytes()
    params = robot_file(tmp_path, saved_pose_filepath=str(saved), save_pose_rate=50.0)
    rows = replay(drive, tmp_path / "out", *mode, "--initial", "none", "--params", params)
    taken = [row for row in rows if row["state"]]
    assert {(row["published"], row["status"]) for row in taken} == {("0", "no prior")}
    assert saved.read_bytes() == before


def test_a_first_pose_that_is_told_goes_before_that_of_the_parameters(
    drive: ToyDrive, tmp_path: Path
) -> None:
    far = {name: value + 1.0 for name, value in initial_pose(start_of(drive)).items()}
    params = robot_file(tmp_path, set_initial_pose=True, initial_pose=far)
    options = ("--mode", "process", "--every", "5", "--params", params)
    alone = replay(drive, tmp_path / "a", *options, "--initial", "none")
    told = replay(drive, tmp_path / "b", *options, "--offset", "0.05", "1")
    assert {row["published"] for row in told} == {"1"}
    assert {row["published"] for row in alone} == {"0"}


@pytest.mark.parametrize("num_threads", [0, 2])
def test_an_index_made_on_the_way_changes_neither_poses_nor_threads(
    drive: ToyDrive, tmp_path: Path, threads: int, num_threads: int
) -> None:
    pytest.importorskip("faiss", reason="needs faiss-cpu (the extra `retrieval`)")
    torch.set_num_threads(3)
    map_path = tmp_path / "map.h5"
    map_path.write_bytes(drive.map_path.read_bytes())
    own = ToyDrive(drive.bag, map_path, drive.sfm, drive.images, drive.map_from_base)
    options = ["--mode", "process", "--initial", "none", "--retrieval", str(drive.images)]
    options += ["--every", "2", f"num_threads={num_threads}"]
    # The retrieval node has one thread unless it is told otherwise.
    expected = num_threads or 3
    for out in ("made", "opened"):
        rows = replay(own, tmp_path / out, *options)
        assert "retrieval" in {row["prior_source"] for row in rows}
        assert torch.get_num_threads() == expected
    for name in REPEATED:
        made, opened = (tmp_path / out / name for out in ("made", "opened"))
        assert made.read_bytes() == opened.read_bytes(), name
