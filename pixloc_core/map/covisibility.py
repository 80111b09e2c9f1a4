"""What a camera at a given pose would see of a map, and which map images saw the same."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pixloc_core.geometry import Camera, Pose
from pixloc_core.map.sparse_map import SparseMap
from pixloc_core.shapes import Bool, Float, Int, Tensor

# Directions, and tangents of angles off the axis (up to 76 deg), that probe the field of view.
_DIRECTIONS = 16
_TANGENTS = torch.linspace(0, 4, 200)


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

    def subset(self, keep: NDArray[np.bool_] | slice) -> "Visible":
        """Some of these points."""
        return Visible(self.point[keep], self.px[keep], self.ray[keep], self.footprint[keep])


def visible_points(
    sparse: SparseMap,
    cam_from_map: Pose,
    camera: Camera,
    margin_px: float = 0.0,
    among: Int[Tensor, " n"] | None = None,
) -> Visible:
    """Points that project into the image of a camera, by geometry alone: walls hide nothing.

    Args:
        sparse: The map.
        cam_from_map: One pose relative to the origin of the map.
        camera: One camera.
        margin_px: How far outside of the image a projection may fall.
        among: Ascending indices of the points that are asked for; all if not given.
    """
    size = camera.size.tolist()
    wide = camera.crop(
        (-margin_px, -margin_px), (size[0] + 2 * margin_px, size[1] + 2 * margin_px)
    ).float()
    points = sparse.points_single if among is None else sparse.points_single[:, among]
    pose = cam_from_map.detach().cpu()
    points_cam = torch.addmm(pose.t.float()[:, None], pose.R.float(), points)
    near = _in_cone(points_cam, _field_of_view(wide))
    index = torch.nonzero(near)[:, 0]
    px, inside = wide.world2image(points_cam[:, index].T)
    index, px = index[inside], px[inside] - margin_px
    point = index if among is None else among[index]
    rays = pose.center.float() - points[:, index].T
    distance = rays.norm(dim=-1).clamp_min(1e-12)
    footprint = distance / camera.f.mean().float()
    return Visible(
        point.numpy(), px.numpy(), (rays / distance[:, None]).numpy(), footprint.numpy()
    )


def _in_cone(points_cam: Float[Tensor, "3 p"], tangent: float) -> Bool[Tensor, " p"]:
    """Points in front of the camera and within an angle off its axis; cheap, for all points."""
    x, y, z = points_cam
    near: Tensor = z > 0
    if tangent != float("inf"):
        near &= x * x + y * y <= (z * tangent).square_()
    return near


def _field_of_view(camera: Camera) -> float:
    """Tangent of an angle off the axis beyond which nothing falls into the image."""
    angle = torch.arange(_DIRECTIONS) * (2 * torch.pi / _DIRECTIONS)
    circle = torch.stack((angle.cos(), angle.sin()), -1)
    rays = torch.ones(len(_TANGENTS), _DIRECTIONS, 3)
    rays[..., :2] = circle * _TANGENTS[:, None, None]
    inside = camera.world2image(rays.reshape(-1, 3))[1].reshape(rays.shape[:2])
    last = int(torch.nonzero(inside)[:, 0].max()) if bool(inside.any()) else len(_TANGENTS)
    # A corner may lie between two directions, hence more than one step to spare.
    wanted = 1.1 * float(_TANGENTS[last + 1]) if last + 1 < len(_TANGENTS) else float("inf")
    return min(wanted, float(camera.max_radius))


def compatible(
    sparse: SparseMap, view: Visible, max_angle: float, max_scale_ratio: float
) -> NDArray[np.bool_]:
    """Which visible points were seen in the map from about there, and about as finely.

    Args:
        sparse: The map.
        view: The points as the camera would see them.
        max_angle: How far (radians) beyond the cone of the map's viewing directions.
        max_scale_ratio: How many times finer or coarser than in any map image.
    """
    views, index = sparse.views, torch.from_numpy(view.point)
    cosine = (torch.from_numpy(view.ray) * views.direction[index]).sum(-1)
    spread = views.cos_spread[index].clamp(-1, 1).acos()
    from_there = cosine >= (spread + max_angle).clamp_max(torch.pi).cos()
    footprint = torch.from_numpy(view.footprint)
    as_fine = footprint * max_scale_ratio >= views.min_footprint[index]
    as_fine &= footprint <= views.max_footprint[index] * max_scale_ratio
    return (from_there & as_fine).numpy()


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
