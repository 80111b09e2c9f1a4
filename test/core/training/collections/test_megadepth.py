"""MegaDepth: from its folders to pairs, and from PixLoc's own files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from data_set_folders import poses_entry, wall_model, write_pickle
from painted_wall import look_up, photograph, wall_poses, write_image

from pixloc_core.cli import main
from pixloc_core.errors import MapError
from pixloc_core.geometry import Camera
from pixloc_core.training.collections.image_collection import ImageCollection
from pixloc_core.training.collections.megadepth import open_megadepth
from pixloc_core.training.collections.quarter_turns import turned_from_cam
from pixloc_core.training.collections.source import CollectionSource, PairSamplingConfig

# Quarter turns to the left that make the stored images upright; the last one is too small.
TURNS = (0, 3, 0, 0, 0, 1, 0, 0)
SMALL = 7
NAMES = [f"{i:02d}.png" for i in range(8)]


def stored_camera(image: int) -> dict[str, object]:
    width, height = (520, 500) if image != SMALL else (500, 400)
    params = [480.0, 490.0, width / 2, height / 2]
    return {"model": "PINHOLE", "width": width, "height": height, "params": params}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("megadepth")
    poses = [
        turned_from_cam(-turn % 4) @ pose for turn, pose in zip(TURNS, wall_poses(8), strict=True)
    ]
    cameras = [stored_camera(image) for image in range(8)]
    wall_model(root / "0001" / "sparse", cameras, NAMES, poses)
    for name, camera, pose in zip(NAMES, cameras, poses, strict=True):
        image = photograph(Camera.from_colmap(camera), pose)
        write_image(root / "0001" / "images" / name, image)
    return root


@pytest.fixture(scope="module")
def written(data: Path, tmp_path_factory: pytest.TempPathFactory) -> ImageCollection:
    out = tmp_path_factory.mktemp("out")
    assert main(["preprocess", "megadepth", "--data", str(data), "--out", str(out)]) == 0
    (collection,) = open_megadepth(out, data)
    return collection


def assert_pairs_agree(collection: ImageCollection) -> None:
    sampling = PairSamplingConfig(min_overlap=0.4)
    source = CollectionSource([collection], sampling, size=(160, 160), num_points=80)
    batch = source.batch(range(6))
    shown = look_up(batch.reference.image, batch.reference.camera.world2image(batch.points_ref)[0])
    points_query = batch.query_from_ref * batch.points_ref
    again = look_up(batch.query.image, batch.query.camera.world2image(points_query)[0])
    assert float((shown - again).abs()[batch.is_seen].max()) < 0.03


def test_small_images_are_left_out_and_lying_ones_turned(written: ImageCollection) -> None:
    assert written.image_names == tuple(f"0001/images/{name}" for name in NAMES[:SMALL])
    assert written.quarter_turns.tolist() == list(TURNS[:SMALL])
    # Half a pixel is taken off COLMAP's principal point once.
    assert written.camera_of(0).c.tolist() == [259.5, 249.5]
    assert written.camera_of(1).size.tolist() == [500, 520]


def test_pairs_of_a_scene_look_alike(written: ImageCollection) -> None:
    assert_pairs_agree(written)


def test_files_of_pixloc_are_read_alike(
    written: ImageCollection, data: Path, tmp_path: Path
) -> None:
    path = write_pickle(tmp_path / "0001.pkl", pixloc_entries(written))
    (found,) = open_megadepth(path.parent, data)
    assert found.image_names == written.image_names[:6]
    for image in range(6):
        wanted = written.camera_of(image).data
        assert torch.allclose(found.camera_of(image).data, wanted, atol=1e-9)
    assert_pairs_agree(found)


def pixloc_entries(written: ImageCollection) -> dict[str, object]:
    """As PixLoc stores them; the last image counts as too small there."""
    overlap = np.full((7, 7), 0.5)
    overlap[6], overlap[:, 6] = -1, -1
    np.fill_diagonal(overlap, -1)
    intrinsics = []
    for image in range(7):
        camera = written.camera_of(image)
        matrix = np.diag([*camera.f.tolist(), 1.0])
        matrix[:2, 2] = camera.c.numpy()
        intrinsics.append(matrix)
    return {
        "points3D": written.points_world.numpy(),
        "track_lengths": np.full(len(written.points_world), 3),
        "intrinsics": intrinsics,
        "poses": poses_entry(written.cam_from_world),
        "p3D_observed": [written.points_of(image).numpy() for image in range(7)],
        "image_names": NAMES[:7],
        "rotations": written.quarter_turns.numpy(),
        "overlap_matrix": overlap,
        "angle_matrix": np.zeros((7, 7)),
    }


def test_other_layouts_are_read_through_templates(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "tower").mkdir()
    (moved / "models").symlink_to(data)
    arguments = ["--sfm", "models/0001/sparse", "--images", "models/0001/images"]
    arguments += ["--scenes", "tower", "--data", str(moved), "--out", str(tmp_path / "out")]
    assert main(["preprocess", "megadepth", "--json", *arguments]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert (report["scene"], report["queries"], report["turned"]) == ("tower", 7, 2)


def test_a_bad_scene_is_left_out_and_the_others_written(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "both"
    (root / "0000" / "sparse").mkdir(parents=True)
    (root / "0000" / "sparse" / "cameras.bin").write_bytes(b"")
    (root / "0001").symlink_to(data / "0001")
    out = tmp_path / "out"
    assert main(["preprocess", "megadepth", "--data", str(root), "--out", str(out)]) == 0
    output = capsys.readouterr()
    assert "0000 is left out: " in output.err
    assert "1 of 2 scenes written" in output.out
    assert [path.name for path in out.iterdir()] == ["0001.h5"]


def test_damaged_and_dangerous_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "0001.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(MapError, match=r"0001\.pkl: refused \(it asks for os\.system"):
        open_megadepth(tmp_path, tmp_path)
