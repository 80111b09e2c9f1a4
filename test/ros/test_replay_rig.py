"""Replays of several cameras as one rig: in process and over DDS, raw and compressed."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from same_poses import assert_same_poses
from toy_bags import LAYOUT, RIG_OFFSET_NS, copied, entry, rig_entries, write_entries
from toy_drive import ToyDrive, make_drive

from pixloc_core.bags.messages import TF_MESSAGE, transform_message
from pixloc_core.bags.reader import BagReader
from pixloc_core.bags.trajectory import read_tum
from pixloc_core.cli import main
from pixloc_core.geometry import Pose
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.replay.bag_sources import find_mounting
from pixloc_ros.replay.rig import find_rig

pytestmark = [pytest.mark.ros, pytest.mark.slow]
COUNT = 15
RIG = "cameras=[cam0,cam1]"
REPEATED = ("estimate.tum", "truth.tum", "images.csv")


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> ToyDrive:
    return make_drive(tmp_path_factory.mktemp("drive"), seconds=3.0)


@pytest.fixture(scope="module")
def bag(drive: ToyDrive, tmp_path_factory: pytest.TempPathFactory) -> BagReader:
    return write_entries(tmp_path_factory.mktemp("rig") / "bag", rig_entries(drive))


def replay(drive: ToyDrive, bag: BagReader, out: Path, *options: str) -> int:
    words = ["replay", str(bag.path), "--map", str(drive.map_path), "--out", str(out)]
    return main([*words, "--offset", "0.05", "1", *options])


def in_process(drive: ToyDrive, bag: BagReader, out: Path, *options: str) -> int:
    return replay(drive, bag, out, "--mode", "process", *options)


def summary(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "summary.json").read_text()))


@pytest.fixture(scope="module")
def done(drive: ToyDrive, bag: BagReader, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A replay of the whole drive."""
    out = tmp_path_factory.mktemp("out")
    assert in_process(drive, bag, out, RIG) == 0
    return out


def test_each_exposure_of_a_rig_is_localized_once(drive: ToyDrive, done: Path) -> None:
    found = summary(done)
    assert found["images"]["total"] == found["images"]["published"] == COUNT
    assert found["ate"]["position"]["rmse"] < 0.02
    stamps = read_tum(done / "estimate.tum").stamps_ns
    assert stamps.tolist() == drive.map_from_base.stamps_ns.tolist()
    page = (done / "report.html").read_text()
    assert len(re.findall(r"<figcaption>[^<]*green agrees, red does not", page)) == 4


@pytest.mark.parametrize(
    ("blind", "cameras", "published"),
    [("cam0", RIG, 3), ("cam1", RIG, 3), ("cam1", "cameras=[cam1]", 0)],
)
def test_either_camera_is_enough(
    *, drive: ToyDrive, tmp_path: Path, blind: str, cameras: str, published: int
) -> None:
    bag = write_entries(tmp_path / "bag", rig_entries(drive, blind=blind))
    assert in_process(drive, bag, tmp_path / "out", cameras, "--every", "5") == 0
    assert summary(tmp_path / "out")["images"]["published"] == published


def test_a_second_replay_of_a_rig_gives_the_very_same_numbers(
    drive: ToyDrive, bag: BagReader, done: Path, tmp_path: Path
) -> None:
    assert in_process(drive, bag, tmp_path, RIG) == 0
    for name in REPEATED:
        assert (tmp_path / name).read_bytes() == (done / name).read_bytes(), name


def test_raw_images_and_topics_that_the_layout_names(drive: ToyDrive, tmp_path: Path) -> None:
    moved = [
        (stamp, re.sub("^/cam(.)", r"/rig/cam\1", topic).replace("/image", "/pixels"), kind, cdr)
        for stamp, topic, kind, cdr in rig_entries(drive, raw=True)
    ]
    bag = write_entries(tmp_path / "bag", moved)
    topics = ["bag.image=/rig/{camera}/pixels", "bag.camera_info=/rig/{camera}/camera_info"]
    assert in_process(drive, bag, tmp_path / "out", RIG, *topics, "--every", "3") == 0
    found = summary(tmp_path / "out")
    assert found["images"]["total"] == found["images"]["published"] == 5
    assert found["ate"]["position"]["rmse"] < 0.02


def test_an_exposure_waits_for_its_last_image(drive: ToyDrive, tmp_path: Path) -> None:
    late_ns = 150_000_000
    entries = [
        (stamp + late_ns * topic.startswith("/cam1/image"), topic, *rest)
        for stamp, topic, *rest in rig_entries(drive)
    ]
    bag = write_entries(tmp_path / "bag", entries)
    assert in_process(drive, bag, tmp_path / "out", RIG, "--every", "5") == 0
    found = summary(tmp_path / "out")
    assert found["images"]["published"] == 3
    waited_s = (late_ns + RIG_OFFSET_NS) / 1e9
    assert found["time_to_first_pose_s"] == pytest.approx(waited_s, abs=1e-6)


