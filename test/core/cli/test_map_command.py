"""`pixloc map build` and `pixloc map info` on a small rendered room."""

import argparse
import json
import shutil
from pathlib import Path

import pytest
from toy_world import ToyWorld

from pixloc_core.cli import main
from pixloc_core.cli.map import _flags


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with sfm/ and images/ of a room, and a map built from them."""
    folder = tmp_path_factory.mktemp("room")
    sfm, images = ToyWorld(num_images=4).write(folder)
    assert (sfm, images) == (folder / "sfm", folder / "images")
    assert build(folder, folder / "map.h5") == 0
    return folder


def build(room: Path, out: Path, *more: str) -> int:
    return main(
        ["map", "build", "--sfm", str(room / "sfm"), "--images", str(room / "images"),
         "--out", str(out), *more]
    )  # fmt: skip


def test_building_describes_the_map_and_shows_progress(
    room: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert build(room, tmp_path / "map.h5", "--json") == 0
    out, _ = capfd.readouterr()
    described = json.loads(out)
    assert described["images"] == 4
    assert described["cameras"] == 1
    assert described["features"] == "network"
    assert described["weights"] == "light"
    assert described["images_in_connected_parts"] == [4]
    assert described["median_reprojection_px"] < 0.5


def test_info_says_the_same_as_text_and_as_json(
    room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["map", "info", str(room / "map.h5"), "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert main(["map", "info", str(room / "map.h5")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        name.replace("_", " ") for name in described
    ]
    assert ["images", str(described["images"])] in [line.split() for line in lines]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["extractor.kind=magic"], "ExtractorConfig.kind is 'magic'"),
        (["extractor.nonsense=1"], "nonsense"),
        (["nonsense"], "nonsense"),
        (["--device", "abacus"], "ExtractorConfig.device is 'abacus'"),
        (["--weights", "nowhere.safetensors"], "that ship with the package: light (default)"),
        (["--conf", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_bad_settings_are_refused_before_any_work(
    room: Path, tmp_path: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert build(room, tmp_path / "map.h5", *more) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert err.count("\n") == 1
    assert out == ""
    assert not list(tmp_path.iterdir())


def test_an_image_that_is_missing_or_broken_is_named(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(room, copy)
    image = sorted((copy / "images" / "map").iterdir())[1]
    image.write_bytes(image.read_bytes()[:100])
    capsys.readouterr()
    assert build(copy, tmp_path / "map.h5") == 2
    assert image.name in capsys.readouterr().err
    image.unlink()
    assert build(copy, tmp_path / "map.h5") == 2
    assert image.name in capsys.readouterr().err
    assert not (tmp_path / "map.h5").exists()


def test_a_damaged_model_is_named(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(room, copy)
    points = copy / "sfm" / "points3D.bin"
    points.write_bytes(points.read_bytes()[:-20])
    capsys.readouterr()
    assert build(copy, tmp_path / "map.h5") == 2
    assert "points3D.bin: truncated" in capsys.readouterr().err


def test_a_folder_that_does_not_exist_is_named(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert build(room, tmp_path / "new" / "map.h5") == 2
    assert "its folder does not exist" in capsys.readouterr().err


def test_a_map_remembers_the_place_of_its_weights_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = _flags(argparse.Namespace(weights="runs/w.safetensors", device=None))
    assert flags[1] == f'extractor.network.weights="{tmp_path}/runs/w.safetensors"'
    shipped = _flags(argparse.Namespace(weights="light", device=None))
    assert shipped[1] == 'extractor.network.weights="light"'


def test_training_free_features_need_no_weights(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert build(room, tmp_path / "map.h5", "--json", "extractor.kind=gradients") == 0
    described = json.loads(capsys.readouterr().out)
    assert (described["features"], described["weights"]) == ("gradients", "none")
