"""A localizer that knows the answer, and messages to ask it with."""

import array
from collections.abc import Sequence

import numpy as np
import torch
from sensor_msgs.msg import CameraInfo, Image

from pixloc_core.errors import ImageError
from pixloc_core.geometry import Pose
from pixloc_core.localizer.localizer import LocalizerConfig
from pixloc_core.localizer.prior import Prior
from pixloc_core.localizer.result import (
    Checks,
    Evidence,
    Localization,
    LocalizationStatus,
    ViewResult,
)
from pixloc_core.localizer.view import View
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

    Images whose first pixel is below 10 are not localized, all-black ones are refused. Of several
    poses the last one is right.
    """

    def __init__(self, step: float = 0.0) -> None:
        self.step = step
        self.priors: list[Prior] = []
        self.searches: list[bool] = []
        self.views: list[Sequence[View]] = []

    def localize_views(
        self, views: Sequence[View], prior: Prior, *, search: bool = True
    ) -> Localization:
        self.priors.append(prior)
        self.searches.append(search)
        self.views.append(views)
        sizes = [view.size for view in views]
        assert [view.camera.size.tolist() for view in views] == [list(size) for size in sizes]
        image, size = views[0].image, sizes[0]
        if not image.any():
            raise ImageError("image is all black")
        if image.flat[0] < 10:
            return Localization(
                LocalizationStatus.LOW_SCORE, "10% of the points agree", score=0.1, image_size=size
            )
        map_from_cam = prior.cam_from_map[-1].inv()
        confidence = torch.full((6, 8), 0.5)
        return Localization(
            LocalizationStatus.LOCALIZED,
            "all well",
            cam_from_map=(pose(self.step) @ map_from_cam).inv(),
            covariance=torch.eye(6, dtype=torch.float64) * 1e-4,
            score=0.9,
            num_points=100,
            num_inliers=90,
            cost_per_level=(0.3, 0.1),
            confidence=confidence,
            image_size=size,
            views=tuple(ViewResult(size, confidence, evidence()) for size in sizes),
            evidence=evidence(),
            hypotheses=prior.cam_from_map,
            checks=Checks(heldout_score=0.8, confident_share=0.5),
        )


def evidence() -> Evidence:
    """Two points in the image and one outside."""
    return Evidence(
        points_px=torch.tensor([[3.0, 4.0], [20.0, 10.0], [0.0, 0.0]]),
        residual=torch.tensor([0.1, 0.9, 0.5]),
        weight=torch.tensor([1.0, 0.2, 0.0]),
        valid=torch.tensor([True, True, False]),
        point_idx=torch.tensor([5, 7, 9]),
    )


class FakeMap:
    """A map around the origin, whose points lie on the x axis at their index."""

    def __init__(self, localizer: FakeLocalizer | None = None, map_id: str = "feed") -> None:
        self.fake = localizer or FakeLocalizer()
        self.map_id = map_id
        self.configs: list[LocalizerConfig] = []

    def localizer(self, config: LocalizerConfig) -> FakeLocalizer:
        self.configs.append(config)
        return self.fake

    def refuse(self, map_from_base: Pose) -> str:
        return "lies outside" if float(map_from_base.t.norm()) > 1000 else ""

    def points(self, point_idx: np.ndarray) -> np.ndarray:
        return np.stack([point_idx, 0 * point_idx, 0 * point_idx], -1).astype(float)


def image_message(stamp_ns: int, value: int = 200, *, size: tuple[int, int] = SIZE) -> Image:
    """A grey image of one value, besides a pixel of noise: cameras do not repeat themselves."""
    message = Image(encoding="mono8", width=size[0], height=size[1], step=size[0])
    message.header.frame_id = "camera"
    message.header.stamp = ns_to_stamp(stamp_ns)
    message.data = array.array("B", bytes([value]) * (size[0] * size[1]))
    if value:
        message.data[8 * size[0] + 8] = 20 + (stamp_ns // 1_000_000) % 199
    return message


def camera_info(**changes: object) -> CameraInfo:
    """Calibration of these images."""
    info = CameraInfo(width=SIZE[0], height=SIZE[1], distortion_model="plumb_bob", d=[0.0] * 5)
    info.header.frame_id = "camera"
    info.k = [30.0, 0.0, 15.5, 0.0, 30.0, 11.5, 0.0, 0.0, 1.0]
    for name, value in changes.items():
        setattr(info, name, value)
    return info
