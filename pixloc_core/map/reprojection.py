"""How well points, poses and observations of a map agree."""

import torch

from pixloc_core.map.sparse_map import SparseMap
from pixloc_core.shapes import Float, Tensor


def reprojection_errors(sparse: SparseMap) -> Float[Tensor, " o"]:
    """Distance in pixels of each observation from the projection of its point.

    Observations whose point cannot be projected (behind the camera, beyond the usable radius of
    the distortion) get infinity.
    """
    errors = torch.empty(sparse.num_observations, dtype=torch.float64)
    for image in range(sparse.num_images):
        rows = sparse.observations_of(image)
        points_cam = sparse.cam_from_map[image] * sparse.points_map[sparse.obs_point[rows]]
        camera = sparse.camera_of(image)
        projected, _ = camera.world2image(points_cam)
        _, usable = camera.J_world2image(points_cam)
        distance = (projected - sparse.obs_px[rows]).norm(dim=-1)
        errors[rows] = torch.where(usable, distance, torch.inf)
    return errors


def point_errors(sparse: SparseMap) -> Float[Tensor, " p"]:
    """Mean reprojection error of each point in pixels."""
    errors = reprojection_errors(sparse)
    total = torch.zeros(sparse.num_points, dtype=errors.dtype)
    total.index_add_(0, sparse.obs_point, errors)
    return total / sparse.track_length.clamp_min(1)
