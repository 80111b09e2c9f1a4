"""The demo on a small room: a real node in a process of its own, over DDS."""

import re
from pathlib import Path

import pytest
from toy_drive import ToyDrive, make_drive

from pixloc_core.alignment.aligner_config import AlignerConfig
from pixloc_core.localizer.localizer import LocalizerConfig
from pixloc_ros.demo import main, node_parameters

pytestmark = [pytest.mark.ros, pytest.mark.slow]


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> ToyDrive:
    return make_drive(tmp_path_factory.mktemp("drive"), seconds=3.0)


def test_the_demo_localizes_the_stream_and_leaves_a_report(
    drive: ToyDrive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--bag", str(drive.bag), "--map", str(drive.map_path), "--out", str(tmp_path)]
    code = main([*options, "--offset", "0.05", "1", "--rate", "0.5", "--judge"])
    printed = capsys.readouterr().out
    log = (tmp_path / "node.log").read_text()
    # How many images are taken up is a matter of this machine's speed: no bar for that here.
    assert code == (1 if "FAILED" in printed else 0)
    (availability,) = re.findall(r"availability +\| (\d+) %", printed)
    assert availability == "100", f"{printed}\n{log}"
    (median_cm,) = re.findall(r"position error, median / 95 % +\| ([\d.]+)", printed)
    assert float(median_cm) < 2
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img") >= 3 + 2
    assert "Confidence" in page
    estimate = (tmp_path / "estimate.tum").read_text().splitlines()
    assert 2 <= len(estimate) <= 15
    assert len((tmp_path / "truth.tum").read_text().splitlines()) == 15


def test_a_map_that_cannot_be_opened_is_told_with_the_words_of_the_node(
    drive: ToyDrive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "map.h5").write_bytes(b"no map")
    options = ["--bag", str(drive.bag), "--map", f"{tmp_path}/map.h5", "--out", str(tmp_path)]
    assert main(options) == 2
    assert "not a feature map" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--bag", "{tmp}"], "--map"),
        (["--bag", "{tmp}", "--map", "x.h5"], "not a rosbag2 folder"),
        (["--bag", "{tmp}", "--map", "x.h5", "localizer.nonsense=1"], "nonsense"),
    ],
)
def test_unusable_input_ends_with_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], expected: str
) -> None:
    filled = [option.format(tmp=tmp_path) for option in options]
    assert main([*filled, "--out", str(tmp_path / "out")]) == 2
    assert expected in capsys.readouterr().err


def test_only_settings_that_differ_go_to_the_node() -> None:
    assert node_parameters(LocalizerConfig()) == {}
    changed = LocalizerConfig(reselect_px=33.0, aligner=AlignerConfig(pad=(2.0, 1.0)))
    expected = {"localizer.reselect_px": 33.0, "localizer.aligner.pad": [2.0, 1.0]}
    assert node_parameters(changed) == expected
