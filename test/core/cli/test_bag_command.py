"""`pixloc bag`: lists and images in, a bag with odometry and truth out."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from pixloc_core.bags.reader import BagReader
from pixloc_core.cli import main


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    names = [f"{index}.jpg" for index in range(4)]
    for name in names:
        cv2.imwrite(str(tmp_path / name), rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    lines = [f"{0.2 * index:.1f} {name}" for index, name in enumerate(names)]
    (tmp_path / "times.txt").write_text("\n".join(lines))
    cameras = [f"{name} PINHOLE 32 24 30 30 16 12" for name in names[1:]]
    (tmp_path / "queries.txt").write_text("\n".join(cameras))
    poses = [f"{name} 1 0 0 0 0 0 {-0.5 * index}" for index, name in enumerate(names)]
    (tmp_path / "gt.txt").write_text("\n".join(poses))
    return [
        *("bag", "--images", str(tmp_path), "--list", str(tmp_path / "times.txt")),
        *("--queries", str(tmp_path / "queries.txt"), "--gt", str(tmp_path / "gt.txt")),
        *("--out", str(tmp_path / "bag")),
    ]


def test_the_bag_holds_the_images_of_all_lists_and_the_robot_moves_along_x(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--odometry-drift", "0", "--heading-drift-deg", "0"]) == 0
    assert "3 images" in capsys.readouterr().out
    reader = BagReader(tmp_path / "bag")
    assert reader.counts["/camera/image/compressed"] == 3
    odometry = reader.transforms("/tf", "odom", "base_link")
    end, _ = odometry.at(odometry.stamps_ns[-2:-1])
    # The camera moves forward: 0.5 an image, over two intervals.
    assert end.t[0].tolist() == pytest.approx([1.0, 0.0, 0.0], abs=1e-3)


def test_an_existing_bag_is_not_overwritten(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 0
    capsys.readouterr()
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err


def test_lists_without_a_common_image_are_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gt.txt").write_text("x.jpg 1 0 0 0 0 0 0\n")
    assert main(command) == 2
    assert "0 of its images have intrinsics and a true pose" in capsys.readouterr().err


def test_a_negative_drift_is_refused(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--odometry-drift", "-1"]) == 2
    assert "drift" in capsys.readouterr().err


def test_missing_inputs_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bag", "--images", "x", "--out", "y"]) == 2
    assert "--list, --queries, --gt missing" in capsys.readouterr().err


def test_a_bag_is_edited_and_its_cuts_are_told(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 0
    edit = ["bag", "edit", str(tmp_path / "bag"), str(tmp_path / "edited")]
    assert main([*edit, "--keep", "0:0.3", "--keep", "0.1:", "--latency", "0.1"]) == 0
    assert re.search(
        r"cut at 0.3 s: the true pose jumps by [\d.]+ m, [\d.]+ deg", capsys.readouterr().out
    )
    stamps = BagReader(tmp_path / "edited").image_stamps("/camera/image/compressed")
    assert len(stamps) == 4
    assert main([*edit, "--keep", "later"]) == 2
    assert "expected BEGIN:END" in capsys.readouterr().err
    for option, expected in (([], "nothing to change"), (["--drop", "/nope@0:1"], "'/nope'")):
        assert main(["bag", "edit", str(tmp_path / "bag"), str(tmp_path / "x"), *option]) == 2
        assert expected in capsys.readouterr().err
        assert not (tmp_path / "x").exists()
