"""Sequence mode: the last good pose, moved by what is known of the motion, is the next prior."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pixloc_core.config import check, setting
from pixloc_core.geometry import Camera, Pose
from pixloc_core.localizer.prior import Prior
from pixloc_core.localizer.result import Localization, LocalizationStatus


class Localizes(Protocol):
    """Anything that localizes one image, such as `Localizer`."""

    def localize(self, image: np.ndarray, camera: Camera, prior: Prior) -> Localization:
        """See `Localizer.localize`."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrackerConfig:
    """How long a sequence lives on without a pose."""

    max_failures: int = setting(
        10, doc="Images in a row without a pose after which the last pose is forgotten.", ge=1
    )

    def __post_init__(self) -> None:
        check(self)


class Tracker:
    """Localizes the images of one camera in order.

    The motion between two images may be given (odometry); without it the camera is taken to stand
    still, which the coarse levels of the aligner make good. After `max_failures` images without
    a pose the last one is forgotten, and the answer is `NO_PRIOR` until a prior is given.
    """

    def __init__(self, localizer: Localizes, config: TrackerConfig | None = None) -> None:
        self._localizer = localizer
        self._config = config or TrackerConfig()
        self._cam_from_map: Pose | None = None
        self._failures = 0

    @property
    def cam_from_map(self) -> Pose | None:
        """Prior of the next image (batch shape ()), or None."""
        return self._cam_from_map

    def reset(self) -> None:
        """Forget the past."""
        self._cam_from_map = None
        self._failures = 0

    def localize(
        self,
        image: np.ndarray,
        camera: Camera,
        prior: Prior | None = None,
        *,
        cam_from_last: Pose | None = None,
    ) -> Localization:
        """Localize the next image.

        Args:
            image: Image (h, w, 3) RGB or (h, w) grey, uint8.
            camera: Its camera.
            prior: Replaces what the tracker knows.
            cam_from_last: Motion since the last image: points of that camera in this one.

        Raises:
            ImageError: If the image cannot be used; the state stays as it was.
        """
        if cam_from_last is not None and self._cam_from_map is not None:
            self._cam_from_map = (cam_from_last.double() @ self._cam_from_map).normalized()
        if prior is None:
            if self._cam_from_map is None:
                return Localization(
                    LocalizationStatus.NO_PRIOR,
                    "nothing is known of the pose: give a prior",
                    image_size=(image.shape[1], image.shape[0]),
                )
            prior = Prior.from_pose(self._cam_from_map)
        result = self._localizer.localize(image, camera, prior)
        self._remember(result)
        return result

    def _remember(self, result: Localization) -> None:
        if result.cam_from_map is not None:
            self._cam_from_map = result.cam_from_map
            self._failures = 0
            return
        self._failures += 1
        if self._failures >= self._config.max_failures:
            self.reset()
