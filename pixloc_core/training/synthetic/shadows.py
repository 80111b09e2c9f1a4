"""Shadows that the sun casts, by a second ray from every point towards it."""

import torch

from pixloc_core.shapes import Tensor
from pixloc_core.training.synthetic.light import Light
from pixloc_core.training.synthetic.patches import Patches
from pixloc_core.training.synthetic.ray_casting import Shape, drop_outside_shape
from pixloc_core.training.synthetic.shading import Surface

_TINY = 1e-9
# A surface does not shade itself: obstacles begin at this part of the depth.
_OFFSET = 2e-3


def find_sunlit(
    patches: Patches, surface: Surface, mask: Tensor, light: Light, has_shadows: Tensor
) -> Tensor:
    """Whether nothing stands between the sun and each point of a surface that faces it.

    True for views without shadows.

    Args:
        patches: Of each view.
        surface: Points of the pixels in `mask`.
        mask: Pixels `(v, t, p)` that hit something.
        light: Where the sun is.
        has_shadows: Views with shadows.
    """
    rows = _sun_rows(patches, light.sun[:, 0].double()).float()
    points = torch.zeros(*mask.shape, 3, device=mask.device)
    points[mask] = surface.points
    least = torch.zeros(mask.shape, device=mask.device)
    least[mask] = _OFFSET * surface.depth
    # What faces away from the sun is dark in any case.
    towards = light.sun[:, 0].index_select(0, surface.view)
    facing = mask.clone()
    facing[mask] = (surface.normals * towards).sum(-1) > 0
    any_hit = facing.any(-1)
    huge = torch.where(facing, 0, 1e9)[..., None]
    low, high = (points + huge).amin(2), (points - huge).amax(2)
    centre, half = (low + high) / 2, (high - low).clamp(min=0) / 2
    candidates, counts = _candidates(rows, centre, half, any_hit & has_shadows[:, None])
    shaded = _shaded(patches, rows, points, least, candidates, counts)
    return ~shaded[mask]


def _sun_rows(patches: Patches, sun: Tensor) -> Tensor:
    """Linear functions (x, y, z, 1) of points: way s to the plane of a patch, and a, b there."""
    origin, u, v = patches.corners.unbind(-2)
    normal = torch.linalg.cross(u, v)
    norm_sq = normal.square().sum(-1, keepdim=True).clamp(min=_TINY**2)
    to_a = torch.linalg.cross(v, normal) / norm_sq
    to_b = torch.linalg.cross(normal, u) / norm_sq
    towards = (normal * sun[:, None]).sum(-1, keepdim=True)
    towards = torch.where(towards.abs() < _TINY, _TINY, towards)
    s = -normal / towards
    s_row = torch.cat((s, -(s * origin).sum(-1, keepdim=True)), -1)
    result = [s_row]
    for to in (to_a, to_b):
        along = (to * sun[:, None]).sum(-1, keepdim=True)
        constant = -(to * origin).sum(-1, keepdim=True)
        result.append(torch.cat((to, constant), -1) + along * s_row)
    rows = torch.stack(result, -2)
    never = torch.zeros_like(rows)
    never[..., 0, 3] = -1
    # Hills hardly shade themselves, and they are many triangles.
    casts = patches.exists & (patches.shape != Shape.TRIANGLE)
    return torch.where(casts[..., None, None], rows, never)


def _candidates(
    rows: Tensor, centre: Tensor, half: Tensor, wanted: Tensor
) -> tuple[Tensor, Tensor]:
    """Patches that may shade something in each tile, and how many they are."""
    possible = wanted[..., None]
    s, a, b = rows[:, None].unbind(-2)
    for row, largest in ((s, None), (a, 1.0), (b, 1.0)):
        mid = row[..., 3]
        span = torch.zeros_like(mid)
        for i in range(3):
            mid = mid + row[..., i] * centre[..., i, None]
            span = span + row[..., i].abs() * half[..., i, None]
        possible = possible & (mid + span > 0)
        if largest is not None:
            possible = possible & (mid - span < largest)
    counts = possible.sum(-1)
    most = max(int(counts.max()), 1)
    return possible.float().topk(most, dim=-1).indices, counts


def _shaded(
    patches: Patches, rows: Tensor, points: Tensor, least: Tensor, candidates: Tensor,
    counts: Tensor,
) -> Tensor:  # fmt: skip
    views, tiles = counts.shape
    order = counts.flatten().argsort(descending=True, stable=True)
    first = torch.arange(views, device=rows.device)[:, None, None] * rows.shape[1]
    candidates = (candidates + first).flatten(0, 1)[order]
    x, y, z = (part.contiguous() for part in points.flatten(0, 1)[order].unbind(-1))
    least = least.flatten(0, 1)[order]
    flat, shape, seed = (
        rows.flatten(0, 1).flatten(1),
        patches.shape.flatten(),
        patches.seed.flatten().float(),
    )
    shaded = torch.zeros(x.shape, dtype=torch.bool, device=x.device)
    sorted_counts = counts.flatten()[order]
    steps = torch.arange(candidates.shape[1], device=x.device)[:, None]
    for k, m in enumerate((sorted_counts[None] > steps).sum(1).tolist()):
        if m == 0:
            break
        ids = candidates[:m, k]
        row = flat[ids]
        s, a, b = (
            torch.addcmul(torch.addcmul(torch.addcmul(row[:, i + 3, None], x[:m], row[:, i, None]),
                                        y[:m], row[:, i + 1, None]), z[:m], row[:, i + 2, None])
            for i in (0, 4, 8)
        )  # fmt: skip
        hit = (s > least[:m]) & (torch.minimum(a, b) >= 0) & (torch.maximum(a, b) <= 1)
        drop_outside_shape(hit, shape[ids], seed[ids], (torch.ones_like(a), a, b))
        shaded[:m] |= hit
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return shaded[back].view(views, tiles, -1)
