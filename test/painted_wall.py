"""A wall with known colours, photographed by any camera: what an image must show is a formula."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from map_scene import look

from pixloc_core.geometry import Camera, Pose
from pixloc_core.training.collections.image_collection import (
    ImageCollection,
    observations_by_image,
)

DEPTH = 5.0
CAMERAS = {
    "PINHOLE": [300.0, 310.0, 161.0, 118.0],
    "SIMPLE_RADIAL": [300.0, 161.0, 118.0, -0.1],
    "OPENCV": [300.0, 310.0, 161.0, 118.0, 0.08, -0.05, 4e-3, -3e-3],
    "OPENCV_FISHEYE": [250.0, 255.0, 161.0, 118.0, 0.02, -0.01, 0.0, 0.0],
}


def camera_of(model: str) -> Camera:
    """A camera of 320 x 240 pixels."""
    return Camera.from_colmap(
        {"model": model, "width": 320, "height": 240, "params": CAMERAS[model]}
    )


def colour(points: torch.Tensor) -> torch.Tensor:
    """Colour (n, 3) of points of the wall, smooth, nowhere the same for long."""
    x, y = points[..., 0], points[..., 1]
    waves = (2.1 * x + 0.7 * y, 1.3 * x - 1.9 * y, 0.4 * x + 2.3 * y)
    return torch.stack([0.5 + 0.4 * torch.sin(wave) for wave in waves], -1)


_RAYS: dict[tuple[float, ...], torch.Tensor] = {}


def photograph(camera: Camera, cam_from_world: Pose) -> np.ndarray:
    """The image (h, w, 3) of the wall z = DEPTH, RGB."""
    width, height = (int(side) for side in camera.size)
    key = (camera.model.num_params, *camera.data.tolist())
    if key not in _RAYS:
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        pixels = torch.stack((columns, rows), -1).reshape(-1, 2).double()
        _RAYS[key] = camera.image2world(pixels)[0]
    world_from_cam = cam_from_world.inv()
    rays = (world_from_cam.R @ _RAYS[key].mT).mT
    depth = (DEPTH - world_from_cam.t[2]) / rays[:, 2:]
    image = colour(world_from_cam.t + rays * depth).reshape(height, width, 3)
    return (255 * image).round().byte().numpy()


def wall_poses(count: int) -> list[Pose]:
    """Cameras in a row in front of the wall, looking about."""
    return [
        look((0.25 * (i - count / 2), 0.1 * (i % 3), 0.2 * (i % 2)), (0.05 * i, 0, DEPTH), 3.0 * i)
        for i in range(count)
    ]


def wall_collection(
    folder: Path,
    *,
    count: int = 9,
    models: Sequence[str] = ("PINHOLE",),
    num_points: int = 400,
    name: str = "wall",
) -> ImageCollection:
    """Photographs in a folder, and points of the wall, each shown wherever it projects."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(4)
    points = torch.from_numpy(rng.uniform([-2.5, -2, DEPTH], [2.5, 2, DEPTH], (num_points, 3)))
    cameras = tuple(camera_of(model) for model in models)
    poses = wall_poses(count)
    shown = []
    for image, pose in enumerate(poses):
        camera = cameras[image % len(cameras)]
        write_image(folder / f"{image:02d}.png", photograph(camera, pose))
        visible = camera.world2image(pose * points)[1]
        shown.append(np.flatnonzero(visible.numpy()))
    offsets, obs_point = observations_by_image(shown)
    everyone = torch.ones(count, dtype=torch.bool)
    return ImageCollection(
        name=name,
        folder=folder,
        image_names=tuple(f"{image:02d}.png" for image in range(count)),
        cameras=cameras,
        image_camera=torch.arange(count) % len(cameras),
        cam_from_world=Pose(torch.stack([pose.data for pose in poses])),
        points_world=points,
        obs_offsets=offsets,
        obs_point=obs_point,
        is_reference=everyone,
        is_query=everyone.clone(),
        quarter_turns=torch.zeros(count, dtype=torch.int64),
    )


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an RGB image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]))


def look_up(image: torch.Tensor, points_px: torch.Tensor) -> torch.Tensor:
    """Colours (b, n, 3) of an image (b, 3, h, w) at pixels (b, n, 2)."""
    height, width = image.shape[-2:]
    grid = (points_px + 0.5) / torch.tensor([width, height]) * 2 - 1
    sampled = torch.nn.functional.grid_sample(
        image, grid[:, None].to(image), align_corners=False, padding_mode="border"
    )
    return sampled[:, :, 0].mT
