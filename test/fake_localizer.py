"""A localizer that knows the answer, and messages to ask it with."""

import array

import numpy as np
import torch
from sensor_msgs.msg import CameraInfo, Image

from pixloc_core.errors import ImageError
from pixloc_core.geometry import Camera, Pose
from pixloc_core.localizer.prior import Prior
from pixloc_core.localizer.result import Localization, LocalizationStatus
from pixloc_ros.conversions import ns_to_stamp

SECOND = 1_000_000_000
SIZE = (32, 24)


def pose(x: float = 0.0, y: float = 0.0, angle: float = 0.0) -> Pose:
    """Position in the plane and heading."""
    aa = torch.tensor([0.0, 0.0, angle], dtype=torch.float64)
    return Pose.from_aa(aa, torch.tensor([x, y, 0.0], dtype=torch.float64))


# An optical frame looking along the robot's x axis, half a metre in front of it.
BASE_FROM_CAM = Pose.from_Rt(
    torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]).double(),
    torch.tensor([0.5, 0.0, 0.2]).double(),
)


class FakeLocalizer:
    """Says that the camera is where the prior puts it, moved by `step` in the map.

    Images whose first pixel is below 10 are not localized, all-black ones are refused.
    """

    def __init__(self, step: float = 0.0) -> None:
        self.step = step
        self.priors: list[Prior] = []

    def localize(self, image: np.ndarray, camera: Camera, prior: Prior) -> Localization:
        self.priors.append(prior)
        size = (image.shape[1], image.shape[0])
        assert camera.size.tolist() == list(size)
        if not image.any():
            raise ImageError("image is all black")
        if image.flat[0] < 10:
            return Localization(
                LocalizationStatus.LOW_SCORE, "10% of the points agree", score=0.1, image_size=size
            )
        map_from_cam = prior.cam_from_map[0].inv()
        return Localization(
            LocalizationStatus.LOCALIZED,
            "all well",
            cam_from_map=(pose(self.step) @ map_from_cam).inv(),
            covariance=torch.eye(6, dtype=torch.float64) * 1e-4,
            score=0.9,
            num_points=100,
            num_inliers=90,
            cost_per_level=(0.3, 0.1),
            confidence=torch.full((6, 8), 0.5),
            image_size=size,
        )


def image_message(stamp_ns: int, value: int = 200, *, size: tuple[int, int] = SIZE) -> Image:
    """A grey image of one value."""
    message = Image(encoding="mono8", width=size[0], height=size[1], step=size[0])
    message.header.frame_id = "camera"
    message.header.stamp = ns_to_stamp(stamp_ns)
    message.data = array.array("B", bytes([value]) * (size[0] * size[1]))
    return message


def camera_info(**changes: object) -> CameraInfo:
    """Calibration of these images."""
    info = CameraInfo(width=SIZE[0], height=SIZE[1], distortion_model="plumb_bob", d=[0.0] * 5)
    info.header.frame_id = "camera"
    info.k = [30.0, 0.0, 15.5, 0.0, 30.0, 11.5, 0.0, 0.0, 1.0]
    for name, value in changes.items():
        setattr(info, name, value)
    return info
