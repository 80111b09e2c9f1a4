"""Training pairs of a textured plane: cheap, exact, and learnable within seconds."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from pixloc_core.geometry import Camera, Pose
from pixloc_core.training.pairs import PairBatch, View, generator_for, join_pairs

# Plane at this depth in the frame of the reference camera, which looks at it straight.
DEPTH = 4.0


class PlanePairs:
    """A source of pairs: views of a plane with a random texture, far and near, turned a little."""

    def __init__(self, size: tuple[int, int] = (96, 64), num_points: int = 64, seed: int = 0):
        self._size = size
        self._num_points = num_points
        self._seed = seed

    @property
    def description(self) -> str:
        return "toy planes"

    def batch(self, indices: Sequence[int]) -> PairBatch:
        return join_pairs([self._pair(index) for index in indices])

    def _pair(self, index: int) -> PairBatch:
        generator = generator_for(self._seed, index, "plane")
        width, height = self._size
        params = [0.9 * width, width / 2, height / 2]
        camera = Camera.from_colmap(
            {"model": "SIMPLE_PINHOLE", "width": width, "height": height, "params": params}
        )
        xi = torch.randn(6, generator=generator, dtype=torch.float64)
        query_from_ref = Pose.exp(xi * torch.tensor([0.2, 0.2, 0.2, 0.05, 0.05, 0.1]))
        texture = _draw_texture(generator)
        share = torch.rand(self._num_points, 2, generator=generator, dtype=torch.float64)
        points_px = share * (torch.tensor(self._size) - 1)
        points_ref = camera.image2world(points_px)[0] * DEPTH
        _, is_seen = camera.world2image(query_from_ref * points_ref)
        views = [
            View(_look(texture, camera, pose)[None], camera[None])
            for pose in (Pose.identity(), query_from_ref)
        ]
        every = torch.ones(1, self._num_points, dtype=torch.bool)
        name = (f"plane {index}",)
        return PairBatch(
            *views, points_ref[None], every, is_seen[None], query_from_ref[None], name
        )


def _draw_texture(generator: torch.Generator) -> Tensor:
    """Random spots of several sizes on a sheet of 16 x 16 units."""
    sheet = torch.zeros(1, 3, 256, 256)
    for cells in (8, 32, 96):
        values = torch.rand(1, 3, cells, cells, generator=generator)
        sheet = sheet + interpolate(values, size=(256, 256), mode="bicubic", align_corners=False)
    return (sheet / 3).clamp(0, 1)


def _look(texture: Tensor, camera: Camera, cam_from_ref: Pose) -> Tensor:
    """Image of the plane z = DEPTH of the reference frame."""
    width, height = (int(side) for side in camera.size)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack((columns, rows), -1).reshape(-1, 2).double()
    ref_from_cam = cam_from_ref.inv()
    rays = (ref_from_cam.R @ camera.image2world(pixels)[0].mT).mT
    center = ref_from_cam.t
    points = center + rays * ((DEPTH - center[2]) / rays[:, 2:])
    grid = (points[:, :2] / 8).reshape(1, height, width, 2).float()
    return grid_sample(texture, grid, padding_mode="reflection", align_corners=False)[0]
