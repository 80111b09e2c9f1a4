"""`pixloc replay` on a small room: numbers that repeat, verdicts, kidnaps, late images."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from same_poses import assert_same_poses
from toy_drive import ToyDrive, make_drive

from pixloc_core.bags.edit_plan import BagEdit, Stretch
from pixloc_core.bags.editing import edit_bag
from pixloc_core.bags.reader import BagReader
from pixloc_core.bags.trajectory import read_tum
from pixloc_core.cli import main
from pixloc_ros.replay import session
from pixloc_ros.replay.process import ProcessPace
from pixloc_ros.replay.session import ReplayError, ReplayPlan, ReplaySession

pytestmark = [pytest.mark.ros, pytest.mark.slow]
SECONDS = 3.0
COUNT = 15
# What depends on the speed of the machine stands elsewhere.
REPEATED = ("estimate.tum", "truth.tum", "images.csv")


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> ToyDrive:
    return make_drive(tmp_path_factory.mktemp("drive"), seconds=SECONDS)


def replay(drive: ToyDrive, out: Path, *options: str, bag: Path | None = None) -> int:
    words = ["replay", str(bag or drive.bag), "--map", str(drive.map_path), "--out", str(out)]
    return main([*words, "--mode", "process", "--offset", "0.05", "1", *options])


def summary(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "summary.json").read_text()))


@pytest.fixture(scope="module")
def done(drive: ToyDrive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A replay of the whole drive."""
    out = tmp_path_factory.mktemp("out")
    assert replay(drive, out) == 0
    return out


def test_every_image_is_localized_and_everything_is_written(drive: ToyDrive, done: Path) -> None:
    found = summary(done)
    assert found["images"] == {
        "total": COUNT,
        "taken": COUNT,
        "dropped": 0,
        "published": COUNT,
        "taken_share": 1.0,
    }
    assert found["ate"]["position"]["rmse"] < 0.02
    assert found["states_s"]["TRACKING"] > 0
    assert found["covariance"]["count"] == COUNT
    assert found["verdict"] == {"passed": None, "shortfalls": []}
    assert len(read_tum(done / "estimate.tum")) == len(read_tum(done / "truth.tum")) == COUNT
    assert len((done / "images.csv").read_text().splitlines()) == COUNT + 1
    header = (done / "latency.csv").read_text().splitlines()[0]
    assert header.startswith("stamp_ns,total_ms,decode,frames")
    page = (done / "report.html").read_text()
    plots = sorted(path.stem for path in (done / "plots").iterdir())
    assert {"trajectory", "states", "errors", "axes", "nees", "coverage", "stages"} <= set(plots)
    assert page.count("<img") >= len(plots)


def test_a_second_replay_gives_the_very_same_numbers(
    drive: ToyDrive, done: Path, tmp_path: Path
) -> None:
    assert replay(drive, tmp_path) == 0
    for name in REPEATED:
        assert (tmp_path / name).read_bytes() == (done / name).read_bytes(), name


def test_images_that_arrive_half_a_second_late_give_the_same_trajectory(
    drive: ToyDrive, done: Path, tmp_path: Path
) -> None:
    edit_bag(BagReader(drive.bag), tmp_path / "late", BagEdit(image_latency_s=0.5))
    assert replay(drive, tmp_path / "out", bag=tmp_path / "late") == 0
    for name in REPEATED:
        assert (tmp_path / "out" / name).read_bytes() == (done / name).read_bytes(), name
    # The answers come later all the same.
    times = [summary(out)["time_to_first_pose_s"] for out in (done, tmp_path / "out")]
    assert times[1] - times[0] == pytest.approx(0.5)


def test_an_image_that_takes_its_time_lets_newer_ones_replace_those_that_wait(
    drive: ToyDrive, tmp_path: Path
) -> None:
    # 5 Hz: of three images one is worked on while the next waits and is replaced.
    assert replay(drive, tmp_path, "--budget-ms", "500") == 0
    found = summary(tmp_path)
    stamps = read_tum(tmp_path / "estimate.tum").stamps_ns
    places = (stamps - stamps[0]) // 200_000_000
    # Done at 0.5, 1.0, ...: the newest image then is the one of 0.4, 1.0 (just there), ...
    assert places.tolist() == [0, 2, 4, 7, 9, 12, 14]
    assert found["images"]["taken"] == 7
    assert found["images"]["dropped"] == COUNT - 7
    assert found["latency_ms"]["total"]["p50"] == pytest.approx(600.0, abs=101)


