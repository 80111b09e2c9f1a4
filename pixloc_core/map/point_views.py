"""From where, and how finely, each map point was seen: what decides if a new view may use it."""

from dataclasses import dataclass

import torch

from pixloc_core.shapes import Float, Int, Tensor


@dataclass(frozen=True)
class PointViews:
    """Viewing conditions of map points, over all images that observe them.

    The footprint of an observation is its distance divided by the focal length: metres of surface
    per pixel, which compares views of different cameras.

    Attributes:
        direction: Mean unit vector from the point to the cameras that see it.
        cos_spread: Cosine of the largest angle between that mean and one of these views.
        min_footprint: Finest view, metres per pixel.
        max_footprint: Coarsest view, metres per pixel.
    """

    direction: Float[Tensor, "p 3"]
    cos_spread: Float[Tensor, " p"]
    min_footprint: Float[Tensor, " p"]
    max_footprint: Float[Tensor, " p"]


def view_rays(
    points_map: Float[Tensor, "3 n"],
    centers_map: Float[Tensor, "3 #n"],
    focal_px: Float[Tensor, " n"] | float,
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, " n"]]:
    """Unit vectors from points to cameras, and the footprints of these views (float32).

    Points and centres have one row per axis, or are one column for all.
    """
    x, y, z = (centers_map - points_map).float()
    # Much faster on the CPU than a norm over a last dimension of three.
    distance = (x * x + y * y + z * z).sqrt_().clamp_min_(torch.finfo(torch.float32).tiny)
    scale = distance.reciprocal()
    return torch.stack((x * scale, y * scale, z * scale), -1), distance / focal_px


def summarize_views(
    rays: Float[Tensor, "o 3"],
    footprints: Float[Tensor, " o"],
    obs_point: Int[Tensor, " o"],
    num_points: int,
) -> PointViews:
    """Viewing conditions of points from those of all their observations.

    Points without observations get a zero direction and an empty range (inf, 0): they fit no view.
    """
    total = torch.zeros(num_points, 3).index_add_(0, obs_point, rays)
    direction = torch.nn.functional.normalize(total, dim=-1)
    cosines = (rays * direction[obs_point]).sum(-1)
    return PointViews(
        direction,
        torch.ones(num_points).scatter_reduce_(0, obs_point, cosines, "amin"),
        torch.full((num_points,), torch.inf).scatter_reduce_(0, obs_point, footprints, "amin"),
        torch.zeros(num_points).scatter_reduce_(0, obs_point, footprints, "amax"),
    )
