"""Laws of the choice of references and points."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from map_scene import CAMERA, look, make_map, wall_points

from pixloc_core.errors import ConfigError, MapError
from pixloc_core.geometry import Pose
from pixloc_core.map.selection import SelectionConfig, select_points, select_references
from pixloc_core.map.sparse_map import SparseMap

CONFIG = SelectionConfig(num_points=120, min_track_length=2)
PRIOR = look((0.1, 0.05, 0.2))


@pytest.fixture(scope="module")
def row() -> SparseMap:
    """Nine cameras in a row before a wall."""
    return make_map(wall_points(), [look((x, 0, 0)) for x in np.linspace(-2, 2, 9)])


def test_at_the_pose_of_a_map_image_it_comes_first(row: SparseMap) -> None:
    for image in range(row.num_images):
        chosen = select_references(row, row.cam_from_map[image], CAMERA, CONFIG)
        assert chosen[0] == image


def test_references_are_few_and_different(row: SparseMap) -> None:
    for count in (1, 3, 20):
        chosen = select_references(row, PRIOR, CAMERA, replace(CONFIG, num_references=count))
        assert len(chosen) == len(set(chosen)) == min(count, row.num_images)


def test_a_camera_that_sees_nothing_of_the_map_has_no_references(row: SparseMap) -> None:
    away = look((0, 0, 0), (0, 0, -5))
    assert select_references(row, away, CAMERA, CONFIG) == []
    assert len(select_points(row, [3], CONFIG, away, CAMERA)) == 0


def test_images_from_the_other_side_are_not_chosen() -> None:
    sparse = make_map(wall_points(), [look((x, 0, z)) for z in (0, 10) for x in (-0.3, 0.0, 0.3)])
    assert set(select_references(sparse, PRIOR, CAMERA, CONFIG)) == {0, 1, 2}


def test_an_upright_image_goes_before_a_rolled_one() -> None:
    rolled, upright = look((0, 0, 0), roll_deg=90), look((0.3, 0, 0), roll_deg=5)
    sparse = make_map(wall_points(half_width=1.0), [rolled, upright])
    assert select_references(sparse, look((0, 0, 0)), CAMERA, CONFIG)[0] == 1


def test_an_image_from_the_same_distance_goes_before_a_far_one() -> None:
    sparse = make_map(wall_points(half_width=1.0), [look((0.1, 0, -10)), look((0.6, 0, 0))])
    assert select_references(sparse, look((0, 0, 0)), CAMERA, CONFIG)[0] == 1


def test_an_image_that_adds_something_goes_before_a_duplicate() -> None:
    points = wall_points(half_width=2.5)
    left, right = (points[:, 0] < 0.3).numpy(), (points[:, 0] > 0.0).numpy()
    centers = [(-0.5, 0, 0), (-0.5, 0.01, 0), (-0.51, 0, 0), (0.6, 0, 0)]
    poses = [look(center, (center[0], 0, 5)) for center in centers]
    sparse = make_map(points, poses, CAMERA, [left, left, left, right])
    wide = CAMERA.crop((-160, 0), (640, 240))
    chosen = select_references(sparse, look((0, 0, 0)), wide, CONFIG)
    assert 3 in chosen[:2]


def test_several_poses_get_their_references_in_turn(row: SparseMap) -> None:
    poses = row.cam_from_map[torch.tensor([1, 7])]
    chosen = select_references(row, poses, CAMERA, CONFIG)
    assert chosen[:2] == [1, 7]


def test_the_choice_is_the_same_each_time(row: SparseMap) -> None:
    first, second = (select_references(row, PRIOR, CAMERA, CONFIG) for _ in range(2))
    assert first == second
    one, other = (select_points(row, first, CONFIG, PRIOR, CAMERA) for _ in range(2))
    assert torch.equal(one.point_idx, other.point_idx)
    assert torch.equal(one.obs_idx, other.obs_idx)


def test_points_are_in_the_predicted_view_and_within_the_budget(row: SparseMap) -> None:
    selection = select_points(row, [2, 4, 6], CONFIG, PRIOR, CAMERA)
    assert len(selection) == 120
    assert len(selection.point_idx.unique()) == 120
    margin = CONFIG.margin * 320
    wide = CAMERA.crop((-margin, -margin), (320 + 2 * margin, 240 + 2 * margin))
    _, inside = wide.world2image(PRIOR * row.points_map[selection.point_idx])
    assert bool(inside.all())


def test_no_margin_keeps_points_inside_the_image(row: SparseMap) -> None:
    selection = select_points(row, [2, 4, 6], replace(CONFIG, margin=0.0), PRIOR, CAMERA)
    _, inside = CAMERA.world2image(PRIOR * row.points_map[selection.point_idx])
    assert bool(inside.all())


def test_observations_belong_to_their_point_and_to_the_references(row: SparseMap) -> None:
    references = [4, 2, 6]
    selection = select_points(row, references, CONFIG, PRIOR, CAMERA)
    assert selection.obs_idx.shape == (len(selection), CONFIG.observations_per_point)
    assert bool((selection.obs_idx[:, 0] >= 0).all())
    there = selection.obs_idx >= 0
    # Once filled up with -1, nothing follows.
    assert bool((there[:, 1:] <= there[:, :-1]).all())
    rows = torch.where(there, selection.obs_idx, selection.obs_idx[:, :1])
    assert bool((row.obs_point[rows] == selection.point_idx[:, None]).all())
    assert set(row.obs_image[rows].unique().tolist()) <= set(references)


def test_the_best_viewed_observation_comes_first(row: SparseMap) -> None:
    """All cameras are equally far and upright: the best view is that of the nearest camera."""
    at_image_5 = row.cam_from_map[5]
    selection = select_points(row, [1, 3, 5, 8], CONFIG, at_image_5, CAMERA)
    first = row.obs_image[selection.obs_idx[:, 0]]
    seen_by_5 = set(row.obs_point[row.observations_of(5)].tolist())
    expected = torch.tensor([int(point) in seen_by_5 for point in selection.point_idx])
    assert torch.equal(first == 5, expected)
    second = selection.obs_idx[:, 1]
    both = expected & (second >= 0)
    assert bool((row.obs_image[second[both]] != 5).all())


@pytest.mark.parametrize("budget", [30, 60, 400])
def test_points_are_spread_over_all_cells_before_any_gets_more(
    row: SparseMap, budget: int
) -> None:
    config = replace(CONFIG, grid_cells=8, num_points=budget, margin=0.0)
    everything = replace(config, num_points=10**6)
    cells = cells_of(row, select_points(row, [2, 4, 6], everything, PRIOR, CAMERA).point_idx)
    chosen = cells_of(row, select_points(row, [2, 4, 6], config, PRIOR, CAMERA).point_idx)
    counts = np.array([np.count_nonzero(chosen == cell) for cell in np.unique(cells)])
    stock = np.array([np.count_nonzero(cells == cell) for cell in np.unique(cells)])
    # A cell falls behind another by more than one only if it has nothing left.
    assert (counts[counts < stock] >= counts.max() - 1).all()


def cells_of(sparse: SparseMap, points: torch.Tensor) -> np.ndarray:
    px, _ = CAMERA.world2image(PRIOR * sparse.points_map[points])
    column, row_ = (px / 40).floor().long().T
    return (row_ * 100 + column).numpy()


def test_unreliable_points_are_left_out(row: SparseMap) -> None:
    error = row.point_error.clone()
    error[::2] = 9.0
    noisy = replace(row, point_error=error)
    selection = select_points(noisy, [2, 4, 6], CONFIG, PRIOR, CAMERA)
    assert bool((selection.point_idx % 2 == 1).all())
    strict = replace(CONFIG, min_track_length=6)
    selection = select_points(row, [2, 4, 6], strict, PRIOR, CAMERA)
    assert len(selection) > 0
    assert int(row.track_length[selection.point_idx].min()) >= 6


def test_several_poses_may_use_the_points_of_each(row: SparseMap) -> None:
    config = replace(CONFIG, margin=0.0, num_points=10**6)
    poses = Pose(torch.stack([look((x, 0, 0), (x, 0, 5)).data for x in (-2.0, 2.0)]))
    references = [0, 2, 4, 6, 8]
    single = [select_points(row, references, config, poses[k], CAMERA) for k in range(2)]
    both = select_points(row, references, config, poses, CAMERA)
    expected = {int(point) for selection in single for point in selection.point_idx}
    assert set(both.point_idx.tolist()) == expected


def test_without_a_prior_the_references_decide(row: SparseMap) -> None:
    config = replace(CONFIG, num_points=10**6)
    selection = select_points(row, [7, 1], config)
    observed = row.obs_point[row.observations_of_images([7, 1])]
    assert set(selection.point_idx.tolist()) == set(observed.tolist())
    # A point is measured in the first reference that saw it, so that one describes it best.
    seen_by_7 = set(row.obs_point[row.observations_of(7)].tolist())
    first = row.obs_image[selection.obs_idx[:, 0]].tolist()
    for point, image in zip(selection.point_idx.tolist(), first, strict=True):
        assert image == (7 if point in seen_by_7 else 1)


def test_no_references_give_an_empty_selection(row: SparseMap) -> None:
    selection = select_points(row, [], CONFIG, PRIOR, CAMERA)
    assert selection.point_idx.shape == (0,)
    assert selection.obs_idx.shape == (0, CONFIG.observations_per_point)


@pytest.mark.parametrize("image", [-1, 9])
def test_a_reference_outside_the_map_is_refused(row: SparseMap, image: int) -> None:
    with pytest.raises(MapError, match=rf"image index {image} is not in the map \(9 images\)"):
        select_points(row, [0, image], CONFIG, PRIOR, CAMERA)


def test_an_image_that_is_not_in_the_map_is_named(row: SparseMap) -> None:
    assert row.find("nowhere.jpg") is None
    assert row.index_of("3.jpg") == 3
    with pytest.raises(MapError, match=r"image 'nowhere\.jpg' is not in the map"):
        row.index_of("nowhere.jpg")


def test_senseless_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"SelectionConfig\.num_points is 1"):
        SelectionConfig(num_points=1)


def test_single_precision_cameras_and_poses_are_accepted(row: SparseMap) -> None:
    chosen = select_references(row, PRIOR.float(), CAMERA.float(), CONFIG)
    assert chosen == select_references(row, PRIOR, CAMERA, CONFIG)
    assert len(select_points(row, chosen, CONFIG, PRIOR.float(), CAMERA.float())) == 120
