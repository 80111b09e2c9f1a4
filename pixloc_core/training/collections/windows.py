"""Windows of images, upright or turned about the centre of the camera, with exact cameras."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from pixloc_core.features.preprocessing import Image
from pixloc_core.geometry import Camera, DistortionModel, Pose
from pixloc_core.shapes import Float, Tensor
from pixloc_core.training.collections.sampling import PairSamplingConfig

# A turned window is drawn again, ever closer, until this share of it shows the image.
_COVERED = 0.97
_TRIES = 10
_CLOSER = 1.1
# The point about which a window is laid stays this share of the window away from its border.
_MARGIN = 0.15


@dataclass(frozen=True)
class Window:
    """A view cut from an image.

    Attributes:
        image: Array (h, w, 3), uint8.
        camera: Its camera.
        view_from_cam: Rotation about the centre of the camera.
    """

    image: Image
    camera: Camera
    view_from_cam: Pose


class WindowCutter:
    """Cuts windows of one size; images that are too small for it are enlarged."""

    def __init__(self, size: tuple[int, int], config: PairSamplingConfig) -> None:
        self._size = size
        self._config = config

    def cut(
        self,
        image: Image,
        camera: Camera,
        anchor_cam: Float[Tensor, "3"],
        generator: torch.Generator,
    ) -> Window:
        """Draw a window.

        Args:
            image: Array (h, w, 3).
            camera: Its camera.
            anchor_cam: A point in the frame of the camera, projecting into the image.
            generator: Random numbers; how many are drawn depends on the settings alone.
        """
        numbers = torch.rand(7 + 3 * _TRIES, generator=generator, dtype=torch.float64)
        turned, zoom = float(numbers[0]) < self._config.rotation_share, float(numbers[1])
        magnification = self._config.max_zoom**zoom
        if turned:
            largest = torch.tensor(self._config.rotation_deg, dtype=torch.float64).deg2rad()
            angles = (2 * numbers[2:5] - 1) * largest
            places = numbers[7:].reshape(_TRIES, 3)[:, :2]
            return self._cut_turned(image, camera, anchor_cam, (angles, magnification, places))
        return self._cut_upright(image, camera, anchor_cam, (magnification, numbers[5:7]))

    def _cut_upright(
        self, image: Image, camera: Camera, anchor_cam: Tensor, drawn: tuple[float, Tensor]
    ) -> Window:
        magnification, share = drawn
        image, camera = self._resized(image, camera, magnification)
        anchor_px = camera.world2image(anchor_cam[None])[0][0]
        corner = [
            self._corner(axis, image.shape[1 - axis], float(anchor_px[axis]), float(share[axis]))
            for axis in (0, 1)
        ]
        (left, top), (width, height) = corner, self._size
        window = image[top : top + height, left : left + width]
        return Window(window, camera.crop(corner, self._size), Pose.identity())

    def _resized(self, image: Image, camera: Camera, magnification: float) -> tuple[Image, Camera]:
        """The image so large that the window covers its smaller side at magnification one."""
        height, width = image.shape[:2]
        factor = max(self._size[0] / width, self._size[1] / height) * magnification
        # Beyond the stored resolution only as far as the window needs it.
        least = max(self._size[0] / width, self._size[1] / height)
        factor = min(factor, max(1.0, least))
        size = (
            max(round(width * factor), self._size[0]),
            max(round(height * factor), self._size[1]),
        )
        if size == (width, height):
            return image, camera
        method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        resized = np.asarray(cv2.resize(image, size, interpolation=method), dtype=np.uint8)
        return resized, camera.scale((size[0] / width, size[1] / height))

    def _corner(self, axis: int, length: int, anchor: float, share: float) -> int:
        """First pixel of the window on an axis of an image of this length."""
        window = self._size[axis]
        low, high = 0.0, float(length - window)
        if self._config.crop == "center":
            return int(high / 2)
        if self._config.crop == "overlap":
            margin = _MARGIN * window
            low = min(max(anchor - window + margin, low), high)
            high = max(min(anchor - margin, high), low)
        return round(low + share * (high - low))

    def _cut_turned(
        self,
        image: Image,
        camera: Camera,
        anchor_cam: Tensor,
        drawn: tuple[Tensor, float, Tensor],
    ) -> Window:
        """A window of the image of a camera turned away from this one."""
        angles, magnification, places = drawn
        image, camera = self._resized(image, camera, magnification)
        view_from_cam = _rotation(angles)
        best = -1.0
        for attempt, place in enumerate(places):
            anchor_view = view_from_cam * anchor_cam
            candidate = self._place(camera, anchor_view, _CLOSER**attempt, place)
            covered = self._coverage(candidate, camera, view_from_cam)
            if covered > best:
                best, view = covered, candidate
            if best >= _COVERED:
                break
        pixels = _pixel_grid(self._size, 1)
        source_px, _ = _source_pixels(pixels, view, camera, view_from_cam)
        width, height = self._size
        grid = source_px.reshape(height, width, 2).numpy()
        window = cv2.remap(
            image, grid, np.empty(0), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        return Window(np.asarray(window, dtype=np.uint8), view, view_from_cam)

    def _place(self, camera: Camera, anchor: Tensor, closer: float, place: Tensor) -> Camera:
        """Camera that shows a point at a place in the window: fisheye of fisheye, else pinhole."""
        size = torch.tensor(self._size, dtype=torch.float64)
        focal = (camera.f.mean() * closer).expand(2)
        is_fisheye = camera.model is DistortionModel.FISHEYE
        lens, dist = (
            (camera.model, camera.dist) if is_fisheye else (DistortionModel.NONE, size[:0])
        )
        centered = Camera(torch.cat((size, focal, torch.zeros_like(size), dist)), lens)
        share = torch.full_like(place, 0.5) if self._config.crop == "center" else place
        wanted_px = (_MARGIN + (1 - 2 * _MARGIN) * share) * size - 0.5
        return centered.crop(centered.world2image(anchor[None])[0][0] - wanted_px, size)

    def _coverage(self, view: Camera, camera: Camera, view_from_cam: Pose) -> float:
        """Share of a window that shows the image, from a coarse grid."""
        step = math.ceil(max(self._size) / 16)
        _, inside = _source_pixels(_pixel_grid(self._size, step), view, camera, view_from_cam)
        return float(inside.double().mean())


def _source_pixels(
    pixels: Float[Tensor, "n 2"], view: Camera, camera: Camera, view_from_cam: Pose
) -> tuple[Float[Tensor, "n 2"], Tensor]:
    """Where the pixels of a turned view lie in the image, and whether they do."""
    # Single precision: a thousandth of a pixel at most, in half the time.
    rays, found = view.float().image2world(pixels.float())
    source_px, inside = camera.float().world2image(view_from_cam.inv().float() * rays)
    return source_px, inside & found


def _pixel_grid(size: tuple[int, int], step: int) -> Float[Tensor, "n 2"]:
    columns, rows = (torch.arange(0, side, step, dtype=torch.float64) for side in size)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack((x, y), -1).reshape(-1, 2)


def _rotation(roll_pitch_yaw: Float[Tensor, "3"]) -> Pose:
    """Rotation about the axes z, x and y of the camera, in this order."""
    result = Pose.identity()
    for angle, axis in zip(roll_pitch_yaw, (2, 0, 1), strict=True):
        vector = torch.zeros(3, dtype=torch.float64)
        vector[axis] = angle
        result = Pose.from_aa(vector, torch.zeros(3, dtype=torch.float64)) @ result
    return result
