"""Extended CMU Seasons: from its folders to pairs, and from PixLoc's own files."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from data_set_folders import cmu_names, poses_entry, write_pickle, write_slice
from map_scene import look
from painted_wall import DEPTH, look_up

from pixloc_core.cli import main
from pixloc_core.errors import MapError
from pixloc_core.training.collections.cmu import camera_of, closest_references, open_cmu
from pixloc_core.training.collections.image_collection import ImageCollection
from pixloc_core.training.collections.source import CollectionSource, PairSamplingConfig

POSES = [look((0.4 * i - 0.8, 0, 0), (0.1 * i, 0, DEPTH)) for i in range(4)]
QUERIES = [
    look((-0.7, 0.1, 0.1), (0, 0, DEPTH), 4.0),
    look((0.3, -0.1, 0.0), (0.2, 0, DEPTH)),
    look((0.0, 0.2, 0.2), (0.1, 0, DEPTH)),
    # More than 1 m from every reference, and another turned away by more than 30 degrees.
    look((0.0, 0.0, -1.5), (0, 0, DEPTH)),
    look((0.0, 0.0, 0.0), (4.5, 0, DEPTH)),
]
SAMPLING = PairSamplingConfig(max_baseline=7.0, min_overlap=0.3, validation_every=3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cmu")
    write_slice(root, POSES, QUERIES)
    return root


@pytest.fixture(scope="module")
def written(data: Path, tmp_path_factory: pytest.TempPathFactory) -> ImageCollection:
    out = tmp_path_factory.mktemp("out")
    assert main(["preprocess", "cmu", "--data", str(data), "--out", str(out)]) == 0
    (collection,) = open_cmu(out, data)
    return collection


def assert_pairs_agree(collection: ImageCollection) -> None:
    source = CollectionSource([collection], SAMPLING, size=(160, 120), num_points=80)
    batch = source.batch(range(3))
    shown = look_up(batch.reference.image, batch.reference.camera.world2image(batch.points_ref)[0])
    points_query = batch.query_from_ref * batch.points_ref
    again = look_up(batch.query.image, batch.query.camera.world2image(points_query)[0])
    assert float((shown - again).abs()[batch.is_seen].max()) < 0.06
    assert all("/database/" in name and "/query/" in name for name in batch.names)


def test_queries_come_with_the_points_of_the_reference_next_to_them(
    written: ImageCollection,
) -> None:
    names = cmu_names(5, 2)
    assert written.is_reference.tolist() == [True] * 4 + [False] * 3
    assert written.is_query.tolist() == [False] * 4 + [True] * 3
    assert written.image_names[4:] == tuple(f"slice8/query/{name}" for name in names[:3])
    for query, reference in ((4, 0), (5, 3), (6, 2)):
        assert torch.equal(written.points_of(query), written.points_of(reference))


def test_poses_of_queries_are_made_of_their_camera_centres(written: ImageCollection) -> None:
    # The frame of the model may have been moved: compare poses relative to a reference.
    relative = written.cam_from_world[4] @ written.cam_from_world[0].inv()
    assert torch.allclose(relative.data, (QUERIES[0] @ POSES[0].inv()).data, atol=1e-9)


def test_pairs_of_a_slice_look_alike(written: ImageCollection) -> None:
    assert_pairs_agree(written)


def test_cameras_are_told_from_file_names() -> None:
    first, second = (camera_of(f"query/img_00001_c{i}_1.jpg") for i in (0, 1))
    assert first.data[:6].tolist() == [1024, 768, 868.993378, 866.063001, 525.442323, 419.542529]
    assert second.dist.tolist() == [-0.397066, 0.181925, 0.000176, -0.000579]
    with pytest.raises(MapError, match="expected a name like"):
        camera_of("img_00001_c2_1.jpg")


def test_far_or_turned_queries_have_no_closest_reference() -> None:
    references, queries = (torch.stack(poses) for poses in (POSES, QUERIES))
    assert closest_references(references, queries).tolist() == [0, 3, 2, -1, -1]


@pytest.mark.parametrize("protocol", [2, 5])
def test_files_of_pixloc_are_read_alike(
    written: ImageCollection, data: Path, tmp_path: Path, protocol: int
) -> None:
    path = write_pickle(tmp_path / "slice8.pkl", pixloc_entries(written), protocol)
    (found,) = open_cmu(path.parent, data)
    assert found.image_names == written.image_names
    assert torch.allclose(found.cam_from_world.data, written.cam_from_world.data)
    assert torch.equal(found.obs_point, written.obs_point)
    assert_pairs_agree(found)


def test_incomplete_files_of_pixloc_are_refused(written: ImageCollection, tmp_path: Path) -> None:
    entries = pixloc_entries(written)
    del entries["query_poses"]
    path = write_pickle(tmp_path / "slice8.pkl", entries)
    with pytest.raises(MapError, match=r"slice8\.pkl: entry 'query_poses' is missing"):
        open_cmu(path, tmp_path)
    entries = pixloc_entries(written)
    entries["p3D_observed"] = entries["p3D_observed"][:2]
    with pytest.raises(MapError, match=r"slice8\.pkl: entries do not fit together"):
        open_cmu(write_pickle(tmp_path / "slice8.pkl", entries), tmp_path)


def pixloc_entries(written: ImageCollection) -> dict[str, object]:
    references, queries = written.cam_from_world[:4], written.cam_from_world[4:]
    centers = queries.center[:, None] - references.center
    return {
        "points3D": written.points_world.numpy(),
        "track_lengths": np.full(len(written.points_world), 3),
        "ref_poses": poses_entry(references),
        "ref_image_names": [Path(name).name for name in written.image_names[:4]],
        "p3D_observed": [written.points_of(image).numpy() for image in range(4)],
        "query_poses": poses_entry(queries),
        "query_image_names": [Path(name).name for name in written.image_names[4:]],
        "query_closest_indices": np.array([0, 3, 2]),
        "ref_overlap_matrix": np.ones((4, 4)),
        "query_overlap_matrix": np.ones((3, 4)),
        "query_to_ref_distance_matrix": centers.norm(dim=-1).numpy(),
    }


def test_faults_of_the_data_set_are_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--out", str(tmp_path / "out")]
    assert main(["preprocess", "cmu", "--data", str(tmp_path / "none"), *arguments]) == 2
    assert "no such folder, expected a data set" in capsys.readouterr().err
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    shutil.rmtree(copy / "slice8" / "camera-poses")
    assert main(["preprocess", "cmu", "--data", str(copy), *arguments]) == 2
    assert "no query poses" in capsys.readouterr().err
    shutil.rmtree(copy / "slice8" / "sparse")
    assert main(["preprocess", "cmu", "--data", str(copy), *arguments]) == 2
    assert "no folder with a COLMAP model" in capsys.readouterr().err
    with pytest.raises(MapError, match="no files"):
        open_cmu(tmp_path / "out", data)


def test_a_slice_without_near_queries_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_slice(tmp_path, POSES[:2], QUERIES[3:])
    out = tmp_path / "out"
    assert main(["preprocess", "cmu", "--data", str(tmp_path), "--out", str(out)]) == 2
    assert "none of 2 queries is within 1 m and 30 deg of one of 2" in capsys.readouterr().err
