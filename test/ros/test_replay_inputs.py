"""Where a replay starts, what is true, and how it is set: from files and the command line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from stream_runs import BEGIN, stamps_of, straight
from toy_drive import ToyDrive, make_drive

from pixloc_core.bags.reader import BagReader
from pixloc_core.bags.topics import BagLayout
from pixloc_core.bags.trajectory import write_tum
from pixloc_core.errors import ConfigError, FormatError
from pixloc_ros.replay.inputs import find_initial_pose, read_initial_pose, read_truth
from pixloc_ros.replay.settings import read_settings

TRUTH = straight(stamps_of(5), 0.5)
LAYOUT = BagLayout()


def test_an_initial_pose_is_read_with_its_quaternion_last_component_real(tmp_path: Path) -> None:
    path = tmp_path / "pose.yaml"
    path.write_text("position: [1, 2, 0.5]\norientation_xyzw: [0, 0, 0.6, 0.8]\nframe_id: map\n")
    pose = read_initial_pose(path)
    assert pose.t.tolist() == [1.0, 2.0, 0.5]
    torch.testing.assert_close(pose.quat_wxyz(), torch.tensor([0.8, 0, 0, 0.6]).double())


@pytest.mark.parametrize(
    "text",
    ["", "position: [1, 2, 3]", "position: [1, 2]\norientation_xyzw: [0, 0, 0, 1]", "a: [", "- 1"],
)
def test_anything_else_than_an_initial_pose_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pose.yaml"
    path.write_text(text)
    with pytest.raises(FormatError, match=r"pose\.yaml: not an initial pose"):
        read_initial_pose(path)


def test_a_first_pose_is_the_true_one_moved_by_the_offset() -> None:
    first = BEGIN + 500_000_000
    found = find_initial_pose("truth", TRUTH, first, (0.1, 2.0))
    assert found is not None
    off = TRUTH.poses[1].inv() @ found
    assert float(off.t.norm()) == pytest.approx(0.1, abs=1e-3)
    assert float(off.magnitude()[0]) == pytest.approx(2.0, abs=1e-6)


def test_a_first_pose_is_read_from_text_or_file_or_is_none(tmp_path: Path) -> None:
    assert find_initial_pose("none", TRUTH, BEGIN, (0.0, 0.0)) is None
    found = find_initial_pose("1,-2,0.5,1.5708", TRUTH, BEGIN, (0.0, 0.0))
    assert found is not None
    assert found.t.tolist() == [1.0, -2.0, 0.5]
    ahead = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    assert (found.R @ ahead[0]).tolist() == pytest.approx([0.0, 1.0, 0.0], abs=1e-5)
    path = tmp_path / "pose.yaml"
    path.write_text("position: [1, 2, 3]\norientation_xyzw: [0, 0, 0, 1]\n")
    found = find_initial_pose(str(path), TRUTH, BEGIN, (0.0, 0.0))
    assert found is not None
    assert found.t.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("how", ["1,2,3", "1,2,3,north", "missing.yaml"])
def test_a_first_pose_that_is_none_is_refused(how: str) -> None:
    with pytest.raises(FormatError, match="initial pose"):
        find_initial_pose(how, TRUTH, BEGIN, (0.0, 0.0))


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> ToyDrive:
    return make_drive(tmp_path_factory.mktemp("drive"), seconds=1.0)


def test_the_truth_is_that_of_the_bag_of_another_topic_or_of_a_file(
    drive: ToyDrive, tmp_path: Path
) -> None:
    bag = BagReader(drive.bag)
    truth = read_truth(bag, "", LAYOUT)
    assert len(truth) == 5
    torch.testing.assert_close(
        read_truth(bag, "/ground_truth", LAYOUT).poses.data, truth.poses.data
    )
    write_tum(tmp_path / "gt.tum", truth)
    back = read_truth(bag, str(tmp_path / "gt.tum"), LAYOUT)
    assert back.stamps_ns.tolist() == truth.stamps_ns.tolist()
    torch.testing.assert_close(back.poses.data, truth.poses.data, atol=1e-8, rtol=0)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("/nowhere", "no topic '/nowhere'"),
        ("missing.txt", "cannot read the trajectory"),
        ("/camera/camera_info", "CameraInfo holds no poses"),
    ],
)
def test_a_truth_that_is_none_is_refused(drive: ToyDrive, where: str, expected: str) -> None:
    with pytest.raises(FormatError, match=expected):
        read_truth(BagReader(drive.bag), where, LAYOUT)


def test_settings_are_sorted_into_node_bag_and_bounds(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "/**: {ros__parameters: {tf_rate: 5.0, localizer: {verification: {min_score: 0.3}}}}\n"
        "localizer: {ros__parameters: {tf_rate: 7.0}}\n"
    )
    words = [
        "localizer.verification.min_score=0.4",
        "cameras=[a,b]",
        "weights=",
        "bag.image=/i",
        "bounds.position=0.1",
    ]
    found = read_settings(path, words)
    assert found.parameters == {
        "tf_rate": 7.0,
        "localizer.verification.min_score": 0.4,
        "cameras": ["a", "b"],
        "weights": "",
    }
    assert (found.layout.image, found.layout.tf) == ("/i", "/tf")
    assert (found.bounds.position, found.bounds.rotation_deg) == (0.1, 5.0)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("nonsense", "expected name=value"),
        ("=3", "expected name=value"),
        ("bag.nonsense=/i", "nonsense"),
        ("bounds.position=-1", "position"),
        ("weights=[", "not YAML"),
        ("foo=1", "no parameter 'foo' of the localizer"),
        ("tf_rat=1.0", "no parameter 'tf_rat' of the localizer, did you mean tf_rate?"),
        ("cameras=cam0,cam1", r"cameras is a list: write cameras=\[cam0,cam1\]"),
    ],
)
def test_a_malformed_setting_is_named(word: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        read_settings(None, [word])


@pytest.mark.parametrize("text", ["", "a: [", "other: {ros__parameters: {a: 1}}", "/**: {a: 1}"])
def test_a_file_without_parameters_of_the_node_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"p\.yaml"):
        read_settings(path, [])
    with pytest.raises(ConfigError, match="cannot read"):
        read_settings(tmp_path / "missing.yaml", [])


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("foo: 1", "no parameter 'foo'"),
        (
            "localizer: {verification: {min_scor: 0.3}}",
            "did you mean localizer.verification.min_score?",
        ),
        ("cameras: cam0", r"cameras is a list: write cameras=\[cam0\]"),
    ],
)
def test_a_file_with_a_parameter_that_does_not_fit_is_named(
    tmp_path: Path, entry: str, expected: str
) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(f"/**: {{ros__parameters: {{{entry}}}}}\n")
    with pytest.raises(ConfigError, match=rf"p\.yaml: .*{expected}"):
        read_settings(path, [])


def test_parameters_that_every_node_has_are_let_through(tmp_path: Path) -> None:
    found = read_settings(None, ["use_sim_time=true", "qos_overrides./tf.subscription.depth=5"])
    assert found.parameters["use_sim_time"] is True


def test_stamps_of_late_images_are_those_of_their_headers(drive: ToyDrive) -> None:
    stamps = BagReader(drive.bag).image_stamps(LAYOUT.image)
    assert np.array_equal(stamps, drive.map_from_base.stamps_ns)
