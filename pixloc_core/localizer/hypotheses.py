"""More initial poses than the prior has: a fan of views turned to all sides of each."""

import math
from dataclasses import dataclass

import torch

from pixloc_core.config import check, setting
from pixloc_core.geometry import Camera, Pose


@dataclass(frozen=True, kw_only=True)
class FanConfig:
    """How far around a pose others are tried.

    A rotation about the x or y axis of the camera shifts the image by about the same length
    everywhere, which undoes most of what a wrong prior does, of its translation, too.
    """

    steps: int = setting(5, doc="Directions per axis, odd; 1: no fan.", ge=1, le=15)
    reach: float = setting(
        0.3, doc="Shift of the outermost, in parts of the image width.", ge=0.0, le=1.0
    )
    max_fans: int = setting(3, doc="Poses of the prior that get a fan, the likeliest ones.", ge=1)

    def __post_init__(self) -> None:
        check(self)


NO_FAN = FanConfig(steps=1)


def fan_out(cam_from_map: Pose, camera: Camera, config: FanConfig) -> Pose:
    """The poses given, then those around the first ones.

    Args:
        cam_from_map: Poses `(k)`, the likeliest first.
        camera: Its focal length and width turn the reach into an angle.
        config: Size of the fan.
    """
    if config.steps == 1:
        return cam_from_map
    width, focal = float(camera.size[0]), float(camera.f.mean())
    angles = torch.linspace(-1.0, 1.0, config.steps, dtype=torch.float64)
    angles = angles * math.atan(config.reach * width / focal)
    wx, wy = torch.meshgrid(angles, angles, indexing="ij")
    zero = torch.zeros_like(wx)
    turns = torch.stack([zero, zero, zero, wx, wy, zero], -1).reshape(-1, 6)
    # The one in the middle is the pose itself, which is there already.
    turns = turns[turns.abs().sum(-1) > 1e-9]
    turned = Pose.exp(turns).to(cam_from_map.data)[:, None] @ _first(cam_from_map, config.max_fans)
    fans = turned.data.transpose(0, 1).reshape(-1, 12)
    return Pose(torch.cat([cam_from_map.data, fans]))


def _first(poses: Pose, count: int) -> Pose:
    return poses[:count].unsqueeze(0)
