"""Cameras of every model for the tests of geometry."""

import torch
from torch import Tensor

from pixloc_core.geometry import Camera

# COLMAP model -> parameters with moderate distortion; the suffix tells cases of a model apart.
COLMAP_PARAMS = {
    "SIMPLE_PINHOLE": (500.0, 322.0, 238.0),
    "PINHOLE": (500.0, 510.0, 322.0, 238.0),
    "SIMPLE_RADIAL": (500.0, 322.0, 238.0, -0.3),
    "SIMPLE_RADIAL pincushion": (500.0, 322.0, 238.0, 0.2),
    "RADIAL": (500.0, 322.0, 238.0, -0.4, 0.05),
    "OPENCV": (500.0, 510.0, 322.0, 238.0, -0.3, 0.08, -5e-3, 4e-3),
    "OPENCV CMU": (868.99, 866.06, 525.9, 420.0, -0.399431, 0.188924, 0.000153, 0.000571),
    "FULL_OPENCV": (500.0, 510.0, 322.0, 238.0, 0.3, -0.1, 1e-3, -2e-3, 0.02, 0.5, -0.05, 0.01),
    "OPENCV_FISHEYE": (300.0, 310.0, 322.0, 238.0, -0.02, 0.01, -0.03, 0.004),
    "SIMPLE_RADIAL_FISHEYE": (300.0, 322.0, 238.0, -0.05),
    "RADIAL_FISHEYE": (300.0, 322.0, 238.0, 0.03, -0.02),
}
NAMES = list(COLMAP_PARAMS)


def colmap_dict(name: str, size: tuple[int, int] = (640, 480)) -> dict[str, object]:
    """COLMAP dict of one of the cameras."""
    model = name.split(maxsplit=1)[0]
    return {"model": model, "width": size[0], "height": size[1], "params": COLMAP_PARAMS[name]}


def make_camera(name: str) -> Camera:
    """One of the cameras, in float64."""
    return Camera.from_colmap(colmap_dict(name))


def points_in_view(camera: Camera, count: int = 200, seed: int = 0) -> Tensor:
    """Points in front of a camera, within its usable radius but at most 72 degrees off the axis.

    The first lies exactly on the axis, the second very near the usable radius.
    """
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(3, count, generator=generator, dtype=torch.float64)
    draw[0, 0], draw[0, 1] = 0, 1
    radius = draw[0] * (0.9999 * camera.max_radius).clamp(max=3)
    azimuth, depth = 2 * torch.pi * draw[1], 0.5 + 20 * draw[2]
    uv1 = torch.stack((radius * azimuth.cos(), radius * azimuth.sin(), torch.ones(count)), -1)
    return depth[:, None] * uv1
