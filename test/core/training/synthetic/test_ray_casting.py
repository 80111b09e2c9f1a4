import numpy as np
import pytest
import torch

from pixloc_core.geometry import Pose
from pixloc_core.training.synthetic.ray_casting import (
    TILE,
    Shape,
    cast_images,
    cast_rays,
    is_hidden,
    shape_mask,
    view_maps,
)

COUNT = 40


def random_corners(seed: int, count: int = COUNT) -> torch.Tensor:
    """Patches about five metres ahead of the origin, of all directions."""
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randn(count, 2, 3, generator=generator, dtype=torch.float64)
    corner = 2 * torch.randn(count, 1, 3, generator=generator, dtype=torch.float64)
    return torch.cat((corner + torch.tensor([0, 0, 6.0]), edges), 1)


def shapes_and_seeds(seed: int, count: int = COUNT) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    shapes = torch.from_numpy(rng.integers(0, len(Shape), count))
    return shapes, torch.from_numpy(rng.uniform(0, 6.28, count))


def tile_rays(width: int, height: int) -> torch.Tensor:
    """Rays `(1, t, p, 2)` of an image that is tiles wide and high."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack(((x - width / 2) / width, (y - height / 2) / width), -1)
    tiles = grid.reshape(height // TILE, TILE, width // TILE, TILE, 2).transpose(1, 2)
    return tiles.reshape(1, -1, TILE * TILE, 2)


def test_depth_of_a_plane_is_where_the_ray_meets_it() -> None:
    # The plane z = 3 + x / 2, large.
    corners = torch.tensor([[[-50.0, -50, -22], [100, 0, 50], [0, 100, 0]]]).double()
    maps = view_maps(corners, torch.tensor([True]), Pose.identity())
    rays = torch.tensor([[0.0, 0.0], [0.4, -0.3], [-0.5, 0.2]]).double()
    shape, seed = torch.zeros(1, dtype=torch.long), torch.zeros(1).double()
    inv_depth, patch = cast_rays(maps, shape, seed, rays)
    torch.testing.assert_close(1 / inv_depth, 3 / (1 - rays[:, 0] / 2))
    assert (patch == 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_nearest_hit_agrees_with_equations_solved_one_by_one(seed: int) -> None:
    corners = random_corners(seed)
    shapes, seeds = shapes_and_seeds(seed)
    exists = torch.ones(COUNT, dtype=torch.bool)
    pose = Pose.from_aa(torch.tensor([0.1, -0.2, 0.05]).double(), torch.randn(3).double() * 0.3)
    maps = view_maps(corners, exists, pose)
    rays = torch.rand(30, 2, generator=torch.Generator().manual_seed(seed)).double() - 0.5
    inv_depth, patch = cast_rays(maps, shapes, seeds, rays)
    in_cam = pose.R @ corners.mT
    for ray, found, nearest in zip(rays, inv_depth, patch, strict=True):
        best, which = 0.0, -1
        direction = torch.cat((ray, torch.ones(1).double()))
        for i in range(COUNT):
            origin = in_cam[i, :, 0] + pose.t
            matrix = torch.stack((in_cam[i, :, 1], in_cam[i, :, 2], -direction), -1)
            a, b, depth = torch.linalg.solve(matrix, -origin)
            if not (0 <= a <= 1 and 0 <= b <= 1 and depth > 0):
                continue
            if shape_mask(shapes[i], seeds[i], a, b) and 1 / depth > best:
                best, which = float(1 / depth), i
        assert float(found) == pytest.approx(best, rel=1e-9)
        assert int(nearest) == which


@pytest.mark.parametrize("seed", range(4))
def test_whole_images_agree_with_single_rays(seed: int) -> None:
    corners = torch.stack((random_corners(seed, 60), random_corners(seed + 100, 60)))
    (shapes, seeds), (more_shapes, more_seeds) = (
        shapes_and_seeds(seed, 60),
        shapes_and_seeds(9, 60),
    )
    shapes, seeds = torch.stack((shapes, more_shapes)), torch.stack((seeds, more_seeds))
    exists = torch.ones(2, 60, dtype=torch.bool)
    exists[1, 40:] = False
    maps = view_maps(corners, exists, Pose.identity(2)).float()
    rays = tile_rays(5 * TILE, 3 * TILE).float().expand(2, -1, -1, -1)
    hits = cast_images(maps, shapes, seeds.float(), rays)
    inv_depth, patch = cast_rays(maps, shapes, seeds.float(), rays.flatten(1, 2))
    assert (patch >= 0).float().mean() > 0.1
    assert (patch[1] < 40).all()
    # Rounding may decide about a ray at the very edge of a patch.
    same = hits.patch.flatten(1) == patch
    assert same.float().mean() > 0.9995
    torch.testing.assert_close(hits.inv_depth.flatten(1)[same], inv_depth[same], rtol=1e-4, atol=0)


def test_a_wall_before_a_wall_hides_it_and_its_padding_does_not() -> None:
    near = [[-1.0, -1, 2], [2, 0, 0], [0, 2, 0]]
    far = [[-3.0, -3, 4], [6, 0, 0], [0, 6, 0]]
    corners = torch.tensor([near, far, near]).double()
    shape, seed = torch.zeros(3, dtype=torch.long), torch.zeros(3).double()
    points = torch.tensor([[0.0, 0, 4], [0, 0, 2], [2.5, 2.5, 4], [0, 0, 4.5]]).double()
    expected = [True, False, False, True]
    maps = view_maps(corners, torch.tensor([True, True, True]), Pose.identity())
    assert is_hidden(maps, shape, seed, points, 0.01).tolist() == expected
    gone = view_maps(corners, torch.tensor([False, True, False]), Pose.identity())
    assert is_hidden(gone, shape, seed, points, 0.01).tolist() == [False, False, False, True]


def test_neighbouring_triangles_leave_no_gap() -> None:
    generator = torch.Generator().manual_seed(3)
    heights = 5 + torch.rand(9, 9, generator=generator).double()
    step = torch.linspace(-4, 4, 9).double()
    y, x = torch.meshgrid(step, step, indexing="ij")
    grid = torch.stack((x, y, heights), -1)
    lower = torch.stack((grid[:-1, :-1], grid[:-1, 1:] - grid[:-1, :-1],
                         grid[1:, :-1] - grid[:-1, :-1]), -2)  # fmt: skip
    upper = torch.stack((grid[1:, 1:], grid[1:, :-1] - grid[1:, 1:],
                         grid[:-1, 1:] - grid[1:, 1:]), -2)  # fmt: skip
    corners = torch.cat((lower.reshape(-1, 3, 3), upper.reshape(-1, 3, 3)))[None]
    exists = torch.ones(corners.shape[:2], dtype=torch.bool)
    shape = torch.full(corners.shape[:2], int(Shape.TRIANGLE))
    maps = view_maps(corners, exists, Pose.identity(1)).float()
    hits = cast_images(maps, shape, torch.zeros(corners.shape[:2]), tile_rays(8 * TILE, 8 * TILE))
    assert (hits.patch >= 0).all()
