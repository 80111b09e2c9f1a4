"""Smooth edges: pixels at the border of bodies show what covers them, by their parts."""

import torch

from pixloc_core.shapes import Tensor
from pixloc_core.training.synthetic.patches import Patches
from pixloc_core.training.synthetic.ray_casting import Hits, shape_mask

# Where in a pixel it is looked at again: a rotated square.
_SAMPLES = ((-0.375, -0.125), (0.125, -0.375), (0.375, 0.125), (-0.125, 0.375))
_SEAM = 1e-4
_TINY = 1e-9
# Neighbours of one body are apart if their depths differ by this part.
_STEP = 0.08


def smooth_edges(
    colours: Tensor, hits: Hits, rays: Tensor, maps: Tensor, patches: Patches
) -> Tensor:
    """Colours in which the pixels at edges are means over their samples.

    A sample shows the pixel itself or one of its four neighbours, whichever's patch is nearest
    there: edges are covered exactly, and no sample needs a colour of its own.

    Args:
        colours: Linear, `(v, h, w, 3)`.
        hits: What each pixel shows, `(v, h, w)`.
        rays: At the centres of the pixels, `(v, h, w, 2)`.
        maps: Of `view_maps`, `(v, q, 3, 3)`.
        patches: Of each view.
    """
    edge = _find_edges(hits, patches)
    view, y, x = edge.nonzero(as_tuple=True)
    height, width = edge.shape[1:]
    ys = torch.stack((y, y, y, (y - 1).clamp(min=0), (y + 1).clamp(max=height - 1)), -1)
    xs = torch.stack((x, (x - 1).clamp(min=0), (x + 1).clamp(max=width - 1), x, x), -1)
    patch = hits.patch[view[:, None], ys, xs]
    shown = colours[view[:, None], ys, xs]
    right, below = _ray_steps(rays, (view, y, x))
    inv_depth = _inv_depth_at_samples(patch, view, rays[edge], (right, below), maps, patches)
    best, owner = inv_depth.max(-1)
    # Nothing there: the sky, if a neighbour shows it.
    sky = (patch < 0).float().max(-1).indices[:, None].expand_as(owner)
    owner = torch.where(best > 0, owner, sky)
    mixed = shown.gather(1, owner[..., None].expand(-1, -1, 3)).mean(1)
    result = colours.clone()
    result[edge] = mixed
    return result


def _find_edges(hits: Hits, patches: Patches) -> Tensor:
    flat = hits.patch.flatten(1)
    body = torch.where(flat >= 0, patches.body.gather(1, flat.clamp(min=0)), -1)
    body = body.view_as(hits.patch)
    edge = torch.zeros_like(hits.patch, dtype=torch.bool)
    for dim in (1, 2):
        size = body.shape[dim]
        one, other = (part.narrow(dim, start, size - 1) for part, start in ((body, 0), (body, 1)))
        w_one, w_other = (hits.inv_depth.narrow(dim, start, size - 1) for start in (0, 1))
        differs: Tensor = (one != other) | (
            (w_one - w_other).abs() > _STEP * torch.maximum(w_one, w_other)
        )
        edge.narrow(dim, 0, size - 1).logical_or_(differs)
        edge.narrow(dim, 1, size - 1).logical_or_(differs)
    return edge


def _ray_steps(rays: Tensor, at: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """How the rays change from a pixel to the next, to the right and below."""
    view, y, x = at
    height, width = rays.shape[1:3]
    y0, x0 = y.clamp(max=height - 2), x.clamp(max=width - 2)
    right = rays[view, y, x0 + 1] - rays[view, y, x0]
    below = rays[view, y0 + 1, x] - rays[view, y0, x]
    return right, below


def _inv_depth_at_samples(
    patch: Tensor,
    view: Tensor,
    rays: Tensor,
    steps: tuple[Tensor, Tensor],
    maps: Tensor,
    patches: Patches,
) -> Tensor:
    """Reciprocal depths `(n, samples, k)` of k patches a pixel, zero where a patch is not."""
    index = view[:, None] * maps.shape[1] + patch.clamp(min=0)
    rows = maps.flatten(0, 1).flatten(1).index_select(0, index.flatten())
    rows = rows.view(*index.shape, 9)[:, None]
    offsets = rays.new_tensor(_SAMPLES)
    at = rays[:, None] + offsets[:, :1] * steps[0][:, None] + offsets[:, 1:] * steps[1][:, None]
    px, py = at[..., None, 0], at[..., None, 1]
    w, aw, bw = (rows[..., i] * px + rows[..., i + 1] * py + rows[..., i + 2] for i in (0, 3, 6))
    inv_w = 1 / w.clamp(min=_TINY)
    seam = _SEAM * w
    hit = (w > 0) & (torch.minimum(aw, bw) >= -seam) & (torch.maximum(aw, bw) <= w + seam)
    shape, seed = patches.shape.flatten()[index], patches.seed.flatten().float()[index]
    special = ((shape > 0)[:, None] & hit).nonzero(as_tuple=True)
    pixel = (special[0], special[2])
    hit[special] = shape_mask(
        shape[pixel], seed[pixel], (aw * inv_w)[special], (bw * inv_w)[special]
    )
    return torch.where(hit & (patch >= 0)[:, None], w, 0)
