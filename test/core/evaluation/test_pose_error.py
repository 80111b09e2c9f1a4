"""Pose errors: known offsets, missing answers, and the displacement that the image sets define."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from pixloc_core.evaluation.pose_error import (
    MISSED_PX,
    errors_by_name,
    median_displacement_px,
    pose_errors,
    quantile,
)
from pixloc_core.geometry import Camera, Pose
from pixloc_core.map.hloc_formats import read_poses, read_queries


def random_poses(count: int, seed: int = 0) -> Pose:
    generator = torch.Generator().manual_seed(seed)
    return Pose.exp(torch.randn(count, 6, generator=generator, dtype=torch.float64))


def pinhole(width: int = 640, height: int = 480) -> Camera:
    params = [500.0, 500.0, width / 2, height / 2]
    return Camera.from_colmap(
        {"model": "PINHOLE", "width": width, "height": height, "params": params}
    )


def test_moving_the_camera_by_a_known_step_gives_that_position_error() -> None:
    truth = random_poses(5)
    step = torch.tensor([0.03, -0.04, 0.12], dtype=torch.float64)
    moved = Pose.from_Rt(truth.R, truth.t - (truth.R @ step[:, None])[..., 0])
    errors = pose_errors(moved, truth)
    assert errors.position == pytest.approx(np.full(5, 0.13))
    assert errors.rotation_deg == pytest.approx(np.zeros(5), abs=1e-6)


@pytest.mark.parametrize("degrees", [0.0, 1e-4, 3.0, 90.0, 179.99])
def test_turning_the_camera_about_its_centre_changes_only_the_angle(degrees: float) -> None:
    truth = random_poses(4)
    axis = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64) * math.radians(degrees)
    turn = Pose.from_aa(axis, torch.zeros(3, dtype=torch.float64))
    errors = pose_errors(turn @ truth, truth)
    assert errors.rotation_deg == pytest.approx(np.full(4, degrees), abs=1e-5)
    assert errors.position == pytest.approx(np.zeros(4), abs=1e-9)


def test_a_missing_query_counts_as_a_failure_in_recall_and_median() -> None:
    truths = {name: random_poses(1, seed)[0] for seed, name in enumerate("abc")}
    names, errors = errors_by_name({"a": truths["a"], "other": truths["b"]}, truths)
    assert names == ("a", "b", "c")
    assert errors.answered.tolist() == [True, False, False]
    assert errors.recall([(1.0, 1.0)]) == (pytest.approx(1 / 3),)
    assert quantile(errors.position, 0.5) == math.inf


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([1.0, 2.0, 3.0, 4.0], 0.5, 2.5),
        ([1.0, 2.0, 3.0, math.inf], 0.5, 2.0),
        ([1.0, math.inf, math.inf], 0.5, math.inf),
        ([5.0], 0.95, 5.0),
    ],
)
def test_quantiles_work_with_infinite_entries(
    values: list[float], share: float, expected: float
) -> None:
    assert quantile(np.array(values), share) == expected


def test_the_quantile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(quantile(np.array([]), 0.5))


def test_a_sideways_step_displaces_points_at_one_depth_by_focal_length_over_depth() -> None:
    grid = torch.cartesian_prod(torch.linspace(-1, 1, 5), torch.linspace(-1, 1, 5)).double()
    points = torch.cat([grid, torch.full((25, 1), 5.0).double()], dim=1)
    moved = Pose.exp(torch.tensor([0.1, 0, 0, 0, 0, 0], dtype=torch.float64))
    found = median_displacement_px(points, pinhole(), moved, Pose.identity())
    assert found == pytest.approx(500 * 0.1 / 5 * 1024 / 640)


def test_points_behind_the_estimated_camera_are_very_far_and_none_in_view_is_not_a_number() -> (
    None
):
    points = torch.tensor([[0.0, 0.0, 4.0]], dtype=torch.float64)
    behind = Pose.exp(torch.tensor([0, 0, -9.0, 0, 0, 0], dtype=torch.float64))
    assert median_displacement_px(points, pinhole(), behind, Pose.identity()) == MISSED_PX
    assert math.isnan(median_displacement_px(points, pinhole(), Pose.identity(), behind))


def reference_scorer(shared_dir: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("packs", shared_dir / "tools" / "packs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["fox", "herzjesu_p25", "sacre_coeur10"])
@pytest.mark.parametrize("poses", ["poses_sift_pnp.txt", "init_20px.txt", "init_150px.txt"])
def test_displacement_agrees_with_the_scorer_of_the_image_sets(
    shared_dir: Path, name: str, poses: str
) -> None:
    """Lenses with distortion and without, from a hundredth of a pixel to far off."""
    packs, folder = reference_scorer(shared_dir), shared_dir / "data" / name
    reconstruction, by_id, truth, cameras = packs.load(folder)
    estimates, pairs = read_poses(folder / poses), packs.pairs(folder)
    ours_truth = read_poses(folder / "gt_poses.txt")
    ours_cameras = read_queries(folder / "queries_with_intrinsics.txt")
    estimates_theirs = packs.read_poses(folder / poses)
    for query in sorted(truth)[:4]:
        points, pixels = packs.visible_points(
            reconstruction, by_id, truth, cameras, query, pairs[query]
        )
        theirs = packs.displacement(cameras[query], points, pixels, estimates_theirs[query])
        ours = median_displacement_px(
            torch.from_numpy(points), ours_cameras[query], estimates[query], ours_truth[query]
        )
        # Relative: files round poses to nine digits. Points whose projection lies within a
        # rounding of the border may be counted by one side alone.
        assert ours == pytest.approx(theirs, rel=2e-3, abs=1e-4)
