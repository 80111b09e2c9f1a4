"""A synthetic query with known truth: smooth random feature maps, points and a camera.

No image, network or map file: the descriptor of each point is what the map shows where the point
truly projects, so that the true pose has residual zero (up to the noise asked for).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from pixloc_core.features.pyramid import FeatureLevel, FeaturePyramid
from pixloc_core.features.reference import PointFeatures
from pixloc_core.geometry import Camera, Pose, sample

# Distance between the independent values that a feature map interpolates, in its pixels.
CORRELATION_PX = 4


@dataclass(frozen=True)
class Scene:
    """A query pyramid, the points it shows, and where it was taken from."""

    pyramid: FeaturePyramid
    points: PointFeatures
    camera: Camera
    cam_from_map: Pose

    def motion_px(self, pose: Pose) -> Tensor:
        """Mean displacement of the points against the truth, in pixels of the image."""
        truth = self.camera.world2image(self.cam_from_map * self.points.points_map)[0]
        found = self.camera.world2image(pose * self.points.points_map)[0]
        return (found - truth).norm(dim=-1).mean(-1)


def make_scene(
    seed: int = 0,
    *,
    num_points: int = 300,
    size: tuple[int, int] = (320, 240),
    channels: int = 8,
    strides: Sequence[int] = (1, 4, 16),
    noise: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> Scene:
    """Draw a scene.

    Args:
        seed: Everything follows from it.
        num_points: Points, all of them visible.
        size: Width and height of the image.
        channels: Length of the descriptors.
        strides: Of the levels, fine to coarse.
        noise: Standard deviation of the noise on the descriptors of the map, per channel.
        dtype: Of the features; poses and points are float64.
    """
    generator = torch.Generator().manual_seed(seed)
    width, height = size
    camera = Camera.from_colmap(
        {
            "model": "SIMPLE_RADIAL",
            "width": width,
            "height": height,
            "params": [0.9 * width, width / 2, height / 2, 0.05],
        }
    )
    cam_from_map = Pose.exp(_normal(generator, 6) * torch.tensor([1, 1, 1, 0.4, 0.4, 0.4]))
    points_px = torch.rand(num_points, 2, generator=generator, dtype=torch.float64)
    points_px = points_px * (torch.tensor(size) - 1)
    depth = 4 + 6 * torch.rand(num_points, 1, generator=generator, dtype=torch.float64)
    points_map = cam_from_map.inv() * (camera.image2world(points_px)[0] * depth)

    levels, descriptors, confidences = [], [], []
    for stride in strides:
        shape = (height // stride, width // stride)
        features = _smooth_map(generator, shape, channels).to(dtype)
        confidence = 0.2 + 0.8 * torch.rand(shape, generator=generator).to(dtype)
        level_camera = camera.scale((shape[1] / width, shape[0] / height))
        levels.append(FeatureLevel(features, confidence, level_camera, stride))
        at_point = level_camera.world2image(cam_from_map * points_map)[0]
        seen = sample(features, at_point)
        seen = seen + noise * torch.randn(seen.shape, generator=generator).to(dtype)
        descriptors.append(seen)
        confidences.append(0.2 + 0.8 * torch.rand(num_points, generator=generator).to(dtype))
    points = PointFeatures(
        points_map, tuple(descriptors), tuple(confidences), torch.arange(num_points)
    )
    return Scene(FeaturePyramid(tuple(levels)), points, camera, cam_from_map)


def perturb(scene: Scene, motion_px: float, count: int, seed: int = 0) -> Pose:
    """Wrong poses, each of which displaces the points by about so many pixels, `(count)`."""
    generator = torch.Generator().manual_seed(seed)
    # A radian moves a point as far as a translation by its distance does.
    distance = 7.0
    xi = _normal(generator, count, 6) * torch.tensor([distance] * 3 + [1.0] * 3)
    scale = torch.full((count,), 1e-3, dtype=torch.float64)
    for _ in range(20):
        poses = scene.cam_from_map.retract(xi * scale[:, None])
        scale = scale * (motion_px / scene.motion_px(poses)).clamp(0.3, 3.0)
    return poses


def _smooth_map(generator: torch.Generator, shape: tuple[int, int], channels: int) -> Tensor:
    coarse = [max(3, side // CORRELATION_PX) for side in shape]
    values = torch.randn(1, channels, *coarse, generator=generator)
    smooth = interpolate(values, size=shape, mode="bicubic", align_corners=True)
    return normalize(smooth, dim=1)[0].permute(1, 2, 0).contiguous()


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)