def test_only_every_third_image_is_replayed_when_so_told(drive: ToyDrive, tmp_path: Path) -> None:
    assert replay(drive, tmp_path, "--every", "3") == 0
    assert summary(tmp_path)["images"]["total"] == 5
    assert "every 3rd image" in (tmp_path / "report.html").read_text()


def test_a_kidnapped_robot_falls_silent_and_publishes_nothing_wrong(
    drive: ToyDrive, tmp_path: Path
) -> None:
    # To the other end of the drive, where the next images look elsewhere.
    stretches = (Stretch(0.0, 1.0), Stretch(2.0, 3.0))
    edit_bag(BagReader(drive.bag), tmp_path / "bag", BagEdit(stretches=stretches))
    # What counts as wrong also tells how far a kidnap goes: the room is small.
    assert replay(drive, tmp_path / "out", "bounds.position=0.2", bag=tmp_path / "bag") == 0
    found = summary(tmp_path / "out")
    (event,) = found["kidnaps"]["events"]
    assert event["stamp_ns"] == drive.map_from_base.stamps_ns[5]
    assert event["false_poses"] == 0
    assert event["detection_s"] <= 0.5
    assert found["false_accepts"]["count"] == 0


@pytest.mark.parametrize(
    ("threshold", "code"),
    [("{min: 0.99}", 0), ("{max: 0.5}", 1), ("{max: 0.5, if_known: true}", 1)],
)
def test_the_exit_code_is_the_verdict(
    drive: ToyDrive,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    threshold: str,
    code: int,
) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(f"availability.of_taken: {threshold}\n")
    assert replay(drive, tmp_path / "out", "--every", "5", "--thresholds", str(path)) == code
    assert ("FAILED" if code else "PASSED") in capsys.readouterr().out
    assert summary(tmp_path / "out")["verdict"]["passed"] is not bool(code)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--gt", "/nowhere"], "no topic '/nowhere'"),
        (["--initial", "somewhere"], "somewhere: cannot read the initial pose"),
        (["--thresholds", "{tmp}/missing.yaml"], "cannot read the thresholds"),
        (["--params", "{tmp}/missing.yaml"], "cannot read the parameters"),
        (["--budget-ms", "-1"], "--budget-ms is -1"),
        (["bag.image=/nowhere"], "no image: nothing on '/nowhere' (bag.image)"),
        (["bag.camera_frame=elsewhere"], "no transform base_link <- elsewhere"),
        (["localizer.nonsense=1"], "nonsense"),
        (["cameras=[left,right]"], "no image of camera left: nothing on '/left/image' or"),
        (["--map", "{tmp}/missing.h5"], "missing.h5: no such feature map"),
        (["--map", "{tmp}"], "a folder, expected a feature map file"),
        (["--every", "0"], "replay: --every is 0, expected 1 or more"),
        (["--rate", "0.5"], "--rate is for --mode dds, and would change nothing here"),
        (["--mode", "dds", "--every", "2"], "--every is for --mode process"),
        (["--mode", "dds", "--budget-ms", "0"], "--budget-ms is for --mode process"),
        (["--mode", "dds", "--rate", "0"], "rate is 0.0, expected at least 0.01"),
        (["foo=1"], "no parameter 'foo' of the localizer"),
        (["--mode", "dds", "foo=1"], "no parameter 'foo' of the localizer"),
        (["--thresholds", "{tmp}/slip.yaml"], "slip.yaml: availability.nonsense: no 'nonsense'"),
        (["--retrieval"], "give the folder of the map's images: --retrieval DIR"),
        (["--mode", "dds", "--retrieval"], "give the folder of the map's images: --retrieval DIR"),
        (["--retrieval", "{tmp}/nowhere"], "nowhere: no such folder of map images"),
        (["--out", "{tmp}/slip.yaml"], "slip.yaml: no folder can be made"),
    ],
)
def test_what_cannot_be_run_ends_with_exit_code_2_before_anything_starts(
    drive: ToyDrive,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    expected: str,
) -> None:
    if "--retrieval" in options:
        pytest.importorskip("faiss", reason="needs faiss-cpu (the extra `retrieval`)")
    (tmp_path / "slip.yaml").write_text("availability.nonsense: {min: 1}\n")
    filled = [option.format(tmp=tmp_path) for option in options]
    assert replay(drive, tmp_path / "out", *filled) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_damaged_list_of_cuts_is_found_before_the_replay(
    drive: ToyDrive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_bag(BagReader(drive.bag), tmp_path / "bag", BagEdit(image_latency_s=0.1))
    (tmp_path / "bag" / "cuts.yaml").write_text("cuts: [1]")
    assert replay(drive, tmp_path / "out", bag=tmp_path / "bag") == 2
    assert "cuts.yaml: not a list of cuts" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_arguments_only_those_that_are_needed_are_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["replay"])
    assert "required: bag, --map, --out (see" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("every", "word"),
    [(2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (21, "21st"), (112, "112th")],
)
def test_the_images_that_arrive_are_told_in_words(every: int, word: str) -> None:
    assert ProcessPace(every).chosen == f"every {word} image"
    assert ProcessPace().chosen == "every image"


