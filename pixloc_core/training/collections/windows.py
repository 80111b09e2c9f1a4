"""Windows of images, upright or turned about the centre of the camera, with exact cameras."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.features.preprocessing import Image
from pixloc_core.geometry import Camera, DistortionModel, Pose
from pixloc_core.shapes import Float, Tensor
from pixloc_core.training.collections.sampling import PairSamplingConfig

# Of several turned windows, ever closer, the first is taken of which this share shows the image;
# if the best shows less than the least, the window is cut upright.
_COVERED = 0.97
_LEAST_COVERED = 0.85
_TRIES = 8
_CLOSER = 1.15
# The point about which a window is laid stays this share of the window away from its border.
_MARGIN = 0.15
# Pixels of the window that are looked at beyond those it shows.
_AROUND = 4


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
            window = self._cut_turned(image, camera, anchor_cam, (angles, magnification, places))
            if window is not None:
                return window
        return self._cut_upright(image, camera, anchor_cam, (magnification, numbers[5:7]))

    def _cut_upright(
        self, image: Image, camera: Camera, anchor_cam: Tensor, drawn: tuple[float, Tensor]
    ) -> Window:
        magnification, share = drawn
        stored = image.shape[1], image.shape[0]
        factor = self._factor(stored, magnification)
        size = tuple(
            max(min(round(self._size[axis] / factor), stored[axis]), 1) for axis in (0, 1)
        )
        anchor_px = camera.world2image(anchor_cam[None])[0][0].tolist()
        left, top = (
            self._corner(
                stored[axis] - size[axis], size[axis], anchor_px[axis], float(share[axis])
            )
            for axis in (0, 1)
        )
        part = image[top : top + size[1], left : left + size[0]]
        scale = self._size[0] / size[0], self._size[1] / size[1]
        camera = camera.crop((left, top), size).scale(scale)
        return Window(_resize(part, self._size), camera, Pose.identity())

    def _factor(self, stored: tuple[int, int], magnification: float) -> float:
        """Scale of the image: the window covers its smaller side at magnification one.

        The stored resolution is exceeded only as far as the window needs it.
        """
        least = max(self._size[0] / stored[0], self._size[1] / stored[1])
        return min(least * magnification, max(1.0, least))

    def _corner(self, high: int, window: int, anchor: float, share: float) -> int:
        """First pixel, up to a highest one, of a window of a length on one axis."""
        if self._config.crop == "center":
            return high // 2
        first, last = 0.0, float(high)
        if self._config.crop == "overlap":
            margin = _MARGIN * window
            first = min(max(anchor - window + margin, 0.0), last)
            last = max(min(anchor - margin, last), first)
        return round(first + share * (last - first))

    def _cut_turned(
        self,
        image: Image,
        camera: Camera,
        anchor_cam: Tensor,
        drawn: tuple[Tensor, float, Tensor],
    ) -> Window | None:
        """A window of the image of a camera turned away from this one, unless too little fits."""
        angles, magnification, places = drawn
        factor = self._factor((image.shape[1], image.shape[0]), magnification)
        view_from_cam = _rotation(angles)
        views = self._place(camera, factor, view_from_cam * anchor_cam, places)
        covered = self._coverage(views, camera, view_from_cam)
        # The first that is good enough, else the best one.
        best = int(torch.where(covered >= _COVERED, 1.0, covered).argmax())
        if float(covered[best]) < _LEAST_COVERED:
            return None
        view = views[best]
        source_px, _ = _source_pixels(pixel_grid(self._size, 1), view, camera, view_from_cam)
        width, height = self._size
        # Not the scale drawn at first: views that see closer need more of the image's detail.
        scale = float(view.f.mean() / camera.f.mean())
        window = resample(image, source_px.reshape(height, width, 2).numpy(), scale)
        return Window(window, view, view_from_cam)

    def _place(self, camera: Camera, factor: float, anchor: Tensor, places: Tensor) -> Camera:
        """Cameras that show a point at places in the window: fisheye of fisheye, else pinholes.

        Each sees a little closer than the one before.
        """
        count = len(places)
        size = torch.tensor(self._size, dtype=torch.float64).expand(count, 2)
        closer = _CLOSER ** torch.arange(count, dtype=torch.float64)
        focal = (camera.f.mean() * factor * closer)[:, None].expand(count, 2)
        is_fisheye = camera.model is DistortionModel.FISHEYE
        lens = camera.model if is_fisheye else DistortionModel.NONE
        dist = camera.dist[: lens.num_params].expand(count, lens.num_params)
        centered = Camera(torch.cat((size, focal, torch.zeros_like(size), dist), -1), lens)
        anchor_px = centered.world2image(anchor.expand(count, 1, 3))[0][:, 0]
        share = torch.full_like(places, 0.5) if self._config.crop == "center" else places
        wanted_px = (_MARGIN + (1 - 2 * _MARGIN) * share) * size - 0.5
        return centered.crop(anchor_px - wanted_px, size)

    def _coverage(self, views: Camera, camera: Camera, view_from_cam: Pose) -> Float[Tensor, " n"]:
        """Share of each window that shows the image, from a coarse grid."""
        step = math.ceil(max(self._size) / 16)
        _, inside = _source_pixels(pixel_grid(self._size, step), views, camera, view_from_cam)
        return inside.double().mean(-1)


def resample(image: Image, source_px: NDArray[np.float32], factor: float) -> Image:
    """The image at some of its pixels (h, w, 2), averaged first where it is shrunk by a factor.

    Beyond its border it is mirrored.
    """
    limit = np.array(image.shape[1::-1])
    # The map is continuous: what is shown lies within what the outline of the window shows.
    outline = (source_px[0], source_px[-1], source_px[:, 0], source_px[:, -1])
    around = np.concatenate(outline)
    low = np.clip(np.floor(around.min(0)) - _AROUND / factor, 0, limit - 1).astype(int)
    high = np.clip(np.ceil(around.max(0)) + _AROUND / factor, low + 1, limit).astype(int)
    part = image[low[1] : high[1], low[0] : high[0]]
    if factor < 1:
        size = np.maximum(np.round((high - low) * factor), 1).astype(int)
        part = _resize(part, (int(size[0]), int(size[1])))
    else:
        size = high - low
    scale = size / (high - low)
    grid = source_px * scale.astype(np.float32) + ((0.5 - low) * scale - 0.5).astype(np.float32)
    sampled = cv2.remap(
        part, grid, np.empty(0), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(sampled, dtype=np.uint8)


def _resize(image: Image, size: tuple[int, int]) -> Image:
    """The image at another size, borders kept in place; shrinking averages over areas."""
    if size == (image.shape[1], image.shape[0]):
        return image
    shrinks = size[0] < image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=method), dtype=np.uint8)


def _source_pixels(
    pixels: Float[Tensor, "n 2"], view: Camera, camera: Camera, view_from_cam: Pose
) -> tuple[Float[Tensor, "n 2"], Tensor]:
    """Where the pixels of a turned view lie in the image, and whether they do."""
    # Single precision: a thousandth of a pixel at most, in half the time.
    rays, found = view.float().image2world(pixels.float())
    source_px, inside = camera.float().world2image(view_from_cam.inv().float() * rays)
    return source_px, inside & found


def pixel_grid(size: tuple[int, int], step: int) -> Float[Tensor, "n 2"]:
    """Every so many pixels (x, y) of an image of a width and height, row by row, float64."""
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
