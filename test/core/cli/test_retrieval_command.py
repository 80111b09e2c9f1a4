"""`pixloc map retrieval`, and `pixloc localize --retrieval` from its index."""

import json
import shutil
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch
from toy_world import CAMERA, ToyWorld

from pixloc_core.cli import main
from pixloc_core.evaluation.pose_error import errors_by_name
from pixloc_core.map.feature_map import FeatureMap
from pixloc_core.map.hloc_formats import read_poses, write_poses

pytest.importorskip("faiss", reason="needs faiss-cpu (the extra `retrieval`)")

SIFT_ONLY = "vlad.features=[sift]"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a map, its images, and two queries with their true poses."""
    folder = tmp_path_factory.mktemp("room")
    world = ToyWorld()
    sfm, images = world.write(folder)
    build = ["map", "build", "--sfm", str(sfm), "--images", str(images)]
    assert main([*build, "--out", f"{folder}/map.h5", "extractor.kind=gradients"]) == 0
    shift = torch.tensor([0.03, -0.02, 0.02, 0.004, 0.008, -0.006], dtype=torch.float64)
    truth, lines = {}, []
    (images / "q").mkdir()
    for index in (1, 4):
        name, pose = f"q/{index}.png", world.cam_from_map[index].retract(shift)
        cv2.imwrite(str(images / name), world.render(pose)[0][..., ::-1])
        truth[name] = pose
        lines.append(" ".join(map(str, (name, "PINHOLE 320 240", *CAMERA["params"]))))
    write_poses(folder / "gt.txt", truth)
    (folder / "queries.txt").write_text("\n".join(lines))
    return folder


def make(room: Path, *more: str, source: str = "--images", place: str = "images") -> int:
    return main(["map", "retrieval", f"{room}/map.h5", source, f"{room}/{place}", *more])


def localize(room: Path, results: Path, *more: str) -> int:
    lists = ["--queries", f"{room}/queries.txt", "--images", f"{room}/images"]
    sources = ["--map", f"{room}/map.h5", "--results", str(results), "--retrieval"]
    return main(["localize", *sources, *lists, *more])


def test_queries_are_localized_from_what_the_index_finds(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert make(room, SIFT_ONLY, "--json") == 0
    described = json.loads(capsys.readouterr().out)
    assert described["file"] == f"{room}/map.retrieval.h5"
    assert (described["images"], described["length"]) == (6, 64 * 64)
    assert described["map_id"] == FeatureMap.open(room / "map.h5").content_id
    assert localize(room, tmp_path / "poses.txt") == 0
    poses = read_poses(tmp_path / "poses.txt")
    _, errors = errors_by_name(poses, read_poses(room / "gt.txt"))
    assert len(poses) == 2
    assert float(errors.position.max()) < 0.02


def test_a_broken_query_is_named_and_the_others_are_localized(room: Path, tmp_path: Path) -> None:
    assert make(room, SIFT_ONLY) == 0
    shutil.copytree(room / "images", tmp_path / "images")
    (tmp_path / "images/q/1.png").write_bytes(b"no image")
    log = tmp_path / "log.json"
    options = ["--images", f"{tmp_path}/images", "--log", str(log)]
    assert localize(room, tmp_path / "poses.txt", *options) == 2
    statuses = {row["query"]: row["status"] for row in json.loads(log.read_text())}
    assert statuses == {"q/1.png": "BAD_IMAGE", "q/4.png": "LOCALIZED"}


def test_a_map_is_built_with_its_index(room: Path, tmp_path: Path) -> None:
    sources = ["--sfm", f"{room}/sfm", "--images", f"{room}/images"]
    settings = ["--retrieval", "extractor.kind=gradients"]
    assert main(["map", "build", *sources, "--out", f"{tmp_path}/map.h5", *settings]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"map.h5", "map.retrieval.h5"}


def test_hlocs_descriptors_are_taken_as_they_are(room: Path, tmp_path: Path) -> None:
    names = FeatureMap.open(room / "map.h5").sparse.image_names
    with h5py.File(room / "netvlad.h5", "w") as file:
        for index, name in enumerate(names):
            file[f"{name}/global_descriptor"] = np.eye(8, dtype=np.float16)[index]
    out = ["--out", f"{tmp_path}/i.h5"]
    options = {"source": "--descriptors", "place": "netvlad.h5"}
    assert make(room, "--model", "netvlad", *out, **options) == 0
    with h5py.File(tmp_path / "i.h5") as file:
        assert file.attrs["descriptor_kind"] == "hloc"
        assert file["images/vector"].shape == (6, 8)


@pytest.mark.parametrize(
    ("more", "options", "said"),
    [
        ([], {"place": "nowhere"}, "nowhere/map/00.png: no such image"),
        ([], {"source": "--descriptors"}, "--descriptors needs --model"),
        (["kind=magic"], {}, "DescriptorConfig.kind is 'magic'"),
        (["vlad.words=3"], {}, "Key 'words' not in 'VladConfig'"),
        (["--device", "abacus"], {}, "'abacus'"),
        (["--model", "netvlad"], {}, "needs the package hloc"),
        (["--out", "nowhere/index.h5"], {}, "its folder does not exist"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    room: Path, more: list[str], options: dict, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert make(room, *more, **options) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert (out, err.count("\n")) == ("", 1)


def test_without_an_index_one_line_says_how_it_is_made(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (room / "map.retrieval.h5").unlink(missing_ok=True)
    capsys.readouterr()
    assert localize(room, tmp_path / "poses.txt") == 2
    assert "make it with `pixloc map retrieval`" in capsys.readouterr().err
