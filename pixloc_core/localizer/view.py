"""What one camera of a rig brings: its image, its camera, where it sits, and a mask."""

from dataclasses import dataclass, field

import numpy as np

from pixloc_core.errors import ImageError, ShapeError
from pixloc_core.geometry import Camera, Pose


@dataclass(frozen=True, eq=False)
class View:
    """One image of a query; the images of a rig are taken at the same moment.

    Attributes:
        image: Image (h, w, 3) RGB or (h, w) grey, uint8.
        camera: Its camera, of the same size.
        cam_from_first: Pose (batch shape ()) of the first camera's points in this one, metres;
            the identity for the first camera itself.
        mask: Pixels (h, w) that may be used, bool or nonzero uint8; None: all of them.
    """

    image: np.ndarray
    camera: Camera
    cam_from_first: Pose = field(default_factory=Pose.identity)
    mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.cam_from_first.ndim != 0:
            raise ShapeError(
                f"cam_from_first of a view has shape {tuple(self.cam_from_first.shape)}, "
                "expected one pose, ()"
            )
        if self.mask is None:
            return
        height, width = self.image.shape[:2]
        if self.mask.shape != (height, width):
            raise ImageError(
                f"mask of shape {self.mask.shape}, expected {(height, width)} (rows, columns) "
                "as its image has"
            )
        if self.mask.dtype not in (np.bool_, np.uint8):
            raise ImageError(f"mask of type {self.mask.dtype}, expected bool or uint8")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the image in pixels."""
        return self.image.shape[1], self.image.shape[0]
