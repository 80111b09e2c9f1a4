"""A small textured room with exact truth: images, COLMAP model, and anything between.

Three planes (back wall, floor, a box in front of the wall) carry seeded multi-scale noise. Images
are ray-cast, so that every camera model can be used; the map's points lie on the planes and are
observed by the images that really see them.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import torch

from pixloc_core.geometry import Camera, Pose

CAMERA = {"model": "PINHOLE", "width": 320, "height": 240, "params": [260.0, 260.0, 160.0, 120.0]}


@dataclass(frozen=True)
class Plane:
    """A rectangle: corner, two edges (metres), and its texture."""

    corner: np.ndarray
    edges: np.ndarray
    texture: np.ndarray


def noise_texture(seed: int, size: int = 512) -> np.ndarray:
    """RGB noise of many scales, uint8."""
    rng = np.random.default_rng(seed)
    image = np.zeros((size, size, 3), np.float32)
    for cells in (4, 8, 16, 32, 64, 128):
        layer = rng.normal(size=(cells, cells, 3)).astype(np.float32)
        image += cv2.resize(layer, (size, size), interpolation=cv2.INTER_CUBIC) / cells**0.3
    image = 127 + 55 * image / image.std()
    return image.clip(0, 255).astype(np.uint8)


def _plane(corner: list[float], u: list[float], v: list[float], seed: int) -> Plane:
    return Plane(np.array(corner), np.array([u, v]), noise_texture(seed))


class ToyWorld:
    """The room; its axes are those of an optical frame: x right, y down, z forward."""

    def __init__(self, camera: dict = CAMERA, num_images: int = 6) -> None:
        self.colmap_camera = camera
        self.camera = Camera.from_colmap(camera).to(torch.float64)
        self.planes = (
            _plane([-5, -3, 6], [10, 0, 0], [0, 4.5, 0], 1),
            _plane([-5, 1.5, 1], [10, 0, 0], [0, 0, 5], 2),
            _plane([0.4, -0.6, 4.2], [1.6, 0, 0], [0, 2.1, 0], 3),
        )
        spread = np.linspace(-1, 1, num_images)
        aa = np.stack([0.04 * np.cos(5 * spread), -0.12 * spread, 0.03 * spread], -1)
        centers = np.stack([0.9 * spread, 0.15 * np.sin(4 * spread), 0.3 * np.cos(3 * spread)], -1)
        R = Pose.from_aa(torch.from_numpy(aa), torch.zeros(num_images, 3)).R
        self.cam_from_map = Pose.from_Rt(R, -(R @ torch.from_numpy(centers)[..., None])[..., 0])
        self.names = [f"map/{index:02d}.png" for index in range(num_images)]

    def render(
        self, cam_from_map: Pose, camera: Camera | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Image (h, w, 3) uint8 RGB and depth (h, w) of a pose (batch shape ())."""
        camera = (self.camera if camera is None else camera).to(torch.float64)
        width, height = (int(side) for side in camera.size)
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        pixels = torch.from_numpy(np.stack([x, y], -1).reshape(-1, 2)).double()
        rays = camera.image2world(pixels)[0].numpy()
        R, center = cam_from_map.R.numpy(), cam_from_map.center.numpy()
        directions = rays @ R
        image = np.zeros((height, width, 3), np.uint8)
        depth = np.full((height, width), np.inf)
        for plane in self.planes:
            self._paint(plane, center, directions, image, depth)
        return image, depth

    @staticmethod
    def _paint(
        plane: Plane, center: np.ndarray, rays: np.ndarray, image: np.ndarray, depth: np.ndarray
    ) -> None:
        normal = np.cross(*plane.edges)
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = ((plane.corner - center) @ normal) / (rays @ normal)
            offset = center + distance[:, None] * rays - plane.corner
        uv = offset @ np.linalg.pinv(plane.edges)
        hit = (distance > 0) & (uv >= 0).all(-1) & (uv <= 1).all(-1)
        nearer = hit.reshape(depth.shape) & (distance.reshape(depth.shape) < depth)
        side = plane.texture.shape[0] - 1
        grid = (np.nan_to_num(uv).clip(-1, 2) * side).astype(np.float32)
        grid = grid.reshape(*depth.shape, 2)
        colours = cv2.remap(plane.texture, grid[..., 0], grid[..., 1], cv2.INTER_LINEAR)
        image[nearer] = colours[nearer]
        depth[nearer] = distance.reshape(depth.shape)[nearer]

    @cached_property
    def points(self) -> np.ndarray:
        """Points on the planes (p, 3)."""
        rng = np.random.default_rng(7)
        shares = (500, 300, 200)
        parts = [
            plane.corner + rng.random((share, 2)) @ plane.edges
            for plane, share in zip(self.planes, shares, strict=True)
        ]
        return np.concatenate(parts)

    def write(self, folder: Path, *, binary: bool = True) -> tuple[Path, Path]:
        """Write the images and the COLMAP model; returns their folders (sfm, images)."""
        sfm, images = folder / "sfm", folder / "images"
        sfm.mkdir(parents=True)
        (images / "map").mkdir(parents=True)
        model = pycolmap.Reconstruction()
        camera = pycolmap.Camera(camera_id=1, **self.colmap_camera)
        model.add_camera_with_trivial_rig(camera)
        tracks: dict[int, list[tuple[int, int]]] = {}
        for index, name in enumerate(self.names):
            pose = self.cam_from_map[index]
            image, depth = self.render(pose)
            cv2.imwrite(str(images / name), image[..., ::-1])
            pixels, seen = self._observations(pose, depth)
            model.add_image_with_trivial_frame(
                pycolmap.Image(name, pixels + 0.5, 1, index + 1),
                pycolmap.Rigid3d(np.c_[pose.R.numpy(), pose.t.numpy()]),
            )
            for place, point in enumerate(seen):
                tracks.setdefault(int(point), []).append((index + 1, place))
        for point, elements in tracks.items():
            if len(elements) >= 3:
                track = pycolmap.Track([pycolmap.TrackElement(*element) for element in elements])
                model.add_point3D(self.points[point], track, np.zeros(3, np.uint8))
        (model.write_binary if binary else model.write_text)(str(sfm))
        return sfm, images

    def _observations(self, pose: Pose, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of the points that an image sees, and their indices."""
        points_cam = pose * torch.from_numpy(self.points)
        points_px, valid = self.camera.world2image(points_cam)
        cells = points_px.round().long().clamp(min=0).numpy()
        height, width = depth.shape
        cells[:, 0].clip(0, width - 1, out=cells[:, 0])
        cells[:, 1].clip(0, height - 1, out=cells[:, 1])
        front = points_cam[:, 2].numpy() < depth[cells[:, 1], cells[:, 0]] * 1.01
        seen = np.flatnonzero(valid.numpy() & front)
        return points_px.numpy()[seen], seen
