import numpy as np
import torch

from pixloc_core.training.synthetic.light import Light
from pixloc_core.training.synthetic.patches import Material, PatchBuilder, stack_patches
from pixloc_core.training.synthetic.ray_casting import Shape
from pixloc_core.training.synthetic.shading import Surface
from pixloc_core.training.synthetic.shadows import find_sunlit

PLAIN = Material(base=0, base_extent=1.0, overlay=0, overlay_extent=1.0)
TILES, PIXELS = 6, 40


def light_from(sun: list[float]) -> Light:
    direction = torch.tensor(sun) / torch.tensor(sun).norm()
    zero = torch.zeros(1, 2, 3)
    sun_rows = torch.stack((direction, torch.ones(3)))[None]
    return Light(sun_rows, zero, torch.zeros(1, 3, 3), zero, torch.zeros(1, 4, 2, 3),
                 torch.zeros(1, 3))  # fmt: skip


def ground_points(seed: int) -> Surface:
    """Points of the ground z = 0, in tiles that lie beside one another."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(TILES, PIXELS, 3, generator=generator) * torch.tensor([2.0, 6, 0])
    points[..., 0] += 2 * torch.arange(TILES)[:, None]
    flat = points.reshape(-1, 3)
    up = torch.tensor([0.0, 0, 1]).expand(len(flat), -1)
    return Surface(torch.zeros(len(flat), dtype=torch.long), flat, up, flat, flat,
                   torch.ones(len(flat)))  # fmt: skip


def test_shadow_of_plates_agrees_with_their_projection() -> None:
    builder = PatchBuilder(np.random.default_rng(0))
    builder.add([-5.0, -5, 0], ([30.0, 0, 0], [0, 30.0, 0]), PLAIN)
    plates = [((1.0, 1.0, 2.0), 2.0, 3.0), ((6.0, 2.0, 1.0), 3.0, 1.0)]
    for corner, wide, deep in plates:
        builder.add(corner, ([wide, 0, 0], [0, deep, 0]), PLAIN)
    builder.add([9.0, 4.0, 1.5], ([2.0, 0, 0], [0, 2.0, 0]), PLAIN, shape=Shape.ELLIPSE)
    patches = stack_patches([builder.build()])
    sun = [0.5, -0.25, 1.0]
    surface = ground_points(1)
    mask = torch.ones(1, TILES, PIXELS, dtype=torch.bool)
    lit = find_sunlit(patches, surface, mask, light_from(sun), torch.tensor([True]))
    expected = torch.ones(len(surface.points), dtype=torch.bool)
    for (x, y, z), wide, deep in plates:
        at = surface.points + z * torch.tensor(sun)
        inside = (
            (at[:, 0] >= x) & (at[:, 0] <= x + wide) & (at[:, 1] >= y) & (at[:, 1] <= y + deep)
        )
        expected &= ~inside
    centre = surface.points + 1.5 * torch.tensor(sun) - torch.tensor([10.0, 5.0, 1.5])
    expected &= centre.norm(dim=-1) > 1
    assert 0.05 < float((~expected).float().mean()) < 0.6
    assert torch.equal(lit, expected)


def test_views_without_shadows_are_sunlit() -> None:
    builder = PatchBuilder(np.random.default_rng(0))
    builder.add([-5.0, -5, 3], ([30.0, 0, 0], [0, 30.0, 0]), PLAIN)
    patches = stack_patches([builder.build()])
    mask = torch.ones(1, TILES, PIXELS, dtype=torch.bool)
    surface, light = ground_points(2), light_from([0.0, 0.0, 1.0])
    assert find_sunlit(patches, surface, mask, light, torch.tensor([False])).all()
    assert not find_sunlit(patches, surface, mask, light, torch.tensor([True])).any()
