"""The real image sets: models agree with themselves, lists with models, choices with the truth."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pixloc_core.map.colmap_format import from_colmap
from pixloc_core.map.covisibility import connected_parts
from pixloc_core.map.hloc_formats import read_pairs, read_poses, read_queries
from pixloc_core.map.reprojection import reprojection_errors
from pixloc_core.map.selection import SelectionConfig, select_points, select_references
from pixloc_core.map.sparse_map import SparseMap

SETS = {
    "fox": (38, 1),
    "herzjesu_p25": (17, 1),
    "kitti06_start": (34, 1),
    "sacre_coeur10": (7, 7),
    "tum_fr1_rpy": (76, 1),
}


@pytest.fixture(scope="module", params=SETS)
def image_set(request: pytest.FixtureRequest, shared_dir: Path) -> tuple[Path, SparseMap]:
    folder = shared_dir / "data" / request.param
    return folder, from_colmap(folder / "sfm")


def test_the_model_is_complete_and_agrees_with_itself(
    image_set: tuple[Path, SparseMap],
) -> None:
    folder, sparse = image_set
    assert (sparse.num_images, len(sparse.cameras)) == SETS[folder.name]
    assert connected_parts(sparse).unique().tolist() == [0]
    errors = reprojection_errors(sparse)
    assert float(errors.median()) < 1.0
    # COLMAP's own figures, which know its half pixel.
    mean = torch.zeros(sparse.num_points).double().index_add_(0, sparse.obs_point, errors)
    mean /= sparse.track_length
    difference = (mean - sparse.point_error).abs()
    assert float(difference.quantile(0.99)) < 0.02


def test_lists_and_model_name_the_same_images(image_set: tuple[Path, SparseMap]) -> None:
    folder, sparse = image_set
    queries = read_queries(folder / "queries_with_intrinsics.txt")
    pairs = read_pairs(folder / "pairs_retrieval.txt")
    assert read_poses(folder / "gt_poses.txt").keys() == queries.keys() == pairs.keys()
    for references in pairs.values():
        assert all(sparse.find(name) is not None for name in references)


def test_points_chosen_at_the_true_pose_are_in_the_query(
    image_set: tuple[Path, SparseMap],
) -> None:
    folder, sparse = image_set
    config = SelectionConfig(margin=0.0)
    cameras = read_queries(folder / "queries_with_intrinsics.txt")
    truth = read_poses(folder / "gt_poses.txt")
    for name in list(cameras)[::3]:
        pose, camera = sparse.to_local(truth[name]), cameras[name]
        references = select_references(sparse, pose, camera, config)
        selection = select_points(sparse, references, config, pose, camera)
        _, inside = camera.world2image(pose * sparse.points_map[selection.point_idx])
        # The choice is made in single precision: points on the border may fall either way.
        assert np.count_nonzero(~inside) <= 2
        assert len(selection) >= 200