@pytest.mark.parametrize(
    ("occupant", "expected"),
    [("localizer", "a node /localizer"), ("simulator", "a publisher of /clock")],
)
def test_a_domain_with_a_live_robot_is_refused(
    *,
    drive: ToyDrive,
    tmp_path: Path,
    ros_domain: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    occupant: str,
    expected: str,
) -> None:
    # Ends when the occupant is seen; a busy machine takes its time.
    monkeypatch.setattr(session, "DISCOVERY_S", 60.0)
    context = Context()
    rclpy.init(context=context)
    node = Node(occupant, context=context)
    if occupant == "simulator":
        node.create_publisher(Clock, "/clock", 1)
    words = ["replay", str(drive.bag), "--map", str(drive.map_path), "--out", str(tmp_path)]
    try:
        assert main(words) == 2
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
    said = capsys.readouterr().err
    assert f"{expected} runs in domain {ros_domain} already: choose another" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "node.log").exists()


def test_what_the_retrieval_node_cannot_do_ends_the_replay_as_soon_as_it_says_so(
    drive: ToyDrive, tmp_path: Path
) -> None:
    pytest.importorskip("faiss", reason="needs faiss-cpu (the extra `retrieval`)")
    # Longer than the test may take: nobody waits for the end of this time.
    plan = ReplayPlan(
        "drive",
        drive.bag,
        drive.map_path,
        tmp_path / "node.log",
        retrieval={},
        start_timeout_s=600,
    )
    began = time.monotonic()
    with (
        ReplaySession(plan) as live,
        pytest.raises(ReplayError, match=r"retrieval node did not come up: .*no such retrieval"),
    ):
        live.wait_until_ready()
    assert time.monotonic() - began < 300


def test_a_node_over_dds_gives_the_poses_of_a_replay_in_process(
    drive: ToyDrive, done: Path, tmp_path: Path
) -> None:
    words = ["replay", str(drive.bag), "--map", str(drive.map_path), "--out", str(tmp_path)]
    assert main([*words, "--rate", "0.3", "--offset", "0.05", "1"]) == 0
    found = summary(tmp_path)
    log = (tmp_path / "node.log").read_text()
    assert found["images"]["total"] == COUNT
    assert found["availability"]["of_taken"] == 1.0, log
    estimates = [read_tum(out / "estimate.tum") for out in (tmp_path, done)]
    assert_same_poses(*estimates, at_least=COUNT // 2)
    assert found["latency_ms"]["total"]["p50"] > 0
    assert found["covariance"]["count"] == found["images"]["published"]
    assert set(found["states_s"]) == {"TRACKING"}
    assert np.isfinite(found["time_from_prior_s"])
