"""Fields of view and shared points."""

import numpy as np
import pytest
import torch
from map_scene import CAMERA, look, make_map, wall_points

from pixloc_core.geometry import Camera
from pixloc_core.map.covisibility import (
    compatible,
    connected_parts,
    observations_of_points,
    shared_points,
    visible_points,
)
from pixloc_core.map.sparse_map import SparseMap

CAMERAS = {
    "pinhole": CAMERA,
    "barrel": Camera.from_colmap(
        {"model": "OPENCV", "width": 320, "height": 240,
         "params": [200.0, 210.0, 130.0, 140.0, -0.2, 0.02, 2e-3, -1e-3]}
    ),
    "fisheye": Camera.from_colmap(
        {"model": "OPENCV_FISHEYE", "width": 320, "height": 240,
         "params": [110.0, 110.0, 160.0, 120.0, 0.01, -0.002, 0.0, 0.0]}
    ),
    "narrow": Camera.from_colmap(
        {"model": "PINHOLE", "width": 320, "height": 240, "params": [9e3, 9e3, 160.0, 120.0]}
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def cloud() -> SparseMap:
    """Points all around, of which two far cameras see a few."""
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.normal(size=(4000, 3)) * 6)
    return make_map(points, [look((0, 0, -20)), look((3, 0, -20))])


@pytest.mark.parametrize("name", CAMERAS)
@pytest.mark.parametrize("margin", [0.0, 40.0])
def test_exactly_the_points_that_project_into_the_image_are_visible(
    cloud: SparseMap, name: str, margin: float
) -> None:
    camera, pose = CAMERAS[name], look((0.3, 0.2, -1.0), roll_deg=20)
    view = visible_points(cloud, pose, camera, margin)
    # Wider than the margin, then cut: the projection itself is tested elsewhere.
    wide = camera.crop((-500, -500), (1320, 1240))
    px, usable = wide.world2image(pose * cloud.points_map)
    px = px - 500
    low, high = -margin, camera.size - 1 + margin
    expected = usable & (px >= low).all(-1) & (px <= high).all(-1)
    assert view.point.tolist() == torch.nonzero(expected)[:, 0].tolist()
    np.testing.assert_allclose(view.px, px[expected], rtol=0, atol=2e-2)


def test_rays_and_footprints_are_those_of_the_view(cloud: SparseMap) -> None:
    pose = look((0.3, 0.2, -1.0))
    view = visible_points(cloud, pose, CAMERA)
    to_camera = pose.center - cloud.points_map[view.point]
    distance = to_camera.norm(dim=-1, keepdim=True)
    np.testing.assert_allclose(view.ray, to_camera / distance, rtol=0, atol=1e-5)
    np.testing.assert_allclose(view.footprint, distance[:, 0] / 300, rtol=1e-5)


def test_only_the_points_asked_for_are_looked_at(cloud: SparseMap) -> None:
    pose = look((0, 0, -8))
    among = torch.arange(0, cloud.num_points, 3)
    every = visible_points(cloud, pose, CAMERA)
    some = visible_points(cloud, pose, CAMERA, among=among)
    assert some.point.tolist() == [point for point in every.point.tolist() if point % 3 == 0]


def test_far_points_are_dropped_by_scale() -> None:
    sparse = make_map(wall_points(), [look((-0.2, 0, 0)), look((0.2, 0, 0))])
    assert len(visible_points(sparse, look((0, 0, -5)), CAMERA, max_scale_ratio=3.0)) > 0
    assert len(visible_points(sparse, look((0, 0, -20)), CAMERA, max_scale_ratio=3.0)) == 0


def test_points_seen_from_the_other_side_or_from_too_near_are_not_compatible() -> None:
    sparse = make_map(wall_points(), [look((-0.2, 0, 0)), look((0.2, 0, 0))])
    for center, expected in (((0, 0, 1), True), ((0, 0, 10), False), ((0, 0, 4.7), False)):
        view = visible_points(sparse, look(center, (0, 0, 5)), CAMERA)
        assert len(view) > 0
        assert compatible(sparse, view, np.deg2rad(60), 4.0).all() == expected


def test_observations_of_points_are_all_of_theirs() -> None:
    sparse = make_map(wall_points(50), [look((x, 0, 0)) for x in (-0.3, 0.0, 0.3)])
    points = np.array([3, 40, 7])
    observations, slot = observations_of_points(sparse, points)
    assert (sparse.obs_point[observations].numpy() == points[slot]).all()
    for position, point in enumerate(points):
        expected = torch.nonzero(sparse.obs_point == point)[:, 0]
        assert observations[slot == position].tolist() == expected.tolist()


def test_shared_points_are_counted_once_each() -> None:
    hidden = np.ones((3, 100), bool)
    hidden[1, 30:] = False
    hidden[2, :90] = False
    sparse = make_map(
        wall_points(100, half_width=1.0),
        [look((x, 0, 0)) for x in (0.0, 0.1, 0.2)],
        CAMERA,
        hidden,
    )
    counts = [set(sparse.obs_point[sparse.observations_of(i)].tolist()) for i in range(3)]
    assert shared_points(sparse, 0).tolist() == [len(counts[0] & other) for other in counts]
    assert shared_points(sparse, 1)[2] == 0


def test_parts_without_common_points_are_told_apart() -> None:
    seen = np.zeros((4, 100), bool)
    seen[:2, :50] = True
    seen[2:, 50:] = True
    sparse = make_map(
        wall_points(100), [look((x, 0, 0)) for x in (0, 0.1, 0.2, 0.3)], CAMERA, seen
    )
    assert connected_parts(sparse).tolist() == [0, 0, 1, 1]
