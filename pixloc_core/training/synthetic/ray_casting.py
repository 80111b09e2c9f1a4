"""Ray casting of parallelogram patches: nearest hits of images, and hits of single rays.

A patch holds the points `origin + a u + b v` with a, b in [0, 1] that its shape leaves. Seen by a
camera, `1 / depth`, `a / depth` and `b / depth` are linear in the ray (x, y, 1): three rows of a
3x3 map. The patches that may touch a tile of the image are found by interval arithmetic on these
rows first; only they are tried by its pixels.
"""

from dataclasses import dataclass
from enum import IntEnum

import torch

from pixloc_core.geometry import Pose
from pixloc_core.shapes import Tensor

# Patches are this much larger than they are, so that no ray slips between two neighbours.
_SEAM = 1e-4
_TINY = 1e-9
TILE = 16


class Shape(IntEnum):
    """Which part of the parallelogram is there."""

    FULL = 0
    ELLIPSE = 1
    TRIANGLE = 2  # a + b <= 1
    LEAVES = 3
    FENCE = 4


@dataclass(frozen=True)
class Hits:
    """Nearest hits of the rays of views `v` and their pixels `p`.

    Attributes:
        inv_depth: Reciprocal depth along the optical axis, zero where nothing is hit.
        patch: Number of the patch in its scene, -1 where nothing is hit.
    """

    inv_depth: Tensor
    patch: Tensor


def view_maps(corners: Tensor, exists: Tensor, cam_from_world: Pose) -> Tensor:
    """Maps `(*b, q, 3, 3)` from rays (x, y, 1) of cameras to (1, a, b) / depth of each patch.

    Args:
        corners: Corner and both edges of the patches, `(*b, q, 3, 3)`, in the world.
        exists: Patches `(*b, q)` that are not padding.
        cam_from_world: Poses `(*b)` of the cameras.
    """
    origin, u, v = corners.unbind(-2)
    normal = torch.linalg.cross(u, v)
    norm_sq = normal.square().sum(-1, keepdim=True).clamp(min=_TINY**2)
    to_a = torch.linalg.cross(v, normal) / norm_sq
    to_b = torch.linalg.cross(normal, u) / norm_sq
    offset = origin - cam_from_world.center[..., None, :]
    distance = (normal * offset).sum(-1, keepdim=True)
    distance = torch.where(distance.abs() < _TINY, _TINY, distance)
    rows_w = normal / distance
    rows_a = to_a - (to_a * offset).sum(-1, keepdim=True) * rows_w
    rows_b = to_b - (to_b * offset).sum(-1, keepdim=True) * rows_w
    rows = torch.stack((rows_w, rows_a, rows_b), -2) @ cam_from_world.R.mT[..., None, :, :]
    never = torch.zeros_like(rows)
    never[..., 0, 2] = -1
    return torch.where(exists[..., None, None], rows, never)


