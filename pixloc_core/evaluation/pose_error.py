"""How far poses are from the truth, in space and in the image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.geometry import Camera, Pose
from pixloc_core.geometry.camera import NEAR_PLANE
from pixloc_core.geometry.distortion import distort

FloatArray = NDArray[np.float64]
Threshold = tuple[float, float]
DEFAULT_THRESHOLDS: tuple[Threshold, ...] = ((0.01, 0.1), (0.05, 0.5), (0.25, 2.0), (0.5, 5.0))
MISSED_PX = 1e4


@dataclass(frozen=True)
class PoseErrors:
    """Errors of several poses; a missing pose has infinite ones.

    Attributes:
        position: Distance between the centres (n,), in units of the map (metres if metric).
        rotation_deg: Angle between the orientations (n,), degrees.
    """

    position: FloatArray
    rotation_deg: FloatArray

    def __len__(self) -> int:
        return int(self.position.shape[0])

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Which poses are there at all."""
        return np.isfinite(self.position)

    def recall(self, thresholds: Sequence[Threshold] = DEFAULT_THRESHOLDS) -> tuple[float, ...]:
        """Share of all queries within (position, degrees); missing poses count as failures."""
        if not len(self):
            return tuple(0.0 for _ in thresholds)
        within = [(self.position <= far) & (self.rotation_deg <= deg) for far, deg in thresholds]
        return tuple(float(mask.mean()) for mask in within)


def pose_errors(estimate: Pose, truth: Pose) -> PoseErrors:
    """Errors of `frame_from_map` poses: distance of the frame's origins in the map, and angle.

    Args:
        estimate: Batch shape (n,).
        truth: Batch shape (n,).
    """
    distance = (estimate.center - truth.center).norm(dim=-1)
    angle_deg, _ = (estimate @ truth.inv()).magnitude()
    return PoseErrors(distance.numpy(), angle_deg.numpy())


def errors_by_name(
    estimates: Mapping[str, Pose], truths: Mapping[str, Pose]
) -> tuple[tuple[str, ...], PoseErrors]:
    """Errors of every query that has a truth, sorted by name; infinite where no pose was given.

    Args:
        estimates: `cam_from_map` (batch shape ()) of the queries that were localized.
        truths: `cam_from_map` of all queries.
    """
    names = tuple(sorted(truths))
    position, rotation = np.full(len(names), np.inf), np.full(len(names), np.inf)
    found = [index for index, name in enumerate(names) if name in estimates]
    if found:
        given = torch.stack([estimates[names[index]].double().data for index in found])
        true = torch.stack([truths[names[index]].double().data for index in found])
        errors = pose_errors(Pose(given), Pose(true))
        position[found], rotation[found] = errors.position, errors.rotation_deg
    return names, PoseErrors(position, rotation)


def quantile(values: FloatArray, share: float) -> float:
    """Smallest value that at least this share of the entries does not exceed; NaN if empty.

    Infinite entries (missing poses) take part, so a quantile may be infinite. The plain median
    of an even number of finite entries is that of `numpy.median`.
    """
    if not values.size:
        return float("nan")
    if share == 0.5 and bool(np.isfinite(values).all()):
        return float(np.median(values))
    return float(np.quantile(values, share, method="inverted_cdf"))


def median_displacement_px(
    points: torch.Tensor, camera: Camera, estimate: Pose, truth: Pose, *, width: int = 1024
) -> float:
    """Median distance between the projections of points under two poses.

    The points that count are those inside the image under the true pose. A point that the
    estimated camera cannot see, lying behind it or beyond its lens, counts as very far.

    Args:
        points: Map points (n, 3), float64, that this view is known to see.
        camera: The camera of the query.
        estimate: `cam_from_map`, batch shape ().
        truth: `cam_from_map`, batch shape ().
        width: Width of the image whose pixels are meant: the same view has the same displacement
            at any resolution.

    Returns:
        Pixels; NaN where the true view holds none of the points.
    """
    true_px, seen = _project(points, camera, truth)
    size = camera.size.to(true_px)
    # Pixel 0 is a centre here: the image reaches half a pixel beyond the outer centres.
    seen &= ((true_px > -0.5) & (true_px < size - 0.5)).all(dim=-1)
    if not bool(seen.any()):
        return float("nan")
    moved_px, usable = _project(points[seen], camera, estimate)
    distance = (moved_px - true_px[seen]).norm(dim=-1) * (width / float(size[0]))
    distance[~usable | ~torch.isfinite(distance)] = MISSED_PX
    return float(np.median(distance.numpy()))


def _project(
    points: torch.Tensor, camera: Camera, cam_from_map: Pose
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels (n, 2), also outside the image, and which points the lens can see at all (n,)."""
    points_cam = cam_from_map.double() * points.double()
    camera, depth = camera.double(), points_cam[:, 2:]
    on_plane = points_cam[:, :2] / depth.clamp(min=NEAR_PLANE)
    distorted, usable = distort(camera.model, camera.dist, on_plane, camera.max_radius)
    return distorted * camera.f + camera.c, usable & (depth[:, 0] > NEAR_PLANE)
