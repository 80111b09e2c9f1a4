"""Training-free features: dense oriented-gradient descriptors that can be turned and scaled.

docs/training_free.md derives them. In short: the gradient at a pixel is written as the first
harmonics of its direction, `|g| (1, cos t, sin t, cos 2t, sin 2t)`; the five planes are blurred,
joined with their values at a few cells around, and divided by the length of the whole. A rotation
of the image acts on such a descriptor linearly, so that the descriptors of a map image can be
turned to how the query is held without looking at pixels again.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.config import check, setting, to_dict
from pixloc_core.errors import ConfigError, ImageError
from pixloc_core.features.agreement import Agreement
from pixloc_core.features.preferences import Preferences
from pixloc_core.features.preprocessing import Image
from pixloc_core.features.pyramid import FeatureLevel, FeaturePyramid
from pixloc_core.geometry import Camera
from pixloc_core.shapes import Float, Tensor

Plane = NDArray[np.float32]

# Grows with every change of what is computed, so that older map files are refused.
_REVISION = 1
_HARMONICS = 5
# Cells around the centre, by their number. At whole cells, as nearly evenly round as those allow.
_NEIGHBOURS: dict[int, tuple[tuple[int, int], ...]] = {
    0: (),
    3: ((2, 0), (-1, 2), (-1, -2)),
    4: ((2, 0), (0, 2), (-2, 0), (0, -2)),
    6: ((2, 0), (1, 2), (-1, 2), (-2, 0), (-1, -2), (1, -2)),
}
_REACH = 2
_PER_LEVEL = "Entry i holds for pyramid level i (0 = finest), the last one for all coarser levels."


# Found on the real image sets (`benchmarks.image_sets`): where right and wrong poses part, and
# from where on coarse levels lead a near prior astray.
PREFERENCES = Preferences(
    agreement=Agreement(inlier_residual=0.45, min_score=0.32, min_search_score=0.45),
    near_stride=8,
    # Sharp at the end, tolerant at the start.
    robust_scale=(0.2, 0.3, 0.5),
    interpolation=("linear",),
)


@dataclass(frozen=True, kw_only=True)
class GradientConfig:
    """What the descriptors are made of."""

    strides: tuple[int, ...] = setting(
        (1, 4, 8, 16, 32), doc="Pixels per cell of each level, rising powers of two.", ge=1, le=256
    )
    neighbours: tuple[int, ...] = setting(
        (3, 6), doc=f"Cells around the centre that join it: 0, 3, 4 or 6. {_PER_LEVEL}", ge=0, le=6
    )
    blur: tuple[float, ...] = setting(
        (1.5,),
        doc=f"Standard deviation of the smoothing. {_PER_LEVEL}",
        unit="cells",
        ge=0.3,
        le=8,
    )
    noise: tuple[float, ...] = setting(
        (0.02,),
        doc="Length of a descriptor, in grey levels of [0, 1] per cell, that is as likely noise "
        f"as structure. {_PER_LEVEL}",
        ge=1e-4,
    )
    weights: tuple[float, float, float] = setting(
        (0.25, 0.30, 0.177), doc="Weights of the harmonics of order 0, 1 and 2.", ge=0.0
    )
    max_size: int = setting(
        1024, doc="Larger images are shrunk to this longest side.", unit="px", ge=16
    )

    def __post_init__(self) -> None:
        check(self)
        rising = all(a < b for a, b in zip(self.strides, self.strides[1:], strict=False))
        if not self.strides or not rising or any(s & (s - 1) for s in self.strides):
            raise ConfigError(
                f"GradientConfig.strides is {self.strides!r}, expected rising powers of two"
            )
        if not set(self.neighbours) <= set(_NEIGHBOURS):
            raise ConfigError(
                f"GradientConfig.neighbours is {self.neighbours!r}, expected 0, 3, 4 or 6"
            )


class GradientExtractor:
    """Oriented-gradient descriptors at several strides, with structure as confidence.

    Descriptors are shorter than 1 where there is little structure: their squared length is the
    confidence, `n^2 / (n^2 + noise^2)` with `n` the length before normalization.
    """

    def __init__(self, config: GradientConfig | None = None) -> None:
        self._config = config or GradientConfig()

    @property
    def config(self) -> GradientConfig:
        """The settings."""
        return self._config

    @property
    def strides(self) -> tuple[int, ...]:
        """Image pixels per cell of each level, fine to coarse."""
        return self._config.strides

    @property
    def channels(self) -> tuple[int, ...]:
        """Length of a descriptor at each level, fine to coarse."""
        return tuple(
            _HARMONICS * (1 + len(self._offsets(level))) for level in range(len(self.strides))
        )

    @property
    def fingerprint(self) -> str:
        """Hash of the settings and of the revision of the method."""
        text = json.dumps({"gradients": _REVISION, **to_dict(self._config)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def preferences(self) -> Preferences:
        """What the localizer does with these features unless it is told otherwise."""
        return PREFERENCES

    @property
    def config_dict(self) -> dict[str, Any]:
        """What a map file keeps to make this extractor again."""
        return {"kind": "gradients", "gradients": to_dict(self._config)}

    def extract(self, image: Image, camera: Camera) -> FeaturePyramid:
        """Compute the features of one image.

        A level whose size is no multiple of its stride has cells that reach beyond the image,
        which is continued by its border.

        Args:
            image: Array (h, w, 3) in RGB or (h, w) in grey, uint8; colour is not used.
            camera: The camera of that image, in its full resolution.

        Raises:
            ImageError: If the image is empty, not 8 bit, or of another size than its camera.
        """
        grey, camera = _prepare(image, camera, self._config.max_size)
        levels, stride = [], 1
        for level, wanted in enumerate(self.strides):
            while stride < wanted:
                grey, stride = _halve(grey), 2 * stride
            levels.append(self._extract_level(grey, camera, level))
        return FeaturePyramid(tuple(levels))

    def rotate(
        self, descriptors: Float[Tensor, "n c"], angle: Float[Tensor, " n"], level: int
    ) -> Float[Tensor, "n c"]:
        """Descriptors as if the image had been turned.

        Args:
            descriptors: Descriptors of that level.
            angle: Rotation of the image about each point, from its x towards its y axis, radians.
            level: Pyramid level that they belong to.
        """
        count = len(self._offsets(level))
        parts = descriptors.reshape(-1, 1 + count, _HARMONICS)
        angle = angle.to(descriptors)
        if count:
            ring = _ring_rotation(count, angle) @ parts[:, 1:]
            parts = torch.cat((parts[:, :1], ring), 1)
        zero, x1, y1, x2, y2 = parts.unbind(-1)
        c1, s1 = angle.cos()[:, None], angle.sin()[:, None]
        c2, s2 = (2 * angle).cos()[:, None], (2 * angle).sin()[:, None]
        first = c1 * x1 - s1 * y1, s1 * x1 + c1 * y1
        second = c2 * x2 - s2 * y2, s2 * x2 + c2 * y2
        return torch.stack((zero, *first, *second), -1).flatten(1)

    def _offsets(self, level: int) -> tuple[tuple[int, int], ...]:
        return _NEIGHBOURS[_at(self._config.neighbours, level)]

    def _extract_level(self, grey: Plane, camera: Camera, level: int) -> FeatureLevel:
        config = self._config
        stride, noise = config.strides[level], _at(config.noise, level)
        planes = _smooth(_harmonics(grey, config.weights), _at(config.blur, level))
        offsets = ((0, 0), *self._offsets(level))
        energy = planes[0] * planes[0]
        for plane in planes[1:]:
            cv2.accumulateSquare(plane, energy)
        total = np.asarray(sum(_shifted(energy, grey.shape, offset) for offset in offsets))
        confidence = total / (total + np.float32(noise**2))
        scale = cv2.pow(total + np.float32(noise**2), -0.5)
        features = cv2.merge(
            [
                cv2.multiply(_shifted(plane, grey.shape, offset), scale)
                for offset in offsets
                for plane in planes
            ]
        )
        height, width = grey.shape
        return FeatureLevel(
            torch.from_numpy(features),
            torch.from_numpy(confidence),
            camera.scale(1.0 / stride).crop((0.0, 0.0), (width, height)),
            stride,
        )


def _at(values: Sequence[Any], level: int) -> Any:
    return values[min(level, len(values) - 1)]


def _prepare(image: Image, camera: Camera, max_size: int) -> tuple[Plane, Camera]:
    """Grey image in [0, 1], of at most that size, and its camera."""
    is_grey_or_rgb = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if not is_grey_or_rgb or image.dtype != np.uint8 or not image.size:
        raise ImageError(
            f"image of shape {image.shape} and type {image.dtype}, "
            "expected (h, w, 3) RGB or (h, w) grey of type uint8, not empty"
        )
    height, width = image.shape[:2]
    expected = tuple(round(side) for side in camera.size.tolist())
    if (width, height) != expected:
        raise ImageError(
            f"image of {width}x{height} px, expected {expected[0]}x{expected[1]} px "
            "as its camera says"
        )
    if image.ndim == 3:
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    ratio = max_size / max(height, width)
    grey = image.astype(np.float32) * np.float32(1 / 255)
    if ratio < 1:
        size = max(round(width * ratio), 1), max(round(height * ratio), 1)
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)
        camera = camera.scale((size[0] / width, size[1] / height))
    return grey, camera


def _halve(grey: Plane) -> Plane:
    """Mean of 2x2 pixels; odd sizes are continued by one."""
    height, width = grey.shape
    if height % 2 or width % 2:
        grey = _pad(grey, 0, height % 2, 0, width % 2)
    size = grey.shape[1] // 2, grey.shape[0] // 2
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)


def _harmonics(grey: Plane, weights: Sequence[float]) -> list[Plane]:
    """Planes `w0 |g|, w1 g, w2 |g| (cos 2t, sin 2t)` of the gradient g with direction t."""
    gx, gy = (
        cv2.Sobel(grey, cv2.CV_32F, *order, scale=0.125, borderType=cv2.BORDER_REPLICATE)
        for order in ((1, 0), (0, 1))
    )
    length = cv2.magnitude(gx, gy)
    # |g| cos 2t = 2 gx cos t - |g|; the small number keeps 0 / 0 away.
    cosine = cv2.divide(gx, length + np.float32(1e-12))
    w0, w1, w2 = weights
    double_cosine = cv2.addWeighted(cv2.multiply(gx, cosine), 2 * w2, length, -w2, 0)
    double_sine = cv2.multiply(gy, cosine, scale=2 * w2)
    planes = (w0 * length, w1 * gx, w1 * gy, double_cosine, double_sine)
    return [np.asarray(plane, np.float32) for plane in planes]


def _smooth(planes: Sequence[Plane], sigma: float) -> list[Plane]:
    """Blurred planes, continued by the reach of the neighbours on all sides."""
    size = 2 * math.ceil(2.5 * sigma) + 1
    return [
        _pad(
            cv2.GaussianBlur(plane, (size, size), sigma, borderType=cv2.BORDER_REPLICATE),
            *(_REACH,) * 4,
        )
        for plane in planes
    ]


def _pad(plane: Any, top: int, bottom: int, left: int, right: int) -> Plane:
    padded = cv2.copyMakeBorder(plane, top, bottom, left, right, cv2.BORDER_REPLICATE)
    return np.asarray(padded, np.float32)


def _shifted(padded: Plane, shape: Sequence[int], offset: tuple[int, int]) -> Plane:
    """The plane whose value at a cell is that at an offset (x, y) from it."""
    left, top = _REACH + offset[0], _REACH + offset[1]
    return padded[top : top + shape[0], left : left + shape[1]]


def _ring_rotation(count: int, angle: Float[Tensor, " n"]) -> Float[Tensor, "n k k"]:
    """Matrices that turn values on a ring, by trigonometric interpolation between them."""
    place = torch.arange(count, dtype=angle.dtype, device=angle.device) * (2 * math.pi / count)
    distance = place[:, None] - place - angle[:, None, None]
    kernel = torch.ones_like(distance)
    for order in range(1, (count + 1) // 2):
        kernel = kernel + 2 * torch.cos(order * distance)
    if count % 2 == 0:
        kernel = kernel + torch.cos(count / 2 * distance)
    return kernel / count
