"""Edited bags: stamps and odometry go on smoothly where images and truth jump."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pixloc_core.bags import editing, messages
from pixloc_core.bags.edit_plan import (
    BagEdit,
    Cut,
    Outage,
    Stretch,
    parse_outage,
    parse_stretch,
    read_cuts,
    write_cuts,
)
from pixloc_core.bags.editing import edit_bag
from pixloc_core.bags.odometry import OdometryConfig, simulate_odometry
from pixloc_core.bags.reader import BagReader
from pixloc_core.bags.sequence import base_from_camera
from pixloc_core.bags.topics import BagLayout
from pixloc_core.bags.trajectory import Trajectory
from pixloc_core.bags.writer import CameraFrame, Recording, new_writer, write_bag
from pixloc_core.errors import FormatError
from pixloc_core.geometry import Camera, Pose

SECOND = 1_000_000_000
LAYOUT = BagLayout()
COUNT = 50
# Metres and radians per image (10 Hz).
STEP = torch.tensor([0.1, 0.0, 0.0, 0.0, 0.0, 0.02], dtype=torch.float64)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> BagReader:
    """Five seconds at 10 Hz; every image has a grey value of its own."""
    params = [20.0, 20.0, 16.0, 12.0]
    camera = Camera.from_colmap({"model": "PINHOLE", "width": 32, "height": 24, "params": params})
    stamps = np.array([3 * SECOND + index * SECOND // 10 for index in range(COUNT)])
    frames = tuple(
        CameraFrame(int(stamp), np.full((24, 32, 3), 5 * index, np.uint8), camera)
        for index, stamp in enumerate(stamps)
    )
    steps = torch.arange(COUNT, dtype=torch.float64)[:, None]
    truth = Trajectory(stamps, Pose.exp(steps * STEP))
    odometry = simulate_odometry(truth, OdometryConfig(rate_hz=50.0))
    path = tmp_path_factory.mktemp("source") / "bag"
    write_bag(path, Recording(frames, truth, odometry, base_from_camera()))
    return BagReader(path)


def edited(source: BagReader, folder: Path, **changes: object) -> BagReader:
    edit_bag(source, folder / "out", BagEdit(**changes))
    return BagReader(folder / "out")


def greys(bag: BagReader) -> list[int]:
    """Which images are in a bag, in the order of their arrival."""
    stamps = bag.image_stamps(LAYOUT.image)
    return [round(float(image.mean()) / 5) for _, image in bag.images(LAYOUT.image, stamps)]


def steps_of(trajectory: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    """Length and angle (deg) of every step."""
    step = trajectory.poses[:-1].inv() @ trajectory.poses[1:]
    return step.t.norm(dim=-1).numpy(), step.magnitude()[0].numpy()


def test_an_edit_that_changes_nothing_gives_the_same_messages(
    source: BagReader, tmp_path: Path
) -> None:
    bag = edited(source, tmp_path)
    assert bag.counts == source.counts
    for old, new in zip(source.raw(), bag.raw(), strict=True):
        assert (old.topic, old.stamp_ns) == (new.topic, new.stamp_ns)
        assert old.cdr == new.cdr
    assert read_cuts(tmp_path / "out") == ()


def test_a_stretch_holds_its_begin_but_not_its_end(source: BagReader, tmp_path: Path) -> None:
    bag = edited(source, tmp_path, stretches=(Stretch(1.0, 2.0),))
    assert greys(bag) == list(range(10, 20))
    assert bag.image_stamps(LAYOUT.image)[0] == 4 * SECOND
    # The fixed transforms of the begin are there although they were sent before the stretch.
    assert bag.counts[LAYOUT.tf_static] == 1


def test_joined_stretches_kidnap_the_robot_while_odometry_and_stamps_go_on(
    source: BagReader, tmp_path: Path
) -> None:
    bag = edited(source, tmp_path, stretches=(Stretch(0.0, 1.0), Stretch(3.0, 4.0)))
    assert greys(bag) == [*range(10), *range(30, 40)]
    assert np.diff(bag.image_stamps(LAYOUT.image)).tolist() == [SECOND // 10] * 19
    truth, odometry = (
        bag.trajectory(LAYOUT.ground_truth),
        bag.transforms(LAYOUT.tf, "odom", "base_link"),
    )
    lengths, _ = steps_of(truth)
    assert lengths[9] > 1.5
    assert np.delete(lengths, 9) == pytest.approx(0.1, abs=1e-3)
    # 50 Hz: a fifth of the way between two images, also over the cut.
    lengths, angles = steps_of(odometry)
    assert lengths == pytest.approx(0.02, rel=0.1)
    assert angles == pytest.approx(np.rad2deg(0.004), rel=0.25)
    assert np.diff(odometry.stamps_ns) == pytest.approx(SECOND / 50, rel=1e-6)


def test_the_cuts_are_listed_with_the_jump_beyond_the_ordinary_motion(
    source: BagReader, tmp_path: Path
) -> None:
    edited(source, tmp_path, stretches=(Stretch(0.0, 1.0), Stretch(3.0, 4.0), Stretch(4.0, 4.5)))
    kidnap, harmless = read_cuts(tmp_path / "out")
    assert (kidnap.stamp_ns, harmless.stamp_ns) == (4 * SECOND, 5 * SECOND)
    expected = Pose.exp(10 * STEP).inv() @ Pose.exp(30 * STEP)
    assert kidnap.position == pytest.approx(float(expected.t.norm()), abs=1e-3)
    assert kidnap.rotation_deg == pytest.approx(float(np.rad2deg(0.4)), abs=1e-3)
    assert (harmless.position, harmless.rotation_deg) == pytest.approx((0, 0), abs=5e-3)


def test_a_stretch_played_backwards_turns_images_truth_and_odometry_round(
    source: BagReader, tmp_path: Path
) -> None:
    bag = edited(source, tmp_path, stretches=(Stretch(0.0, 1.0), Stretch(1.0, 0.0)))
    assert greys(bag) == [*range(10), *range(10, 0, -1)]
    assert (np.diff(bag.image_stamps(LAYOUT.image)) == SECOND // 10).all()
    (cut,) = read_cuts(tmp_path / "out")
    odometry = bag.transforms(LAYOUT.tf, "odom", "base_link")
    there, back = odometry.at(np.array([3.5, 4.5]) * SECOND)[0]
    # Odometry is off by one step in the turning point, where a robot would not stop so suddenly.
    assert float((there.t - back.t).norm()) == pytest.approx(0.0, abs=0.05)
    assert cut.position < 0.25


def test_loops_repeat_the_stretches(source: BagReader, tmp_path: Path) -> None:
    bag = edited(source, tmp_path, stretches=(Stretch(1.0, 1.5),), repeats=3)
    assert greys(bag) == [*range(10, 15)] * 3
    lengths, _ = steps_of(bag.transforms(LAYOUT.tf, "odom", "base_link"))
    assert lengths.max() < 0.03
    assert len(read_cuts(tmp_path / "out")) == 2


def test_late_images_keep_their_stamps_and_arrive_after_the_odometry_of_their_time(
    source: BagReader, tmp_path: Path
) -> None:
    bag = edited(source, tmp_path, image_latency_s=0.5)
    assert bag.image_stamps(LAYOUT.image).tolist() == source.image_stamps(LAYOUT.image).tolist()
    old, new = (list(b.raw([LAYOUT.image])) for b in (source, bag))
    assert [n.stamp_ns - o.stamp_ns for o, n in zip(old, new, strict=True)] == [SECOND // 2] * 50
    old, new = (list(b.raw([LAYOUT.tf])) for b in (source, bag))
    assert [o.stamp_ns for o in old] == [n.stamp_ns for n in new]
    stamps = [message.stamp_ns for message in bag.raw()]
    assert stamps == sorted(stamps)


def test_outages_take_away_the_images_or_one_topic(source: BagReader, tmp_path: Path) -> None:
    outages = (Outage(1.0, 2.0), Outage(2.0, 3.0, LAYOUT.tf))
    bag = edited(source, tmp_path, outages=outages)
    assert greys(bag) == [*range(10), *range(20, 50)]
    assert bag.counts[LAYOUT.camera_info] == 40
    stamps = bag.transforms(LAYOUT.tf, "odom", "base_link").stamps_ns
    assert np.diff(stamps).max() == pytest.approx(1.02 * SECOND, rel=1e-6)


def test_times_are_read_from_text() -> None:
    assert parse_stretch("1.5:3") == Stretch(1.5, 3.0)
    assert parse_stretch(":3") == Stretch(0.0, 3.0)
    assert parse_stretch("2:") == Stretch(2.0, float("inf"))
    assert parse_outage("2:3") == Outage(2.0, 3.0)
    assert parse_outage("/tf@2:3") == Outage(2.0, 3.0, "/tf")


@pytest.mark.parametrize("text", ["3", "a:b", "2:2", "-1:2", "nan:2", "0:nan"])
def test_times_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(FormatError, match="stretch"):
        parse_stretch(text)


def test_impossible_edits_are_refused(source: BagReader, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="ends before it begins"):
        parse_outage("3:2")
    with pytest.raises(FormatError, match="begins behind its end"):
        edited(source, tmp_path, stretches=(Stretch(60.0, 70.0),))
    with pytest.raises(FormatError, match="repeated 0 times"):
        BagEdit(repeats=0)
    with pytest.raises(FormatError, match="latency"):
        BagEdit(image_latency_s=-1.0)
    edited(source, tmp_path)
    with pytest.raises(FormatError, match="exists already"):
        edited(source, tmp_path)


def test_a_list_of_cuts_survives_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    cuts = (Cut(5 * SECOND, 1.25, 30.0),)
    write_cuts(tmp_path, cuts)
    assert read_cuts(tmp_path) == cuts
    (tmp_path / "cuts.yaml").write_text("cuts: [1]")
    with pytest.raises(FormatError, match=r"cuts\.yaml: not a list of cuts"):
        read_cuts(tmp_path)


def test_odometry_messages_go_on_over_a_cut_like_transforms(
    source: BagReader, tmp_path: Path
) -> None:
    store = messages.typestore()
    types = store.types
    kind = "nav_msgs/msg/Odometry"
    truth = source.transforms(LAYOUT.tf, "odom", "base_link")
    with new_writer(tmp_path / "bag") as writer:
        tf = writer.add_connection(LAYOUT.tf, messages.TF_MESSAGE, typestore=store)
        odometry = writer.add_connection("/odom", kind, typestore=store)
        for raw in source.raw([LAYOUT.tf]):
            writer.write(tf, raw.stamp_ns, raw.cdr)
        for index, stamp in enumerate(truth.stamps_ns.tolist()):
            stamped = messages.pose_stamped(stamp, "odom", truth.poses[index])
            vector = types["geometry_msgs/msg/Vector3"](x=0.0, y=0.0, z=0.0)
            twist = types["geometry_msgs/msg/Twist"](linear=vector, angular=vector)
            message = types[kind](
                header=stamped.header,
                child_frame_id="base_link",
                pose=types["geometry_msgs/msg/PoseWithCovariance"](
                    pose=stamped.pose, covariance=np.zeros(36)
                ),
                twist=types["geometry_msgs/msg/TwistWithCovariance"](
                    twist=twist, covariance=np.zeros(36)
                ),
            )
            writer.write(odometry, stamp, bytes(store.serialize_cdr(message, kind)))
    bag = edited(
        BagReader(tmp_path / "bag"), tmp_path, stretches=(Stretch(0.0, 1.0), Stretch(3.0, 4.0))
    )
    told, moved = bag.trajectory("/odom"), bag.transforms(LAYOUT.tf, "odom", "base_link")
    assert told.stamps_ns.tolist() == moved.stamps_ns.tolist()
    torch.testing.assert_close(told.poses.data, moved.poses.data)
    lengths, _ = steps_of(told)
    assert lengths == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"outages": (Outage(1.0, 2.0, "/nope"),)},
            r"no topic '/nope' to leave out.*/ground_truth",
        ),
        ({"outages": (Outage(5.0, 6.0),)}, r"outage 5:6 begins behind the end of the result"),
    ],
)
def test_what_would_change_nothing_is_refused(
    source: BagReader, tmp_path: Path, changes: dict[str, object], expected: str
) -> None:
    with pytest.raises(FormatError, match=expected):
        edited(source, tmp_path, **changes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("changes", [{"outages": (Outage(1.0, 2.0),)}, {"image_latency_s": 0.1}])
def test_images_that_are_to_be_late_or_missing_must_be_there(
    source: BagReader, tmp_path: Path, changes: dict[str, object]
) -> None:
    elsewhere = BagLayout(image="/other/image", camera_info="/other/camera_info")
    with pytest.raises(FormatError, match="no images or calibration on '/other/image'"):
        edit_bag(source, tmp_path / "out", BagEdit(**changes), elsewhere)


def test_a_bag_whose_making_is_interrupted_leaves_nothing_and_can_be_made_again(
    source: BagReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(folder: Path, _cuts: object) -> None:
        assert (folder / "out.mcap").is_file()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(editing, "write_cuts", interrupt)
        with pytest.raises(KeyboardInterrupt):
            edited(source, tmp_path)
    assert list(tmp_path.iterdir()) == []
    # One that was killed leaves its folder, which is in nobody's way.
    (tmp_path / "out.partial" / "out").mkdir(parents=True)
    assert edited(source, tmp_path).counts == source.counts
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "cuts.yaml",
        "metadata.yaml",
        "out.mcap",
    }
