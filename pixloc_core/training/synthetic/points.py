"""Points of a pair: pixels of the reference with depth, and whether the query sees them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pixloc_core.geometry import Camera, Pose
from pixloc_core.shapes import Tensor
from pixloc_core.training.synthetic.ray_casting import is_hidden
from pixloc_core.training.synthetic.renderer import Rendered
from pixloc_core.training.synthetic.view_drawing import OCCLUSION_TOLERANCE

# Share of the points that lie where the image changes, as those of an SfM model.
_ON_GRADIENT = 2 / 3
# Pixels at the border of a nearer body: their colours are not of their depth alone.
_AT_EDGE = 0.1


@dataclass(frozen=True)
class PickedPoints:
    """Points of pairs, as in `PairBatch`."""

    points_ref: Tensor
    is_point: Tensor
    is_seen: Tensor


class PointPicker:
    """Picks points.

    Args:
        number: Points per pair.
        covisible: Share of them that the query sees, where possible.
    """

    def __init__(self, number: int, covisible: float) -> None:
        self._number = number
        self._covisible = covisible

    def pick(self, rendered: Rendered, generators: Sequence[torch.Generator]) -> PickedPoints:
        """Points of the pairs; one generator (on the CPU) for each."""
        height, width = rendered.patch.shape[1:]
        weights = self._weights(rendered)
        uniform = torch.stack([torch.rand(height * width, generator=g) for g in generators])
        uniform = uniform.to(weights.device).clamp(1e-9, 1 - 1e-7)
        # The smallest of -log(u) / w are a sample without repetition (Efraimidis and Spirakis).
        keys = -uniform.log() / weights.clamp(min=1e-12)
        keys = torch.where(weights > 0, keys, torch.inf)
        number = min(self._number, height * width)
        key, index = keys.topk(number, largest=False)
        is_point = key < torch.inf
        pixels = torch.stack((index % width, index // width), -1).double()
        singles = rendered.single_cameras[0::2]
        unprojected = [c.image2world(px) for c, px in zip(singles, pixels, strict=True)]
        rays, found = (torch.stack(part) for part in zip(*unprojected, strict=True))
        patch = rendered.patch[0::2].flatten(1).gather(1, index).clamp(min=0)
        row_w = rendered.maps[0::2, :, 0].gather(1, patch[..., None].expand(-1, -1, 3))
        inv_depth = (row_w * rays).sum(-1)
        is_point = is_point & found & (inv_depth > 0)
        points = rays / torch.where(is_point, inv_depth, 1)[..., None]
        points, is_point = self._pad(points), self._pad(is_point)
        return PickedPoints(points, is_point, is_point & see_points(rendered, points))

    def _weights(self, rendered: Rendered) -> Tensor:
        """How likely each pixel of the references `(b, h * w)` is picked."""
        references = rendered.images[0::2].mean(1)
        inv_depth = rendered.inv_depth[0::2]
        has_depth = torch.zeros_like(references)
        # Not at the border: rounding would put some points outside of the image.
        has_depth[:, 1:-1, 1:-1] = (inv_depth[:, 1:-1, 1:-1] > 0).float()
        slope = torch.zeros_like(references)
        jump = torch.zeros_like(references)
        slope[:, 1:-1, 1:-1] = (
            (references[:, 1:-1, 2:] - references[:, 1:-1, :-2]).abs()
            + (references[:, 2:, 1:-1] - references[:, :-2, 1:-1]).abs()
        )  # fmt: skip
        bend_x = inv_depth[:, 1:-1, 2:] + inv_depth[:, 1:-1, :-2] - 2 * inv_depth[:, 1:-1, 1:-1]
        bend_y = inv_depth[:, 2:, 1:-1] + inv_depth[:, :-2, 1:-1] - 2 * inv_depth[:, 1:-1, 1:-1]
        bend = torch.maximum(bend_x.abs(), bend_y.abs())
        jump[:, 1:-1, 1:-1] = (bend > 0.03 * inv_depth[:, 1:-1, 1:-1]).float()
        weights = (slope + 0.003) * has_depth * (1 - (1 - _AT_EDGE) * jump)
        weights = weights.flatten(1)
        even = has_depth.flatten(1)
        total = weights.sum(-1, keepdim=True).clamp(min=1e-9)
        count = even.sum(-1, keepdim=True).clamp(min=1)
        weights = _ON_GRADIENT * weights / total + (1 - _ON_GRADIENT) * even / count
        seen = see_pixels(rendered).flatten(1)
        mass = (weights * seen).sum(-1, keepdim=True).clamp(min=1e-9)
        rest = (weights * ~seen).sum(-1, keepdim=True).clamp(min=1e-9)
        factor = (mass / rest * (1 - self._covisible) / max(self._covisible, 1e-6)).clamp(max=1)
        return torch.where(seen, weights, weights * factor)

    def _pad(self, values: Tensor) -> Tensor:
        """Fill up to the number of points: with points at depth one, or with false."""
        missing = self._number - values.shape[1]
        if missing == 0:
            return values
        shape = (values.shape[0], missing, *values.shape[2:])
        return torch.cat((values, torch.zeros(shape).to(values) + (values.ndim == 3)), 1)


def see_points(rendered: Rendered, points_ref: Tensor) -> Tensor:
    """Whether the queries see points `(b, n, 3)` of the frames of the references."""
    query_from_ref: Pose = rendered.poses[1::2] @ rendered.poses[0::2].inv()
    points = query_from_ref * points_ref
    cameras: Camera = rendered.cameras[1::2]
    _, valid = cameras.world2image(points)
    patches = rendered.patches
    hidden = is_hidden(
        rendered.maps[1::2], patches.shape[1::2], patches.seed[1::2], points, OCCLUSION_TOLERANCE
    )
    return valid & ~hidden


def see_pixels(rendered: Rendered) -> Tensor:
    """Whether the queries see the pixels `(b, h, w)` of the references, about, by their depth."""
    height, width = rendered.patch.shape[1:]
    inv_depth = rendered.inv_depth[0::2, ::2, ::2].flatten(1)
    y, x = torch.meshgrid(
        torch.arange(0, height, 2, device=inv_depth.device),
        torch.arange(0, width, 2, device=inv_depth.device),
        indexing="ij",
    )
    pixels = torch.stack((x.flatten(), y.flatten()), -1).float()
    references, queries = rendered.cameras[0::2].float(), rendered.cameras[1::2].float()
    rays, _ = references.image2world(pixels.expand(len(inv_depth), -1, -1))
    query_from_ref: Pose = (rendered.poses[1::2] @ rendered.poses[0::2].inv()).float()
    points = query_from_ref * (rays / inv_depth.clamp(min=1e-9)[..., None])
    pixels_query, valid = queries.world2image(points)
    nearest = pixels_query.round().long().clamp(min=0)
    index = nearest[..., 1].clamp(max=height - 1) * width + nearest[..., 0].clamp(max=width - 1)
    found = rendered.inv_depth[1::2].flatten(1).gather(1, index)
    seen = valid & (inv_depth > 0) & (found * points[..., 2] < 1.03)
    coarse = seen.view(-1, -(-height // 2), -(-width // 2))
    fine = coarse.repeat_interleave(2, 1).repeat_interleave(2, 2)
    return fine[:, :height, :width]
