"""Images turned by quarter turns to the left (as `numpy.rot90` does), exactly."""

import torch

from pixloc_core.geometry import Camera, DistortionModel, Pose

# Distortion models whose third and fourth parameter are tangential (p1, p2).
_TANGENTIAL = (DistortionModel.OPENCV, DistortionModel.FULL_OPENCV)


def turned_camera(camera: Camera, turns: int) -> Camera:
    """Camera of the image after so many quarter turns to the left."""
    for _ in range(turns % 4):
        camera = _turned_once(camera)
    return camera


def turned_from_cam(turns: int) -> Pose:
    """From the frame of the camera to that of the camera of the turned image."""
    once = [[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    rotation = torch.linalg.matrix_power(torch.tensor(once, dtype=torch.float64), turns % 4)
    return Pose.from_Rt(rotation, torch.zeros(3, dtype=torch.float64))


def _turned_once(camera: Camera) -> Camera:
    """Pixel (x, y) goes to (y, w - 1 - x)."""
    width, height, fx, fy, cx, cy = camera.data[:6].unbind(-1)
    dist = camera.dist.clone()
    if camera.model in _TANGENTIAL:
        dist[2], dist[3] = -camera.dist[3], camera.dist[2]
    numbers = torch.stack((height, width, fy, fx, cy, width - 1 - cx))
    return Camera(torch.cat((numbers, dist)), camera.model)
