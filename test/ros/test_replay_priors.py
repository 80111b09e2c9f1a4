"""Replays of bags with the poses of a filter, in process and over DDS."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from toy_bags import LAYOUT, MS, copied, prior_entries, write_entries
from toy_drive import ToyDrive, make_drive

from pixloc_core.bags.edit_plan import BagEdit
from pixloc_core.bags.editing import edit_bag
from pixloc_core.bags.reader import BagReader
from pixloc_core.cli import main

pytestmark = [pytest.mark.ros, pytest.mark.slow]
COUNT = 15
AHEAD_MS = 30
# Nothing else than the filter tells where the robot is.
FILTER = ("--initial", "none", "prior_source=topic")
REPEATED = ("estimate.tum", "truth.tum", "images.csv")


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> ToyDrive:
    return make_drive(tmp_path_factory.mktemp("drive"), seconds=3.0)


@pytest.fixture(scope="module")
def bag(drive: ToyDrive, tmp_path_factory: pytest.TempPathFactory) -> BagReader:
    """A pose comes some time before each image but the first."""
    entries = [*copied(BagReader(drive.bag)), *prior_entries(drive, ahead_ns=AHEAD_MS * MS)]
    return write_entries(tmp_path_factory.mktemp("priors") / "bag", entries)


def replay(drive: ToyDrive, bag: BagReader, out: Path, *options: str) -> int:
    words = ["replay", str(bag.path), "--map", str(drive.map_path), "--out", str(out)]
    return main([*words, *options])


def in_process(drive: ToyDrive, bag: BagReader, out: Path, *options: str) -> int:
    return replay(drive, bag, out, "--mode", "process", *options)


def summary(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "summary.json").read_text()))


def images(out: Path) -> list[dict[str, str]]:
    with (out / "images.csv").open() as file:
        return list(csv.DictReader(file))


def test_images_start_at_the_poses_of_the_filter(
    drive: ToyDrive, bag: BagReader, tmp_path: Path
) -> None:
    assert in_process(drive, bag, tmp_path / "a", *FILTER) == 0
    first, *others = images(tmp_path / "a")
    assert (first["published"], first["reason"]) == ("0", "no message on prior_pose yet")
    assert {(row["published"], row["prior_source"]) for row in others} == {("1", "topic")}
    # The filter is 3 cm off; the images are not.
    assert summary(tmp_path / "a")["ate"]["position"]["max"] < 0.02
    assert in_process(drive, bag, tmp_path / "b", *FILTER) == 0
    for name in REPEATED:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_poses_of_later_are_not_heard(drive: ToyDrive, bag: BagReader, tmp_path: Path) -> None:
    assert in_process(drive, bag, tmp_path, *FILTER, "prior_max_age=0.01") == 0
    reasons = {row["reason"] for row in images(tmp_path)[1:]}
    assert reasons == {
        "newest prior_pose is 0.03 s older than the image, limit 0.01 s (prior_max_age)"
    }
    assert summary(tmp_path)["images"]["published"] == 0


def test_late_images_lie_between_two_poses(
    drive: ToyDrive, bag: BagReader, tmp_path: Path
) -> None:
    edit_bag(bag, tmp_path / "late", BagEdit(image_latency_s=0.5))
    late = BagReader(tmp_path / "late")
    assert in_process(drive, late, tmp_path / "out", *FILTER, "prior_max_age=0.01") == 0
    # Before the first pose, and behind the last one, there is none.
    published = [row["published"] for row in images(tmp_path / "out")]
    assert published == ["0", *["1"] * (COUNT - 2), "0"]


def test_a_pose_of_the_filter_is_the_first_one_where_nobody_tells_any(
    drive: ToyDrive, bag: BagReader, tmp_path: Path
) -> None:
    assert in_process(drive, bag, tmp_path, "--initial", "none") == 0
    rows = images(tmp_path)
    assert rows[1]["prior_source"] == "topic"
    assert rows[-1]["published"] == "1"


def test_a_topic_of_another_name_is_heard_over_dds(drive: ToyDrive, tmp_path: Path) -> None:
    priors = prior_entries(drive, ahead_ns=AHEAD_MS * MS, topic="/filter/pose")
    bag = write_entries(tmp_path / "bag", [*copied(BagReader(drive.bag)), *priors])
    options = (*FILTER, "bag.prior_pose=/filter/pose", "--rate", "0.4")
    assert replay(drive, bag, tmp_path / "out", *options) == 0
    log = (tmp_path / "out" / "node.log").read_text()
    posed = [row for row in images(tmp_path / "out") if row["published"] == "1"]
    assert len(posed) >= 2, log
    assert {row["prior_source"] for row in posed} == {"topic"}


def test_a_filter_that_the_bag_does_not_have_is_one_clear_line(
    drive: ToyDrive, bag: BagReader, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process(drive, BagReader(drive.bag), tmp_path / "out", *FILTER) == 2
    said = capsys.readouterr().err
    assert "prior_source is topic, but nothing is on '/prior_pose'" in said
    assert said.count("\n") == 1
    wrong = f"bag.prior_pose={LAYOUT.ground_truth}"
    assert in_process(drive, bag, tmp_path / "out", *FILTER, wrong) == 2
    assert "/ground_truth is of type geometry_msgs/msg/PoseStamped" in capsys.readouterr().err


def test_a_parameter_file_of_all_defaults_may_be_given(
    drive: ToyDrive, bag: BagReader, tmp_path: Path
) -> None:
    # Its map is none, its images are raw, its time is that of the machine: the bag decides.
    path = tmp_path / "params.yaml"
    path.write_text(
        "/**: {ros__parameters: {map: '', image_transport: raw, cameras: [], use_sim_time: false,"
        " qos_overrides: {/image: {subscription: {depth: 2}}}}}\n"
    )
    options = ("--params", str(path), "--offset", "0.05", "1")
    assert in_process(drive, bag, tmp_path / "a", *options, "--every", "7") == 0
    assert summary(tmp_path / "a")["images"]["published"] == 3
    assert replay(drive, bag, tmp_path / "b", *options, "--rate", "0.5") == 0
    assert summary(tmp_path / "b")["availability"]["of_taken"] == 1.0
