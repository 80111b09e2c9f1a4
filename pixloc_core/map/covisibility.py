"""What a camera at a given pose would see of a map, and which map images saw the same."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pixloc_core.geometry import Camera, Pose
from pixloc_core.map.point_views import view_rays
from pixloc_core.map.sparse_map import SparseMap
from pixloc_core.shapes import Bool, Float, Int, Tensor

# Tangents of angles off the axis, up to 76 deg, at which the field of view is probed.
_TANGENTS = torch.linspace(0, 4, 100)


@dataclass(frozen=True)
class Visible:
    """Map points in the field of view of a camera.

    Attributes:
        point: Indices of the points, ascending.
        px: Projections; outside the image by up to the margin.
        ray: Unit vectors from the points to the camera.
        footprint: Metres per pixel: distance over focal length.
    """

    point: NDArray[np.int64]
    px: NDArray[np.float32]
    ray: NDArray[np.float32]
    footprint: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.point)

    def subset(self, keep: NDArray[np.int64]) -> "Visible":
        """Some of these points, by position."""
        return Visible(self.point[keep], self.px[keep], self.ray[keep], self.footprint[keep])


def visible_points(
    sparse: SparseMap,
    cam_from_map: Pose,
    camera: Camera,
    margin_px: float = 0.0,
    max_scale_ratio: float = np.inf,
    among: Int[Tensor, " n"] | None = None,
) -> Visible:
    """Points that project into the image of a camera, by geometry alone: walls hide nothing.

    Args:
        sparse: The map.
        cam_from_map: One pose relative to the origin of the map.
        camera: One camera.
        margin_px: How far outside of the image a projection may fall.
        max_scale_ratio: How many times coarser than in any map image a point may be seen.
        among: Ascending indices of the points that are asked for; all if not given.
    """
    size = camera.size.tolist()
    wide = camera.crop(
        (-margin_px, -margin_px), (size[0] + 2 * margin_px, size[1] + 2 * margin_px)
    ).float()
    focal = float(camera.f.mean())
    rows = slice(None) if among is None else among
    points = sparse.points_single[:, rows]
    pose = cam_from_map.detach().cpu()
    points_cam = torch.addmm(pose.t.float()[:, None], pose.R.float(), points)
    candidate = _in_cone(points_cam, _field_of_view(wide))
    if max_scale_ratio < np.inf:
        reach = sparse.views.max_footprint[rows] * (max_scale_ratio * focal)
        candidate &= (points_cam * points_cam).sum(0) <= reach.square_()
    index = torch.nonzero(candidate)[:, 0]
    px, inside = wide.world2image(points_cam[:, index].T)
    index, px = index[inside], px[inside] - margin_px
    point = index if among is None else among[index]
    rays, footprint = view_rays(points[:, index], pose.center.float()[:, None], focal)
    return Visible(point.numpy(), px.numpy(), rays.numpy(), footprint.numpy())


def _in_cone(points_cam: Float[Tensor, "3 p"], tangent: float) -> Bool[Tensor, " p"]:
    """Points in front of the camera and within an angle off its axis; cheap, for all points."""
    x, y, z = points_cam
    near: Tensor = z > 0
    if tangent < np.inf:
        near &= (x * x).addcmul_(y, y) <= (z * tangent).square_()
    return near


def _field_of_view(camera: Camera) -> float:
    """Tangent of an angle off the axis beyond which nothing falls into the image."""
    last = camera.size - 1
    corners = torch.stack(
        (last * 0, last, last * last.new_tensor([0, 1]), last * last.new_tensor([1, 0]))
    )
    directions = torch.nn.functional.normalize((corners - camera.c) / camera.f, dim=-1)
    rays = torch.ones(len(_TANGENTS), len(directions), 3)
    rays[..., :2] = directions * _TANGENTS[:, None, None]
    inside = camera.world2image(rays.reshape(-1, 3))[1].reshape(rays.shape[:2]).any(-1)
    # The farthest corner inside, with room for tangential distortion; wider images have no limit.
    farthest = int(torch.nonzero(inside).max()) if bool(inside.any()) else len(_TANGENTS)
    wanted = 1.1 * float(_TANGENTS[farthest + 1]) if farthest + 1 < len(_TANGENTS) else np.inf
    return min(wanted, float(camera.max_radius))


def compatible(
    sparse: SparseMap, view: Visible, max_angle: float, max_scale_ratio: float
) -> NDArray[np.bool_]:
    """Which visible points were seen in the map from about there, and about as coarsely.

    Args:
        sparse: The map.
        view: The points as the camera would see them.
        max_angle: How far (radians) beyond the cone of the map's viewing directions.
        max_scale_ratio: How many times finer than in any map image.
    """
    views, point = sparse.views, view.point
    cosine = np.einsum("ij,ij->i", view.ray, views.direction.numpy()[point])
    spread = np.arccos(np.clip(views.cos_spread.numpy()[point], -1, 1))
    seen = cosine >= np.cos(np.minimum(spread + max_angle, np.pi))
    seen &= view.footprint * max_scale_ratio >= views.min_footprint.numpy()[point]
    return np.asarray(seen)


def observations_of_points(
    sparse: SparseMap, points: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All observations of some points, and for each the position of its point in `points`."""
    offsets, by_point = (array.numpy() for array in sparse.point_observations)
    start, count = offsets[points], offsets[points + 1] - offsets[points]
    slot = np.repeat(np.arange(len(points)), count)
    first = np.cumsum(count) - count
    return by_point[np.arange(len(slot)) + (start - first)[slot]], slot


def shared_points(sparse: SparseMap, image: int) -> Int[Tensor, " m"]:
    """Number of points that each image has in common with one of them."""
    points = np.unique(sparse.obs_point[sparse.observations_of(image)].numpy())
    observations, slot = observations_of_points(sparse, points)
    pairs = np.stack((sparse.obs_image[observations].numpy(), slot))
    images = torch.from_numpy(np.unique(pairs, axis=1)[0])
    return torch.bincount(images, minlength=sparse.num_images)


def connected_parts(sparse: SparseMap) -> Int[Tensor, " m"]:
    """Number of the part of the map that each image belongs to: parts share no points."""
    links = coo_matrix(
        (
            np.ones(sparse.num_observations, dtype=bool),
            (sparse.obs_image.numpy(), sparse.num_images + sparse.obs_point.numpy()),
        ),
        shape=(sparse.num_images + sparse.num_points,) * 2,
    )
    _, labels = connected_components(links, directed=False)
    _, parts = np.unique(labels[: sparse.num_images], return_inverse=True)
    return torch.from_numpy(parts.astype(np.int64))
