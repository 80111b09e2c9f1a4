"""Maps made in memory: points and cameras, each point observed wherever it projects."""

from collections.abc import Sequence

import numpy as np
import torch

from pixloc_core.geometry import Camera, Pose
from pixloc_core.map.sparse_map import SparseMap

CAMERA = Camera.from_colmap(
    {"model": "PINHOLE", "width": 320, "height": 240, "params": [300.0, 300.0, 160.0, 120.0]}
)


def look(
    center: Sequence[float], target: Sequence[float] = (0, 0, 5), roll_deg: float = 0.0
) -> Pose:
    """Pose of a camera at `center` that looks at `target`, y down (map axes: z away, y down)."""
    eye, aim = (torch.tensor(p, dtype=torch.float64) for p in (center, target))
    z = torch.nn.functional.normalize(aim - eye, dim=0)
    x = torch.nn.functional.normalize(
        torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0]).double(), z), dim=0
    )
    R = torch.stack((x, torch.linalg.cross(z, x), z))
    upright = Pose.from_Rt(R, -(R @ eye))
    about_z = torch.tensor([0.0, 0.0, np.deg2rad(roll_deg)])
    return Pose.from_aa(about_z, torch.zeros(3, dtype=torch.float64)) @ upright


def wall_points(count: int = 600, half_width: float = 2.0, seed: int = 2) -> torch.Tensor:
    """Points of a bumpy wall about z = 5."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(
        rng.uniform([-half_width, -1.5, 4.8], [half_width, 1.5, 5.2], (count, 3))
    )


def make_map(
    points: torch.Tensor,
    poses: Sequence[Pose],
    camera: Camera = CAMERA,
    seen_by: Sequence[Sequence[bool]] | None = None,
) -> SparseMap:
    """A map of these points; `seen_by[image][point]` can hide points."""
    cam_from_map = Pose(torch.stack([pose.data for pose in poses]))
    projected, visible = camera.world2image(cam_from_map * points)
    if seen_by is not None:
        visible = visible & torch.as_tensor(np.asarray(seen_by))
    image, point = torch.nonzero(visible, as_tuple=True)
    offsets = torch.zeros(len(poses) + 1, dtype=torch.int64)
    offsets[1:] = torch.bincount(image, minlength=len(poses)).cumsum(0)
    return SparseMap(
        image_names=tuple(f"{index}.jpg" for index in range(len(poses))),
        cameras=(camera,),
        image_camera=torch.zeros(len(poses), dtype=torch.int64),
        cam_from_map=cam_from_map,
        points_map=points,
        track_length=torch.bincount(point, minlength=len(points)),
        point_error=torch.full((len(points),), 0.5, dtype=torch.float64),
        obs_offsets=offsets,
        obs_point=point,
        obs_px=projected[image, point].float(),
        origin=torch.zeros(3, dtype=torch.float64),
        fingerprint="scene",
    )