def test_a_camera_that_falls_silent_is_waited_for_a_second(
    drive: ToyDrive, tmp_path: Path
) -> None:
    begin = int(drive.map_from_base.stamps_ns[0])
    entries = [
        (stamp, topic, *rest)
        for stamp, topic, *rest in rig_entries(drive)
        if not (topic.startswith("/cam0/image") and stamp > begin + 500_000_000)
    ]
    bag = write_entries(tmp_path / "bag", entries)
    assert in_process(drive, bag, tmp_path / "out", RIG) == 0
    stamps = read_tum(tmp_path / "out" / "estimate.tum").stamps_ns - begin
    # cam0 delivers last at 0.4 s; from 1.4 s on, cam1 goes on alone, 2 ms later than it would.
    together = [0, 200, 400]
    alone = [ms + 2 for ms in range(1400, 3000, 200)]
    assert (stamps // 1_000_000).tolist() == together + alone


def test_images_are_left_out_beyond_max_rate(
    drive: ToyDrive, bag: BagReader, tmp_path: Path
) -> None:
    assert in_process(drive, bag, tmp_path, RIG, "max_rate=2.5") == 0
    found = summary(tmp_path)["images"]
    assert (found["total"], found["taken"], found["published"]) == (COUNT, 8, 8)
    stamps = read_tum(tmp_path / "estimate.tum").stamps_ns
    assert set((stamps[1:] - stamps[:-1]).tolist()) == {400_000_000}


def test_a_rig_over_dds_gives_the_poses_of_a_replay_in_process(
    drive: ToyDrive, tmp_path: Path
) -> None:
    # One camera is black: only where both are heard and grouped are there poses at its stamps.
    bag = write_entries(tmp_path / "bag", rig_entries(drive, raw=True, blind="cam0"))
    assert in_process(drive, bag, tmp_path / "process", RIG) == 0
    assert replay(drive, bag, tmp_path / "out", RIG, "--rate", "0.3") == 0
    log = (tmp_path / "out" / "node.log").read_text()
    assert summary(tmp_path / "out")["availability"]["of_taken"] == 1.0, log
    expected = read_tum(tmp_path / "process" / "estimate.tum")
    assert expected.stamps_ns.tolist() == drive.map_from_base.stamps_ns.tolist()
    found = read_tum(tmp_path / "out" / "estimate.tum")
    assert_same_poses(found, expected, at_least=COUNT // 2)
    assert set(found.stamps_ns.tolist()) <= set(expected.stamps_ns.tolist())
    with (tmp_path / "out" / "images.csv").open() as file:
        assert len(list(csv.DictReader(file))) == COUNT
    with (tmp_path / "out" / "latency.csv").open() as file:
        assert all(float(row["total_ms"]) > 0 for row in csv.DictReader(file))


@pytest.mark.parametrize("mode", ["process", "dds"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ["cameras=[cam0,cam2]"],
            "no image of camera cam2: nothing on '/cam2/image' or '/cam2/image/compressed'",
        ),
        ([RIG, "bag.image=/cam0/image/compressed"], "for 2 cameras, expected {camera} in it"),
        ([RIG, "bag.camera_info=/{camera}/nothing"], "no camera_info of camera cam0"),
        ([RIG, "bag.image=/{camera}/camera_info"], "/cam0/camera_info is of type"),
        ([RIG, "sync_slop=0.001"], "make no exposure"),
        (["cameras=cam0"], "cameras"),
        (["cameras=[cam0,cam0]"], "expected different names"),
        ([RIG, "bag.base_frame=wheel"], "no transform wheel <- cam0"),
    ],
)
def test_a_rig_that_the_bag_does_not_have_is_one_clear_line(
    *,
    drive: ToyDrive,
    bag: BagReader,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    mode: str,
    options: list[str],
    expected: str,
) -> None:
    assert replay(drive, bag, tmp_path / "out", "--mode", mode, *options) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out" / "node.log").exists()


def test_a_calibration_holds_for_the_images_before_it(drive: ToyDrive, tmp_path: Path) -> None:
    # A robot that runs has told it before the recording began.
    entries = [
        (stamp + 50_000_000 * topic.endswith("/camera_info"), topic, *rest)
        for stamp, topic, *rest in rig_entries(drive)
    ]
    bag = write_entries(tmp_path / "bag", entries)
    rig = find_rig(bag, LAYOUT, NodeConfig(cameras=("cam0", "cam1")))
    exposures = [arrival.exposure for arrival in rig.arrivals(bag)]
    assert len(exposures) == COUNT
    infos = [message.info.header.frame_id for message in exposures[0].cameras]
    assert infos == ["cam0", "cam1"]


def test_a_camera_sits_at_the_end_of_a_chain_of_fixed_transforms(
    drive: ToyDrive, tmp_path: Path
) -> None:
    base_from_mast = Pose.exp(torch.tensor([0.1, 0.2, 1.0, 0.0, 0.0, 0.3]).double())
    mast_from_cam = Pose.exp(torch.tensor([0.0, 0.1, 0.2, 0.4, 0.0, 0.0]).double())
    static = [
        entry(0, "/tf_static", TF_MESSAGE, transform_message(0, *frames, pose))
        for frames, pose in (
            (("mast", "cam0"), mast_from_cam),
            (("base_link", "mast"), base_from_mast),
        )
    ]
    bag = write_entries(tmp_path / "bag", static)
    found = find_mounting(bag, LAYOUT, "cam0")
    torch.testing.assert_close(found.data, (base_from_mast @ mast_from_cam).data)


def test_cameras_of_different_types_are_refused(
    drive: ToyDrive, bag: BagReader, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = [e for e in rig_entries(drive, raw=True) if e[1] == "/cam0/image"]
    others = [t for t in bag.topics if t not in ("/cam0/image/compressed", LAYOUT.ground_truth)]
    truth = copied(bag, [LAYOUT.ground_truth])
    mixed = write_entries(tmp_path / "bag", [*copied(bag, others), *raw, *truth])
    assert in_process(drive, mixed, tmp_path / "out", RIG) == 2
    assert "expected images of one type" in capsys.readouterr().err