def shape_mask(shape: Tensor, seed: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Whether the points (a, b) of parallelograms belong to the shape; all broadcast."""
    r2 = (2 * a - 1).square() + (2 * b - 1).square()
    noise = torch.sin(13 * a + 9 * b + seed) + torch.sin(41 * a - 23 * b + 3 * seed)
    noise = noise + torch.sin(27 * b - 37 * a - seed) + torch.sin(67 * b + 19 * a + 2 * seed)
    bars = ((a * (6 + seed)) % 1 < 0.28) | ((b - 0.2).abs() < 0.05) | ((b - 0.85).abs() < 0.05)
    inside = torch.where(shape == Shape.ELLIPSE, r2 <= 1, True)
    inside = inside & torch.where(shape == Shape.TRIANGLE, a + b <= 1 + _SEAM, True)
    inside = inside & torch.where(shape == Shape.LEAVES, 0.85 - r2 + 0.28 * noise > 0, True)
    return inside & torch.where(shape == Shape.FENCE, bars, True)


def drop_outside_shape(
    hit: Tensor, shape: Tensor, seed: Tensor, waw_bw: tuple[Tensor, Tensor, Tensor]
) -> None:
    """Take hits `(m, p)` back, in place, that the shapes `(m,)` of their patches leave out.

    Args:
        hit: Hits of the parallelograms.
        shape: Shapes.
        seed: As for `shape_mask`.
        waw_bw: A denominator, and a and b times it, `(m, p)`.
    """
    tiles = (shape != Shape.FULL).nonzero()[:, 0]
    if len(tiles) == 0:
        return
    row, pixel = hit[tiles].nonzero(as_tuple=True)
    tile = tiles[row]
    w, aw, bw = (part[tile, pixel] for part in waw_bw)
    hit[tile, pixel] = shape_mask(shape[tile], seed[tile], aw / w, bw / w)


def cast_rays(maps: Tensor, shape: Tensor, seed: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest hits of single rays, each tried against every patch.

    Args:
        maps: Of `view_maps`, `(*b, q, 3, 3)`.
        shape: Shapes `(*b, q)`.
        seed: Numbers `(*b, q)` that tell leaves and fences apart.
        rays: Coordinates `(*b, n, 2)` at unit depth.

    Returns:
        Reciprocal depths `(*b, n)`, zero for no hit, and patches, -1 for no hit.
    """
    inv_depth, hit = _hits(maps, shape, seed, rays)
    best, patch = torch.where(hit, inv_depth, 0).max(-1)
    return best, torch.where(best > 0, patch, -1)


def is_hidden(
    maps: Tensor, shape: Tensor, seed: Tensor, points_cam: Tensor, tolerance: float
) -> Tensor:
    """Whether anything lies between the camera and points `(*b, n, 3)` in front of it.

    Args:
        maps: Of `view_maps`.
        shape: Shapes `(*b, q)`.
        seed: As for `cast_rays`.
        points_cam: Points in the frame of the camera.
        tolerance: Part of the depth by which something must be nearer than the point.
    """
    depth = points_cam[..., 2].clamp(min=_TINY)
    inv_depth, hit = _hits(maps, shape, seed, points_cam[..., :2] / depth[..., None])
    return (hit & (inv_depth * depth[..., None] > 1 + tolerance)).any(-1)


def _hits(maps: Tensor, shape: Tensor, seed: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    x, y = rays[..., None].unbind(-2)
    rows = maps[..., None, :, :, :].unbind(-2)
    w, aw, bw = (row[..., 0] * x + row[..., 1] * y + row[..., 2] for row in rows)
    seam = _SEAM * w
    hit = (w > 0) & (aw >= -seam) & (bw >= -seam) & (aw <= w + seam) & (bw <= w + seam)
    # Shapes are looked at where they matter only: a small part of all.
    where = (hit & (shape != Shape.FULL)[..., None, :]).nonzero(as_tuple=True)
    inv_w = 1 / w[where]
    ends = (*where[:-2], where[-1])
    hit[where] = shape_mask(shape[ends], seed[ends], aw[where] * inv_w, bw[where] * inv_w)
    return w, hit


def cast_images(maps: Tensor, shape: Tensor, seed: Tensor, rays: Tensor) -> Hits:
    """Nearest hits of whole images.

    Args:
        maps: Of `view_maps`, `(v, q, 3, 3)`.
        shape: Shapes `(v, q)`.
        seed: As for `cast_rays`.
        rays: Coordinates `(v, t, p, 2)` at unit depth of the p pixels of t tiles.
    """
    views, tiles = rays.shape[:2]
    low, high = rays.amin(2), rays.amax(2)
    centre, half = (low + high) / 2, (high - low) / 2 + 1e-6
    candidates, counts = _candidates(maps, shape, centre, half)
    order = counts.flatten().argsort(descending=True, stable=True)
    counts = counts.flatten()[order]
    first_patch = torch.arange(views, device=rays.device)[:, None, None] * maps.shape[1]
    candidates = (candidates + first_patch).flatten(0, 1)[order]
    x, y = rays.flatten(0, 1)[order].unbind(-1)
    flat = _FlatPatches(maps.flatten(0, 1).flatten(-2), shape.flatten(), seed.flatten())
    best, patch = _nearest(flat, x.contiguous(), y.contiguous(), candidates, counts)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    best, patch = (part[back].view(views, tiles, -1) for part in (best, patch))
    return Hits(best, torch.where(patch >= 0, patch - first_patch, -1))


@dataclass(frozen=True)
class _FlatPatches:
    rows: Tensor
    shape: Tensor
    seed: Tensor


def _candidates(
    maps: Tensor, shape: Tensor, centre: Tensor, half: Tensor
) -> tuple[Tensor, Tensor]:
    """Patches that may be seen in each tile, nearest bound first, and how many they are."""
    w, a, b = maps[..., None, :, :, :].unbind(-2)
    mid_w, span_w = _interval(w, centre, half)
    possible, covers = mid_w + span_w > 0, mid_w - span_w > 0
    for row in (a, b, w - a, w - b):
        mid, span = _interval(row, centre, half)
        # A relative seam, as in the test of the rays.
        seam = _SEAM * (mid_w.abs() + span_w)
        possible &= mid + span + seam >= 0
        covers &= mid - span >= 0
    covers &= (shape == Shape.FULL)[:, None, :]
    wall = torch.where(covers, mid_w - span_w, 0).amax(-1, keepdim=True)
    possible &= mid_w + span_w >= wall
    key = torch.where(possible, mid_w + span_w, -1.0)
    counts = possible.sum(-1)
    most = max(int(counts.max()), 1)
    return key.topk(most, dim=-1).indices, counts


def _interval(row: Tensor, centre: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """Middle and half width of what linear functions `(v, 1, q, 3)` take on tiles `(v, t, 2)`."""
    x, y = centre[..., None].unbind(-2)
    hx, hy = half[..., None].unbind(-2)
    return (
        row[..., 0] * x + row[..., 1] * y + row[..., 2],
        row[..., 0].abs() * hx + row[..., 1].abs() * hy,
    )


def _nearest(
    flat: _FlatPatches, x: Tensor, y: Tensor, candidates: Tensor, counts: Tensor
) -> tuple[Tensor, Tensor]:
    """Try the candidates one after the other; the tiles with most of them come first."""
    best = torch.zeros_like(x)
    patch = torch.full(x.shape, -1, dtype=torch.long, device=x.device)
    num_tiles = (counts[None] > torch.arange(candidates.shape[1], device=x.device)[:, None]).sum(1)
    for k, m in enumerate(num_tiles.tolist()):
        if m == 0:
            break
        ids = candidates[:m, k]
        rows = flat.rows[ids]
        w, aw, bw = (
            torch.addcmul(torch.addcmul(rows[:, i + 2, None], x[:m], rows[:, i, None]),
                          y[:m], rows[:, i + 1, None])
            for i in (0, 3, 6)
        )  # fmt: skip
        seam = _SEAM * w
        hit = (torch.minimum(aw, bw) >= -seam) & (torch.maximum(aw, bw) <= w + seam)
        hit &= w > best[:m]
        drop_outside_shape(hit, flat.shape[ids], flat.seed[ids], (w, aw, bw))
        best[:m] = torch.where(hit, w, best[:m])
        patch[:m] = torch.where(hit, ids[:, None], patch[:m])
    return best, patch
