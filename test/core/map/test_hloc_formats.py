"""Text formats of hloc: what is read and written, and the line that is to blame."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixloc_core.errors import FormatError
from pixloc_core.geometry import Pose
from pixloc_core.map.hloc_formats import read_pairs, read_poses, read_queries, write_poses

number = st.floats(-1e7, 1e7, allow_nan=False)
rotation_vector = st.tuples(*[st.floats(-2, 2)] * 3)


def write(folder: Path, text: str) -> Path:
    path = folder / "list.txt"
    path.write_text(text)
    return path


def test_queries_are_read_with_the_half_pixel_taken_off(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "# name MODEL w h params\n\n"
        "a/1.jpg PINHOLE 640 480 500 510 320.5 240\n"
        "   b.png\tSIMPLE_RADIAL 320 240 300 160 120 0.1  \n",
    )
    cameras = read_queries(path)
    assert list(cameras) == ["a/1.jpg", "b.png"]
    assert cameras["a/1.jpg"].c.tolist() == [320, 239.5]
    assert cameras["a/1.jpg"].f.tolist() == [500, 510]
    assert cameras["b.png"].size.tolist() == [320, 240]
    assert float(cameras["b.png"].dist[0]) == 0.1


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(poses=st.lists(st.tuples(rotation_vector, st.tuples(number, number, number)), max_size=4))
def test_poses_come_back_as_they_were_written(
    tmp_path: Path, poses: list[tuple[tuple[float, ...], tuple[float, ...]]]
) -> None:
    written = {
        f"q{i}.jpg": Pose.from_aa(
            torch.tensor(aa, dtype=torch.float64), torch.tensor(t, dtype=torch.float64)
        )
        for i, (aa, t) in enumerate(poses)
    }
    path = tmp_path / "poses.txt"
    write_poses(path, written)
    found = read_poses(path)
    assert list(found) == list(written)
    for name, pose in written.items():
        assert torch.equal(found[name].t, pose.t)
        torch.testing.assert_close(found[name].R, pose.R, rtol=0, atol=1e-14)


def test_quaternions_are_written_with_a_positive_first_component(tmp_path: Path) -> None:
    path = tmp_path / "poses.txt"
    turned = Pose.from_aa(torch.tensor([0.0, 0.0, 3.5]), torch.zeros(3))
    write_poses(path, {"a.jpg": turned})
    w, _, _, z = (float(text) for text in path.read_text().split()[1:5])
    assert w > 0
    assert z == pytest.approx(math.sin(3.5 / 2 - math.pi), abs=1e-6)


def test_a_rounded_quaternion_is_normalized(tmp_path: Path) -> None:
    pose = read_poses(write(tmp_path, "a.jpg 0.7075 0.7075 0 0 1 2 3\n"))["a.jpg"]
    torch.testing.assert_close(pose.R @ pose.R.T, torch.eye(3).double(), rtol=0, atol=1e-14)


def test_pairs_keep_the_order_of_the_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "# ranked\nq1 b\nq2 x\n\nq1 a\n")
    assert read_pairs(path) == {"q1": ["b", "a"], "q2": ["x"]}


def test_an_empty_list_is_no_error(tmp_path: Path) -> None:
    path = write(tmp_path, "# nothing\n")
    assert read_pairs(path) == {}
    assert read_poses(path) == {}
    assert read_queries(path) == {}


@pytest.mark.parametrize(
    ("read", "line", "complaint"),
    [
        (read_queries, "a.jpg PINHOLE 640", "expected 'name MODEL width height params...'"),
        (read_queries, "a.jpg BANANA 640 480 500 320 240", "camera model 'BANANA'"),
        (read_queries, "a.jpg FOV 640 480 500 500 320 240 0.1", "camera model 'FOV'"),
        (read_queries, "a.jpg PINHOLE 640 480 500 320 240", "3 params, expected 4"),
        (read_queries, "a.jpg PINHOLE 640 480 0 0 320 240", "focal lengths are (0.0, 0.0)"),
        (read_queries, "a.jpg PINHOLE 0 480 5 5 320 240", "width is 0"),
        (read_queries, "a.jpg PINHOLE 640 480.5 5 5 320 240", "height is 480.5"),
        (read_queries, "a.jpg PINHOLE 640 480 500 x 320 240", "'x' is not a number"),
        (read_queries, "a.jpg PINHOLE 640 480 500 nan 320 240", "'nan' is not finite"),
        (read_poses, "a.jpg 1 0 0 0 1 2", "7 fields, expected 'name qw qx qy qz tx ty tz'"),
        (read_poses, "a.jpg 1 0 0 0 1 2 3 4", "9 fields"),
        (read_poses, "a.jpg 1 0 0 0 1 2 c", "'c' is not a number"),
        (read_poses, "a.jpg 1 0 0 0 1 inf 3", "'inf' is not finite"),
        (read_poses, "a.jpg 1 1 0 0 1 2 3", "quaternion has length 1.41421, expected 1"),
        (read_poses, "a.jpg 0 0 0 0 1 2 3", "quaternion has length 0, expected 1"),
        (read_pairs, "a.jpg", "1 fields, expected 'query reference'"),
        (read_pairs, "a.jpg b.jpg 0.5", "3 fields, expected 'query reference'"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, read, line: str, complaint: str) -> None:
    path = write(tmp_path, f"# first\n\n{line}\n")
    with pytest.raises(FormatError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:3: ")
    assert complaint in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("read", "line"), [(read_queries, "a PINHOLE 6 4 5 5 3 2"), (read_poses, "a 1 0 0 0 1 2 3")]
)
def test_a_name_that_is_listed_twice_is_refused(tmp_path: Path, read, line: str) -> None:
    path = write(tmp_path, f"{line}\n{line}\n")
    with pytest.raises(FormatError, match=r":2: image a is listed twice"):
        read(path)


@pytest.mark.parametrize("read", [read_queries, read_poses, read_pairs])
def test_a_missing_or_binary_file_is_named(tmp_path: Path, read) -> None:
    with pytest.raises(FormatError, match=r"nowhere\.txt: No such file"):
        read(tmp_path / "nowhere.txt")
    path = tmp_path / "image.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(FormatError, match=r"image\.jpg: not a text file"):
        read(path)


@pytest.mark.parametrize("name", ["", "two words.jpg", "#comment"])
def test_names_that_cannot_be_read_back_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(FormatError, match="cannot stand in a poses file"):
        write_poses(tmp_path / "poses.txt", {name: Pose.identity()})


def test_poses_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "poses.txt"
    with pytest.raises(FormatError, match=r"pose of a\.jpg is not finite"):
        write_poses(path, {"a.jpg": _broken_pose()})
    assert not path.exists()


def _broken_pose() -> Pose:
    return Pose.from_Rt(torch.eye(3), torch.tensor([0.0, math.nan, 0.0]))
